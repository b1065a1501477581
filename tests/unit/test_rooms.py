"""What the house promises of its tests: who uses whom, what a test run leaves as it was, and that nobody sleeps."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.here import CHECKOUT

TESTS = CHECKOUT / "tests"
FILES = sorted([*TESTS.rglob("*.py"), *TESTS.rglob("run")])
names = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))


def tree_of(path: Path) -> ast.Module | None:
    """None for what is written in another language."""
    text = path.read_text()
    return ast.parse(text) if path.suffix == ".py" or text.startswith("#!/usr/bin/python3") else None


def imports(path: Path) -> Iterator[str]:
    """The modules of tests/ that a file imports, by their full names."""
    package = ".".join(path.parent.relative_to(CHECKOUT).parts)
    for node in ast.walk(tree_of(path) or ast.Module([], [])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = f"{package}.{node.module or ''}".strip(".") if node.level else str(node.module)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@names
def test_no_test_imports_a_test_or_another_part(path: Path) -> None:
    """What several use is in tests/support, which uses no part."""
    found = {name for name in imports(path) if name.startswith("tests.")}
    assert not {name for name in found if any(word.startswith("test_") for word in name.split("."))}
    here = path.relative_to(TESTS).parts
    rooms = {"support"} | ({here[0]} if len(here) > 1 and here[0] != "unit" else set())
    assert {name.split(".")[1] for name in found} <= rooms
