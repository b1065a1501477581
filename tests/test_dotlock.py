"""maildrop/dotlock.py: lock files made, judged and removed. With real processes, dead and alive."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.maildrop import dotlock
from popad.maildrop.dotlock import Dotlock
from tests.others import dead_pid
from tests.patience import PATIENCE

HOLDER = os.getppid()  # a process that lives, and is not ours


class Place:
    """A mailbox, the name of its lock, and what judges it."""

    def __init__(self, path: Path) -> None:
        self.mailbox = path / "mailbox"
        self.mailbox.write_bytes(b"From a\n\nbody\n\n")
        self.path = path / "mailbox.lock"
        self.dotlock = Dotlock(str(self.mailbox), required=False)
        self.fd = os.open(self.mailbox, os.O_RDWR)

    def others(self, content: bytes, age: float = 0) -> None:
        """Somebody else's lock file."""
        self.path.write_bytes(content)
        then = time.time() - age
        os.utime(self.path, (then, then))

    def judge(self) -> str:
        return self.dotlock.judge(self.fd)

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.path.parent.iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.dotlock.forget_stale()
    os.close(place.fd)


def test_made_with_our_pid_for_others_to_read(place: Place) -> None:
    before = os.umask(0o077)
    try:
        assert place.dotlock.take()
    finally:
        os.umask(before)
    assert place.path.read_bytes() == b"%d\n" % os.getpid()
    assert place.path.stat().st_mode & 0o777 == 0o644
    assert place.files == ["mailbox", "mailbox.lock"]
    place.dotlock.release()
    assert place.files == ["mailbox"]


@pytest.mark.parametrize(
    "make", [lambda path: path.touch(), lambda path: path.symlink_to("x"), lambda path: path.mkdir()]
)
def test_one_name_one_lock(place: Place, make: "object") -> None:
    """Whatever has the name, it is not followed, not replaced, and no temporary file is left."""
    assert callable(make)
    make(place.path)
    assert not place.dotlock.take()
    assert place.files == ["mailbox", "mailbox.lock"]


def test_an_answer_that_was_lost(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS: the server has made the link, the answer was lost, and the repeated request finds the name taken."""
    link = os.link

    def twice(*words: str, follow_symlinks: bool) -> None:
        link(*words, follow_symlinks=follow_symlinks)
        link(*words, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "link", twice)
    assert place.dotlock.take()
    place.dotlock.release()
    assert place.files == ["mailbox"]


def test_a_name_too_long(tmp_path: Path) -> None:
    mailbox = tmp_path / ("m" * 251)  # 255 octets is the longest name
    mailbox.touch()
    lock = Dotlock(str(mailbox), required=False)
    assert not lock.in_the_way()
    with pytest.raises(OSError) as impossible:
        lock.take()
    assert impossible.value.errno in dotlock.IMPOSSIBLE
    assert list(tmp_path.iterdir()) == [mailbox]


def test_a_full_disk_lets_an_empty_lock_be_made(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    full = "/dev/full"
    monkeypatch.setattr(os, "write", lambda fd, data: Path(full).write_bytes(data))  # a real ENOSPC
    assert place.dotlock.take()
    assert place.path.read_bytes() == b""
    place.dotlock.release()


def test_a_lock_that_somebody_broke_is_not_removed_twice(place: Place) -> None:
    assert place.dotlock.take()
    place.path.unlink()
    place.path.write_bytes(b"another's")
    place.dotlock.release()
    assert place.path.read_bytes() == b"another's"


def test_a_lock_that_is_gone_is_released(place: Place) -> None:
    assert place.dotlock.take()
    place.path.unlink()
    place.dotlock.release()
    assert place.dotlock.take()
    place.dotlock.release()


def test_ours_is_touched(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dotlock, "TOUCH_EVERY", 0.001)
    assert place.dotlock.take()
    deadline = time.monotonic() + PATIENCE
    os.utime(place.path, (1, 1))
    while place.path.stat().st_mtime < time.time() - PATIENCE and time.monotonic() < deadline:
        os.sched_yield()
    assert place.path.stat().st_mtime > time.time() - PATIENCE
    place.dotlock.release()


DEAD = "a dead process"
VALID, STALE = True, False


@pytest.mark.parametrize(
    ("content", "age", "expected"),
    [
        (b"%d\n" % HOLDER, 0, VALID),
        (b"%d" % HOLDER, 86400, VALID),  # however old
        (b"%d\0" % HOLDER, 86400, VALID),
        (b"1\n", 86400, VALID),  # a process of another user
        (DEAD, 0, STALE),  # however young
        (DEAD, 86400, STALE),
        (b"", 299, VALID),
        (b"", 301, STALE),
        (b"0", 299, VALID),  # procmail, and liblockfile without L_PID
        (b"0\n", 301, STALE),
        (b"%d:host" % HOLDER, 299, VALID),  # Dovecot; perhaps of another machine
        (b"%d:host" % HOLDER, 301, STALE),
        (b"-1\n", 299, VALID),
        (b"-1\n", 301, STALE),
        (b"2147483648\n", 299, VALID),
        (b"2147483648\n", 301, STALE),
        (b"9" * 400, 299, VALID),
        (b"9" * 400, 301, STALE),
        (b"%d\n" % os.getpid(), 299, VALID),  # not by this process: by one in another PID namespace, or before it
        (b"%d\n" % os.getpid(), 301, STALE),
        (b"", -86400, VALID),  # the clocks of two machines
        (b"x" * 512, 301, STALE),
        (b"x" * 513, 86400, VALID),  # a mailbox, perhaps
    ],
)
def test_valid_and_stale(place: Place, content: bytes | str, age: float, expected: bool) -> None:
    place.others(b"%d\n" % dead_pid() if isinstance(content, str) else content, age)
    assert place.judge().startswith(str(place.path))
    assert (place.dotlock.stale < 0) is expected
    assert place.dotlock.in_the_way() is expected
    before = place.path.lstat().st_ino
    place.dotlock.remove_stale()
    assert place.files == (["mailbox", "mailbox.lock"] if expected else ["mailbox"])
    assert expected is STALE or place.path.lstat().st_ino == before


def make_symlink(place: Place) -> None:
    target = place.path.with_name("target")
    target.write_bytes(b"%d\n" % dead_pid())
    place.path.symlink_to(target)


@pytest.mark.parametrize(
    "make",
    [
        make_symlink,
        lambda place: place.path.symlink_to("nowhere"),
        lambda place: place.path.mkdir(),
        lambda place: os.mkfifo(place.path),
        lambda place: place.path.hardlink_to(place.mailbox),
    ],
)
def test_what_is_no_lock_is_never_removed(place: Place, make: "object") -> None:
    assert callable(make)
    make(place)
    os.utime(place.path, (1, 1), follow_symlinks=False)
    before = place.files
    assert "which is" in place.judge()
    assert place.dotlock.stale < 0
    assert place.dotlock.in_the_way()
    place.dotlock.remove_stale()
    assert place.files == before


def test_a_lock_that_is_gone_when_it_is_judged(place: Place) -> None:
    assert place.judge() == str(place.path)
    assert not place.dotlock.in_the_way()


def test_a_new_lock_in_the_place_of_a_stale_one_is_seen(place: Place) -> None:
    place.others(b"%d\n" % dead_pid())
    place.judge()
    place.path.unlink()
    place.others(b"%d\n" % HOLDER)
    assert place.dotlock.in_the_way()
    place.dotlock.remove_stale()
    assert place.path.read_bytes() == b"%d\n" % HOLDER


def test_a_new_lock_that_comes_between_check_and_removal_is_put_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.others(b"%d\n" % dead_pid())
    place.judge()
    rename = os.rename

    def late(source: str, target: str) -> None:
        place.path.unlink()
        place.others(b"%d\n" % HOLDER)
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    place.dotlock.remove_stale()
    assert place.path.read_bytes() == b"%d\n" % HOLDER
    assert place.files == ["mailbox", "mailbox.lock"]


def test_no_descriptor_is_left(place: Place) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = open_files()
    for content in (b"%d\n" % dead_pid(), b"%d\n" % HOLDER, b"x" * 600):
        place.others(content)
        place.judge()
        assert not place.dotlock.take()
    place.judge()
    place.path.unlink()
    place.judge()
    assert place.dotlock.take()
    place.dotlock.release()
    deadline = time.monotonic() + PATIENCE
    while open_files() > before and time.monotonic() < deadline:
        os.sched_yield()  # the thread that touched the file closes its own
    assert open_files() == before
