"""Taking messages out of an mbox in place, without ever being able to lose one, and with little room.

In place, because a program that waits for the lock has the file open already: what it delivers to a file replaced by
rename(2) would be lost. What stays moves to the front in windows, and a journal file says which one is on its way:

Words. P is the first octet to go, S the mailbox's size, D the octets that go in all, N = S - D the size in the end. A
window is what moves at once: it goes from its source, which is somewhere behind, to its target; what is between them
is dead: octets that go, or that have been moved. The journal file begins with two slots for records; the valid one with
the higher number counts, so that a new record never overwrites the one in force. Behind them stand the plan, which is
what goes, and the octets of one window.

Two kinds of windows. One that fits between its target and its source is moved without more ado: until it is durable
its source is as it was, and it can be moved again. Any other is logged: what moves is written to the journal first. So
windows are at most as large as the room in the journal, or as what is dead, whichever is more.

Steps, all under the exclusive lock, each durable (fsync) before the next begins:
 0. mailbox: as it is. The record will speak of it, and who delivered the last message may not have waited for the disk.
 1. journal: all the room it will need, the plan, its name. Without a valid record nothing has happened.
 2. journal: the window, if it is logged, and the record "moving". The first is what the update counts from.
 3. mailbox: the window. Steps 2 and 3 again for the next one. Behind the last octet that moves goes the mark, at N: it
    is what is there until the truncate, and never after it.
 4. journal: record "moved".
 5. mailbox: truncate to N.
 6. journal: record "done"; it is put away for the next update.

Recovery, under the same lock, when a journal exists. Others may have appended A octets after the crash.
 - First, what it goes by is made durable: after a death (not of the machine) it may have been seen and not be on the
   disk. The mailbox by fsync; record and window by writing them once more, as an fsync behind a failed one proves
   nothing (the window's target is then written again as well).
 - No valid record, or "done": the mailbox is as it was before the update, or behind it. Put the journal away.
 - "moving": step 5 has not begun, so the size is S + A and what was appended stands at S. All before the target is
   moved and durable, all behind the window is as it was. Octets of the target may be old or new, each for itself.
   Where the window is logged, its octets have the record's CRC in one of three places: in the journal; else in the
   target, when the window was moved and durable and the next one on its way to the journal; else at the source, when
   the window was not yet in the journal and nothing of it moved. Then steps 2 and 3 are done (again), and go on, with
   what was appended as a part of what moves: N grows by A, and no room is needed for that.
 - "moved": all windows are durable. The mark at N tells: if it is there, the truncate has not happened and the appended
   mail stands at S, and moves like the rest; if not, it has, and the appended mail stands at N, where it belongs: only
   step 6 is missing. (Or there are NULs and the size is S: half of a truncate is on the disk.) Nobody appends the mark:
   its first octet is NUL, and an appended message begins with `From `; its others are random and not NUL. (One message
   is 7 octets at least, so there are 6 of these at least, and 15 for any message of real life.)
 - A check that fails (inode, size, a CRC, owner) means that somebody else has changed the mailbox, or that the journal
   is not of this mailbox: it is renamed, kept, reported, and never applied.

What is checked: the file's inode; its size (never smaller); the window, where it is logged; GUARD octets before the
target and behind the window; the mailbox's last octets, each old or new. So a program that took something out, put
something in or wrote lines of its own into headers, and moved the rest by that, is noticed. Not noticed is one that
changed octets elsewhere and moved none: its change is kept, as those octets are moved, or left, as they are found. What
it changes in the target of a logged window is undone.

What this asks of others: that they append under the lock, or replace the file. Between crash and recovery a mailbox is
half moved: a program that does not wait for popad sees all messages but those that lie across the target's end and
the source's begin, and sees some twice or torn. Of the disk: that it keeps what fsync has promised, and that what a
truncate cut off does not come back when the file grows again.

Room. The journal needs 16 KiB (slots, a plan of a few thousand messages, a window of one block); more makes it quicker,
up to WINDOW: it takes what there is. All of it is taken (posix_fallocate) in step 1, and so are the mailbox's holes:
a full disk or quota is met before the mailbox is touched. That the least is there on a full disk, too, is what the
spare is for: SPARE octets, as the user's file, which a session makes when it opens a mailbox that has none (from room
that root gives up, where the disk is full: state.py), and which becomes the journal; so deleting never has to ask for a
block. Not when the mailbox's file system writes elsewhere what is written in place (btrfs, ZFS) and is full: then the
update stops, and the next session goes on when there is room.

CRCs are against accidents, of programs and disks, and suffice for that: who may write there needs no collision to
destroy mail.

A step that fails (no space, quota, a limit, the disk) ends the update with an OSError. Before the record of step 2 the
mailbox is untouched then; behind it, the next session's recovery finishes what was begun.

Removing the end of a mailbox moves nothing: a truncate is atomic and needs no journal.
"""

import errno
import os
import zlib
from array import array
from itertools import accumulate, chain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from popad.maildrop.private import Journal

    Span = tuple[int, int]

from popad.maildrop.mbox.crc import crc_of
from popad.maildrop.mbox.record import DONE, MOVED, MOVING, SLOT, SLOTS, Record, current_record
from popad.maildrop.private import SPARE, JournalForeign

BLOCK = 1 << 17  # octets copied at a time
PAGE = 4096  # octets: the least that a file system gives
# Octets of a logged window, at most. Larger ones save waiting for the disk (two times a window) and cost memory; a
# quarter takes as long where nothing is waited for.
WINDOW = 1 << 22
GUARD = 1 << 16  # octets that are looked at on both sides of a window
MARK = 16  # octets of the mark at most; less where less than that is removed
TAIL = 64  # octets of the mailbox's end in a record, at most
NUMBER = 8  # octets of a number in the plan
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoRoomForPlan(OSError):
    """The journal cannot have the room that a long plan needs: nothing has been touched."""


class Recovery:
    """What recover() found: an update it finished, or a journal it kept aside as `kept` for `reason`."""

    def __init__(self, finished: bool, kept: str = "", reason: str = "") -> None:
        self.finished = finished
        self.kept = kept
        self.reason = reason


def remove(mailbox: int, spans: "Sequence[Span]", journal: "Journal") -> None:
    """Take `spans` ((begin, end) offsets, in order) out of the mailbox, whose exclusive lock the caller holds.

    Raises OSError. Unless it is raised after the first record was written, the mailbox is untouched then; if it was,
    the next recover() finishes the work.
    """
    make_sure_none_is_unfinished(mailbox, journal)
    spans = joined(spans)
    first, end = spans[0]
    if end == os.fstat(mailbox).st_size:
        os.ftruncate(mailbox, first)
        os.fsync(mailbox)
        return
    try:
        move(mailbox, spans, journal)
    except NoRoomForPlan:
        # There may be room for a plan of half of them: each half is an update of its own.
        half = len(spans) // 2
        remove(mailbox, spans[half:], journal)
        remove(mailbox, spans[:half], journal)


def make_sure_none_is_unfinished(mailbox: int, journal: "Journal") -> None:
    """Under a lock: somebody may have died with this mailbox half moved. Even a truncate would take away what recovery
    needs to see; and what is remembered of unique-ids (ids.py) is of that update. Raises OSError.
    """
    if journal.exists(mailbox):
        raise OSError(errno.EAGAIN, "an earlier update has not been finished", journal.names[0])


def move(mailbox: int, spans: "list[Span]", journal: "Journal") -> None:
    """An update that moves something: steps 0 to 6."""
    status = os.fstat(mailbox)
    first = spans[0][0]
    gone = sum(end - begin for begin, end in spans)
    mark = new_mark(gone)
    make_sure_of_room(mailbox, first, status.st_size - gone + len(mark))
    os.fsync(mailbox)
    name, fd = journal.create(several=status.st_nlink > 1)
    try:
        record = Record(mark, journal.mailbox, inode=status.st_ino, first=first, size=status.st_size, gone=gone)
        record.target = first
        try:
            record.sequence = last_number(fd)
            update = Update(mailbox, fd, spans)
            update.begin(record)
            journal.state.sync()
        except BaseException:
            put_away(fd, journal, name)  # nothing has been touched
            raise
        update.go_on(record)
        put_away(fd, journal, name, record)
    finally:
        os.close(fd)


def recover(mailbox: int, journal: "Journal") -> Recovery:
    """Finish an update that was interrupted, under the exclusive lock of the mailbox. Raises OSError."""
    found = Recovery(finished=False)
    for name in journal.names_of(mailbox):
        try:
            fd = journal.open(name)
        except FileNotFoundError:
            continue
        except JournalForeign as foreign:
            found.kept, found.reason = journal.keep(name), str(foreign)
            continue
        try:
            record = current_record(fd)
            if record and record.phase != DONE:
                finish(mailbox, fd, record)
                found.finished = True
            put_away(fd, journal, name, record)
        except JournalForeign as foreign:
            found.kept, found.reason = journal.keep(name), str(foreign)
        finally:
            os.close(fd)
    return found


class Update:
    """An update under way. `spans` is what goes."""

    def __init__(self, mailbox: int, journal: int, spans: "list[Span]") -> None:
        self.mailbox = mailbox
        self.journal = journal
        self.spans = spans
        self.read = reader(mailbox)

    def begin(self, record: Record) -> None:
        """Step 1: the plan, and all the room that there is for a window, down to a page. Raises OSError."""
        # One span is P and D.
        plan = packed(self.spans) if len(self.spans) > 1 else b""
        record.plan, record.crc_plan = len(plan), zlib.crc32(plan)
        record.data = SLOTS + pages(len(plan))
        begin, end = self.spans[0]
        moves = record.size - end + len(record.mark)
        # What fits between target and source is not logged, and this distance never gets less.
        record.room = pages(min(WINDOW, moves)) if end - begin < WINDOW else PAGE
        while True:
            try:
                os.posix_fallocate(self.journal, 0, record.data + record.room)
                break
            except OSError as error:
                if error.errno not in FULL:
                    raise
                if record.room == PAGE:
                    kind = NoRoomForPlan if len(plan) > PAGE else OSError
                    raise kind(error.errno, os.strerror(error.errno), "POPAD_STATE") from error
                record.room = pages(record.room // 2)
        write(self.journal, plan, SLOTS)
        os.fsync(self.journal)

    def go_on(self, record: Record) -> None:
        """Steps 2 to 5, from what `record` says on, whose window (if any) is moved and durable."""
        stays = gaps(self.spans, record.size)[::-1]
        take(stays, record.target + record.length - record.first)
        while record.target + record.length < record.end or not record.marked:
            target = record.target + record.length
            left = record.end - target
            dead = (stays[-1][0] if stays else record.size) - target
            most = max(dead, record.room)
            record.marked = int(left + len(record.mark) <= most)
            record.target, record.length = target, min(left, most)
            record.logged = int(record.rest - target > dead)
            self.move_window(record, take(stays, record.length))
        record.phase, record.target, record.length, record.logged = MOVED, record.end, 0, 0
        self.write_down(record)
        os.ftruncate(self.mailbox, record.end)
        os.fsync(self.mailbox)

    def move_window(self, record: Record, sources: "Sequence[Span]") -> None:
        """Steps 2 and 3 for the window that `record` names."""
        record.phase = MOVING
        if record.logged:
            window = octets_of(self.mailbox, sources)
            write(self.journal, window, record.data)
            record.crc_window = zlib.crc32(window)
            self.write_down(record)
            write(self.mailbox, window, record.target)
        else:
            self.write_down(record)
            copy(self.mailbox, sources, self.mailbox, record.target)
        self.end_window(record)

    def end_window(self, record: Record) -> None:
        """The end of step 3."""
        if record.marked:
            write(self.mailbox, record.mark, record.target + record.length)
        os.fdatasync(self.mailbox)

    def write_down(self, record: Record) -> None:
        """Make `record` the one in force, durably, without touching the slot of the one before."""
        record.sequence += 1
        record.before = min(GUARD, record.target)
        record.behind = max(min(GUARD, record.size - record.rest), 0)
        record.crc_before = crc_of(self.read, record.target - record.before, record.target)
        record.crc_behind = crc_of(self.read, record.rest, record.rest + record.behind)
        tail = min(TAIL, record.size - record.first)
        record.tail = self.read(tail, record.size - tail)
        store(self.journal, record)


def finish(mailbox: int, journal: int, record: Record) -> None:
    """Bring the mailbox from any state that a crash (and appending by others) can leave to the end of the update."""
    status = os.fstat(mailbox)
    if status.st_ino != record.inode:
        raise JournalForeign("it is of another file")
    update = Update(mailbox, journal, plan_of(journal, record))
    size, read = status.st_size, update.read
    begin = record.target - record.before
    if size < record.end or crc_of(read, begin, record.target) != record.crc_before:
        raise JournalForeign("the mailbox was changed before the part that moves")
    os.fsync(mailbox)
    if record.phase == MOVED and is_truncated(read, record, size):
        store(journal, record)
        return  # what others appended is where it belongs
    if record.phase == MOVED and size == record.size:
        store(journal, record)
        update.go_on(record)
        return
    if size < record.size or crc_of(read, record.rest, record.rest + record.behind) != record.crc_behind:
        raise JournalForeign("the mailbox was changed behind the part that moves")
    stays = gaps(update.spans, record.size)[::-1]
    take(stays, record.target - record.first)
    fd, spans = mailbox, take(stays, record.length)
    if record.logged:
        fd, spans = whole_window(update, record, spans)
    if record.phase == MOVING and not is_the_end(mailbox, record, fd, spans):
        raise JournalForeign("the end of the mailbox was changed")
    if record.logged:
        copy(fd, spans, journal, record.data)
        fd, spans = journal, [(record.data, record.data + record.length)]
    store(journal, record)
    if record.phase == MOVING:
        copy(fd, spans, mailbox, record.target)
        update.end_window(record)
    record.size = size
    update.go_on(record)


def is_truncated(read: "Callable[[int, int], bytes]", record: Record, size: int) -> bool:
    """Whether step 5 was done, of a record "moved". A truncate clears the rest of the page first; when the power fails,
    that may be on the disk and the new size not.
    """
    if read(len(record.mark), record.end) == record.mark:
        return False
    page = read(min(record.size, pages(record.end + 1)) - record.end, record.end)
    return size != record.size or any(page)


def whole_window(update: Update, record: Record, sources: "list[Span]") -> "tuple[int, list[Span]]":
    """The file, and where in it the octets of a logged window are whole. Raises JournalForeign."""
    for fd, spans in (
        (update.journal, [(record.data, record.data + record.length)]),
        (update.mailbox, [(record.target, record.target + record.length)]),
        (update.mailbox, sources),
    ):
        crc = 0
        for begin, end in spans:
            crc = crc_of(reader(fd), begin, end, crc)
        if crc == record.crc_window:
            return fd, spans
    raise JournalForeign("what it keeps is damaged")


def is_the_end(mailbox: int, record: Record, fd: int, spans: "Sequence[Span]") -> bool:
    """Whether each of the octets that were the mailbox's last is as it was, or as the window makes it: `spans` of `fd`
    and the mark. (A window that is not logged is small where it comes that far: its source is behind it, too.)
    """
    begin = record.size - len(record.tail)
    there = os.pread(mailbox, len(record.tail), begin)
    new = bytearray(record.tail)
    if record.rest > begin:
        window = list(spans)[::-1]
        place = record.target + min(max(begin - record.target, 0), record.length)
        take(window, place - record.target)
        octets = octets_of(fd, window[::-1]) + record.mark * record.marked
        octets = octets[max(begin - place, 0) :]
        place = max(place - begin, 0)
        new[place : place + len(octets)] = octets
    return all(octet in pair for octet, *pair in zip(there, record.tail, new, strict=True))


def store(journal: int, record: Record) -> None:
    """Write `record` to its slot, durably."""
    write(journal, record.pack(), SLOT * ((record.sequence - 1) % 2))
    os.fdatasync(journal)


def put_away(fd: int, journal: "Journal", name: str, record: Record | None = None) -> None:
    """Step 6: the update of `record` is done; without one, none has begun. A name that comes back with the power says
    nothing then. A journal that cannot be put away says at the next recovery what it says now; until then no update
    begins.
    """
    try:
        if record and record.phase != DONE:
            record.sequence += 1
            record.phase = DONE
            store(fd, record)
        if os.fstat(fd).st_size > SPARE:
            os.ftruncate(fd, SPARE)
        journal.put_away(name)
    except OSError:
        pass


def last_number(journal: int) -> int:
    """The sequence number of the update before, whose journal it was. Where another version of popad made that one,
    what it says is overwritten: nobody is to lose the room, nor be kept from deleting mail.
    """
    try:
        last = current_record(journal)
    except JournalForeign:
        write(journal, bytes(SLOTS), 0)
        return 0
    return last.sequence if last else 0


def make_sure_of_room(mailbox: int, begin: int, end: int) -> None:
    """Before anything is touched: a limit on the size of files meets us here, and holes in what will be written get
    their room. Raises OSError.
    """
    write(mailbox, os.pread(mailbox, 1, end - 1), end - 1)
    if os.lseek(mailbox, begin, os.SEEK_HOLE) < end:
        os.posix_fallocate(mailbox, begin, end - begin)


def joined(spans: "Sequence[Span]") -> "list[Span]":
    """Spans that touch are one."""
    found: list[Span] = []
    for begin, end in spans:
        goes_on = found and found[-1][1] == begin
        found.append((found.pop()[0] if goes_on else begin, end))
    return found


def packed(spans: "Sequence[Span]") -> bytes:
    """A plan: the lengths of what stays and what goes, in turn."""
    places = list(chain.from_iterable(spans))
    lengths = array("Q", (end - begin for begin, end in zip([0, *places], places, strict=False)))
    return zlib.compress(lengths, 1)


def plan_of(journal: int, record: Record) -> "list[Span]":
    """What goes. Raises JournalForeign where the plan is damaged."""
    if not record.plan:
        return [(record.first, record.first + record.gone)]
    octets = os.pread(journal, record.plan, SLOTS)
    if zlib.crc32(octets) != record.crc_plan:
        raise JournalForeign("its plan is damaged")
    try:
        lengths = array("Q", zlib.decompress(octets))
    except (ValueError, zlib.error):
        raise JournalForeign("it has a plan that popad does not write") from None
    places = list(accumulate(lengths))
    spans = list(zip(places[::2], places[1::2], strict=False))
    if not spans or spans[0][0] != record.first or sum(lengths[1::2]) != record.gone or places[-1] > record.size:
        raise JournalForeign("it has a plan that popad does not write")
    return spans


def gaps(spans: "Sequence[Span]", size: int) -> "list[Span]":
    """What stays between and behind `spans` up to `size`; never an empty span."""
    ends = [end for _, end in spans]
    begins = [begin for begin, _ in spans[1:]] + [size]
    return [(end, begin) for end, begin in zip(ends, begins, strict=True) if end < begin]


def take(stays: "list[Span]", length: int) -> "list[Span]":
    """The first `length` octets of `stays`, a list with the first span at its end, which loses them."""
    taken = []
    while length:
        begin, end = stays.pop()
        cut = min(end, begin + length)
        taken.append((begin, cut))
        if cut < end:
            stays.append((cut, end))
        length -= cut - begin
    return taken


def pages(octets: int) -> int:
    """Octets up to the end of the page."""
    return -(-octets // PAGE) * PAGE


def new_mark(room: int) -> bytes:
    """What stands at N until the truncate: NUL, which no message begins with, and random octets other than NUL, which
    is what a file system puts where it lost something.
    """
    return b"\0" + bytes(octet or 1 for octet in os.urandom(min(MARK, room) - 1))


def copy(source: int, spans: "Sequence[Span]", target: int, place: int) -> None:
    """Copy spans of one file behind one another to `place` in another, or in the same: from the front on."""
    for begin, end in spans:
        for block in blocks(source, begin, end, BLOCK):
            write(target, block, place)
            place += len(block)


def octets_of(fd: int, spans: "Sequence[Span]") -> bytes:
    """What stands there."""
    return b"".join(chain.from_iterable(blocks(fd, begin, end, WINDOW) for begin, end in spans))


def blocks(fd: int, begin: int, end: int, most: int) -> "Iterator[bytes]":
    """Octets of a file, `most` at a time. Raises OSError where it ends before."""
    while begin < end:
        block = os.pread(fd, min(most, end - begin), begin)
        if not block:
            raise OSError(f"end of file at octet {begin}, {end} expected")
        yield block
        begin += len(block)


def write(fd: int, data: bytes, place: int) -> None:
    """pwrite(2) until all is written."""
    while data:
        written = os.pwrite(fd, data, place)
        data = data[written:]
        place += written


def reader(fd: int) -> "Callable[[int, int], bytes]":
    """How a file is read here: count, offset -> octets."""
    return lambda count, offset: os.pread(fd, count, offset)
