"""maildrop/mbox/holders.py: who has a mailbox locked, told without a lock."""

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.maildrop.mbox import holders as module
from popad.maildrop.mbox.dotlock import OLD, Dotlock
from popad.maildrop.mbox.holders import DOTLOCK, FCNTL, FLOCK, UNKNOWN, holders
from tests.support.descriptors import descriptors
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


def test_a_lock_that_is_of_a_descriptor(mailbox: tuple[Path, int]) -> None:
    """The kernel says that there is one, and not whose."""
    path, fd = mailbox
    with path.open("r+b") as other:
        fcntl.fcntl(other, fcntl.F_OFD_SETLK, struct.pack(FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0))
        (found,) = holders(fd, None)
    assert (found.pid, found.bars) == (0, True)
    assert found.says == f"{UNKNOWN} has it for itself"


def test_a_process_that_cannot_be_seen(mailbox: tuple[Path, int], monkeypatch: pytest.MonkeyPatch) -> None:
    path, fd = mailbox
    monkeypatch.setattr(module, "PROCESS", "/nonexistent/{}")
    with lock_held(path):
        (found,) = holders(fd, None)
    assert found.says == f"{UNKNOWN} ({found.pid}) has it for itself"


def test_a_lock_file_that_is_no_file(mailbox: tuple[Path, int]) -> None:
    """It is waited for, and nothing of it is read."""
    path, fd = mailbox
    os.mkfifo(path.with_name("mailbox.lock"))
    (found,) = holders(fd, Dotlock(str(path), required=False))
    assert (found.bars, found.pid) == (True, 0)
    assert "which is not a plain file" in found.says
    assert found.says.endswith(", empty")


def test_nothing_is_left_open(mailbox: tuple[Path, int]) -> None:
    path, fd = mailbox
    path.with_name("mailbox.lock").write_text("1\n")
    opened = descriptors()
    holders(fd, Dotlock(str(path), required=False))
    assert os.listdir("/proc/self/fd") == opened


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
