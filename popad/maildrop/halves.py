"""A large mailbox scanned by two processes, half each: what is read first is waited for, and most machines have a core
to spare. What a separator is can be told where it stands, so each half is an mbox of its own.

The second process is a copy of the first, with the same identity and the same descriptors. It reads the mailbox, writes
one answer into a pipe, and ends. Whatever goes wrong with it, the first process does its part.
"""

import os
from array import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

from popad.errors import MaildropUnavailable
from popad.maildrop.scan import BLOCK, FROM, Messages, Scan, too_many

WORTH_IT = 1 << 24  # octets: a scan takes 30 ms, a fork with what it costs later 2
NUMBER = 8  # octets of each number in the pipe
CRC_32 = 0xEDB88320  # the polynomial, its highest coefficient last; so are those of all others here


def scan(read: "Callable[[int, int], bytes]", size: int, max_messages: int) -> Messages:
    """What Scan finds in the first `size` octets. `read` is pread. Raises MaildropUnavailable, OSError."""
    if size >= WORTH_IT and len(os.sched_getaffinity(0)) > 1:
        try:
            pid, answer = start(read, size, max_messages)
        except OSError:
            pass  # no more processes or descriptors
        else:
            try:
                return both(read, size, max_messages, answer)
            finally:
                os.close(answer)
                os.waitpid(pid, 0)
    return Scan(read, size, max_messages).run()


def start(read: "Callable[[int, int], bytes]", size: int, max_messages: int) -> tuple[int, int]:
    """A process for the second half, and where its answer is read: see second_half."""
    answer, pipe = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(answer)
        os.close(pipe)
        raise
    if pid == 0:
        try:
            second_half(read, size, max_messages, pipe)
        finally:
            os._exit(0)  # without a word, and nothing of the session's own
    os.close(pipe)
    return pid, answer


def second_half(read: "Callable[[int, int], bytes]", size: int, max_messages: int, pipe: int) -> None:
    """Write where the second half begins, once that is known; then its CRC, how many messages, and their numbers."""
    begin = separator_behind(read, size // 2, size)
    os.write(pipe, array("q", (begin,)))
    if begin < size:
        known = Messages()
        known.end = begin
        try:
            found = Scan(read, size, max_messages, known).run()
        except MaildropUnavailable:
            return  # the first process will find so, too
        head = array("q", (found.crc, len(found.froms)))
        for numbers in (head, found.froms, found.starts, found.ends, found.sizes):
            rest = memoryview(numbers).cast("B")
            while rest:
                rest = rest[os.write(pipe, rest) :]


def both(read: "Callable[[int, int], bytes]", size: int, max_messages: int, answer: int) -> Messages:
    """The first half, and what the second process says of the other; or, if it says nothing, this one."""
    said = os.read(answer, NUMBER)
    begin = array("q", said)[0] if len(said) == NUMBER else size
    found = Scan(read, begin, max_messages).run()
    if begin == size:
        return found
    octets = bytearray()
    while block := os.read(answer, BLOCK):
        octets += block
    crc, count = array("q", octets[: 2 * NUMBER]) if len(octets) >= 2 * NUMBER else (0, 0)
    if len(octets) != NUMBER * (2 + 4 * count):
        return Scan(read, size, max_messages, found).run()
    if len(found.froms) + count > max_messages:
        raise too_many(max_messages)
    place = 2 * NUMBER
    for column in (found.froms, found.starts, found.ends, found.sizes):
        column.frombytes(octets[place : place + NUMBER * count])
        place += NUMBER * count
    found.crc = joined_crc(found.crc, crc, size - begin)
    found.end = size
    return found


def separator_behind(read: "Callable[[int, int], bytes]", place: int, size: int) -> int:
    """Where a From line begins behind a blank line, and behind `place`; `size` where none is found. It need not be the
    first, so those that the blocks cut are not looked for.
    """
    while place < size and (text := read(min(BLOCK, size - place), place)):
        found = -1
        while (found := text.find(b"\n" + FROM, found + 1)) >= 0:
            before = text[max(found - 2, 0) : found]
            if before.endswith(b"\n") or before == b"\n\r":
                return place + found + 1
        place += len(text)
    return size


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
