"""The file in POPAD_STATE with what must be remembered of a mailbox's unique-ids, so that an id neither changes nor
passes on to another message. What that is, and why it suffices, is in twins.py; here is when it is written and read.

It is written, durably, before two things: before a listing is sent in which a message has its id because of another
message, and before an update begins. Other listings write nothing.

An update that the file tells of may not happen: it fails, or the machine does. So the ids that it takes count only if
it has happened. The last octet of the file says that it has. If that octet is missing, the next session compares the
beginning of the mailbox with the length and the CRC that the file has of it: if they differ, the update has happened.
They also differ where the update has not happened and a mail reader has rewritten the mailbox; then messages that are
still there get new ids, but no message gets the id of another. The same is true for an update in several parts
(update.py) of which only some were done. A mailbox with several names has one such file for each name.

Whoever writes the file holds the mailbox's exclusive lock, so sessions write one after the other. A listing is made
without a lock; if it has to be written, and the file has changed since it was read, the listing is made again. (On a
read-only file system the lock is a shared one. There nobody removes mail, and listings of the same messages write the
same.)

If the file cannot be written, on a full disk say, mail is listed and removed all the same: otherwise nobody could make
room. What should have been remembered is written after the update, if that works now; if not, it is lost, and an entry
in the system's journal says so.
"""

import os
import sys
from itertools import chain, compress, islice

from popad.arrays import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from popad.maildrop.mbox.scan import Messages
    from popad.maildrop.private import PrivateFiles

    class File(Protocol):
        """The mailbox as one session knows it. All raise MaildropChanged, OSError."""

        @property
        def messages(self) -> Messages: ...

        def read(self, count: int, offset: int) -> bytes:
            """pread."""
            ...

        def header_number(self, index: int) -> int:
            """popa3d's id of a message."""
            ...

        def header_numbers(self, first: int) -> Sequence[int]:
            """The same of all messages from `first` on."""
            ...

        def content_number(self, index: int) -> int:
            """uidl.content_number()."""
            ...

        def check(self) -> bool:
            """Whether it has been touched, and must be read again."""
            ...

        def alone(self, work: Callable[[], bool]) -> bool:
            """Do that while nobody else may change it. Raises MaildropUnavailable, too."""
            ...


from popad.maildrop import sealed
from popad.maildrop.mbox import twins
from popad.maildrop.mbox.crc import crc_of
from popad.maildrop.mbox.twins import Gone, Memory
from popad.maildrop.private import ForeignFile

VERSION = b"popad ids1" + sys.byteorder.encode()  # goes into the digest: 16 octets at most
SUFFIX = ".ids"
NUMBER = 8  # octets of each number
HEADER = 256  # octets of decimal numbers: how many of each kind, and the update
LONGEST = 1 << 28  # octets: what 2,000,000 messages can need, and more
PLANNED, DONE = b"\0", b"\1"  # the update, in the last octet: not sealed, and not made durable
NEVER = (1 << 64) - 1  # in place of a number that there is not
ATTEMPTS = 10  # at a file that is replaced while it is opened


class Update:
    """An update that has been written down: how the mailbox began before it, which was the first message that it
    removes and where that one and the next one stood, and how many messages it leaves.
    """

    def __init__(
        self, end: int = 0, crc: int = 0, index: int = 0, begin: int = 0, after: int = 0, left: int = 0
    ) -> None:
        self.end = end  # octets
        self.crc = crc  # of those
        self.index = index
        self.begin = begin
        self.after = after  # 0: there was none
        self.left = left

    def happened(self, file: "File") -> bool:
        """Whether the mailbox is not what it was before. The CRC decides, where nothing simpler does."""
        froms, index = file.messages.froms, self.index  # a session that began earlier may know fewer
        if not file.read(1, self.end - 1) or froms[index : index + 1] not in (array("q"), array("q", [self.begin])):
            return True
        if self.after and froms[index + 1 : index + 2] not in (array("q"), array("q", [self.after])):
            return True
        return crc_of(file.read, 0, self.end) != self.crc


class Ids:
    """The remembered ids of the mailbox whose updates have `redo log`."""

    def __init__(self, files: "PrivateFiles") -> None:
        self.files = files
        self.name = f"{files.names[0]}{SUFFIX}"
        self.unwritten = b""  # what could not be made durable
        self.trouble = ""  # why ids may change or pass on, for an administrator

    def listing(self, file: "File") -> "tuple[array[int], bool]":
        """A unique-id for each message, and whether they can be relied on later. Raises what File raises."""
        while True:
            stored = self.load()
            memory = self.recall(stored, file)
            before = set(memory.holders)
            gone = memory.gone
            ids = self.give(file, memory)
            if file.check():
                continue
            if memory.gone == gone and memory.holders.keys() <= before:
                return ids, True
            content = pack(memory, Update(left=len(ids)), array("Q"), moved(memory.gone, [], b""), DONE)
            if self.replace(file, stored, content):
                return ids, True
            if self.trouble:
                return ids, False

    def replace(self, file: "File", stored: bytes, content: bytes) -> bool:
        """Write it, if nobody else has written meanwhile."""
        return file.alone(lambda: self.load() == stored and self.write(content))

    def give(self, file: "File", memory: Memory) -> "array[int]":
        """Ids of all messages. `memory` is brought up to date."""
        messages = file.messages
        known = messages.ids
        if any(gone.place < len(known) for gone in memory.gone) or len(memory.taken) > 2 * twins.MOST:
            known = array("Q")
        return twins.unique_ids(known, file.header_numbers(len(known)), file.content_number, memory, are_all(file))

    def leaves(self, file: "File", marks: bytearray) -> None:
        """Under the exclusive lock, before an update: its messages' ids are taken. Raises what File raises."""
        messages = file.messages
        memory = self.recall(self.load(), file)
        count = len(messages.froms)
        known = len(messages.ids)
        unknown = list(compress(range(known, count), marks[known:]))
        stays = marks.count(0) or not are_all(file)
        if stays and max(len(memory.taken) // 2, len(memory.gone) + len(unknown)) > twins.MOST:
            messages.ids = self.give(file, memory)
            unknown = []
        first = marks.index(1)
        update = Update(messages.end, messages.crc, first, messages.froms[first], 0, stays)
        if first + 1 < count:
            update.after = messages.froms[first + 1]
        going = array("Q", compress(messages.ids, marks))
        if not stays:  # then nobody is left to pass one over for
            del going[: -twins.MOST], unknown[: -twins.MOST]
        rows = moved(memory.gone, [self.gone(file, memory, index) for index in unknown], marks)
        content = pack(memory, update, going, rows, PLANNED)
        if not self.write(content):
            self.unwritten = content

    def gone(self, file: "File", memory: Memory, index: int) -> Gone:
        """What to remember of a message whose id nobody has asked for."""
        header = file.header_number(index)
        content = file.content_number(index) if memory.may_have_twins(header) else None
        return Gone(index, header, content, is_there=True)

    def left(self) -> None:
        """Behind the update: there may be room now."""
        if self.unwritten:
            if self.write(self.unwritten[: -len(DONE)] + DONE):
                self.trouble = ""
        else:
            self.done()
        self.unwritten = b""

    def done(self) -> None:
        """The update has happened: the next session need not find out."""
        try:
            fd = self.files.open(self.name)
            try:
                os.pwrite(fd, DONE, os.fstat(fd).st_size - len(DONE))
            finally:
                os.close(fd)
        except (OSError, ForeignFile):
            pass  # it finds out

    def load(self) -> bytes:
        """What was written last; empty where that is nothing, or not to be believed. Raises OSError."""
        for _ in range(ATTEMPTS):
            try:
                content = sealed.load(self.files, self.name, VERSION, LONGEST, len(DONE))
            except FileNotFoundError:
                return b""
            except ForeignFile as foreign:
                self.trouble = str(foreign)
            else:
                self.trouble = "" if content else f"{self.name} is damaged, or of another version of popad"
                return bytes(content or b"")
        return b""

    def write(self, content: bytes) -> bool:
        """Make it durable."""
        try:
            sealed.store(self.files, self.name, VERSION, content, durable=True, unsealed=len(DONE))
        except OSError as error:
            self.trouble = str(error)
            return False
        return True

    def recall(self, content: bytes, file: "File") -> Memory:
        """What counts of what was written."""
        if not content:
            return Memory()
        memory, update, going, rows = unpack(content)
        happened = content.endswith(DONE) or update.happened(file)
        if happened:
            memory.take(going)
            if not update.left:
                memory.keep_newest()  # of the messages of that time none is there
        lost = happened and are_all(file) and len(file.messages.froms) < update.left  # others have removed some
        for before, after, header, content_number in rows:
            if happened or before != NEVER:
                place = 0 if lost else after if happened else before
                memory.gone.append(Gone(place, header, None if content_number == NEVER else content_number))
        return memory


def are_all(file: "File") -> bool:
    """Whether the session knows all messages: mail may have been appended since it began."""
    return not file.read(1, file.messages.end)


def moved(earlier: list[Gone], going: list[Gone], marks: bytes | bytearray) -> "list[tuple[int, int, int, int]]":
    """Of those gone and those that an update removes, in their order: where each stands before it (NEVER: among the
    messages) and behind it, its header, its content.
    """
    rows = []
    removed = counted = 0
    for gone in sorted(earlier + going, key=lambda gone: gone.place):  # who was gone before stood before its place
        removed += marks.count(1, counted, gone.place)
        counted = gone.place
        before = NEVER if gone.is_there else gone.place
        rows.append((before, gone.place - removed, gone.header, NEVER if gone.content is None else gone.content))
    return rows


def pack(
    memory: Memory, update: Update, going: "array[int]", rows: "list[tuple[int, int, int, int]]", mark: bytes
) -> bytes:
    """The file's content: `going` are ids that the update takes, `rows` what moved() gives."""
    columns = (memory.taken, going, memory.holders, memory.holders.values(), chain.from_iterable(rows))
    counts = len(memory.taken), len(going), len(memory.holders), len(rows)
    numbers = (*counts, update.end, update.crc, update.index, update.begin, update.after, update.left)
    header = b" ".join(b"%d" % number for number in numbers).ljust(HEADER)
    return b"".join((header, *(array("Q", column).tobytes() for column in columns), mark))


def unpack(content: bytes) -> "tuple[Memory, Update, array[int], list[tuple[int, ...]]]":
    """What pack() was given; `memory` without those that are gone."""
    taken, going, holders, rows, *update = map(int, content[:HEADER].split())
    numbers = array("Q", content[HEADER : -len(DONE)])
    column = iter(numbers)
    memory = Memory()
    memory.take(islice(column, taken))
    goes = array("Q", islice(column, going))
    headers = list(islice(column, holders))
    memory.holders = dict(zip(headers, islice(column, holders), strict=True))
    return memory, Update(*update), goes, [tuple(islice(column, 4)) for _ in range(rows)]
