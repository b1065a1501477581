"""commands/needs.py: what a Python without popad's dependencies is told, by `popad check` and by all else."""

from __future__ import annotations

import subprocess
import tomllib

import pytest

from popad.commands.needs import MODULES, missing
from tests.support.here import CHECKOUT


def test_here_is_all_that_is_needed() -> None:
    assert missing() == []


def test_each_is_a_dependency_of_the_project() -> None:
    wanted = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
    named = " ".join(MODULES.values())
    assert len(MODULES) == len(wanted)
    for each in wanted:
        assert f"{each.partition('>')[0]} of PyPI" in named
    depends = (CHECKOUT / "packaging/debian/control").read_text()
    for where in MODULES.values():
        package = where.removeprefix("Debian's ").partition(";")[0]
        assert f"\n {package},\n" in depends


@pytest.mark.parametrize("module", MODULES)
def test_a_module_that_is_missing(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("popad.commands.needs.find_spec", lambda name: None if name == module else object())
    (said,) = missing()
    assert said.startswith(f"Python has no module {module}: Debian's python3-")


@pytest.mark.parametrize("arguments", [["check"], ["auth-helper"]], ids=str)
def test_popad_says_so(arguments: list[str]) -> None:
    """And shows no traceback. With -S this Python has no module but its own."""
    code = "import sys; sys.path[:0] = ['.']; from popad.__main__ import main; main()"
    program = ["/usr/bin/python3", "-IS", "-c", code, *arguments]
    done = subprocess.run(program, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "Python has no module systemd: Debian's python3-systemd; " in done.stdout + done.stderr
