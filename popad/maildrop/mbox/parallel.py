"""Scans a large mailbox with two processes (second.py), because the client waits for the first scan.

Whether a line separates messages can be told from the lines around it. So a part of the file that begins with a
separator can be scanned like an mbox of its own. Each process that is done with a part takes the next one, since one
core may be slower than the other or busy with something else.

When the second process has told what it found, it computes the CRC of the whole file, which the client does not have
to wait for. If anything goes wrong in it, the first scans its parts, too.
"""

import os
import select
from itertools import pairwise

from popad.arrays import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    Read = Callable[[int, int], bytes]
    Signature = tuple[int, int, int, int, int]

    class File(Protocol):
        """The mailbox. All raise OSError."""

        def read(self, count: int, offset: int) -> bytes:
            """pread."""
            ...

        def look(self) -> Signature:
            """What differs when it has been changed."""
            ...

        def hold(self) -> None:
            """For a process of its own: while it lives, programs that ask do not change the file."""
            ...


from popad.errors import MaildropUnavailable
from popad.maildrop.mbox import second
from popad.maildrop.mbox.crc import crc_of
from popad.maildrop.mbox.scan import BLOCK, Messages, Scan, too_many
from popad.maildrop.mbox.second import NUMBER
from popad.maildrop.mbox.separators import BEHIND, next_separator

WORTH_IT = 1 << 24  # octets: a scan takes 20 ms, a fork with what it costs later 2
SMALLEST = 1 << 22  # octets of a part at least, but for the last: 5 ms
SEARCHED = 1 << 20  # octets: where a part could begin, and a message is larger than that, it does not


class Summing:
    """The second process, which computes the CRC when it has told what it found."""

    def __init__(self, pid: int, sums: int) -> None:
        self.pid = pid
        self.sums = sums

    def is_done(self) -> bool:
        """Whether end() need not wait."""
        poll = select.poll()
        poll.register(self.sums, select.POLLIN)
        return bool(poll.poll(0))

    def end(self) -> "tuple[int, Signature] | None":
        """Wait for it. Returns the CRC-32, and how the file looked when it was known; None where the process died."""
        try:
            said = array("q", os.read(self.sums, 6 * NUMBER))
        finally:
            os.close(self.sums)
            os.waitpid(self.pid, 0)
        if not said:
            return None
        crc, device, inode, size, mtime, ctime = said
        return crc, (device, inode, size, mtime, ctime)

    def give_up(self) -> None:
        """Nobody needs it any more: it ends by itself (sessions may not send signals)."""
        os.close(self.sums)
        os.waitpid(self.pid, 0)


def scan(file: "File", size: int, max_messages: int) -> tuple[Messages, Summing | None]:
    """What Scan finds in the first `size` octets, and who will know their CRC, if that is not known.

    Raises MaildropUnavailable, OSError.
    """
    if size >= WORTH_IT and second.is_possible():
        places = borders(file.read, size)
        try:
            turns, answer, summing = start(file, places, max_messages)
        except OSError:
            pass  # no more processes or descriptors
        else:
            found = None
            try:
                found = by_two(file.read, places, max_messages, turns, answer)
            finally:
                os.read(turns, len(places))  # where one part is refused, nobody needs the others
                os.close(turns)
                os.close(answer)
                if found is None:
                    summing.give_up()
            return found, summing
    return Scan(file.read, size, max_messages).run(), None


def by_two(read: "Read", places: list[int], max_messages: int, turns: int, answer: int) -> Messages:
    """What both processes find in the parts. Where one is missing (see in_turn), a scan goes on from there."""
    found = Messages()
    parts = in_turn(read, places, max_messages, turns) | told(answer)
    for begin, end in pairwise(places):
        if begin not in parts:
            return Scan(read, places[-1], max_messages, found, sums=False).run()
        for column, more in zip(found.columns(), parts.pop(begin).columns(), strict=True):
            column.extend(more)
        found.end = end
        if len(found.froms) > max_messages:
            raise too_many(max_messages)
    return found


def borders(read: "Read", size: int) -> list[int]:
    """Where the parts begin, and the end. Each is a quarter of what is left, so that the last are small, and few."""
    places = [0]
    place = 0
    while size - place > SMALLEST:
        place += max((size - place) // 4, SMALLEST)
        end = min(place + SEARCHED, size)
        place = separator_behind(read, place, end)
        if place < end:
            places.append(place)
    return [*places, size]


def separator_behind(read: "Read", place: int, end: int) -> int:
    """Where a separator begins behind `place`; `end` where none is found before it. It need not be the first, so those
    that the blocks cut are not looked for.
    """
    while place < end and (text := read(min(BLOCK, end - place), place)):
        found, data = next_separator(text, BEHIND, complete=False)
        if data > 0:
            return place + found
        place += len(text)
    return end


def start(file: "File", places: list[int], max_messages: int) -> tuple[int, int, Summing]:
    """A second process. Where both read which part is next, an octet each time; where its answer is read."""
    opened: list[int] = []
    try:
        for _ in range(3):
            opened += os.pipe()
        turns, begin, answer, tells, sums, summed = opened
        os.write(begin, bytes(range(len(places) - 1)))

        def work() -> None:
            for fd in (begin, answer, sums):
                os.close(fd)  # the first process alone has the ends that are read: to write says when it has gone
            file.hold()
            tell(in_turn(file.read, places, max_messages, turns), tells)
            os.close(tells)
            crc = crc_of(while_wanted(file.read, summed), 0, places[-1])
            os.write(summed, array("q", (crc, *file.look())))

        pid = second.start(work)
    except OSError:
        for fd in opened:
            os.close(fd)
        raise
    for fd in (begin, tells, summed):
        os.close(fd)
    return turns, answer, Summing(pid, sums)


def while_wanted(read: "Read", pipe: int) -> "Read":
    """`read` that finds nothing any more when nobody is left to read the pipe."""
    is_wanted = second.is_wanted(pipe)
    return lambda count, offset: read(count, offset) if is_wanted() else b""


def in_turn(read: "Read", places: list[int], max_messages: int, turns: int) -> dict[int, Messages]:
    """Take a part while there are any. Of one that is refused nothing is said: a scan that goes on where it begins
    finds so, too, or what there is to say of a part before it.
    """
    found = {}
    while turn := os.read(turns, 1):
        begin, end = places[turn[0]], places[turn[0] + 1]
        part = Messages()
        part.end = begin
        try:
            found[begin] = Scan(read, end, max_messages, part, sums=False).run()
        except MaildropUnavailable:
            os.read(turns, len(places))  # nobody needs what is behind it
            break
        max_messages -= len(part.froms)
    return found


def tell(parts: dict[int, Messages], pipe: int) -> None:
    """Write of each part where it begins, how many messages, and their numbers."""
    for begin, part in parts.items():
        for numbers in (array("q", (begin, len(part.froms))), *part.columns()):
            second.write(pipe, numbers)


def told(answer: int) -> dict[int, Messages]:
    """The parts that were told of as a whole."""
    octets = bytearray()
    while block := os.read(answer, BLOCK):
        octets += block
    view = memoryview(octets)
    parts = {}
    place = 0
    while len(head := view[place : place + 2 * NUMBER]) == 2 * NUMBER:
        begin, count = head.cast("q")
        place += len(head)
        if place + 4 * NUMBER * count > len(view):
            break
        parts[begin] = part = Messages()
        for column in part.columns():
            column.frombytes(view[place : place + NUMBER * count])
            place += NUMBER * count
    return parts
