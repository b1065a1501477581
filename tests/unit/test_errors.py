"""errors.py: exceptions that say what happens next, each raised somewhere and each caught by who does what it says."""

import ast
from collections import defaultdict

import pytest

from popad import errors
from popad.errors import CommandRefused, MaildropUnavailable, SettingWrong
from tests.support.here import CHECKOUT

CLASSES = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
SOURCES = {path: ast.parse(path.read_text()) for path in (CHECKOUT / "popad").rglob("*.py")}


def names_in(node: ast.AST | None) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)} if node else set()


@pytest.mark.parametrize("name", CLASSES)
def test_each_is_raised_and_caught(name: str) -> None:
    used = defaultdict(set)
    for path, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise | ast.Return) and name in names_in(node):
                used["raised"].add(path.name)
            if isinstance(node, ast.ExceptHandler) and name in names_in(node.type):
                used["caught"].add(path.name)
    assert used["raised"], f"nobody raises {name}"
    assert used["caught"], f"nobody catches {name}"


def test_none_is_an_error_of_the_operating_system() -> None:
    """OSError stays OSError: none of these may be caught where a system call's failure is meant."""
    for cls in CLASSES.values():
        assert issubclass(cls, Exception)
        assert not issubclass(cls, OSError | ValueError)


def test_texts() -> None:
    assert str(SettingWrong("POPAD_TIMEOUT", "must be a whole number")) == "POPAD_TIMEOUT: must be a whole number"
    assert CommandRefused("unknown command").text == "unknown command"
    failure = MaildropUnavailable("SYS/TEMP", "no space left")
    assert (failure.code, failure.reason, str(failure)) == ("SYS/TEMP", "no space left", "no space left")
