"""maildrop/mbox/holders.py: who has a mailbox locked, told without a lock."""

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.maildrop.mbox.dotlock import OLD, Dotlock
from popad.maildrop.mbox.holders import DOTLOCK, FCNTL, holders
from tests.support.others import dead_pid, lock_held, may_lock
from tests.support.trees import tree

pytestmark = pytest.mark.usefixtures("known_processes")


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    path = tmp_path / "mailbox"
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    yield path, fd
    os.close(fd)


def test_nobody(mailbox: tuple[Path, int]) -> None:
    path, fd = mailbox
    assert holders(fd, Dotlock(str(path), required=False)) == []


@pytest.mark.parametrize(
    ("kind", "says", "bars"), [(fcntl.LOCK_EX, "has it for itself", True), (fcntl.LOCK_SH, "has it for reading", False)]
)
def test_another_process(mailbox: tuple[Path, int], kind: int, says: str, bars: bool) -> None:
    """And it is not kept from what it does."""
    path, fd = mailbox
    with lock_held(path, kind):
        (found,) = holders(fd, None)
        assert (found.kind, found.bars) == (FCNTL, bars)
        assert found.says == f"{Path(f'/proc/{found.pid}/comm').read_text().rstrip()} ({found.pid}) {says}"
    assert may_lock(path, fcntl.LOCK_EX)
    assert holders(fd, None) == []


def test_a_lock_file(mailbox: tuple[Path, int]) -> None:
    path, fd = mailbox
    lock = path.with_name("mailbox.lock")
    lock.write_text(f"{os.getpid()}\n")
    (found,) = holders(fd, Dotlock(str(path), required=False))
    assert (found.kind, found.pid, found.bars, found.what) == (DOTLOCK, os.getpid(), True, str(lock))
    assert found.says.startswith(f"{lock}, 0 seconds old, of uid {os.geteuid()}, with '{os.getpid()}\\n' in it: ")
    assert holders(fd, None) == []


@pytest.mark.parametrize(
    ("content", "age", "kind"),
    [("", OLD + 10, "which is stale"), ("dead", 10, "which is stale"), ("From a\n", 0, "which is no lock file")],
)
def test_a_lock_file_that_does_not_count(mailbox: tuple[Path, int], content: str, age: int, kind: str) -> None:
    """It is not removed, either."""
    path, fd = mailbox
    lock = path.with_name("mailbox.lock")
    lock.write_text(f"{dead_pid()}\n" if content == "dead" else content)
    os.utime(lock, (time.time() - age, time.time() - age))
    before = tree(path.parent)
    (found,) = holders(fd, Dotlock(str(path), required=False))
    assert not found.bars
    assert kind in found.says
    assert tree(path.parent) == before


def test_what_a_lock_file_says_is_text(mailbox: tuple[Path, int]) -> None:
    path, fd = mailbox
    path.with_name("mailbox.lock").write_bytes(b"\x1b[2J\xff" * 20)
    (found,) = holders(fd, Dotlock(str(path), required=False))
    assert found.says.isprintable()
    assert "\\x1b[2J" in found.says
