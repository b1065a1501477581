"""README's `pip install .` in an environment of its own, and an sdist: whole, and nothing is left in the checkout. The
build backend is from PyPI.
"""

import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.here import CHECKOUT
from tests.system.recipes import blocks

PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout, as somebody has it who has just cloned it."""
    path = tmp_path_factory.mktemp("pip") / "source"
    git = ["git", "-c", "safe.directory=*"]
    listed = subprocess.run([*git, "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes((CHECKOUT / name).read_bytes())
        (path / name).chmod((CHECKOUT / name).stat().st_mode & 0o777)
    return path


def files(path: Path) -> set[str]:
    return {str(each.relative_to(path)) for each in path.rglob("*") if not each.is_dir()}


def test_what_readme_says_installs_popad(source: Path, tmp_path: Path) -> None:
    (block,) = [each for each in blocks() if each.document == "README.md" and "pip install ." in each.text]
    _, *commands = [command.replace("/opt/popad", str(tmp_path / "opt")) for command in block.commands]
    before = files(source)
    shown = ""
    for command in commands:
        words = command.split()
        words[0] = PYTHON if words[0] == "python3" else words[0]
        shown = subprocess.run(words, cwd=source, capture_output=True, text=True, check=True).stdout
    assert shown.startswith("popad version ")
    assert files(source) == before


def test_the_wheel_and_the_sdist_are_whole(source: Path, tmp_path: Path) -> None:
    before = files(source)
    subprocess.run([PYTHON, "-m", "venv", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv/bin/python")
    pip = [python, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("popad-*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("popad/")}
    assert held == {name for name in before if name.startswith("popad/")}
    subprocess.run([*pip, "install", "build"], check=True)
    subprocess.run([python, "-m", "build", "--sdist", "-o", tmp_path, source], check=True, capture_output=True)
    (sdist,) = tmp_path.glob("popad-*.tar.gz")
    with tarfile.open(sdist) as archive:
        packed = {member.name.partition("/")[2] for member in archive.getmembers() if not member.isdir()}
    assert packed == before | {"PKG-INFO"}
    assert files(source) == before
