"""What the tests of the mbox store share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.maildrop.mbox import dotlock
from tests.support.box import Box


@pytest.fixture
def known_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run in a container, where a dead update's lock file would count until it is five minutes old."""
    monkeypatch.setattr(dotlock, "processes_are_known", lambda: True)


@pytest.fixture
def update_box(quick_path: Path) -> Iterator[Box]:
    """A mailbox in memory, as each update waits for the disk."""
    path = quick_path / "update"
    path.mkdir()
    box = Box(path, None)
    yield box
    box.close()
    shutil.rmtree(path)
