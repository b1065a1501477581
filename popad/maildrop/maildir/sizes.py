"""What a message has on the wire: computed once by reading it, and remembered in POPAD_CACHE for the next session.

What is remembered is believed for a file of the same base, size and time of change. A name may have the size of the
file (S=), which then needs no look; and that on the wire (W=), which is believed until the message is read. Where it
was wrong, what is remembered counts. As long as no name has come or gone in new/ and cur/ the whole list is believed:
files of a Maildir are not written to. One that was all the same is found out when it is read.
"""

import os
import sys

from popad.arrays import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from popad.maildrop.maildir.directories import Look
    from popad.maildrop.private import PrivateFiles

from popad.maildrop import sealed
from popad.maildrop.maildir.names import order_for
from popad.maildrop.private import ForeignFile

KIND = b"popadd2" + sys.byteorder.encode()  # goes into the digest: 16 octets at most
NUMBER = 8  # octets
SIGN = NUMBER - 1 if sys.byteorder == "little" else 0  # the octet of a number whose first bit says that it is negative
SEPARATOR = "\0"  # of names
HEADER = 128  # octets of decimal numbers
NO_LOOK = -1, -1, -1, -1
LONGEST_NAME = 255  # octets
BLOCK = 1 << 17  # octets read at a time
FEW = 32  # messages whose sizes are computed again as fast as they are remembered
CR, LF = 0x0D, 0x0A
MOST_TIME = (1 << 63) - 1  # of a column's numbers


class WireSize:
    """Counts the octets that blocks of a message have on the wire, as replies.body() sends them, without dots."""

    def __init__(self) -> None:
        self.octets = 0
        self.last = LF

    def add(self, block: bytes) -> None:
        """One block more, which is not empty."""
        line_ends = block.count(b"\n")
        self.octets += len(block) + line_ends - block.count(b"\r\n")
        if block[0] == LF and self.last == CR:
            self.octets -= 1  # they were counted apart
        self.last = block[-1]

    @property
    def total(self) -> int:
        """With the end of the last line, which a message has."""
        return self.octets + (0 if self.last == LF else 2)


def measure(fd: int) -> int:
    """The size on the wire of what is left of a file. Raises OSError."""
    counted = WireSize()
    while block := os.read(fd, BLOCK):
        counted.add(block)
    return counted.total


def changed_at(status: os.stat_result) -> int:
    """The time of a file's change in ns, as a column has room for it: years before 1970 and behind 2262 are no less
    different from one another.
    """
    return status.st_mtime_ns & MOST_TIME


Row = tuple[int, int, int]  # of a message: the size on the wire, the file's size, its time of change in ns
NAMED = 0, 0  # in place of the last two: the name says the size on the wire


class Known:
    """What is remembered of one Maildir: the messages in their order, a row for each, and how the directories looked
    when they were listed (`look`; None where another change may look the same).
    """

    def __init__(self, cache: "PrivateFiles | None", most: int) -> None:
        self.cache = cache
        self.look: Look | None = None
        self.packed = b""  # the names, where they were remembered and nobody has asked for them yet
        self.unpacked: list[str] = []
        self.in_new = bytearray()
        self.columns = [array("q") for _ in range(3)]
        if cache:
            limit = HEADER + most * (LONGEST_NAME + 2 + 3 * NUMBER)
            try:
                content = sealed.load(cache, cache.names[0], KIND, limit)
            except (OSError, ForeignFile):
                return
            if content:
                unpack(content, self)

    @property
    def names(self) -> list[str]:
        """Of the messages, as they are called. Unpacked when somebody asks: a login and STAT do without."""
        if self.packed:
            self.packed, self.unpacked = b"", os.fsdecode(self.packed).split(SEPARATOR)
        return self.unpacked

    @names.setter
    def names(self, names: list[str]) -> None:
        self.packed, self.unpacked = b"", names

    def rows_for(self, names: list[str]) -> "Iterator[Row | None]":
        """For each of these names, which are in their order: what is remembered of a message that was read.

        Both lists are gone through side by side: a table of them would take more memory than they do.
        """
        order = order_for((*names, *self.names))
        place, count = 0, len(self.names)
        there = order(self.names[0]) if count else None
        for name in names:
            wanted = order(name)
            while there is not None and there < wanted:  # type: ignore[operator]  # both come of the same function
                place += 1
                there = order(self.names[place]) if place < count else None
            row = self.row(place) if there == wanted else None
            yield row if row and row[1:] != NAMED else None

    def row(self, place: int) -> Row:
        """Of one message."""
        sizes, file_sizes, times = self.columns
        return sizes[place], file_sizes[place], times[place]

    def store(self) -> None:
        """Keep this for the next session; or do not, where that fails, or where all is found as fast again."""
        if not self.cache:
            return
        if len(self.names) < FEW:
            sealed.remove(self.cache, self.cache.names[0])
            return
        try:
            sealed.store(self.cache, self.cache.names[0], KIND, pack(self), durable=False)
        except OSError:
            pass  # it costs time


def pack(known: Known) -> bytes:
    """The file behind its digest: how the directories looked, how many messages, octets of their names; the names,
    where they are, the columns.
    """
    names = os.fsencode(SEPARATOR.join(known.names))
    numbers = (*(known.look or NO_LOOK), len(known.names), len(names))
    head = b" ".join(b"%d" % number for number in numbers).ljust(HEADER)
    return b"".join((head, names, known.in_new, *known.columns))


def unpack(content: memoryview, known: Known) -> None:
    """What pack() made; nothing for what it cannot have made, as where all have one uid the key is no secret."""
    try:
        *look, count, octets = map(int, bytes(content[:HEADER]).split())
    except ValueError:
        return
    place = HEADER + octets
    if len(look) != len(NO_LOOK) or min(count, octets) < 0 or len(content) != place + (1 + 3 * NUMBER) * count:
        return
    names, numbers = bytes(content[HEADER:place]), place + count
    if not are_names(names, count) or not content[numbers + SIGN :: NUMBER].tobytes().isascii():
        return
    for number, column in enumerate(known.columns):
        begin = numbers + NUMBER * count * number
        column.frombytes(content[begin : begin + NUMBER * count])
    known.look = look[0], look[1], look[2], look[3]
    known.packed, known.in_new = names, bytearray(content[place:numbers])


def are_names(octets: bytes, count: int) -> bool:
    """Whether these are so many names of files."""
    if not count:
        return not octets
    marked = b"\0%b\0" % octets
    return b"\0\0" not in marked and octets.count(b"\0") == count - 1 and b"/" not in octets
