"""Taking messages out of an mbox in place, without ever being able to lose one, and with little room.

In place, because a program that waits for the lock has the file open already: what it delivers to a file replaced by
rename(2) would be lost. What stays moves to the front in windows, and a redo log says which one is on its way:

Words. P is the first octet to go, S the mailbox's size, D the octets that go in all, N = S - D the size in the end. A
window is what moves at once: it goes from its source, which is somewhere behind, to its target; what is between them
is dead: octets that go, or that have been moved. The redo log begins with two slots for records; the valid one with
the higher number counts, so that a new record never overwrites the one in force. Behind them stand the plan, which is
what goes, and the octets of one window.

Two kinds of windows. One that fits between its target and its source is moved without more ado: until it is durable
its source is as it was, and it can be moved again. Any other is logged: what moves is written to the redo log first. So
windows are at most as large as the room in the redo log, or as what is dead, whichever is more.

Steps, all under the exclusive lock, each durable (fsync) before the next begins:
 0. mailbox: as it is. The record will speak of it, and who delivered the last message may not have waited for the disk.
 1. redo log: all the room it will need, the plan, its name. Without a valid record nothing has happened.
 2. redo log: the window, if it is logged, and the record "moving". The first is what the update counts from.
 3. mailbox: the window. Steps 2 and 3 again for the next one. Behind the last octet that moves goes the mark, at N: it
    is what is there until the truncate, and never after it.
 4. redo log: record "moved".
 5. mailbox: truncate to N.
 6. redo log: record "done"; it is put away for the next update.

Recovery, under the same lock, when a redo log exists. Others may have appended A octets after the crash.
 - First, what it goes by is made durable: after a death (not of the machine) it may have been seen and not be on the
   disk. The mailbox by fsync; record and window by writing them once more, as an fsync behind a failed one proves
   nothing (the window's target is then written again as well).
 - No valid record, or "done": the mailbox is as it was before the update, or behind it. Put the redo log away.
 - "moving": step 5 has not begun, so the size is S + A and what was appended stands at S. All before the target is
   moved and durable, all behind the window is as it was. Octets of the target may be old or new, each for itself.
   Where the window is logged, its octets have the record's CRC in one of three places: in the redo log; else in the
   target, when the window was moved and durable and the next one on its way to the redo log; else at the source, when
   the window was not yet in the redo log and nothing of it moved. Then steps 2 and 3 are done (again), and go on, with
   what was appended as a part of what moves: N grows by A, and no room is needed for that.
 - "moved": all windows are durable. The mark at N tells: if it is there, the truncate has not happened and the appended
   mail stands at S, and moves like the rest; if not, it has, and the appended mail stands at N, where it belongs: only
   step 6 is missing. (Or there are NULs and the size is S: half of a truncate is on the disk.) Nobody appends the mark:
   its first octet is NUL, and an appended message begins with `From `; its others are random and not NUL. (One message
   is 7 octets at least, so there are 6 of these at least, and 15 for any message of real life.)
 - A check that fails (inode, size, a CRC, owner) means that somebody else has changed the mailbox, or that the redo log
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

Room. The redo log needs 16 KiB (slots, a plan of a few thousand messages, a window of one block); more makes it
quicker, up to WINDOW: it takes what there is. All of it is taken (posix_fallocate) in step 1, and so are the mailbox's
holes: a full disk or quota is met before the mailbox is touched. The least is there on a full disk, too, as a session
that opens a mailbox makes a spare where there is none: SPARE octets, as the user's file (from room that root gives up,
where the disk is full: private.py). It becomes the redo log, so deleting never has to ask for a block. Not when the
mailbox's file system writes elsewhere what is written in place (btrfs, ZFS) and is full: then the update stops, and the
next session goes on when there is room.

CRCs are against accidents, of programs and disks, and suffice for that: who may write there needs no collision to
destroy mail.

A step that fails (no space, quota, a limit, the disk) ends the update with an OSError. Before the record of step 2 the
mailbox is untouched then; behind it, the next session's recovery finishes what was begun.

Removing the end of a mailbox moves nothing: a truncate is atomic and needs no redo log.
"""

import errno
import os
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from popad.maildrop.private import PrivateFiles

    Span = tuple[int, int]

from popad.maildrop.mbox import copying
from popad.maildrop.mbox.copying import copy, octets_of, pages, reader, write
from popad.maildrop.mbox.crc import crc_of
from popad.maildrop.mbox.plan import gaps, joined, packed, take
from popad.maildrop.mbox.record import DONE, MOVED, MOVING, SLOT, SLOTS, Record, current_record
from popad.maildrop.private import SPARE, ForeignFile

GUARD = 1 << 16  # octets that are looked at on both sides of a window
MARK = 16  # octets of the mark at most; less where less than that is removed
TAIL = 64  # octets of the mailbox's end in a record, at most
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoRoomForPlan(OSError):
    """The redo log cannot have the room that a long plan needs: nothing has been touched."""


def remove(mailbox: int, spans: "Sequence[Span]", files: "PrivateFiles") -> None:
    """Take `spans` ((begin, end) offsets, in order) out of the mailbox, whose exclusive lock the caller holds.

    Raises OSError. Unless it is raised after the first record was written, the mailbox is untouched then; if it was,
    the next recover() finishes the work.
    """
    make_sure_none_is_unfinished(mailbox, files)
    spans = joined(spans)
    first, end = spans[0]
    if end == os.fstat(mailbox).st_size:
        os.ftruncate(mailbox, first)
        os.fsync(mailbox)
        return
    try:
        move(mailbox, spans, files)
    except NoRoomForPlan:
        # There may be room for a plan of half of them: each half is an update of its own.
        half = len(spans) // 2
        remove(mailbox, spans[half:], files)
        remove(mailbox, spans[:half], files)


def make_sure_none_is_unfinished(mailbox: int, files: "PrivateFiles") -> None:
    """Under a lock: somebody may have died with this mailbox half moved. Even a truncate would take away what recovery
    needs to see; and what is remembered of unique-ids (ids.py) is of that update. Raises OSError.
    """
    if files.exists(mailbox):
        raise OSError(errno.EAGAIN, "an earlier update has not been finished", files.names[0])


def move(mailbox: int, spans: "list[Span]", files: "PrivateFiles") -> None:
    """An update that moves something: steps 0 to 6."""
    status = os.fstat(mailbox)
    first = spans[0][0]
    gone = sum(end - begin for begin, end in spans)
    mark = new_mark(gone)
    make_sure_of_room(mailbox, first, status.st_size - gone + len(mark))
    os.fsync(mailbox)
    name, fd = files.create(several=status.st_nlink > 1)
    try:
        record = Record(mark, files.mailbox, inode=status.st_ino, first=first, size=status.st_size, gone=gone)
        record.target = first
        try:
            record.sequence = last_number(fd)
            update = Update(mailbox, fd, spans)
            update.begin(record)
            files.directory.sync()
        except BaseException:
            put_away(fd, files, name)  # nothing has been touched
            raise
        update.go_on(record)
        put_away(fd, files, name, record)
    finally:
        os.close(fd)


class Update:
    """An update under way. `spans` is what goes."""

    def __init__(self, mailbox: int, log: int, spans: "list[Span]") -> None:
        self.mailbox = mailbox
        self.log = log
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
        record.room = pages(min(copying.WINDOW, moves)) if end - begin < copying.WINDOW else copying.PAGE
        while True:
            try:
                os.posix_fallocate(self.log, 0, record.data + record.room)
                break
            except OSError as error:
                if error.errno not in FULL:
                    raise
                if record.room == copying.PAGE:
                    kind = NoRoomForPlan if len(plan) > copying.PAGE else OSError
                    raise kind(error.errno, os.strerror(error.errno), "POPAD_STATE") from error
                record.room = pages(record.room // 2)
        write(self.log, plan, SLOTS)
        os.fsync(self.log)

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
            write(self.log, window, record.data)
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
        store(self.log, record)


def store(log: int, record: Record) -> None:
    """Write `record` to its slot, durably."""
    write(log, record.pack(), SLOT * ((record.sequence - 1) % 2))
    os.fdatasync(log)


def put_away(fd: int, files: "PrivateFiles", name: str, record: Record | None = None) -> None:
    """Step 6: the update of `record` is done; without one, none has begun. A name that comes back with the power says
    nothing then. A redo log that cannot be put away says at the next recovery what it says now; until then no update
    begins.
    """
    try:
        if record and record.phase != DONE:
            record.sequence += 1
            record.phase = DONE
            store(fd, record)
        if os.fstat(fd).st_size > SPARE:
            os.ftruncate(fd, SPARE)
        files.put_away(name)
    except OSError:
        pass


def last_number(log: int) -> int:
    """The sequence number of the update before, whose redo log it was. Where another version of popad made that one,
    what it says is overwritten: nobody is to lose the room, nor be kept from deleting mail.
    """
    try:
        last = current_record(log)
    except ForeignFile:
        write(log, bytes(SLOTS), 0)
        return 0
    return last.sequence if last else 0


def make_sure_of_room(mailbox: int, begin: int, end: int) -> None:
    """Before anything is touched: a limit on the size of files meets us here, and holes in what will be written get
    their room. Raises OSError.
    """
    write(mailbox, os.pread(mailbox, 1, end - 1), end - 1)
    if os.lseek(mailbox, begin, os.SEEK_HOLE) < end:
        os.posix_fallocate(mailbox, begin, end - begin)


def new_mark(room: int) -> bytes:
    """What stands at N until the truncate: NUL, which no message begins with, and random octets other than NUL, which
    is what a file system puts where it lost something.
    """
    return b"\0" + bytes(octet or 1 for octet in os.urandom(min(MARK, room) - 1))
