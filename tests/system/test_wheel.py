"""`pip install .` in an environment of its own: everything of popad/ is there, and it runs. setuptools is from PyPI."""

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.support.here import CHECKOUT


def test_the_wheel_has_each_file_and_runs(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "popad"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout.split()
    source = tmp_path / "source"
    for name in [*listed, "pyproject.toml", "README.md", "LICENSE"]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((CHECKOUT / name).read_bytes())
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [str(tmp_path / "venv/bin/pip"), "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("popad-*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("popad/")}
    assert held == set(listed)
    subprocess.run([*pip, "install", "--no-deps", wheel], check=True)
    shown = subprocess.run([tmp_path / "venv/bin/popad", "--help"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("usage: popad")
