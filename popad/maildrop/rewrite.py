"""Taking messages out of an mbox in place, without ever being able to lose one.

In place, because a program that waits for the lock has the file open already: what it delivers to a file replaced by
rename(2) would be lost. What must move is written to a journal file first. The argument:

Words. P is the first octet to go, S the mailbox's size, T the octets behind P that stay ("what moves"), N = P + T the
size in the end; always N < S. The journal file holds what moves, and a record: sequence number, phase, the mailbox's
inode, P, S, T, a random mark, CRCs of what moves, of the mailbox before P and behind N + len(mark), and the mailbox's
last octets as they were. There are two slots for records; the valid one with the higher number counts, so that a new
record never overwrites the one in force.

Steps, all under the exclusive lock, each durable (fsync) before the next begins:
 0. mailbox: as it is. The record will speak of it, and who delivered the last message may not have waited for the disk.
 1. journal: what moves, then its name, then the record "moving". Without a valid record nothing has happened.
 2. mailbox: what moves at P, the mark at N. The mark is what is at N until the truncate, and never after it.
 3. journal: record "moved".
 4. mailbox: truncate to N.
 5. journal: emptied, removed.

Recovery, under the same lock, when a journal exists. Others may have appended A octets after the crash.
 - First, what it goes by is made durable: after a death (not of the machine) it may have been seen and not be on the
   disk. The mailbox by fsync; the record by writing it once more, as an fsync behind a failed one proves nothing (of
   the mailbox, step 2 is then done again as a whole).
 - No valid record: step 1 was not done. The mailbox is as it was. Remove the journal.
 - "moving": step 4 has not begun, so the size is S + A and what was appended stands at S. Octets P to N + len(mark) may
   be old or new, each for itself. The rest must have its CRCs, and the octets that were the mailbox's last, of which
   few or none may be in that rest, must each be old or new.
 - "moved": step 2 is durable. The mark at N tells: if it is there, the truncate has not happened and the appended mail
   stands at S; if not, it has, and the appended mail stands at N, where it belongs: only step 5 is missing. Nobody
   appends the mark: its first octet is NUL, and an appended message begins with `From `; its others are random and not
   NUL. (One message is 7 octets at least, so there are 6 of these at least, and 15 for any message of real life.)
 - What was appended at S moves too: it is added to the journal behind what moves (T, S and N grow by A; a new record
   "moving" in the other slot, durable before anything else is touched), and then steps 2 to 5 are done (again).
 - A check that fails (inode, size, a CRC, owner) means that somebody else has changed the mailbox, or that the journal
   is not of this mailbox: it is renamed, kept, reported, and never applied. Where step 4 was done no mail is missing.

What this asks of others: that they append under the lock, or replace the file. A program that rewrote octets P to
N + len(mark) alone, of a mailbox that was left half moved, would not be noticed, and its change undone. Of the disk:
that it keeps what fsync has promised, and that what a truncate cut off does not come back when the file grows again.

CRCs are against accidents, of programs and disks, and suffice for that. A sum that an attacker cannot meet (BLAKE2)
takes eight times as long over the whole mailbox, and who may write there needs no collision to destroy mail.

A step that fails (no space, quota, a limit, the disk) ends the update with an OSError. Before the record of step 1 the
mailbox is untouched then; behind it, the next session's recovery finishes what was begun. Recovery needs room in
POPAD_STATE for what was appended meanwhile; while there is none the mailbox is not served, and nothing changes.

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

from popad.maildrop.crc import crc_of
from popad.maildrop.state import JournalForeign

BLOCK = 1 << 20  # octets copied at a time
SLOT = 4096  # octets a record's slot takes: never in one disk sector with the other
DATA = 2 * SLOT  # where what moves begins in the journal
MARK = 16  # octets of the mark at most; less where less than that is removed
TAIL = 64  # octets of the mailbox's end in a record, at most
LONGEST_PATH = 1024  # octets of the mailbox's path that a record shows to an administrator
MAGIC = b"popad update journal 2"
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

    def __init__(self, phase: bytes, mark: bytes, tail: bytes, mailbox: str, **numbers: int) -> None:
        self.phase = phase
        self.mark = mark
        self.tail = tail  # the last octets before S, none of them before P
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
        lines = [MAGIC, b"phase %b" % self.phase]
        lines += [b"mark %b" % self.mark.hex().encode(), b"tail %b" % self.tail.hex().encode()]
        lines.append(b"mailbox %b" % self.mailbox.encode("unicode_escape")[:LONGEST_PATH])
        lines += [b"%b %d" % (name.encode(), getattr(self, name)) for name in self.NUMBERS]
        text = b"\n".join(lines) + b"\n"
        return (text + b"crc %d\n" % zlib.crc32(text)).ljust(SLOT, b"\0")

    @classmethod
    def unpack(cls, slot: bytes) -> "Record | None":
        """The record in a slot; None where no complete one is. Raises JournalForeign for what pack() does not make."""
        text, _, crc = slot.rstrip(b"\0").rpartition(b"crc ")
        if not text or crc != b"%d\n" % zlib.crc32(text):
            return None
        if not text.startswith(MAGIC + b"\n"):
            raise JournalForeign("it is of another version of popad")
        try:
            words = dict(line.split(b" ", 1) for line in text.splitlines()[1:])
            numbers = {name: int(words[name.encode()]) for name in cls.NUMBERS}
            if words[b"phase"] not in (MOVING, MOVED) or min(numbers.values()) < 0:
                raise ValueError
            return cls(
                words[b"phase"],
                bytes.fromhex(words[b"mark"].decode()),
                bytes.fromhex(words[b"tail"].decode()),
                words[b"mailbox"].decode("unicode_escape", "ignore"),  # its end may be cut off
                **numbers,
            )
        except (KeyError, ValueError):
            raise JournalForeign("it has a record that popad does not write") from None


def remove(mailbox: int, spans: "Sequence[Span]", journal: "Journal") -> Record | None:
    """Take `spans` ((begin, end) offsets, in order) out of the mailbox, whose exclusive lock the caller holds.

    Returns the record of what was moved, if anything was. Raises OSError. Unless it is raised after the journal was
    durable, the mailbox is untouched then; if it was, the next recover() finishes the work.
    """
    if journal.exists():
        # Somebody died with this mailbox half moved. Even a truncate would take away what recovery needs to see.
        raise OSError(errno.EAGAIN, "an earlier update has not been finished", journal.names[0])
    status = os.fstat(mailbox)
    first = spans[0][0]
    stays = gaps(spans, status.st_size)
    if not stays:
        os.ftruncate(mailbox, first)
        os.fsync(mailbox)
        return None
    if status.st_nlink != 1:
        # A session that came by another name would find it half moved, and no journal.
        raise OSError(errno.EMLINK, "the mailbox has several names", journal.mailbox)
    moves = sum(end - begin for begin, end in stays)
    mark = new_mark(status.st_size - first - moves)
    probe(mailbox, first + moves + len(mark))
    os.fsync(mailbox)
    name, fd = journal.create()
    try:
        try:
            crc = copy(mailbox, stays, fd, DATA)
            record = new_record(mailbox, journal.mailbox, 1, first, moves, crc, mark)
            write(fd, bytes(DATA), 0)
            os.fsync(fd)
            journal.state.sync()
            store(fd, record)
        except BaseException:
            discard(fd, journal, name)  # nothing has been touched
            raise
        apply(mailbox, fd, record)
        discard(fd, journal, name)
    finally:
        os.close(fd)
    return record


def recover(mailbox: int, journal: "Journal") -> Recovery:
    """Finish an update that was interrupted, under the exclusive lock of the mailbox. Raises OSError."""
    found = Recovery(finished=False)
    for name in tuple(journal.names):
        try:
            fd = journal.open(name)
        except FileNotFoundError:
            continue
        except JournalForeign as foreign:
            found.kept, found.reason = journal.keep(name), str(foreign)
            continue
        try:
            if record := current_record(fd):
                finish(mailbox, fd, record)
                found.finished = True
            discard(fd, journal, name)
        except JournalForeign as foreign:
            found.kept, found.reason = journal.keep(name), str(foreign)
        finally:
            os.close(fd)
    return found


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
    os.fsync(mailbox)
    store(journal, record)
    behind = record.end + len(record.mark)
    if record.phase == MOVED:
        if crc_of(read, record.first, record.end) != record.crc_moves:
            raise JournalForeign("the mailbox was changed in the part that moved")
        if read(len(record.mark), record.end) != record.mark:
            return  # truncated already; what others appended is where it belongs
    if size < record.size or crc_of(read, behind, record.size) != record.crc_behind:
        raise JournalForeign("the mailbox was changed behind the part that moves")
    if not is_the_end(mailbox, journal, record):
        raise JournalForeign("the end of the mailbox was changed")
    if size > record.size:
        record = also_moves(mailbox, journal, record, size)
    apply(mailbox, journal, record)


def is_the_end(mailbox: int, journal: int, record: Record) -> bool:
    """Whether each of the octets that were the mailbox's last is as it was, or as step 2 makes it."""
    begin = record.size - len(record.tail)
    new = os.pread(journal, max(record.end - begin, 0), DATA + max(begin - record.first, 0))
    new += record.mark[max(begin - record.end, 0) :]
    new = (new + record.tail[len(new) :])[: len(record.tail)]
    there = os.pread(mailbox, len(record.tail), begin)
    return all(octet in pair for octet, *pair in zip(there, record.tail, new, strict=True))


def also_moves(mailbox: int, journal: int, record: Record, size: int) -> Record:
    """Take what others have appended behind the old end into the journal: a record that replaces `record`."""
    moves = record.moves + size - record.size
    copy(mailbox, [(record.size, size)], journal, DATA + record.moves)
    os.fsync(journal)
    crc = crc_of(reader(journal), DATA, DATA + moves)
    mark = new_mark(size - record.first - moves)
    wider = new_record(mailbox, record.mailbox, record.sequence + 1, record.first, moves, crc, mark)
    store(journal, wider)
    return wider


def new_record(mailbox: int, path: str, sequence: int, first: int, moves: int, crc_moves: int, mark: bytes) -> Record:
    """The record "moving" of a mailbox that is durable as it is now."""
    status = os.fstat(mailbox)
    read = reader(mailbox)
    size = status.st_size
    tail = min(TAIL, size - first)
    return Record(
        MOVING,
        mark,
        read(tail, size - tail),
        path,
        sequence=sequence,
        inode=status.st_ino,
        first=first,
        size=size,
        moves=moves,
        crc_moves=crc_moves,
        crc_before=crc_of(read, 0, first),
        crc_behind=crc_of(read, first + moves + len(mark), size),
    )


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


def discard(fd: int, journal: "Journal", name: str) -> None:
    """The update is done, or has not begun. Emptied first: if the removal is lost with the power, what comes back says
    nothing. One that cannot be removed says at the next recovery what it says now; until then no update begins.
    """
    try:
        os.ftruncate(fd, 0)
        os.fsync(fd)
        journal.remove(name)
    except OSError:
        pass


def probe(mailbox: int, end: int) -> None:
    """Write the octet before `end` as it is: a limit on the size of files shall meet us before anything is touched."""
    write(mailbox, os.pread(mailbox, 1, end - 1), end - 1)


def gaps(spans: "Sequence[Span]", size: int) -> "list[Span]":
    """What stays between and behind `spans` up to `size`; never an empty span."""
    ends = [end for _, end in spans]
    begins = [begin for begin, _ in spans[1:]] + [size]
    return [(end, begin) for end, begin in zip(ends, begins, strict=True) if end < begin]


def new_mark(room: int) -> bytes:
    """What stands at N until the truncate: NUL, which no message begins with, and random octets other than NUL, which
    is what a file system puts where it lost something.
    """
    return b"\0" + bytes(octet or 1 for octet in os.urandom(min(MARK, room) - 1))


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
