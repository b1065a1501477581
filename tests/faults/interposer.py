"""The interposer (interpose.c) from Python: built into the cache, loaded into processes, armed in them.

A process must have been started with LD_PRELOAD for it: see `preloaded`. Its calls are then counted below the roots,
and at the n-th of them it dies or meets an error. What it did can be recorded, with all that it wrote.
"""

import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from popad.errors import MaildropUnavailable
from tests.support.here import CACHE

SOURCE = Path(__file__).with_name("interpose.c")
# Without padding: struct record of interpose.c has none.
RECORD = struct.Struct("=IiQqIII4x")
DONE, RAISED = 0, 3  # exit statuses of a child


class Mode(IntEnum):
    """What happens at the n-th call. TORN: half of a write is done before. _ON: from the n-th call on."""

    COUNT, KILL_BEFORE, KILL_AFTER, KILL_TORN, FAIL, FAIL_ON, SHORT, SHORT_ON, TORN_FAIL_ON = range(9)


class Kind(IntEnum):
    """The calls that count."""

    WRITE, FSYNC, TRUNCATE, CREATE, LINK, UNLINK, RENAME, ALLOCATE, MKDIR = range(1, 10)


@dataclass(frozen=True)
class Call:
    """One call that was made: what it wrote where, or the names it changed."""

    kind: Kind
    error: int
    inode: int
    offset: int  # of a write; the new size of a truncate; the end of what is allocated; 1 for the fsync of a directory
    data: bytes
    path: str
    other: str  # the new name of a link or a rename


def build() -> Path:
    """The shared object, made by gcc when the cache has none of this source. Raises RuntimeError without gcc."""
    made = CACHE / f"interpose-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}.so"
    if made.exists():
        return made
    if not shutil.which("gcc"):
        raise RuntimeError("needs gcc, for the interposer")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "interpose.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unfinished = made.with_suffix(".unfinished")
        command = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(unfinished), str(SOURCE)]
        subprocess.run(command, check=True)
        unfinished.rename(made)
    return made


def preloaded() -> dict[str, str]:
    """What the environment of a process needs that is to be interposed."""
    return {"LD_PRELOAD": str(build())}


def orders(root: Path | str, mode: Mode, nth: int = 0, number: int = 0, log: Path | str = "") -> dict[str, str]:
    """The same as Interposer.arm, as environment of a program that is started."""
    words = {"ROOTS": str(root), "AT": str(nth), "MODE": str(int(mode)), "ERRNO": str(number)}
    return {f"FAULTS_{name}": word for name, word in words.items()} | ({"FAULTS_LOG": str(log)} if log else {})


class Interposer:
    """The one that is loaded into this process, for children to be armed with."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.library = ctypes.CDLL(str(build()))
        if not os.environ.get("LD_PRELOAD"):
            raise RuntimeError("this process was not started with LD_PRELOAD")
        self.log = os.memfd_create("calls")
        self.library.faults_calls.restype = ctypes.c_long
        self.record = os.open(f"/proc/self/fd/{self.log}", os.O_WRONLY | os.O_APPEND)

    def arm(self, mode: Mode, nth: int = 0, number: int = 0, log: bool = False) -> None:
        """From here on this process's calls count."""
        where = os.fsencode(self.root)
        self.library.faults_arm(where, ctypes.c_long(nth), int(mode), number, self.record if log else -1)

    def run(self, work: Callable[[], object], mode: Mode, nth: int = 0, number: int = 0, log: bool = False) -> bool:
        """Do `work`, armed, in a child. False where it was killed. Raises ChildFailed for any other end."""
        pid = os.fork()
        if pid == 0:
            status = RAISED
            try:
                self.arm(mode, nth, number, log)
                work()
                status = DONE
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status not in (DONE, -signal.SIGKILL):
            raise ChildFailed(f"exit status {status} with {mode.name} at call {nth}")
        return status == DONE

    def stopped(self, work: Callable[[], object], nth: int, torn: bool = False, log: bool = False) -> bool:
        """Do `work` in this very process, but from the n-th call on nothing reaches the files: what a death leaves
        behind, without the price of a fork. False where it made fewer calls.
        """
        mode = Mode.TORN_FAIL_ON if torn else Mode.FAIL_ON
        return self.here(work, mode, nth, log=log) >= nth

    def here(
        self,
        work: Callable[[], object],
        mode: Mode = Mode.COUNT,
        nth: int = 0,
        number: int = errno.EIO,
        log: bool = False,
    ) -> int:
        """Do `work`, armed, in this process; it may fail as the store does. Returns the number of calls."""
        self.arm(mode, nth, number, log)
        try:
            work()
        except (OSError, MaildropUnavailable):
            if mode == Mode.COUNT:
                raise
        finally:
            calls: int = self.library.faults_calls()
            self.disarm()
        return calls

    def disarm(self) -> None:
        self.library.faults_arm(b"", ctypes.c_long(0), 0, 0, -1)

    def recorded(
        self, work: Callable[[], object], mode: Mode = Mode.COUNT, nth: int = 0, number: int = 0
    ) -> list[Call]:
        """The calls that `work` made in a child."""
        self.logged()
        self.run(work, mode, nth, number, log=True)
        return self.logged()

    def recorded_here(
        self, work: Callable[[], object], mode: Mode = Mode.COUNT, nth: int = 0, number: int = errno.EIO
    ) -> list[Call]:
        """The calls that `work` made, in this process."""
        self.logged()
        self.here(work, mode, nth, number, log=True)
        return self.logged()

    def logged(self) -> list[Call]:
        """The calls recorded since the last time."""
        return list(parse(self.take_log()))

    def take_log(self) -> bytes:
        octets = os.pread(self.log, os.fstat(self.log).st_size, 0)
        os.ftruncate(self.log, 0)
        return octets


class ChildFailed(Exception):
    """A child neither did its work nor died as it was told to."""


def parse(octets: bytes) -> Iterator[Call]:
    """The records of a log."""
    place = 0
    while place < len(octets):
        kind, error, inode, offset, *lengths = RECORD.unpack_from(octets, place)
        place += RECORD.size
        length, name, other = lengths
        texts = []
        for count in (name, other, length):
            texts.append(octets[place : place + count])
            place += count
        yield Call(Kind(kind), error, inode, offset, texts[2], os.fsdecode(texts[0]), os.fsdecode(texts[1]))
