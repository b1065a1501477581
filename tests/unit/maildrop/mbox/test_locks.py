"""maildrop/mbox/locks.py against other processes that hold or want the same lock."""

import fcntl
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from popad.errors import MaildropUnavailable
from popad.maildrop.mbox import locks
from popad.maildrop.mbox.dotlock import Dotlock
from popad.maildrop.mbox.locks import ENDING, Lock
from tests.support.descriptors import descriptors
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


def test_how_often_is_asked_again(path: Path, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Often at first, as most have a lock for milliseconds, and 20 times a second in the long run."""
    pauses: list[float] = []
    monkeypatch.setattr(locks, "time", SimpleNamespace(monotonic=lambda: sum(pauses), sleep=pauses.append))
    with lock_held(path), pytest.raises(MaildropUnavailable), Lock(fd, 1, "IN-USE"):
        pytest.fail("two have the lock")
    assert pauses[:8] == [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.05, 0.05]
    assert set(pauses[8:]) == {0.05}


def blocked() -> set[int]:
    return signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(ENDING)


def test_no_signal_ends_us_while_we_have_a_lock_file(path: Path, fd: int) -> None:
    with Lock(fd, 1, "IN-USE", Dotlock(str(path), required=True)):
        assert blocked() == set(ENDING)
    assert not blocked()


def test_signals_come_through_where_no_lock_file_can_be_made(tmp_path: Path) -> None:
    mailbox = tmp_path / ("m" * 251)  # 255 octets is the longest name
    mailbox.touch()
    with mailbox.open("r+b") as file, Lock(file.fileno(), 1, "IN-USE", Dotlock(str(mailbox), False), exclusive=True):
        assert not blocked()


def test_what_was_judged_is_not_kept_open(path: Path, fd: int) -> None:
    """The mailbox of a user whose name ends in .lock: looked at, and closed."""
    path.with_name("mailbox.lock").write_bytes(b"From a\n\nmail\n\n")
    dotlock = Dotlock(str(path), required=False)
    before = len(descriptors())  # the numbers differ: to look takes one, too
    with Lock(fd, 1, "IN-USE", dotlock):
        assert len(os.listdir("/proc/self/fd")) == before
