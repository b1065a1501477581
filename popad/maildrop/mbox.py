"""An mbox file as a store: opened safely, watched for changes by others, read message by message, updated in place.

No lock is held between the commands of a session (popa3d's choice: no stale lock, no busy mailbox after a dropped
line). Instead each access begins and ends with a look at the file. Same identity, size and times: nothing has happened.
Else the CRC of all that this session knows is compared, so that mail appended by others passes and any other change, of
whatever size or age, ends the session.
"""

import errno
import os
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator, Sequence

    from popad.maildrop.state import Journal
else:
    import _signal as signal  # the C part: the enumerations around it cost 3.6 ms

from popad.errors import MaildropChanged, MaildropUnavailable
from popad.maildrop import rewrite, uidl
from popad.maildrop.locks import Lock, dotlock_of
from popad.maildrop.scan import Messages, Scan

CONTENT_BLOCK = 1 << 17  # octets read at a time to send a message: fits the cache with what becomes of it
HEADER_BLOCK = 1 << 13  # most headers are shorter
# Two writes within one tick of the clock that stamps files leave the same times: 1 to 10 ms on Linux, a second or two
# on file systems that keep whole seconds.
FINE_TICK, COARSE_TICK = 20_000_000, 2_000_000_000  # ns
MAX_HOLES = 1 << 26  # octets: mail has none but what a crash may leave; terabytes of them cost their maker nothing

IN_USE, TEMPORARY, PERMANENT = "IN-USE", "SYS/TEMP", "SYS/PERM"
FOR_GOOD = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EBADF)
Signature = tuple[int, int, int, int, int]


class Mbox:
    """The messages of the mbox file at `path`, as they were when it was opened. See maildrop.Store.

    `journal` is where an update keeps what it moves (rewrite.py), `lock_timeout` is in seconds,
    `locks` is POPAD_LOCKS. Raises MaildropUnavailable for what cannot or must not be served. A missing file is an empty
    maildrop, for the whole session.
    """

    def __init__(
        self,
        path: str,
        journal: "Journal",
        lock_timeout: float,
        max_messages: int,
        max_octets: int,
        locks: str = "auto",
    ) -> None:
        self.path = path
        self.journal = journal
        self.lock_timeout = lock_timeout
        self.dotlock = dotlock_of(path, locks)
        self.messages = Messages()
        self.recovery: rewrite.Recovery | None = None
        self.fd = open_mailbox(path)
        self.signature: Signature = (0, 0, 0, 0, 0)
        if self.fd >= 0:
            try:
                self.load(max_messages, max_octets)
            except OSError as error:
                raise unavailable(error) from error
        self.sizes: Sequence[int] = self.messages.sizes

    def load(self, max_messages: int, max_octets: int) -> None:
        """Find the messages, after finishing what an earlier session may have left unfinished."""
        with Lock(self.fd, self.lock_timeout, IN_USE, self.dotlock) as seen:
            # Under the lock: before it, whoever holds it may still begin an update, and die.
            if not self.journal.exists():
                self.scan(seen, max_messages, max_octets)
                return
        with Lock(self.fd, self.lock_timeout, IN_USE, self.dotlock, exclusive=True):
            self.recovery = rewrite.recover(self.fd, self.journal)
            self.scan(os.fstat(self.fd), max_messages, max_octets)

    def scan(self, seen: os.stat_result, max_messages: int, max_octets: int) -> None:
        """Under a lock: find the messages of the file as it was seen."""
        self.signature = signature_of(seen)
        size = self.signature[2]
        if max_octets and size > max_octets:
            raise MaildropUnavailable(PERMANENT, f"{size} octets, the limit is {max_octets}")
        if holes(self.fd, size) > MAX_HOLES:
            raise MaildropUnavailable(PERMANENT, f"not an mbox: holes in its {size} octets")
        self.messages = Scan(self.read, size, max_messages).run()
        settle(self.signature)

    def read(self, count: int, offset: int) -> bytes:
        return os.pread(self.fd, count, offset)

    def check(self) -> None:
        """Raise MaildropChanged unless the messages of this session are where they were, octet for octet."""
        try:
            if self.looks_different():
                with Lock(self.fd, self.lock_timeout, TEMPORARY, self.dotlock):
                    self.verify()
        except MaildropUnavailable as locked:
            raise MaildropChanged(f"perhaps: {locked.reason}") from locked
        except OSError as error:
            raise MaildropChanged(f"it cannot be read: {error}") from error

    def looks_different(self) -> bool:
        """Whether the file needs to be read again. Raises MaildropChanged where it is not the same file, OSError."""
        now = signature(self.fd)
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            raise MaildropChanged("it is gone") from None
        if (there.st_dev, there.st_ino) != now[:2]:
            raise MaildropChanged("another file has taken its place")
        return now != self.signature

    def verify(self) -> None:
        """Under a lock: compare the CRC of all that this session knows, and take note of the file's new times."""
        now = signature(self.fd)
        known = self.messages.end
        if now[2] < known:
            raise MaildropChanged(f"it shrank from {known} to {now[2]} octets")
        if rewrite.crc_of(self.read, 0, known) != self.messages.crc:
            raise MaildropChanged("its messages were rewritten")
        settle(now)
        self.signature = now

    def content(self, index: int) -> "Iterator[bytes]":
        self.check()
        for block in self.blocks(self.messages.starts[index], self.messages.ends[index]):
            self.check()  # behind each block, as the reader may not want the last (TOP)
            yield block

    def blocks(self, place: int, end: int) -> "Iterator[bytes]":
        """A part of the file. Raises MaildropChanged when it is not there any more."""
        while place < end:
            try:
                block = self.read(min(CONTENT_BLOCK, end - place), place)
            except OSError as error:
                raise MaildropChanged(f"it cannot be read: {error.strerror}") from error
            if not block:
                raise MaildropChanged("it shrank while it was read")
            yield block
            place += len(block)

    def unique_ids(self) -> "Sequence[int]":
        if self.fd < 0:
            return ()
        self.check()
        starts, ends = self.messages.starts, self.messages.ends
        headers = (uidl.header_pieces(self.small_blocks(*place)) for place in zip(starts, ends, strict=True))
        ids = uidl.unique_ids(
            map(uidl.header_digest, headers),
            lambda index: uidl.digest_of_content(self.blocks(starts[index], ends[index])),
        )
        self.check()
        return ids

    def small_blocks(self, place: int, end: int) -> "Iterator[bytes]":
        """A part of the file for a reader who wants the header: one small block first."""
        middle = min(place + HEADER_BLOCK, end)
        yield from self.blocks(place, middle)
        yield from self.blocks(middle, end)

    def remove(self, marks: bytearray) -> None:
        """Take the marked messages out, under the exclusive lock, keeping what others have appended meanwhile."""
        froms = self.messages.froms
        ends = froms[1:]
        ends.append(self.messages.end)
        spans = [(begin, end) for begin, end, mark in zip(froms, ends, marks, strict=True) if mark]
        # An update that is interrupted is finished by the next session; one that is about to end had better end.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGHUP, signal.SIGINT))
        try:
            with Lock(self.fd, self.lock_timeout, TEMPORARY, self.dotlock, exclusive=True):
                if self.looks_different():
                    self.verify()
                rewrite.remove(self.fd, spans, self.journal)
        except OSError as error:
            raise unavailable(error) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


def signature(fd: int) -> Signature:
    """What differs when a file has been changed: device, inode, size, mtime and ctime in ns."""
    return signature_of(os.fstat(fd))


def signature_of(now: os.stat_result) -> Signature:
    """The same of a status."""
    return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns


def holes(fd: int, size: int) -> int:
    """Octets that were never written, as far as the file system tells; not counted much beyond MAX_HOLES."""
    found = place = 0
    try:
        while found <= MAX_HOLES and (begin := os.lseek(fd, place, os.SEEK_HOLE)) < size:
            try:
                place = os.lseek(fd, begin, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                place = size  # a hole up to the end
            found += place - begin
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.EINVAL):  # nothing at `place`; not supported here
            raise
    return found


def settle(seen: Signature) -> None:
    """Keep the lock until a change by the next holder must leave other times than `seen`."""
    newest = max(seen[3], seen[4])
    tick = COARSE_TICK if newest % 1_000_000_000 == 0 else FINE_TICK
    wait = newest + tick - time.time_ns()
    if 0 < wait <= tick:
        time.sleep(wait / 1e9)


def open_mailbox(path: str) -> int:
    """A descriptor of the mailbox, or -1 where there is none. Raises MaildropUnavailable for all but a regular file."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):  # before the open: opening a device can do something
            raise MaildropUnavailable(PERMANENT, "not a regular file")
        try:
            fd = os.open(path, os.O_RDWR | flags)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            fd = os.open(path, os.O_RDONLY | flags)  # to be read, if not updated
    except FileNotFoundError as error:
        if not os.path.isdir(os.path.dirname(path)):
            # No spool is not an empty mailbox: clients would forget what they have seen, and fetch it all again.
            raise MaildropUnavailable(TEMPORARY, f"there is no directory {os.path.dirname(path)}") from error
        return -1
    except OSError as error:
        raise unavailable(error) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise MaildropUnavailable(PERMANENT, "not a regular file")
    return fd


def unavailable(error: OSError) -> MaildropUnavailable:
    """An error of the operating system as the client may know it: to be tried again later, or not."""
    return MaildropUnavailable(PERMANENT if error.errno in FOR_GOOD else TEMPORARY, str(error))
