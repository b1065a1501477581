"""maildrop/mbox/locks.py against other processes that hold or want the same lock."""

import fcntl
import os
import time
from pathlib import Path

import pytest

from popad.errors import MaildropUnavailable
from popad.maildrop.mbox.locks import Lock
from tests.support.others import lock_held, may_lock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "mailbox"
    path.touch()
    return path


@pytest.fixture
def fd(path: Path) -> int:
    return os.open(path, os.O_RDWR)


@pytest.mark.parametrize(
    ("exclusive", "kind", "lets_in"),
    [
        (False, fcntl.LOCK_SH, True),
        (False, fcntl.LOCK_EX, False),
        (True, fcntl.LOCK_SH, False),
        (True, fcntl.LOCK_EX, False),
    ],
)
def test_who_else_gets_the_lock(path: Path, fd: int, exclusive: bool, kind: int, lets_in: bool) -> None:
    with Lock(fd, 1, "IN-USE", exclusive=exclusive):
        assert may_lock(path, kind) is lets_in
    assert may_lock(path, fcntl.LOCK_EX)


@pytest.mark.parametrize("code", ["IN-USE", "SYS/TEMP"])
def test_a_stuck_holder_is_waited_for_and_not_for_ever(path: Path, fd: int, code: str) -> None:
    with lock_held(path):
        before = time.monotonic()
        with pytest.raises(MaildropUnavailable) as unavailable, Lock(fd, 0.1, code):
            pytest.fail("two have the lock")
        assert 0.05 <= time.monotonic() - before < 5
    assert unavailable.value.code == code
    assert "0.1 seconds" in unavailable.value.reason


def test_a_shared_holder_keeps_out_an_exclusive_one_only(path: Path, fd: int) -> None:
    with lock_held(path, fcntl.LOCK_SH):
        with Lock(fd, 0.1, "IN-USE"):
            assert may_lock(path, fcntl.LOCK_SH)
        with pytest.raises(MaildropUnavailable), Lock(fd, 0.01, "IN-USE", exclusive=True):
            pytest.fail("two have the lock")


def test_a_holder_that_lets_go_is_followed(path: Path, fd: int) -> None:
    """The other is told to append and leave; it has done so when the lock is ours."""
    with lock_held(path, then=b"mail") as tell:
        os.write(tell, b"x")
        with Lock(fd, 10, "IN-USE", exclusive=True):
            assert os.fstat(fd).st_size == 4


def test_a_failure_inside_lets_go(path: Path, fd: int) -> None:
    with pytest.raises(ZeroDivisionError), Lock(fd, 1, "IN-USE", exclusive=True):
        raise ZeroDivisionError
    assert may_lock(path, fcntl.LOCK_EX)


def test_an_error_of_the_system_is_no_wait(path: Path) -> None:
    """An exclusive lock needs a descriptor that may write: EBADF at once, not after the time limit."""
    reader = os.open(path, os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file descriptor"), Lock(reader, 60, "IN-USE", exclusive=True):
        pytest.fail("got a lock that there is not")
