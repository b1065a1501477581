"""A mailbox, the redo logs of its updates, and what happens to them: sessions of popad's store, mail of other programs.

Everything is in one directory in memory, so that a fault costs a millisecond. A session here is Mbox, opened as
popad's session opens it; wire.py has whole sessions.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from popad.errors import MaildropUnavailable
from popad.maildrop.mbox import copying, store, update
from popad.maildrop.mbox.ids import SUFFIX
from popad.maildrop.private import KEY, RESERVE, SharedDirectory
from popad.maildrop.sealed import NEW
from tests.faults import judge
from tests.faults.judge import Tally
from tests.faults.mailboxes import Case
from tests.support import clock

LOCK_TIMEOUT = 5.0
PAGE = copying.PAGE


@dataclass(frozen=True)
class Disk:
    """The octets of the mailbox, and of each file in the state directory by name."""

    mailbox: bytes
    redo_logs: dict[str, bytes]  # and the remembered unique-ids


class World:
    """One mailbox. Its inode stays the same, as its redo logs belong to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "mailbox"
        self.state_path = root / "state"
        self.state_path.mkdir()
        self.path.touch(0o600)
        self.state = SharedDirectory(str(self.state_path))

    @property
    def redo_log(self) -> Path:
        return self.state_path / self.state.files_of(str(self.path)).names[0]

    def open(self) -> store.Mbox:
        # By fcntl alone: a lock file of a session that was killed would be waited for, each time, until it is removed.
        # wire.py has sessions that leave one.
        return store.Mbox(str(self.path), self.state.files_of(str(self.path)), LOCK_TIMEOUT, 1 << 22, 0, "fcntl")

    @contextmanager
    def session(self) -> Iterator[store.Mbox]:
        """All descriptors that the store opens are closed in the end, as its process would have ended."""
        there = open_files()
        try:
            yield self.open()
        finally:
            for fd in open_files() - there:
                os.close(fd)

    def recover(self) -> None:
        """A session that does nothing but open the mailbox."""
        with self.session():
            pass

    def files(self) -> list[str]:
        return [name for name in os.listdir(self.state_path) if name != KEY]

    def redo_logs(self) -> list[str]:
        return redo_logs(self.state_path)

    def disk(self) -> Disk:
        return Disk(self.path.read_bytes(), {name: (self.state_path / name).read_bytes() for name in self.files()})

    def restore(self, disk: Disk) -> None:
        """Make everything as it was."""
        for name in self.files():
            (self.state_path / name).unlink()
        for name, octets in disk.redo_logs.items():
            fd = os.open(self.state_path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            write(fd, octets)
            os.close(fd)
        fd = os.open(self.path, os.O_WRONLY | os.O_TRUNC)
        write(fd, disk.mailbox)
        os.close(fd)

    def fill(self, content: bytes) -> None:
        self.restore(Disk(content, {}))

    def append(self, message: bytes) -> bytes:
        """Deliver a message as MTAs do: under the lock, behind a blank line, durably. Returns what was appended."""
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX)
            end = os.pread(fd, 3, max(os.fstat(fd).st_size - 3, 0))
            if end and not end.endswith(b"\n"):
                message = b"\n\n" + message
            write(fd, message)
            os.fsync(fd)
        finally:
            os.close(fd)
        return message

    def use_windows_of(self, case: Case) -> None:
        """So small that the mailbox is as many as the case says. A redo log may have room for larger ones."""
        copying.WINDOW = max(len(case.before) // case.windows, 2 * update.MARK)
        copying.PAGE = min(PAGE, copying.WINDOW)

    def update(self, case: Case) -> None:
        """A session that removes what goes."""
        with self.session() as store:
            store.remove(case.marks)

    def check(self, tally: Tally, where: str, wanted: "Wanted") -> None:
        """Open the mailbox as the next session does, and count what is wrong."""
        tally.points += 1
        case = wanted.case
        try:
            with self.session() as store:
                content = self.path.read_bytes()
                kept = store.recovery.kept if store.recovery else ""
                froms = [*store.messages.froms, store.messages.end]
                served = [content[begin:end] for begin, end in pairwise(froms)]
        except MaildropUnavailable as refused:
            if wanted.unsynced and wanted.by(self.path.read_bytes()):
                # What its program did not wait for is torn in its From line, and no mbox any more: nobody can mend it.
                tally.notes["refused for a torn delivery"] += 1
                return
            tally.fail(f"{where}: refused: {refused.reason}", damaged=len(case.messages))
            return
        if not wanted.by(content):
            lost, doubled, damaged = judge.compare(content, wanted.messages, case.going)
            if not (lost or doubled or damaged):
                damaged = 1  # some of what goes is gone and some is not, or what was gone is back
            tally.fail(f"{where}: kept {kept!r}" if kept else where, lost, doubled, damaged)
        elif served != judge.split(content) and not wanted.unsynced:  # what is torn may look like anything
            tally.fail(f"{where}: served are other messages than there are", damaged=1)
        elif kept and wanted.unsynced:
            # Torn over the mark of an update that was not truncated durably: nothing is missing, and nobody can tell.
            tally.notes["redo log kept for a torn delivery"] += 1
        elif left := self.redo_logs():
            tally.fail(f"{where}: left {left} {store.recovery.reason if store.recovery else ''}", damaged=1)


@dataclass
class Wanted:
    """What the next session must find."""

    case: Case
    appended: list[bytes] = field(default_factory=list)  # by other programs, behind all else
    done: bool | None = None  # whether the update is known to have been made, or not to have been
    # Appended before the update. Line ends that its program put behind the last message go with that message.
    meanwhile: bytes = b""
    unsynced: bytes = b""  # appended by a program that did not wait for the disk: may be there, in part, or not

    def by(self, content: bytes) -> bool:
        """Whether this is that."""
        case, tail = self.case, b"".join(self.appended)
        moved = self.meanwhile.lstrip(b"\n") if len(case.messages) - 1 in case.gone else self.meanwhile
        after, before = case.after + moved + tail, case.before + self.meanwhile + tail
        if self.unsynced:
            return content.startswith((before, after)) and len(content) <= len(before) + len(self.unsynced)
        return (content == after and self.done is not False) or (content == before and not self.done)

    @property
    def messages(self) -> list[bytes]:
        more = [text.lstrip(b"\n") for text in (self.meanwhile, *self.appended) if text]
        return [*self.case.left, *more]


def redo_logs(state: Path) -> list[str]:
    """What is in the state directory besides its key, room for redo logs, and the remembered unique-ids."""
    others = (KEY, RESERVE, ".spare", SUFFIX, SUFFIX + NEW)
    return [name for name in os.listdir(state) if not name.endswith(others)]


def open_files() -> set[int]:
    """The descriptors of this process; the one of the listing itself is closed by now."""
    listing = os.listdir("/proc/self/fd")
    return {int(name) for name in listing if os.path.lexists(f"/proc/self/fd/{name}")}


def write(fd: int, octets: bytes) -> None:
    while octets:
        octets = octets[os.write(fd, octets) :]


@contextmanager
def world() -> Iterator[World]:
    """In memory where there is a place for it. The clock that stamps files is not what is tried here."""
    memory = "/dev/shm"
    # The path is in the records, which are more than a sector then, and can be torn.
    prefix = f"popad-faults-{'long-' * 30}"
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=memory if os.access(memory, os.W_OK) else None))
    try:
        made = World(path)
        with clock.not_waited_for():
            yield made
        os.close(made.state.fd)
    finally:
        shutil.rmtree(path)
