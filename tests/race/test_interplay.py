"""popad's locks against those of Debian's programs: each waits for the other, and knows what the other left behind."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from popad.errors import MaildropUnavailable
from popad.maildrop.mbox.locks import Lock, dotlock_of
from tests.support.patience import PATIENCE, wait_until

from .programs import Unavailable, require

DOTLOCKFILE, LOCKFILE, MUTT = "dotlockfile", "lockfile", "mutt_dotlock"
TOO_OLD = 301  # seconds


@pytest.fixture(scope="module")
def programs() -> Path:
    try:
        return require() / "usr/bin"
    except Unavailable as reason:
        pytest.skip(str(reason))


class Mailbox:
    """A mailbox, its lock file, and the programs."""

    def __init__(self, path: Path, programs: Path) -> None:
        self.path = path / "mailbox"
        self.path.touch()
        self.lock_path = path / "mailbox.lock"
        self.programs = programs
        self.fd = os.open(self.path, os.O_RDWR)

    def lock(self, timeout: float = PATIENCE, exclusive: bool = True) -> Lock:
        return Lock(self.fd, timeout, "IN-USE", dotlock_of(str(self.path), "auto"), exclusive=exclusive)

    def is_ours_to_have(self, exclusive: bool = True) -> bool:
        """Whether popad gets its locks, be it after removing a stale one."""
        try:
            with self.lock(0.2, exclusive):
                return True
        except MaildropUnavailable:
            return False

    def is_theirs_to_have(self, program: str) -> bool:
        """Whether this program gets the lock at once; it keeps it then."""
        done = subprocess.run(self.take(program), capture_output=True, timeout=PATIENCE)
        return done.returncode == 0

    def take(self, program: str) -> list[str]:
        words = {
            DOTLOCKFILE: ["-l", "-p", "-r", "0", str(self.lock_path)],
            f"{DOTLOCKFILE} without PID": ["-l", "-r", "0", str(self.lock_path)],
            LOCKFILE: ["-r0", str(self.lock_path)],
            MUTT: ["-r", "0", str(self.path)],
        }
        return [str(self.programs / program.split()[0]), *words[program]]

    def age(self) -> None:
        # Not the time of access, which liblockfile 1.17 takes for the time now where reading has changed it.
        now = time.time()
        os.utime(self.lock_path, (now, now - TOO_OLD))


@pytest.fixture
def mailbox(tmp_path: Path, programs: Path) -> Mailbox:
    return Mailbox(tmp_path, programs)


every_program = pytest.mark.parametrize("program", [DOTLOCKFILE, f"{DOTLOCKFILE} without PID", LOCKFILE, MUTT])


@every_program
def test_they_wait_for_us(mailbox: Mailbox, program: str) -> None:
    with mailbox.lock():
        assert not mailbox.is_theirs_to_have(program)
        assert mailbox.lock_path.read_bytes() == b"%d\n" % os.getpid()
    assert mailbox.is_theirs_to_have(program)


@every_program
@pytest.mark.parametrize("exclusive", [False, True])
def test_we_wait_for_them(mailbox: Mailbox, program: str, exclusive: bool) -> None:
    assert mailbox.is_theirs_to_have(program)
    assert not mailbox.is_ours_to_have(exclusive)
    assert mailbox.lock_path.exists()
    mailbox.lock_path.unlink()
    assert mailbox.is_ours_to_have(exclusive)


@every_program
def test_a_lock_of_theirs_that_is_too_old(mailbox: Mailbox, program: str) -> None:
    """dotlockfile writes the PID of who started it: this process has not that lock, so its age counts as well."""
    assert mailbox.is_theirs_to_have(program)
    mailbox.age()
    assert mailbox.is_ours_to_have()
    assert not mailbox.lock_path.exists()


@contextmanager
def popad_holding(mailbox: Mailbox) -> Iterator[int]:
    """A process with popad's locks: its number."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        with mailbox.lock():
            os.write(told, b"x")
            signal.pause()
    assert os.read(ready, 1) == b"x"
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_lock_of_a_popad_that_was_killed(mailbox: Mailbox) -> None:
    """Who looks at PIDs is free at once, who does not after five minutes: that is why a lock held long is touched."""
    with popad_holding(mailbox):
        assert not mailbox.is_theirs_to_have(DOTLOCKFILE)
        mailbox.age()
        assert not mailbox.is_theirs_to_have(DOTLOCKFILE)
        mailbox.lock_path.touch()
    assert mailbox.lock_path.exists()
    assert not mailbox.is_theirs_to_have(f"{DOTLOCKFILE} without PID")
    assert mailbox.is_theirs_to_have(DOTLOCKFILE)


def test_an_old_lock_of_ours_is_broken_by_who_knows_no_pids(mailbox: Mailbox) -> None:
    with mailbox.lock():
        mailbox.age()
        assert mailbox.is_theirs_to_have(f"{DOTLOCKFILE} without PID")
        theirs = mailbox.lock_path.read_bytes()
    assert mailbox.lock_path.read_bytes() == theirs, "that lock is not ours to remove"


def test_a_lock_of_a_dotlockfile_that_was_killed(mailbox: Mailbox) -> None:
    """`dotlockfile FILE COMMAND` has its own PID in the lock."""
    command = [str(mailbox.programs / DOTLOCKFILE), "-l", "-p", str(mailbox.lock_path), "cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as holder:
        wait_until(lambda: mailbox.lock_path.exists() and mailbox.lock_path.stat().st_size > 0)
        assert not mailbox.is_ours_to_have()
        os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()
    assert mailbox.lock_path.exists()
    assert mailbox.is_ours_to_have()
    assert not mailbox.lock_path.exists()


def test_procmail_waits_for_us(mailbox: Mailbox, tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = [f"DEFAULT={mailbox.path}", f"LOGFILE={log}", "VERBOSE=on", "LOCKSLEEP=1", "/dev/null"]
    with mailbox.lock():
        process = subprocess.Popen([mailbox.programs / "procmail", *words], stdin=subprocess.PIPE)
        assert process.stdin
        process.stdin.write(b"Subject: s\n\nbody\n")
        process.stdin.close()
        wait_until(lambda: log.exists() and b"Locking" in log.read_bytes())
        assert process.poll() is None
        assert mailbox.path.stat().st_size == 0
    assert process.wait(PATIENCE) == 0
    assert mailbox.path.read_bytes().endswith(b"Subject: s\n\nbody\n\n")
    assert not mailbox.lock_path.exists()
