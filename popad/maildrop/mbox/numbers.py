"""A number for each of many messages, made by two processes: the client waits for the first listing of a mailbox.

Each process that is done with a part of the messages takes the next one, since the second may have to share its core
with the one that computes the CRC (parallel.py). What it has not said, where it has died, the first makes, too.
"""

import os

from popad.arrays import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Number = Callable[[int], int]

from popad.maildrop.mbox import second
from popad.maildrop.mbox.second import NUMBER

WORTH_IT = 4096  # messages: 15 ms, and a fork with what it costs later 2
SMALLEST, MOST_PARTS = 256, 255  # messages of a part, 1 ms; its number fits an octet
BLOCK = 1 << 16  # octets read at a time


def of_all(number: "Number", messages: range) -> "array[int]":
    """`number` of each, in their order. Raises what that raises."""
    if len(messages) >= WORTH_IT and second.is_possible():
        length = max(SMALLEST, -(-len(messages) // MOST_PARTS))
        parts = [messages[place : place + length] for place in range(0, len(messages), length)]
        try:
            pid, turns, answer = start(number, parts)
        except OSError:
            pass  # no more processes or descriptors
        else:
            try:
                found = in_turn(number, parts, turns) | told(answer, parts)
            finally:
                os.read(turns, MOST_PARTS)  # where one part fails, nobody needs the others
                os.close(turns)
                os.close(answer)
                os.waitpid(pid, 0)
            numbers = array("Q")
            for turn, part in enumerate(parts):
                numbers.extend(found.pop(turn, ()) or map(number, part))
            return numbers
    return array("Q", map(number, messages))


def start(number: "Number", parts: list[range]) -> tuple[int, int, int]:
    """A second process, where both read which part is next, and where its answer is read. Raises OSError."""
    opened: list[int] = []
    try:
        for _ in range(2):
            opened += os.pipe()
        turns, begin, answer, tells = opened
        os.write(begin, bytes(range(len(parts))))

        def work() -> None:
            os.close(begin)  # the first process alone has the ends that are read: to write says when it has gone
            os.close(answer)
            is_wanted = second.is_wanted(tells)
            for turn, numbers in in_turn(number, parts, turns, is_wanted).items():
                second.write(tells, array("Q", (turn,)))
                second.write(tells, numbers)

        pid = second.start(work)
    except OSError:
        for fd in opened:
            os.close(fd)
        raise
    os.close(begin)
    os.close(tells)
    return pid, turns, answer


def in_turn(
    number: "Number", parts: list[range], turns: int, is_wanted: "Callable[[], bool]" = lambda: True
) -> "dict[int, array[int]]":
    """Take a part while there are any, and somebody wants it."""
    found = {}
    while is_wanted() and (turn := os.read(turns, 1)):
        found[turn[0]] = array("Q", map(number, parts[turn[0]]))
    return found


def told(answer: int, parts: list[range]) -> "dict[int, array[int]]":
    """The parts that the second process has told of as a whole."""
    octets = bytearray()
    while block := os.read(answer, BLOCK):
        octets += block
    said = array("Q", bytes(octets[: len(octets) // NUMBER * NUMBER]))
    found = {}
    place = 0
    while place < len(said):
        part = said[place + 1 : place + 1 + len(parts[said[place]])]
        if len(part) == len(parts[said[place]]):
            found[said[place]] = part
        place += 1 + len(part)
    return found
