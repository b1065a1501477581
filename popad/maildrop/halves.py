"""A large mailbox scanned by two processes: what is read first is waited for, and most machines have a core to spare.
What a separator is can be told where it stands, so each part that begins with one is an mbox of its own. Whoever is
done with a part takes the next, as one core may be slower than the other, or have other work.

The second process is a copy of the first, with the same identity and the same descriptors. It reads the mailbox, writes
one answer into a pipe, and ends. Whatever goes wrong with it, the first process does its part.
"""

import os
from array import array
from itertools import pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[int, int], bytes]

from popad.errors import MaildropUnavailable
from popad.maildrop.scan import BLOCK, FROM, Messages, Scan, too_many

WORTH_IT = 1 << 24  # octets: a scan takes 20 ms, a fork with what it costs later 2
SMALLEST = 1 << 22  # octets of a part at least, but for the last: 5 ms
SEARCHED = 1 << 20  # octets: where a part could begin, and a message is larger than that, it does not
NUMBER = 8  # octets of each number in the pipe
CRC_32 = 0xEDB88320  # the polynomial, its highest coefficient last; so are those of all others here


def scan(read: "Read", size: int, max_messages: int) -> Messages:
    """What Scan finds in the first `size` octets. `read` is pread. Raises MaildropUnavailable, OSError."""
    found = Messages()
    if size >= WORTH_IT and len(os.sched_getaffinity(0)) > 1:
        places = borders(read, size)
        parts = by_two(read, places, max_messages)
        for begin, end in pairwise(places):
            if begin not in parts:
                break
            add(found, parts.pop(begin), end)
            if len(found.froms) > max_messages:
                raise too_many(max_messages)
        if found.end == size:
            return found
    return Scan(read, size, max_messages, found).run()


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
    """Where a From line begins behind a blank line, and behind `place`; `end` where none is found before it. It need
    not be the first, so those that the blocks cut are not looked for.
    """
    while place < end and (text := read(min(BLOCK, end - place), place)):
        found = -1
        while (found := text.find(b"\n" + FROM, found + 1)) >= 0:
            before = text[max(found - 2, 0) : found]
            if before.endswith(b"\n") or before == b"\n\r":
                return place + found + 1
        place += len(text)
    return end


def by_two(read: "Read", places: list[int], max_messages: int) -> dict[int, Messages]:
    """What two processes find in the parts, by where these begin. Parts may be missing: see in_turn."""
    try:
        pid, turns, answer = start(read, places, max_messages)
    except OSError:
        return {}  # no more processes or descriptors
    try:
        return in_turn(read, places, max_messages, turns) | told(answer)
    finally:
        os.close(turns)
        os.close(answer)
        os.waitpid(pid, 0)


def start(read: "Read", places: list[int], max_messages: int) -> tuple[int, int, int]:
    """A second process; where both read which part is next, an octet each time; and where its answer is read."""
    opened: list[int] = []
    try:
        for _ in range(2):
            opened += os.pipe()
        turns, begin, answer, pipe = opened
        os.write(begin, bytes(range(len(places) - 1)))
        pid = os.fork()
    except OSError:
        for fd in opened:
            os.close(fd)
        raise
    if pid == 0:
        try:
            os.close(begin)
            tell(in_turn(read, places, max_messages, turns), pipe)
        finally:
            os._exit(0)  # without a word, and nothing of the session's own
    os.close(begin)
    os.close(pipe)
    return pid, turns, answer


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
            found[begin] = Scan(read, end, max_messages, part).run()
        except MaildropUnavailable:
            os.read(turns, len(places))  # nobody needs what is behind it
            break
        max_messages -= len(part.froms)
    return found


def tell(parts: dict[int, Messages], pipe: int) -> None:
    """Write of each part where it begins, its CRC, how many messages, and their numbers."""
    for begin, part in parts.items():
        for numbers in (array("q", (begin, part.crc, len(part.froms))), *part.columns()):
            rest = memoryview(numbers).cast("B")
            while rest:
                rest = rest[os.write(pipe, rest) :]


def told(answer: int) -> dict[int, Messages]:
    """The parts that were told of as a whole."""
    octets = bytearray()
    while block := os.read(answer, BLOCK):
        octets += block
    view = memoryview(octets)
    parts = {}
    place = 0
    while len(head := view[place : place + 3 * NUMBER]) == 3 * NUMBER:
        begin, crc, count = head.cast("q")
        place += len(head)
        if place + 4 * NUMBER * count > len(view):
            break
        parts[begin] = part = Messages()
        part.crc = crc
        for column in part.columns():
            column.frombytes(view[place : place + NUMBER * count])
            place += NUMBER * count
    return parts


def add(found: Messages, part: Messages, end: int) -> None:
    """Add the part that goes on where `found` ends, and ends at `end`."""
    for column, more in zip(found.columns(), part.columns(), strict=True):
        column.extend(more)
    found.crc = joined_crc(found.crc, part.crc, end - found.end)
    found.end = end


def joined_crc(first: int, second: int, length: int) -> int:
    """The CRC-32 of two parts behind each other, the second of `length` octets: zlib's crc32_combine."""
    power, square = 1 << 31, 1 << 30  # x^0, x^1
    bits = 8 * length
    while bits:
        if bits & 1:
            power = product(square, power)
        square = product(square, square)
        bits >>= 1
    return product(power, first) ^ second


def product(one: int, other: int) -> int:
    """Of two polynomials modulo the CRC's."""
    result = 0
    for bit in range(31, -1, -1):
        if one >> bit & 1:
            result ^= other
        other = other >> 1 ^ CRC_32 if other & 1 else other >> 1
    return result
