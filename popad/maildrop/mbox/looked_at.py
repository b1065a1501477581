"""An mbox file for who only looks: read by the session's own code, and without a lock.

A lock, even a shared one, would have others wait or give up. So what is read may be of two states, where another
program writes meanwhile; the look at the end (check) says so. What a session would write is left out: ids that must be
remembered, the index, room for an update, an update that was cut short.
"""

import errno
import fcntl
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from popad.maildrop.looked_at import SeenFiles
    from popad.maildrop.mbox.ids import File

from popad.arrays import array
from popad.errors import MaildropUnavailable, MaildropUnreadable
from popad.maildrop.mbox import recovery
from popad.maildrop.mbox.dotlock import Dotlock
from popad.maildrop.mbox.file import unavailable
from popad.maildrop.mbox.ids import Ids
from popad.maildrop.mbox.index import Index
from popad.maildrop.mbox.record import DONE, Record, current_record
from popad.maildrop.mbox.store import LARGE, Mbox
from popad.maildrop.private import ForeignFile

# linux/fs.h: _IOR('f', 1, long), and what chattr(1) calls i and a.
FS_IOC_GETFLAGS = 0x80086601 if sys.maxsize > 1 << 32 else 0x80046601
IMMUTABLE, APPEND_ONLY = 0x10, 0x20
# What an index is worth to the next session.
NO_CACHE = "none: POPAD_CACHE is empty, or cannot be had"
SMALL = f"none: a mailbox is worth one from {LARGE} octets on"
MISSING = "none yet: the next session scans all, and makes one"
NOT_BELIEVED = "damaged, or of another version: the next session scans all, and makes another"
OLD = "of a mailbox that was other than this: the next session scans all, and makes another"
GROWN = "of the mailbox before it grew: the next session scans what is new"
FITS = "it fits: the next session scans nothing"


class UnwrittenIds(Ids):
    """Unique-ids as a session gives them. `would_write`: it would remember something first."""

    would_write = False

    def replace(self, file: "File", stored: bytes, content: bytes) -> bool:
        self.would_write = True
        return True


class RedoLog:
    """A redo log that is there: its name, its record if it has one, and why it must not be applied, if so."""

    def __init__(self, name: str, record: Record | None, foreign: str) -> None:
        self.name = name
        self.record = record
        self.foreign = foreign

    @property
    def is_unfinished(self) -> bool:
        """Whether the mailbox is half moved until a session has finished the update."""
        return not self.foreign and self.record is not None and self.record.phase != DONE


class SeenMbox(Mbox):
    """The messages as they would be served; none while an update has to be finished first (`half_moved`).

    Raises MaildropUnavailable for what a session would refuse, and in its words.
    """

    access = os.O_RDONLY

    def __init__(
        self,
        path: str,
        files: "SeenFiles",
        max_messages: int,
        max_octets: int,
        locks: str,
        cache: "SeenFiles | None",
        former: "tuple[str, str] | None",
        wait: "Callable[[SeenMbox], None]",
    ) -> None:
        """`wait`: what is done before the file is read, as others may be writing to it."""
        self.wait = wait
        self.seen_files = files
        self.redo_logs: list[RedoLog] = []
        self.index_state = NO_CACHE
        self.was_touched = False  # since it was opened: the last message may not have been whole
        self.digests = array("Q")  # of popa3d, of the first messages
        super().__init__(path, files, 0, max_messages, max_octets, locks, cache, former)
        self.unwritten = self.ids = UnwrittenIds(files)

    @property
    def half_moved(self) -> bool:
        return any(log.is_unfinished for log in self.redo_logs)

    def load(self) -> None:
        keep_time_of_access(self.fd)
        self.read_only = self.why_not_written()
        if self.dotlock and self.dotlock.required:
            self.make_sure_of_dotlock()
        self.redo_logs = list(map(self.redo_log, filter(self.files.directory.has, self.files.names_of(self.fd))))
        self.wait(self)
        if self.dotlock and self.dotlock.required:
            self.make_sure_of_its_name(self.dotlock)
        if self.half_moved:
            return
        try:
            self.find_messages(os.fstat(self.fd))
        except MaildropUnavailable as refused:
            for log in self.redo_logs:
                if log.foreign:
                    kept = self.seen_files.kept_name(log.name)
                    why = f"{refused.reason}; the redo log of an update was kept as {kept}: {log.foreign}"
                    raise MaildropUnavailable(refused.code, why) from refused
            raise
        self.index_state = self.state_of_index()
        self.index = None  # which a session would take away where it is wrong

    def why_not_written(self) -> str:
        """As why_read_only() of a file that was opened for writing, too. Raises MaildropUnavailable."""
        attributes = attributes_of(self.fd)
        if os.access(self.path, os.W_OK, effective_ids=True):
            if not attributes & APPEND_ONLY:
                return ""
            number = errno.EPERM
        elif os.fstatvfs(self.fd).f_flag & os.ST_RDONLY:
            return "a file system that is read-only"
        else:
            number = errno.EPERM if attributes & IMMUTABLE else errno.EACCES
        raise unavailable(PermissionError(number, os.strerror(number), self.path))

    def make_sure_of_dotlock(self) -> None:
        """Raises MaildropUnavailable where POPAD_LOCKS wants one that this user cannot make."""
        directory = os.path.dirname(self.path)
        if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            raise MaildropUnavailable(
                "SYS/PERM", f"POPAD_LOCKS wants {self.path}.lock, which cannot be made: {os.strerror(errno.EACCES)}"
            )

    def make_sure_of_its_name(self, dotlock: Dotlock) -> None:
        """Raises MaildropUnavailable where it belongs to what is no lock, and stays."""
        try:
            dotlock.judge(self.fd)
            if dotlock.name_is_taken():
                raise MaildropUnavailable(
                    "SYS/PERM", f"POPAD_LOCKS wants {dotlock.path}, which cannot be made: something else has this name"
                )
        finally:
            dotlock.forget_void()

    def redo_log(self, name: str) -> RedoLog:
        """What a session would make of it. Raises OSError."""
        record = None
        try:
            fd = self.files.open(name)
            try:
                record = current_record(fd)
                if record and record.phase != DONE:
                    recovery.judged(self.fd, fd, record)
            finally:
                os.close(fd)
        except ForeignFile as foreign:
            return RedoLog(name, record, str(foreign))
        return RedoLog(name, record, "")

    def state_of_index(self) -> str:
        """What is kept in POPAD_CACHE, and what it is worth."""
        if not self.cache:
            return NO_CACHE
        if not self.index:
            return SMALL
        if not self.first_scan:
            return FITS if self.messages.remembered else GROWN
        try:
            if not self.cache.directory.has(self.index.name):
                return MISSING
        except OSError:
            return NO_CACHE  # no right to search it
        return OLD if Index(self.cache).load(self.max_messages) else NOT_BELIEVED

    def hold(self) -> None:
        """No lock."""

    def check(self) -> bool:
        try:
            if not self.looks_different():
                return False
            self.verify()
        except (MaildropUnavailable, OSError) as error:
            raise MaildropUnreadable(str(error)) from error
        self.was_touched = True
        return True

    def alone(self, work: "Callable[[], bool]") -> bool:
        """What would be written is not."""
        return False

    def header_number(self, index: int) -> int:
        while len(self.digests) <= index:
            self.digests.append(super().header_number(len(self.digests)))
        return self.digests[index]

    def from_line(self, index: int, most: int) -> bytes:
        """The line that separates the message from the one before, so many octets of it. Raises OSError."""
        begin = self.messages.froms[index]
        return self.read(min(most, self.messages.starts[index] - begin), begin).rstrip(b"\r\n")

    def close(self) -> None:
        """Wait for a process that reads, too."""
        self.finish(wait=True)
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def keep_time_of_access(fd: int) -> None:
    """By it shells and mail readers know whether somebody has looked at new mail. Only for a file's owner."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NOATIME)
    except OSError:
        pass


def attributes_of(fd: int) -> int:
    """Of a file, as lsattr(1) shows them; 0 where the file system has none."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8))[:4], sys.byteorder)
    except OSError:
        return 0
