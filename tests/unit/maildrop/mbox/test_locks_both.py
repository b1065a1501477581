"""maildrop/mbox/locks.py: both locks, in order, as processes of many kinds hold, want or leave them."""

import errno
import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from popad.errors import MaildropUnavailable
from popad.maildrop.mbox import locks
from popad.maildrop.mbox.dotlock import Dotlock
from popad.maildrop.mbox.locks import Lock, dotlock_of
from tests.support.here import ROOT
from tests.support.others import dead_pid, may_lock

pytestmark = pytest.mark.usefixtures("known_processes")

HOLDER = b"%d\n" % os.getppid()  # a process that lives, and is not ours
NOBODY, DAEMON = 65534, 1


@pytest.fixture
def path(public_path: Path) -> Path:
    path = public_path / "mailbox"
    path.touch()
    return path


@pytest.fixture
def fd(path: Path) -> int:
    return os.open(path, os.O_RDWR)


AUTO, REQUIRED = "auto", "fcntl,dotlock"


def lock_file(path: Path) -> Path:
    return path.with_name("mailbox.lock")


def dotlocked(path: Path, fd: int, setting: str, exclusive: bool = True, timeout: float = 20) -> Lock:
    return Lock(fd, timeout, "IN-USE", dotlock_of(str(path), setting), exclusive=exclusive)


def files(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def refusal(lock: Lock) -> MaildropUnavailable:
    with pytest.raises(MaildropUnavailable) as unavailable, lock:
        pytest.fail("got a lock")
    return unavailable.value


def forked(role: Callable[[], None]) -> int:
    """A child process that does this and nothing else."""
    if pid := os.fork():
        return pid
    try:
        role()
        os._exit(0)
    finally:
        os._exit(1)


def ended_well(pid: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize(
    ("setting", "exclusive", "made"),
    [
        ("fcntl", False, False),
        ("fcntl", True, False),
        (AUTO, False, False),
        (AUTO, True, True),
        (REQUIRED, False, True),
        (REQUIRED, True, True),
    ],
)
def test_which_accesses_make_a_lock_file(path: Path, fd: int, setting: str, exclusive: bool, made: bool) -> None:
    lock = dotlocked(path, fd, setting, exclusive)
    for _ in range(2):
        with lock:
            assert lock_file(path).exists() is made
            assert not may_lock(path, fcntl.LOCK_EX)
        assert files(path) == ["mailbox"]
        assert may_lock(path, fcntl.LOCK_EX)


def test_a_failure_inside_removes_the_lock_file(path: Path, fd: int) -> None:
    with pytest.raises(ZeroDivisionError), dotlocked(path, fd, AUTO):
        raise ZeroDivisionError
    assert files(path) == ["mailbox"]


@pytest.mark.parametrize("setting", [AUTO, REQUIRED])
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_lock_file_is_waited_for_and_not_for_ever(path: Path, fd: int, setting: str, exclusive: bool) -> None:
    lock_file(path).write_bytes(HOLDER)
    refused = refusal(dotlocked(path, fd, setting, exclusive, timeout=0.05))
    assert refused.code == "IN-USE"
    assert refused.reason == f"another program held {lock_file(path)} for 0.05 seconds"
    assert may_lock(path, fcntl.LOCK_EX)
    assert lock_file(path).read_bytes() == HOLDER
    with dotlocked(path, fd, "fcntl", exclusive):
        pass


@pytest.mark.parametrize("exclusive", [False, True])
def test_who_takes_the_dotlock_first_and_then_waits_for_ours(path: Path, fd: int, exclusive: bool) -> None:
    """The other has the lock file, and needs the POSIX lock to end; with the wrong order both would wait for ever."""
    lock_file(path).write_bytes(HOLDER)
    started_read, started_write = os.pipe()

    def other() -> None:
        mailbox = os.open(path, os.O_RDWR | os.O_APPEND)
        os.read(started_read, 1)
        fcntl.lockf(mailbox, fcntl.LOCK_EX)
        os.write(mailbox, b"mail")
        lock_file(path).unlink()

    pid = forked(other)
    lock = dotlocked(path, fd, AUTO, exclusive)
    assert lock.attempt() == str(lock_file(path))
    os.write(started_write, b"x")
    with lock:
        assert os.fstat(fd).st_size == 4
    assert ended_well(pid)


def test_nothing_is_held_while_waiting(path: Path, fd: int) -> None:
    lock_file(path).write_bytes(HOLDER)
    lock = dotlocked(path, fd, AUTO)
    assert lock.attempt()
    assert may_lock(path, fcntl.LOCK_EX)


@pytest.mark.parametrize("setting", [AUTO, REQUIRED])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_a_stale_lock_file_is_none(path: Path, fd: int, setting: str, exclusive: bool, old: bool) -> None:
    lock_file(path).write_bytes(b"" if old else b"%d\n" % dead_pid())
    if old:
        os.utime(lock_file(path), (1, 1))
    lock = dotlocked(path, fd, setting, exclusive)
    with lock:
        assert lock_file(path).exists()
        assert lock.makes_dotlock is (lock_file(path).read_bytes() == b"%d\n" % os.getpid())
    # Who reads does not clean up. (Without the exclusive lock it could not do so safely.)
    assert files(path) == (["mailbox"] if lock.makes_dotlock else ["mailbox", "mailbox.lock"])


def test_between_removing_a_stale_lock_file_and_making_ours(path: Path, fd: int) -> None:
    """We wait a while: another program may be about to remove the stale one, too, and does not look what it removes."""
    lock_file(path).write_bytes(b"%d\n" % dead_pid())
    lock = dotlocked(path, fd, AUTO)
    assert "stale" in lock.attempt()
    assert lock.attempt() == str(lock_file(path))
    assert files(path) == ["mailbox"]
    assert lock.pause == locks.LONGEST_PAUSE
    assert may_lock(path, fcntl.LOCK_EX)
    assert lock.attempt() == ""
    lock.__exit__()


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_mailbox_linked_to_the_name_of_its_lock(path: Path, fd: int, exclusive: bool) -> None:
    """To look into that file and close it would let go of all POSIX locks of the mailbox."""
    lock_file(path).hardlink_to(path)
    assert "a link to the mailbox" in refusal(dotlocked(path, fd, AUTO, exclusive, timeout=0.05)).reason
    with dotlocked(path, fd, "fcntl"):
        assert not may_lock(path, fcntl.LOCK_EX)


@pytest.mark.parametrize("made", [lambda lock: lock.symlink_to("victim"), lambda lock: lock.mkdir()])
def test_what_is_no_lock_file_is_left_alone(path: Path, fd: int, made: Callable[[Path], None]) -> None:
    victim = path.with_name("victim")
    victim.write_bytes(b"precious")
    made(lock_file(path))
    os.utime(lock_file(path), (1, 1), follow_symlinks=False)
    refused = refusal(dotlocked(path, fd, AUTO, timeout=0.05))
    assert refused.reason.startswith(f"another program held {lock_file(path)}, which is not a plain file")
    assert files(path) == ["mailbox", "mailbox.lock", "victim"]
    assert victim.read_bytes() == b"precious"


def test_a_name_too_long_for_a_lock_file(tmp_path: Path) -> None:
    path = tmp_path / ("m" * 251)
    path.touch()
    fd = os.open(path, os.O_RDWR)
    with dotlocked(path, fd, AUTO):
        assert not may_lock(path, fcntl.LOCK_EX)
    refused = refusal(dotlocked(path, fd, REQUIRED))
    assert refused.code == "SYS/PERM"
    assert refused.reason == f"POPAD_LOCKS wants {path}.lock, which cannot be made: File name too long"


def as_nobody(path: Path, role: Callable[[int], None], mode: int = 0o755, daemons: Path | None = None) -> bool:
    """Whether a process of another user, who has the mailbox and not the directory (of this mode), does this.

    `daemons`: what belongs to a third user.
    """
    path.parent.chmod(mode)
    os.chown(path, NOBODY, NOBODY)
    if daemons:
        os.chown(daemons, DAEMON, DAEMON)

    def become() -> None:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        role(os.open(path, os.O_RDWR))

    return ended_well(forked(become))


@pytest.mark.skipif(not ROOT, reason="needs root: to be a user who may not write to a directory")
def test_where_no_lock_file_can_be_made(path: Path) -> None:
    def role(fd: int) -> None:
        with dotlocked(path, fd, AUTO):
            assert files(path) == ["mailbox"]
            assert not may_lock(path, fcntl.LOCK_EX)
        for exclusive in (False, True):
            refused = refusal(dotlocked(path, fd, REQUIRED, exclusive))
            assert refused.code == "SYS/PERM"
            assert refused.reason == f"POPAD_LOCKS wants {lock_file(path)}, which cannot be made: Permission denied"
        assert may_lock(path, fcntl.LOCK_EX)

    assert as_nobody(path, role)


@pytest.mark.skipif(not ROOT, reason="needs root: to be a user who may not write to a directory")
def test_where_none_can_be_made_those_of_others_are_waited_for(path: Path) -> None:
    lock_file(path).write_bytes(HOLDER)

    def role(fd: int) -> None:
        assert refusal(dotlocked(path, fd, AUTO, timeout=0.05)).code == "IN-USE"

    assert as_nobody(path, role)


@pytest.mark.skipif(not ROOT, reason="needs root: to be a user who may not write to a directory")
def test_a_stale_lock_file_that_cannot_be_removed(path: Path) -> None:
    lock_file(path).write_bytes(b"%d\n" % dead_pid())

    def role(fd: int) -> None:
        with dotlocked(path, fd, AUTO):
            assert not may_lock(path, fcntl.LOCK_EX)

    assert as_nobody(path, role)
    assert lock_file(path).exists()


@pytest.mark.skipif(not ROOT, reason="needs root: to be a user who may not read a file")
def test_a_lock_file_that_cannot_be_read_counts_by_its_age(path: Path) -> None:
    lock_file(path).write_bytes(b"%d\n" % dead_pid())
    lock_file(path).chmod(0)

    def waits(fd: int) -> None:
        assert refusal(dotlocked(path, fd, AUTO, timeout=0.05)).code == "IN-USE"

    def gets_it(fd: int) -> None:
        with dotlocked(path, fd, AUTO):
            pass

    assert as_nobody(path, waits)
    os.utime(lock_file(path), (1, 1))
    assert as_nobody(path, gets_it)


@pytest.mark.skipif(not ROOT, reason="needs root: to be a user who may not write to a directory")
def test_a_sticky_directory_with_a_stale_lock_of_somebody_else(path: Path) -> None:
    """The file can be made there, and this one not removed."""
    lock_file(path).write_bytes(b"%d\n" % dead_pid())

    def role(fd: int) -> None:
        with dotlocked(path, fd, AUTO):
            assert not may_lock(path, fcntl.LOCK_EX)
        refused = refusal(dotlocked(path, fd, REQUIRED, timeout=0.05))
        assert refused.code == "IN-USE"
        assert "stale" in refused.reason

    assert as_nobody(path, role, mode=0o1777)
    assert files(path) == ["mailbox", "mailbox.lock"]


KINDS: dict[str, Callable[[Path], object]] = {
    "a lock": lambda path: path.write_bytes(HOLDER),
    "nothing": lambda path: path.touch(),
    "a directory": lambda path: path.mkdir(),
    "a symlink": lambda path: path.symlink_to("mailbox"),
    "a FIFO": os.mkfifo,
    "much": lambda path: path.write_bytes(b"x" * 1000),
}


@pytest.mark.skipif(not ROOT, reason="needs root: files of several users")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exclusive", [False, True])
def test_in_a_directory_of_everybody_a_foreign_lock_is_none(path: Path, kind: str, exclusive: bool) -> None:
    """Mode 1777: anybody could keep everybody from his mail. Where lock files have to be, it is said that there can be
    none.
    """
    KINDS[kind](lock_file(path))
    os.chown(lock_file(path), DAEMON, DAEMON, follow_symlinks=False)

    def role(fd: int) -> None:
        with dotlocked(path, fd, AUTO, exclusive, timeout=0.05):
            assert not may_lock(path, fcntl.LOCK_EX)
        refused = refusal(dotlocked(path, fd, REQUIRED, exclusive))
        assert refused.code == "SYS/PERM"
        assert refused.reason.endswith(f"{lock_file(path)}, which cannot be made: something else has this name")

    assert as_nobody(path, role, mode=0o1777)
    assert files(path) == ["mailbox", "mailbox.lock"]


@pytest.mark.skipif(not ROOT, reason="needs root: files of several users")
@pytest.mark.parametrize(
    ("mode", "owner"), [(0o775, 1), (0o1777, 0), (0o1777, NOBODY)], ids=["his directory", "root", "the user"]
)
def test_whose_lock_counts(path: Path, mode: int, owner: int) -> None:
    lock_file(path).write_bytes(HOLDER)
    os.chown(lock_file(path), owner, owner)

    def role(fd: int) -> None:
        assert refusal(dotlocked(path, fd, AUTO, timeout=0.05)).code == "IN-USE"

    assert as_nobody(path, role, mode)


@pytest.mark.skipif(not ROOT, reason="needs root: files of several users")
def test_the_owners_of_mailbox_and_directory_may_lock(path: Path) -> None:
    """The session is another user, whom the mailbox's group lets in."""
    path.chmod(0o666)
    for owned in (path, path.parent):
        lock_file(path).write_bytes(HOLDER)
        os.chown(lock_file(path), DAEMON, DAEMON)

        def role(fd: int, owned: Path = owned) -> None:
            assert refusal(dotlocked(path, fd, AUTO, timeout=0.05)).code == "IN-USE"

        assert as_nobody(path, role, 0o1777, owned)
        lock_file(path).unlink()
        os.chown(path.parent, 0, 0)


@pytest.mark.parametrize("setting", [AUTO, REQUIRED])
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_mailbox_that_has_the_name_of_the_lock(path: Path, fd: int, setting: str, exclusive: bool) -> None:
    mail = b"From a\n\nhello\n\n"
    lock_file(path).write_bytes(mail)
    os.utime(lock_file(path), (1, 1))
    if setting == REQUIRED:
        assert refusal(dotlocked(path, fd, setting, exclusive)).code == "SYS/PERM"
    else:
        with dotlocked(path, fd, setting, exclusive):
            assert not may_lock(path, fcntl.LOCK_EX)
    assert lock_file(path).read_bytes() == mail
    assert files(path) == ["mailbox", "mailbox.lock"]


def test_an_error_that_says_nothing_about_the_directory(path: Path, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(dotlock: Dotlock) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Dotlock, "take", broken)
    with pytest.raises(OSError, match="Input/output"), dotlocked(path, fd, AUTO):
        pytest.fail("got a lock")
    assert may_lock(path, fcntl.LOCK_EX)
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_mailbox_that_cannot_be_looked_at_leaves_no_lock_file(
    path: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file server that has lost it: the look behind the lock fails, and nobody would let go of the lock."""
    fstat = os.fstat

    def stale(which: int) -> os.stat_result:
        if which == fd:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return fstat(which)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", stale)
        with pytest.raises(OSError, match="Stale"), dotlocked(path, fd, AUTO):
            pytest.fail("got a lock")
    assert files(path) == ["mailbox"]
    assert may_lock(path, fcntl.LOCK_EX)
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize(("setting", "code"), [(AUTO, ""), (REQUIRED, "SYS/TEMP")])
def test_no_room_for_a_lock_file(path: Path, fd: int, monkeypatch: pytest.MonkeyPatch, setting: str, code: str) -> None:
    """Who deletes mail because there is no room must be able to."""

    def full(dotlock: Dotlock) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Dotlock, "take", full)
    if code:
        assert refusal(dotlocked(path, fd, setting)).code == code
    else:
        with dotlocked(path, fd, setting):
            assert not may_lock(path, fcntl.LOCK_EX)
    assert may_lock(path, fcntl.LOCK_EX)


def holder_until(path: Path, ready: int, told: int, setting: str = AUTO) -> int:
    """A process that holds both locks until it reads something."""

    def role() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with dotlocked(path, os.open(path, os.O_RDWR), setting):
            os.write(ready, b"x")
            os.read(told, 1)

    return forked(role)


def test_a_signal_does_not_leave_a_lock_file(path: Path) -> None:
    ready_read, ready_write = os.pipe()
    told_read, told_write = os.pipe()
    pid = holder_until(path, ready_write, told_read)
    os.read(ready_read, 1)
    os.kill(pid, signal.SIGTERM)
    os.write(told_write, b"x")
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGTERM
    assert files(path) == ["mailbox"]


@pytest.mark.parametrize("ends", ["before we look again", "later"])
@pytest.mark.parametrize("exclusive", [False, True])
def test_who_begins_to_write_while_we_look(
    path: Path, fd: int, monkeypatch: pytest.MonkeyPatch, ends: str, exclusive: bool
) -> None:
    """A program that knows dotlocks alone comes between our look at the dotlock and the one at the size.

    An exclusive lock looks in the same way where no lock file can be made.
    """
    fstat = os.fstat
    pieces = [b"From b", b"\n\nbody\n\n"]

    def write() -> None:
        with path.open("ab") as file:
            file.write(pieces.pop(0))
        if not pieces:
            lock_file(path).unlink()

    def interrupted(which: int) -> os.stat_result:
        if which != fd or not pieces:
            return fstat(which)
        lock_file(path).write_bytes(HOLDER)
        write()
        seen = fstat(which)
        if pieces and ends == "before we look again":
            write()
        return seen

    def impossible(dotlock: Dotlock) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Dotlock, "take", impossible)
    monkeypatch.setattr(os, "fstat", interrupted)
    with dotlocked(path, fd, AUTO, exclusive) as seen:
        assert seen.st_size == len(b"From b\n\nbody\n\n")
    assert not pieces


def test_a_lock_file_of_a_killed_session_is_free(path: Path, fd: int) -> None:
    ready_read, ready_write = os.pipe()
    told_read, _ = os.pipe()
    pid = holder_until(path, ready_write, told_read)
    os.read(ready_read, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert lock_file(path).read_bytes() == b"%d\n" % pid
    with dotlocked(path, fd, AUTO):
        assert lock_file(path).read_bytes() == b"%d\n" % os.getpid()
    assert files(path) == ["mailbox"]


@pytest.mark.parametrize("dies", [False, True])
def test_one_at_a_time(path: Path, dies: bool) -> None:
    """Processes that count up in the mailbox; with `dies`, each leaves its lock file behind, and all remove those."""
    processes, rounds = 4, 6 if dies else 25

    def count() -> None:
        fd = os.open(path, os.O_RDWR)
        with dotlocked(path, fd, AUTO):
            number = int(os.pread(fd, 20, 0) or b"0")
            os.sched_yield()
            os.pwrite(fd, b"%d" % (number + 1), 0)
            if dies:
                os._exit(0)
        os.close(fd)

    def role() -> None:
        for _ in range(rounds):
            if dies:
                assert ended_well(forked(count))
            else:
                count()

    children = [forked(role) for _ in range(processes)]
    assert [ended_well(pid) for pid in children] == [True] * processes
    assert path.read_bytes() == b"%d" % (processes * rounds)
    assert files(path) == (["mailbox", "mailbox.lock"] if dies else ["mailbox"])


def test_a_lock_file_that_cannot_be_touched(path: Path, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread to touch it: the lock is held all the same."""

    def no_thread(*arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", no_thread)
    with dotlocked(path, fd, AUTO):
        assert lock_file(path).exists()
    assert files(path) == ["mailbox"]


def test_what_the_setting_means() -> None:
    assert locks.dotlock_of("/x", "fcntl") is None
    automatic, required = locks.dotlock_of("/x", "auto"), locks.dotlock_of("/x", "fcntl,dotlock")
    assert automatic is not None and not automatic.required
    assert required is not None and required.required


def test_a_writer_that_knows_lock_files_alone_and_pauses_between_its_writes(
    path: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes between the look for its lock file and the look at the mailbox, which does not change any more then."""
    look, looks = Dotlock.in_the_way, []

    def comes_behind_the_first(self: Dotlock) -> bool:
        found = look(self)
        looks.append(found)
        if len(looks) == 1:
            lock_file(path).write_bytes(HOLDER)
            path.write_bytes(b"From a\n\nhalf a mess")
        return found

    monkeypatch.setattr(Dotlock, "in_the_way", comes_behind_the_first)
    assert refusal(dotlocked(path, fd, AUTO, exclusive=False, timeout=0.1)).code == "IN-USE"
    assert looks[0] is False
