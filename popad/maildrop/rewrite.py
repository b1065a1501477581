"""Taking messages out of an mbox in place, without ever being able to lose one.

In place, because a program that waits for the lock has the file open already: what it delivers to a file replaced by
rename(2) would be lost. What must move is written to a journal file first. The argument:

Words. P is the first octet to go, S the mailbox's size, T the octets behind P that stay ("what moves"), N = P + T the
size in the end; always N < S. The journal file holds what moves, and a record: sequence number, phase, the mailbox's
inode, P, S, T, a random mark, and CRCs of what moves, of the mailbox before P and behind N + len(mark). There are two
slots for records; the valid one with the higher number counts, so that a new record never overwrites the one in force.

Steps, all under the exclusive lock, each durable (fsync) before the next begins:
 1. journal: what moves, then its name, then the record "moving". Without a valid record nothing has happened.
 2. mailbox: what moves at P, the mark at N. The mark is what is at N until the truncate, and never after it.
 3. journal: record "moved".
 4. mailbox: truncate to N.
 5. journal: emptied, removed.

Recovery, under the same lock, when a journal exists. Others may have appended A octets after the crash.
 - No valid record: step 1 was not done. The mailbox is as it was. Remove the journal.
 - "moving": step 4 has not begun, so the size is S + A and what was appended stands at S. Octets P to N + len(mark) may
   be old or new, the rest must have its CRCs.
 - "moved": step 2 is durable. The mark at N tells: if it is there, the truncate has not happened and the appended mail
   stands at S; if not, it has, and the appended mail stands at N, where it belongs: only step 5 is missing. Nobody
   appends the mark: its first octet is NUL, and an appended message begins with `From `.
 - What was appended at S moves too: it is added to the journal behind what moves (T, S and N grow by A; a new record
   "moving" in the other slot, durable before anything else is touched), and then steps 2 to 5 are done (again).
 - A check that fails (inode, size, a CRC, owner) means that somebody else has changed the mailbox, or that the journal
   is not of this mailbox: it is renamed, kept, reported, and never applied.

Removing the end of a mailbox moves nothing: a truncate is atomic and needs no journal.
"""

import errno
import os
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from popad.maildrop.state import Journal

    Span = tuple[int, int]

from popad.maildrop.state import JournalForeign

BLOCK = 1 << 20  # octets copied at a time
SLOT = 4096  # octets a record's slot takes: never in one disk sector with the other
DATA = 2 * SLOT  # where what moves begins in the journal
MARK = 16  # octets of the mark at most; less where less than that is removed
LONGEST_PATH = 1024  # octets of the mailbox's path that a record shows to an administrator
MAGIC = b"popad update journal 1"
MOVING, MOVED = b"moving", b"moved"


class Recovery:
    """What recover() found: an update it finished, or a journal it kept aside as `kept` for `reason`."""

    def __init__(self, finished: bool, kept: str = "", reason: str = "") -> None:
        self.finished = finished
        self.kept = kept
        self.reason = reason


class Record:
    """What a slot of the journal says. Offsets and sizes in octets."""

    NUMBERS = ("sequence", "inode", "first", "size", "moves", "crc_moves", "crc_before", "crc_behind")

    def __init__(self, phase: bytes, mark: bytes, mailbox: str, **numbers: int) -> None:
        self.phase = phase
        self.mark = mark
        self.mailbox = mailbox  # not used: for whoever looks at a journal that was kept
        self.sequence = numbers["sequence"]
        self.inode = numbers["inode"]
        self.first = numbers["first"]  # P
        self.size = numbers["size"]  # S
        self.moves = numbers["moves"]  # T
        self.crc_moves = numbers["crc_moves"]
        self.crc_before = numbers["crc_before"]
        self.crc_behind = numbers["crc_behind"]

    @property
    def end(self) -> int:
        """N: the size in the end."""
        return self.first + self.moves

    def pack(self) -> bytes:
        """A slot: readable lines, the last of them the CRC of those before."""
        lines = [MAGIC, b"phase %b" % self.phase, b"mark %b" % self.mark.hex().encode()]
        lines.append(b"mailbox %b" % self.mailbox.encode("unicode_escape")[:LONGEST_PATH])
        lines += [b"%b %d" % (name.encode(), getattr(self, name)) for name in self.NUMBERS]
        text = b"\n".join(lines) + b"\n"
        return (text + b"crc %d\n" % zlib.crc32(text)).ljust(SLOT, b"\0")

    @classmethod
    def unpack(cls, slot: bytes) -> "Record | None":
        """The record in a slot; None where no complete one is. JournalForeign for what pack() does not make."""
        text, _, crc = slot.rstrip(b"\0").rpartition(b"crc ")
        if not text.startswith(MAGIC + b"\n") or crc != b"%d\n" % zlib.crc32(text):
            return None
        try:
            words = dict(line.split(b" ", 1) for line in text.splitlines()[1:])
            numbers = {name: int(words[name.encode()]) for name in cls.NUMBERS}
            if words[b"phase"] not in (MOVING, MOVED) or min(numbers.values()) < 0:
                raise ValueError
            return cls(
                words[b"phase"],
                bytes.fromhex(words[b"mark"].decode()),
                words[b"mailbox"].decode("unicode_escape", "ignore"),  # its end may be cut off
                **numbers,
            )
        except (KeyError, ValueError):
            raise JournalForeign("it has a record that popad does not write") from None


def remove(mailbox: int, spans: "Sequence[Span]", journal: "Journal") -> None:
    """Take `spans` ((begin, end) offsets, in order) out of the mailbox, whose exclusive lock the caller holds.

    Raises OSError. Unless it is raised after the journal was durable, the mailbox is untouched then; if it was, the
    next recover() finishes the work.
    """
    if journal.exists():
        # Somebody died with this mailbox half moved. Even a truncate would take away what recovery needs to see.
        raise OSError(errno.EAGAIN, "an earlier update has not been finished", journal.name)
    size = os.fstat(mailbox).st_size
    first = spans[0][0]
    stays = gaps(spans, size)
    if not stays:
        os.ftruncate(mailbox, first)
        os.fsync(mailbox)
        return
    moves = sum(end - begin for begin, end in stays)
    fd = journal.create()
    try:
        try:
            crc = copy(mailbox, stays, fd, DATA)
            mark = new_mark(size - first - moves)
            read = reader(mailbox)
            record = Record(
                MOVING,
                mark,
                journal.mailbox,
                sequence=1,
                inode=os.fstat(mailbox).st_ino,
                first=first,
                size=size,
                moves=moves,
                crc_moves=crc,
                crc_before=crc_of(read, 0, first),
                crc_behind=crc_of(read, first + moves + len(mark), size),
            )
            write(fd, bytes(DATA), 0)
            os.fsync(fd)
            journal.state.sync()
            store(fd, record)
        except BaseException:
            journal.remove()  # nothing has been touched
            raise
        apply(mailbox, fd, record)
        discard(fd, journal)
    finally:
        os.close(fd)


def recover(mailbox: int, journal: "Journal") -> Recovery:
    """Finish an update that was interrupted, under the exclusive lock of the mailbox. Raises OSError."""
    try:
        fd = journal.open()
    except FileNotFoundError:
        return Recovery(finished=False)
    except JournalForeign as foreign:
        return Recovery(finished=False, kept=journal.keep(), reason=str(foreign))
    try:
        record = current_record(fd)
        if record:
            finish(mailbox, fd, record)
        discard(fd, journal)
    except JournalForeign as foreign:
        return Recovery(finished=False, kept=journal.keep(), reason=str(foreign))
    finally:
        os.close(fd)
    return Recovery(finished=record is not None)


def finish(mailbox: int, journal: int, record: Record) -> None:
    """Bring the mailbox from any state that a crash (and appending by others) can leave to the end of the update."""
    size = os.fstat(mailbox).st_size
    read = reader(mailbox)
    if os.fstat(mailbox).st_ino != record.inode:
        raise JournalForeign("it is of another file")
    if crc_of(reader(journal), DATA, DATA + record.moves) != record.crc_moves:
        raise JournalForeign("what it keeps is damaged")
    if size < record.end or crc_of(read, 0, record.first) != record.crc_before:
        raise JournalForeign("the mailbox was changed before the part that moves")
    behind = record.end + len(record.mark)
    if record.phase == MOVED:
        if crc_of(read, record.first, record.end) != record.crc_moves:
            raise JournalForeign("the mailbox was changed in the part that moved")
        if read(len(record.mark), record.end) != record.mark:
            return  # truncated already; what others appended is where it belongs
    if size < record.size or crc_of(read, behind, record.size) != record.crc_behind:
        raise JournalForeign("the mailbox was changed behind the part that moves")
    if size > record.size:
        record = also_moves(mailbox, journal, record, size)
    apply(mailbox, journal, record)


def also_moves(mailbox: int, journal: int, record: Record, size: int) -> Record:
    """Take what others have appended behind the old end into the journal: a record that replaces `record`."""
    appended = size - record.size
    moves = record.moves + appended
    copy(mailbox, [(record.size, size)], journal, DATA + record.moves)
    mark = new_mark(size - record.first - moves)
    wider = Record(
        MOVING,
        mark,
        record.mailbox,
        sequence=record.sequence + 1,
        inode=record.inode,
        first=record.first,
        size=size,
        moves=moves,
        crc_moves=crc_of(reader(journal), DATA, DATA + moves),
        crc_before=record.crc_before,
        crc_behind=crc_of(reader(mailbox), record.first + moves + len(mark), size),
    )
    os.fsync(journal)
    store(journal, wider)
    return wider


def apply(mailbox: int, journal: int, record: Record) -> None:
    """Steps 2 to 4, from a durable record "moving" (or "moved", with the mark still in place)."""
    copy(journal, [(DATA, DATA + record.moves)], mailbox, record.first)
    write(mailbox, record.mark, record.end)
    os.fsync(mailbox)
    record.sequence += 1
    record.phase = MOVED
    store(journal, record)
    os.ftruncate(mailbox, record.end)
    os.fsync(mailbox)


def store(journal: int, record: Record) -> None:
    """Make `record` the one in force, durably, without touching the slot of the one before."""
    write(journal, record.pack(), SLOT * ((record.sequence - 1) % 2))
    os.fsync(journal)


def current_record(journal: int) -> Record | None:
    """The record in force: the valid one with the highest sequence number."""
    records = [Record.unpack(os.pread(journal, SLOT, place)) for place in (0, SLOT)]
    return max((record for record in records if record), key=lambda record: record.sequence, default=None)


def discard(fd: int, journal: "Journal") -> None:
    """The update is done. Emptied first: if the removal is lost with the power, what comes back says nothing."""
    os.ftruncate(fd, 0)
    os.fsync(fd)
    journal.remove()


def gaps(spans: "Sequence[Span]", size: int) -> "list[Span]":
    """What stays between and behind `spans` up to `size`; never an empty span."""
    ends = [end for _, end in spans]
    begins = [begin for begin, _ in spans[1:]] + [size]
    return [(end, begin) for end, begin in zip(ends, begins, strict=True) if end < begin]


def new_mark(room: int) -> bytes:
    """What stands at N until the truncate: NUL, which no message begins with, and random octets."""
    return b"\0" + os.urandom(min(MARK, room) - 1)


def copy(source: int, spans: "Sequence[Span]", target: int, place: int) -> int:
    """Copy spans of one file behind one another to `place` in another. Returns the CRC of what was copied."""
    crc = 0
    for begin, end in spans:
        here = begin
        while here < end:
            block = os.pread(source, min(BLOCK, end - here), here)
            if not block:
                raise OSError(f"end of file at octet {here}, {end} expected")
            crc = zlib.crc32(block, crc)
            write(target, block, place)
            here += len(block)
            place += len(block)
    return crc


def write(fd: int, data: bytes, place: int) -> None:
    """pwrite(2) until all is written."""
    while data:
        written = os.pwrite(fd, data, place)
        data = data[written:]
        place += written


def reader(fd: int) -> "Callable[[int, int], bytes]":
    """How a file is read here: count, offset -> octets."""
    return lambda count, offset: os.pread(fd, count, offset)


def crc_of(read: "Callable[[int, int], bytes]", begin: int, end: int, crc: int = 0) -> int:
    """The CRC-32 of octets `begin` to `end`, going on from `crc`; of what there is of them, if the file is shorter."""
    while begin < end and (block := read(min(BLOCK, end - begin), begin)):
        crc = zlib.crc32(block, crc)
        begin += len(block)
    return crc
