"""An mbox file as a store: opened safely, watched for changes by others, read message by message, updated in place.

No lock is held between the commands of a session (popa3d's choice: no stale lock, no busy mailbox after a dropped
line). Instead each access ends with a look at the file. Same identity, size and times: nothing has happened.
Else the CRC of all that this session knows is compared, so that mail appended by others passes and any other change, of
whatever size or age, is noticed before an octet is given away. What cannot be read or locked now is not changed: the
next access looks again.

What was read counts only if nothing has happened since the last such look: then it is what the session knows.
"""

import fcntl
import os
from itertools import compress

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator, Sequence

    from popad.maildrop.maildrop import Texts
    from popad.maildrop.private import PrivateFiles
else:
    import _signal as signal  # the C part: the enumerations around it cost 3.6 ms

from popad.errors import MaildropChanged, MaildropUnavailable, MaildropUnreadable
from popad.maildrop import uidl
from popad.maildrop.maildrop import Store
from popad.maildrop.mbox import numbers, recovery, remembered, update
from popad.maildrop.mbox.crc import crc_of
from popad.maildrop.mbox.file import (
    CONTENT_BLOCK,
    Signature,
    is_sparse,
    make_sure_it_is_writable,
    open_mailbox,
    signature,
    take_signature,
    unavailable,
    why_read_only,
)
from popad.maildrop.mbox.first_scan import FirstScan
from popad.maildrop.mbox.ids import Ids
from popad.maildrop.mbox.index import Index, crc_without, without
from popad.maildrop.mbox.locks import PERMANENT, TEMPORARY, Lock, dotlock_of
from popad.maildrop.mbox.scan import Messages, hide_internal_data
from popad.maildrop.mbox.spans import spans

HEADER_BLOCK = 1 << 12  # most headers are shorter
# A mailbox is worth an index from so many octets on: such a one is scanned in 2 to 5 ms.
LARGE = 1 << 20
IN_USE = "IN-USE"


class Mbox(Store):
    """The messages of the mbox file at `path`, as they were when it was opened. See maildrop.Store.

    `redo log` is where an update keeps what it moves (update.py), with the ids that are remembered beside it (ids.py),
    `cache` where what is learnt of a large mailbox is kept (index.py), if anywhere; `lock_timeout` is in seconds,
    `locks` is POPAD_LOCKS; `former`: the server whose unique-ids count, and their format (header_ids.py), if any.
    Raises MaildropUnavailable for what cannot or must not be served. A missing file is an empty maildrop, for the whole
    session.
    """

    access = os.O_RDWR

    def __init__(
        self,
        path: str,
        files: "PrivateFiles",
        lock_timeout: float,
        max_messages: int,
        max_octets: int,
        locks: str = "auto",
        cache: "PrivateFiles | None" = None,
        former: "tuple[str, str] | None" = None,
    ) -> None:
        self.path = path
        self.files = files
        self.lock_timeout = lock_timeout
        self.max_messages = max_messages
        self.max_octets = max_octets
        self.dotlock = dotlock_of(path, locks)
        self.cache = cache
        self.former = former
        self.list_trouble = ""  # why the list of a former server's ids is not kept
        self.ids = Ids(files)
        self.index: Index | None = None
        self.messages = Messages()
        self.first_scan: FirstScan | None = None  # of a mailbox that is not remembered
        self.fd = open_mailbox(path, self.access)
        self.signature: Signature = (0, 0, 0, 0, 0)
        self.reliable = False  # whether any change since `signature` was taken must leave another
        self.prefetched = False  # whether prefetch() has read since then
        if self.fd >= 0:
            self.read_only = why_read_only(self.fd, path)
            try:
                self.load()
            except OSError as error:
                os.close(self.fd)
                raise unavailable(error) from error
            except MaildropUnavailable:
                os.close(self.fd)
                raise
        self.sizes: Sequence[int] = self.messages.sizes

    def load(self) -> None:
        """Find the messages, after finishing what an earlier session may have left unfinished."""
        with Lock(self.fd, self.lock_timeout, IN_USE, self.dotlock) as seen:
            # Under the lock: before it, whoever holds it may still begin an update, and die.
            if not (unfinished := self.files.exists(self.fd)):
                self.find_messages(seen)
                if self.dotlock and self.dotlock.required:
                    self.know_all()
        if unfinished:
            make_sure_it_is_writable(self.fd, self.path)
            with Lock(self.fd, self.lock_timeout, IN_USE, self.dotlock, exclusive=True):
                self.recovery = found = recovery.recover(self.fd, self.files)
                try:
                    self.find_messages(os.fstat(self.fd))
                    self.know_all()
                except MaildropUnavailable as refused:
                    if not found.kept:
                        raise
                    why = f"{refused.reason}; the redo log of an update was kept as {found.kept}: {found.reason}"
                    raise MaildropUnavailable(refused.code, why) from refused
        if self.first_scan and not self.first_scan.is_under_way:
            self.remember()
        if self.messages.starts:
            self.files.keep_room()

    def find_messages(self, seen: os.stat_result) -> None:
        """Under a lock: remember or scan where the messages of the file as it was seen are."""
        self.signature, self.reliable = take_signature(seen)
        size = self.signature[2]
        if self.max_octets and size > self.max_octets:
            raise MaildropUnavailable(PERMANENT, f"{size} octets, the limit is {self.max_octets}")
        if is_sparse(self.fd, seen):
            raise MaildropUnavailable(PERMANENT, f"not an mbox: holes in its {size} octets")
        if self.cache and size >= LARGE:
            self.index = Index(self.cache)
            if known := self.index.recall(self.signature, self.read, self.max_messages):
                self.messages = known
                return
        self.first_scan = FirstScan(self, size, self.max_messages, self.reliable)
        self.messages = self.first_scan.messages

    def know_all(self) -> None:
        """Under a lock that only one process can hold: have the CRC, too, before those come who have waited for it."""
        try:
            self.know_crc()
        except (MaildropChanged, MaildropUnreadable) as failure:
            raise MaildropUnavailable(failure.code, str(failure)) from failure

    def remember(self) -> None:
        """Keep what is known for the next session. Raises what know_crc() raises."""
        self.know_crc()
        if self.index and self.reliable:
            self.index.store(self.messages, self.signature)

    def know_crc(self) -> None:
        """Wait for the CRC, where the first scan does not know it yet. Raises MaildropChanged, MaildropUnreadable."""
        if self.first_scan:
            self.first_scan.know_crc(self.signature)

    def finish(self, wait: bool) -> None:
        if self.first_scan and self.first_scan.is_under_way and (wait or self.first_scan.is_done):
            try:
                self.remember()
            except (MaildropChanged, MaildropUnreadable):
                pass  # an access finds out, if there is one

    def read(self, count: int, offset: int) -> bytes:
        return os.pread(self.fd, count, offset)

    def look(self) -> Signature:
        return signature(os.fstat(self.fd))

    def hold(self) -> None:
        try:
            fcntl.lockf(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            pass  # the first process has it for itself, or another program is about to

    def check(self) -> bool:
        """Raise MaildropChanged unless the messages of this session are where they were, octet for octet; or
        MaildropUnreadable where that cannot be told now.

        Returns whether the file has been touched since the last look: what was read meanwhile may be anything.
        """
        try:
            if not self.looks_different():
                return False
            with Lock(self.fd, self.lock_timeout, TEMPORARY, self.dotlock):
                self.verify()
        except (MaildropUnavailable, OSError) as error:  # a lock, or the file
            raise MaildropUnreadable(str(error)) from error
        return True

    def touched(self) -> bool:
        """Whether the file needs to be read again, or cannot be. Raises MaildropChanged."""
        try:
            return self.looks_different()
        except OSError:
            return True

    def looks_different(self) -> bool:
        """Whether the file needs to be read again. Raises MaildropChanged where it is not the same file, OSError."""
        try:
            there = signature(os.lstat(self.path))
        except FileNotFoundError:
            raise MaildropChanged("it is gone") from None
        if there == self.signature:
            return False
        if there[:2] != self.signature[:2]:
            raise MaildropChanged("another file has taken its place")
        return True

    def verify(self) -> None:
        """Under a lock: compare the CRC of all that this session knows, and take note of the file's new times."""
        self.know_crc()
        seen, reliable = take_signature(os.fstat(self.fd))
        known = self.messages.end
        if seen[2] < known:
            raise MaildropChanged(f"it shrank from {known} to {seen[2]} octets")
        if crc_of(self.read, 0, known) != self.messages.crc:
            raise MaildropChanged("its messages were rewritten")
        self.signature, self.reliable = seen, reliable
        self.messages.remembered = self.prefetched = False

    def prefetch(self, index: int) -> bytes:
        self.prefetched = True
        place, end = self.messages.starts[index], self.messages.ends[index]
        if not 0 < end - place <= CONTENT_BLOCK:
            return b""
        block = self.look_at(index) if self.messages.remembered else self.read_block(place, end)
        # A read that meets octets which cannot be read ends before them, and the next one says so: content() asks.
        return block if len(block) == end - place else b""

    def still_valid(self) -> bool:
        self.check()
        return self.prefetched

    def content(self, index: int) -> "Iterator[bytes]":
        place, end = self.messages.starts[index], self.messages.ends[index]
        if self.messages.remembered:
            block = self.look_at(index)
            if len(block) == end - place and not self.check():
                yield block
                return
        while place < end:
            block = self.read_block(place, end)
            if not self.check():  # behind each block, as the reader may not want the last (TOP)
                yield block
                place += len(block)

    def look_at(self, index: int) -> bytes:
        """Look at the borders of a message that is remembered, and was not read in this session.

        Returns its octets where one block has them and the borders, else none.
        """
        try:
            octets = remembered.octets_of(self.read, self.messages, index)
        except OSError as error:
            raise MaildropUnreadable(str(error)) from error
        if octets is None:
            if self.index and not self.touched():
                self.index.drop()
            raise MaildropChanged(f"message {index + 1} is not where it was")
        return octets

    def read_block(self, place: int, end: int, most: int = CONTENT_BLOCK) -> bytes:
        """Some octets of a part of the file. Raises MaildropChanged when it is gone, MaildropUnreadable."""
        try:
            block = self.read(min(most, end - place), place)
        except OSError as error:
            raise MaildropUnreadable(str(error)) from error
        if not block and place < end:
            raise MaildropChanged("it shrank while it was read")
        return block

    def blocks(self, place: int, end: int) -> "Iterator[bytes]":
        """A part of the file, for a reader who checks for himself whether it has been touched."""
        while place < end:
            block = self.read_block(place, end)
            yield block
            place += len(block)

    def unique_ids(self) -> "Texts":
        own = uidl.HexIds(self.id_numbers())
        try:
            is_listed = self.files.directory.has(self.files.list)
            if not is_listed and (self.former is None or self.fd < 0):
                return own
            from popad.maildrop import id_list

            if is_listed or self.former is None:
                return id_list.Replaced(own, id_list.of_mbox(self.files))
            from popad.maildrop.mbox import header_ids

            given, self.list_trouble = header_ids.listed_once(self, self.former, own)
        except (MaildropUnavailable, OSError) as error:
            raise MaildropUnreadable(str(error)) from error
        return id_list.Replaced(own, given)

    def id_numbers(self) -> "Sequence[int]":
        """The unique-ids as numbers of 64 bits."""
        messages = self.messages
        if len(messages.ids) < len(messages.starts):
            try:
                ids, last = self.ids.listing(self)
            except (MaildropUnavailable, OSError) as error:  # a lock, the file, or what is remembered
                raise MaildropUnreadable(str(error)) from error
            if not last:
                return ids  # the next session may find others
            messages.ids = ids
            if self.first_scan and self.first_scan.is_under_way:
                self.finish(wait=False)  # the client need not wait for the CRC
            else:
                self.remember()
        elif self.fd >= 0:
            self.check()
        return messages.ids

    @property
    def trouble(self) -> str:
        return self.ids.trouble or self.list_trouble

    def header(self, index: int) -> "Iterator[bytes]":
        """The header's lines, as uidl.header_pieces() has them. Raises what look_at() and read_block() raise."""
        if self.messages.remembered:
            self.look_at(index)
        return uidl.header_pieces(self.small_blocks(self.messages.starts[index], self.messages.ends[index]))

    def header_numbers(self, first: int) -> "Sequence[int]":
        return numbers.of_all(self.header_number, range(first, len(self.messages.froms)))

    def header_number(self, index: int) -> int:
        place, end = self.messages.starts[index], self.messages.ends[index]
        text = self.look_at(index) if self.messages.remembered else b""
        digest = uidl.digest_of_header(text or self.read_block(place, end, HEADER_BLOCK))
        return uidl.number_of(digest or uidl.header_digest(uidl.header_pieces(self.blocks(place, end))))

    def content_number(self, index: int) -> int:
        start, end = self.messages.starts[index], self.messages.ends[index]
        return uidl.content_number(lambda place: self.blocks(start + place, end))

    def alone(self, work: "Callable[[], bool]") -> bool:
        self.know_crc()  # whoever computes it holds the file
        may_write = fcntl.fcntl(self.fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        with Lock(self.fd, self.lock_timeout, TEMPORARY, self.dotlock, exclusive=may_write):
            if self.looks_different():
                self.verify()
            update.make_sure_none_is_unfinished(self.fd, self.files)
            return work()

    def small_blocks(self, place: int, end: int) -> "Iterator[bytes]":
        """A part of the file for a reader who wants the header: one small block first."""
        first = self.read_block(place, end, HEADER_BLOCK)
        yield first
        yield from self.blocks(place + len(first), end)

    def remove(self, marks: bytearray) -> None:
        """Take the marked messages out, under the exclusive lock, keeping what others have appended meanwhile."""
        # An update that is interrupted is finished by the next session; one that is about to end had better end.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGHUP, signal.SIGINT))
        try:
            make_sure_it_is_writable(self.fd, self.path)
            self.know_crc()  # whoever computes it holds the file
            with Lock(self.fd, self.lock_timeout, TEMPORARY, self.dotlock, exclusive=True):
                if self.looks_different():
                    self.verify()
                update.make_sure_none_is_unfinished(self.fd, self.files)
                if self.messages.remembered:
                    for index in compress(range(len(marks)), marks):
                        self.look_at(index)
                goes, blank_lines_stay = spans(self.read, self.messages, marks)
                crc = crc_without(self.read, self.messages, goes) if self.index else None
                self.ids.leaves(self, marks)
                update.remove(self.fd, goes, self.files)
                self.ids.left()
                if self.index and blank_lines_stay:
                    self.index.drop()  # without() does not know of them
                elif self.index:
                    self.remember_what_is_left(self.index, marks, crc)
        except OSError as error:
            raise unavailable(error) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)

    def remember_what_is_left(self, index: Index, marks: bytearray, crc: int | None) -> None:
        """Still under the exclusive lock: the next session need not scan what this one has left."""
        left = without(self.messages, marks)
        try:
            if left.end < LARGE or hide_internal_data(left, self.read):  # which was not the first, so it was a message
                index.drop()
                return
            seen, reliable = take_signature(os.fstat(self.fd))
            left.crc = crc_of(self.read, 0, left.end) if crc is None else crc
        except OSError:
            return  # the update is done, and what the index says of the mailbox before it will not be believed
        if reliable:
            index.store(left, seen)
