"""The recovery of an update that was interrupted: see update.py for the states that it may find."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from popad.maildrop.private import PrivateFiles

    Span = tuple[int, int]

from popad.maildrop.maildrop import Recovery
from popad.maildrop.mbox import update
from popad.maildrop.mbox.copying import copy, octets_of, pages, reader
from popad.maildrop.mbox.crc import crc_of
from popad.maildrop.mbox.plan import gaps, plan_of, take
from popad.maildrop.mbox.record import DONE, MOVED, MOVING, Record, current_record
from popad.maildrop.mbox.update import Update
from popad.maildrop.private import ForeignFile


def recover(mailbox: int, files: "PrivateFiles") -> Recovery:
    """Finish an update that was interrupted, under the exclusive lock of the mailbox. Raises OSError."""
    found = Recovery(finished=False)
    for name in files.names_of(mailbox):
        try:
            fd = files.open(name)
        except FileNotFoundError:
            continue
        except ForeignFile as foreign:
            found.kept, found.reason = files.keep(name), str(foreign)
            continue
        try:
            record = current_record(fd)
            if record and record.phase != DONE:
                finish(mailbox, fd, record)
                found.finished = True
            update.put_away(fd, files, name, record)
        except ForeignFile as foreign:
            found.kept, found.reason = files.keep(name), str(foreign)
        finally:
            os.close(fd)
    return found


def finish(mailbox: int, log: int, record: Record) -> None:
    """Bring the mailbox from any state that a crash (and appending by others) can leave to the end of the update."""
    os.fsync(mailbox)
    size = os.fstat(mailbox).st_size
    rest, window = judged(mailbox, log, record)
    if window is None:
        update.store(log, record)
        if not is_truncated(rest.read, record, size):
            rest.go_on(record)
        return
    fd, spans = window
    if record.logged:
        copy(fd, spans, log, record.data)
        fd, spans = log, [(record.data, record.data + record.length)]
    update.store(log, record)
    if record.phase == MOVING:
        copy(fd, spans, mailbox, record.target)
        rest.end_window(record)
    record.size = size
    rest.go_on(record)


def judged(mailbox: int, log: int, record: Record) -> "tuple[Update, tuple[int, Sequence[Span]] | None]":
    """The update, and the window that has to be moved once more: its file, and where it is whole. None where all has
    moved: then the truncate is missing, unless what others appended is where it belongs. Only reads.

    Raises ForeignFile where the redo log must not be applied, OSError.
    """
    status = os.fstat(mailbox)
    if status.st_ino != record.inode:
        raise ForeignFile("it is of another file")
    rest = Update(mailbox, log, plan_of(log, record))
    size, read = status.st_size, rest.read
    begin = record.target - record.before
    if size < record.end or crc_of(read, begin, record.target) != record.crc_before:
        raise ForeignFile("the mailbox was changed before the part that moves")
    if record.phase == MOVED and (is_truncated(read, record, size) or size == record.size):
        return rest, None
    if size < record.size or crc_of(read, record.rest, record.rest + record.behind) != record.crc_behind:
        raise ForeignFile("the mailbox was changed behind the part that moves")
    stays = gaps(rest.spans, record.size)[::-1]
    take(stays, record.target - record.first)
    fd, spans = mailbox, take(stays, record.length)
    if record.logged:
        fd, spans = whole_window(rest, record, spans)
    if record.phase == MOVING and not is_the_end(mailbox, record, fd, spans):
        raise ForeignFile("the end of the mailbox was changed")
    return rest, (fd, spans)


def is_truncated(read: "Callable[[int, int], bytes]", record: Record, size: int) -> bool:
    """Whether step 5 was done, of a record "moved". A truncate clears the rest of the page first; when the power fails,
    that may be on the disk and the new size not.
    """
    if read(len(record.mark), record.end) == record.mark:
        return False
    page = read(min(record.size, pages(record.end + 1)) - record.end, record.end)
    return size != record.size or any(page)


def whole_window(rest: Update, record: Record, sources: "list[Span]") -> "tuple[int, list[Span]]":
    """The file, and where in it the octets of a logged window are whole. Raises ForeignFile."""
    for fd, spans in (
        (rest.log, [(record.data, record.data + record.length)]),
        (rest.mailbox, [(record.target, record.target + record.length)]),
        (rest.mailbox, sources),
    ):
        crc = 0
        for begin, end in spans:
            crc = crc_of(reader(fd), begin, end, crc)
        if crc == record.crc_window:
            return fd, spans
    raise ForeignFile("what it keeps is damaged")


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
