"""maildrop/mbox/dotlock.py: lock files made, judged and removed. With real processes, dead and alive."""

import errno
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.maildrop.mbox import dotlock
from popad.maildrop.mbox.dotlock import Dotlock
from tests.support.descriptors import descriptors
from tests.support.here import CHECKOUT, ROOT
from tests.support.others import dead_pid
from tests.support.patience import PATIENCE
from tests.support.serving import PYTHON

pytestmark = pytest.mark.usefixtures("known_processes")

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


PROCESSES_ARE_KNOWN = dotlock.processes_are_known


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.dotlock.forget_void()
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
        (b"%d" % HOLDER, 299, VALID),
        (b"%d\0" % HOLDER, 299, VALID),
        (b"1\n", 299, VALID),  # a process of another user
        (b"%d\n" % HOLDER, 3 * 86400, STALE),  # a number that another process has by now
        (DEAD, 0, STALE),  # however young
        (DEAD, 86400, STALE),
        (b"", 299, VALID),
        (b"", 300, STALE),
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
        (b"", -2 * 86400, STALE),  # a clock that was wrong: the lock would be young for ever
        (b"x" * 512, 301, STALE),
    ],
)
def test_valid_and_stale(place: Place, content: bytes | str, age: float, expected: bool) -> None:
    place.others(b"%d\n" % dead_pid() if isinstance(content, str) else content, age)
    assert place.judge().startswith(str(place.path))
    assert (place.dotlock.void < 0) is expected
    assert place.dotlock.in_the_way() is expected
    before = place.path.lstat().st_ino
    place.dotlock.remove_stale()
    assert place.files == (["mailbox", "mailbox.lock"] if expected else ["mailbox"])
    assert expected is STALE or place.path.lstat().st_ino == before


@pytest.mark.parametrize(
    ("age", "runs_for", "expected"),
    [
        (301, 302, VALID),
        (1799, 86400, VALID),  # a program that writes for long
        (1801, 86400, STALE),
        (3 * 86400, 9 * 86400, STALE),
        (299, 1, VALID),  # young all the same
        (301, 295, VALID),  # a clock that was set right meanwhile
        (301, 280, STALE),  # the process began after the lock: it has not made it
        (1000, 500, STALE),
    ],
)
def test_the_lock_of_a_process_that_lives(
    place: Place, age: float, runs_for: float, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dotlock, "started", lambda pid: time.time() - runs_for)
    place.others(b"%d\n" % HOLDER, age)
    place.judge()
    assert place.dotlock.in_the_way() is expected


def test_when_a_process_was_started() -> None:
    before = time.time()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert before - 2 < dotlock.started(child.pid) < time.time() + 2  # the clock ticks 100 times a second
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    hidden = [dead_pid()]  # what /proc does not show began with the machine, for all that is known
    if os.stat("/proc/self/ns/pid").st_ino == dotlock.FIRST_NAMESPACE:
        hidden.append(1)  # that of a container is younger
    for pid in hidden:
        assert abs(time.time() - uptime - dotlock.started(pid)) < 60


def test_a_lock_that_is_older_than_the_machines_start(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left by a power failure; its number is a daemon's now, which /proc hides from the session."""
    monkeypatch.setattr(dotlock, "open", lambda *_: (_ for _ in ()).throw(FileNotFoundError), raising=False)
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    place.others(b"1\n", age=max(since_boot + 60, dotlock.YOUNG + 1))
    monkeypatch.setattr(dotlock, "OLD", float("inf"))
    place.judge()
    assert not place.dotlock.in_the_way()
    monkeypatch.setattr(dotlock, "YOUNG", 0)
    place.others(b"1\n", age=since_boot - 1)
    place.judge()
    assert place.dotlock.in_the_way()


@pytest.mark.parametrize(("number", "expected"), [(errno.ESRCH, False), (errno.EMFILE, True), (errno.ENOSYS, True)])
def test_what_cannot_be_told_of_a_process_is_no_end_of_it(
    monkeypatch: pytest.MonkeyPatch, number: int, expected: bool
) -> None:
    """No descriptor to be had, or an old kernel: the lock of a process that lives must not be taken for a stale one."""

    def refused(pid: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refused)
    assert dotlock.lives(1) is expected


def test_the_number_of_a_thread_is_no_process(place: Place) -> None:
    """pidfd_open(2) has another error for it than for a number that nobody has."""
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait)
    thread.start()
    try:
        place.others(b"%d\n" % (thread.native_id or 0))
        assert "stale" in place.judge()
    finally:
        ends.set()
        thread.join()


@pytest.mark.parametrize(
    ("content", "age", "expected"),
    [
        (DEAD, 0, VALID),  # the number of a process that lives in another container
        (DEAD, 299, VALID),
        (DEAD, 301, STALE),
        (b"1\n", 299, VALID),
        (b"1\n", 301, STALE),  # not the process that has made it
        (b"", 301, STALE),
    ],
)
def test_where_processes_are_not_known_the_age_counts(
    place: Place, content: bytes | str, age: float, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dotlock, "processes_are_known", lambda: False)
    place.others(b"%d\n" % dead_pid() if isinstance(content, str) else content, age)
    place.judge()
    assert place.dotlock.in_the_way() is expected


@pytest.mark.skipif(not ROOT, reason="needs root: makes a PID namespace")
@pytest.mark.parametrize("system", [False, True])
def test_which_processes_are_known(system: bool) -> None:
    """Not those of a container, unless it has a systemd and so is a whole system."""
    program = "from popad.maildrop.mbox import dotlock; print(dotlock.processes_are_known())"
    environment = {"PATH": os.defpath, **({"INVOCATION_ID": "1"} if system else {})}
    command = ["unshare", "--pid", "--fork", "--mount-proc", PYTHON, "-c", program]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert done.stdout == f"{system}\n", done.stderr


def test_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    monkeypatch.setattr(os, "stat", lambda _: (_ for _ in ()).throw(FileNotFoundError))
    assert not PROCESSES_ARE_KNOWN()


@pytest.mark.parametrize("content", [b"From a\n\nhello\n\n", b"From ", b"x" * 513, b"From a\n\n" + b"x" * 10_000])
@pytest.mark.parametrize("age", [0, 86400])
def test_a_mailbox_is_no_lock(place: Place, content: bytes, age: float) -> None:
    """Of a user whose name ends in .lock: it neither keeps the other from his mail nor is removed."""
    place.others(content, age)
    assert place.judge() == f"{place.path}, which is no lock file"
    assert not place.dotlock.in_the_way()
    assert place.dotlock.name_is_taken()
    assert not place.dotlock.remove_stale()
    assert not place.dotlock.take()
    assert place.path.read_bytes() == content


def test_a_lock_in_the_place_of_a_mailbox_is_seen(place: Place) -> None:
    place.others(b"From a\n\n")
    place.judge()
    place.path.unlink()
    place.others(b"%d\n" % HOLDER)
    assert place.dotlock.in_the_way()
    place.judge()
    assert place.dotlock.in_the_way()
    assert not place.dotlock.name_is_taken()


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
    assert place.dotlock.void < 0
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


def test_no_lock_is_renamed_that_nobody_has_judged(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def late(source: str, target: str) -> None:
        place.others(b"%d\n" % HOLDER)
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert not place.dotlock.remove_stale()
    assert place.files == ["mailbox"]


def test_a_stale_lock_that_somebody_else_removes_is_not_ours(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.others(b"%d\n" % dead_pid())
    place.judge()
    rename = os.rename

    def late(source: str, target: str) -> None:
        place.path.unlink()
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert not place.dotlock.remove_stale()
    assert place.files == ["mailbox"]


def test_a_name_that_may_be_taken_is_not_taken_for_good(place: Place) -> None:
    """A stale lock can be removed, and a mailbox that is gone is in nobody's way."""
    place.others(b"%d\n" % dead_pid())
    place.judge()
    assert not place.dotlock.name_is_taken()
    place.others(b"From a\n\n")
    place.judge()
    assert place.dotlock.name_is_taken()
    place.path.unlink()
    assert not place.dotlock.name_is_taken()


def test_no_link_is_followed_where_a_lock_is_made(place: Place) -> None:
    """Somebody who may write in the directory puts a link in the place of our new file."""
    target = place.path.with_name("target")
    target.touch()
    new = place.path.with_name("new")
    new.symlink_to(target)
    assert not place.dotlock.link(str(new), place.fd)
    assert target.stat().st_nlink == 1


ROOTS, OURS, MAILBOXS, DIRECTORYS, STRANGERS = 0, 65001, 65002, 65003, 65004


@pytest.mark.skipif(not ROOT, reason="needs root: gives files to other users")
@pytest.mark.parametrize("mode", [0o755, 0o777])
@pytest.mark.parametrize("user", [ROOTS, OURS, MAILBOXS, DIRECTORYS, STRANGERS])
def test_whose_lock_files_count(place: Place, user: int, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All where only those make files who are let; else those of root, ours, the mailbox's owner's, the directory's."""
    place.others(b"%d\n" % HOLDER)
    for path, owner in ((place.path.parent, DIRECTORYS), (place.mailbox, MAILBOXS), (place.path, user)):
        os.chown(path, owner, -1)
    place.path.parent.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: OURS)
    foreign = user == STRANGERS and mode == 0o777
    assert place.judge() == str(place.path) + (f", {dotlock.FOREIGN}" if foreign else "")
    assert place.dotlock.in_the_way() is not foreign


@pytest.mark.parametrize(
    ("text", "pid"), [(b"2147483647\n", 2**31 - 1), (b"2147483648", 0), (b"0000000012", 12), (b"00000000012", 0)]
)
def test_the_longest_number_of_a_process(text: bytes, pid: int) -> None:
    assert dotlock.pid_in(text) == pid


def test_no_descriptor_is_left(place: Place) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = len(descriptors())
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
