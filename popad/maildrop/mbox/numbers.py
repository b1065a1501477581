"""A number for each of many messages, made by two processes: the client waits for the first listing of a mailbox.

The second process makes those of the second half. What it has not said, where it has died, the first makes, too.
"""

import os

from popad.arrays import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

from popad.maildrop.mbox import second
from popad.maildrop.mbox.second import NUMBER

WORTH_IT = 4096  # messages: 15 ms, and a fork with what it costs later 2
BATCH = 64  # messages between two looks whether the first process is there
BLOCK = 1 << 16  # octets read at a time


def of_all(number: "Callable[[int], int]", messages: range) -> "array[int]":
    """`number` of each, in their order. Raises what that raises."""
    found = array("Q")
    if len(messages) >= WORTH_IT and second.is_possible():
        half = len(messages) // 2
        try:
            pid, answer = start(number, messages[half:])
        except OSError:
            pass  # no more processes or descriptors
        else:
            said = bytearray()
            try:
                found.extend(map(number, messages[:half]))
                while block := os.read(answer, BLOCK):
                    said += block
            finally:
                os.close(answer)
                os.waitpid(pid, 0)
            found.frombytes(said[: len(said) // NUMBER * NUMBER])
    found.extend(map(number, messages[len(found) :]))
    return found


def start(number: "Callable[[int], int]", messages: range) -> tuple[int, int]:
    """A second process for these, and where its answer is read. Raises OSError."""
    answer, tells = os.pipe()

    def work() -> None:
        os.close(answer)  # the first process alone has the end that is read: the other one tells when it has gone
        tell(number, messages, tells)

    try:
        return second.start(work), answer
    except OSError:
        os.close(answer)
        raise
    finally:
        os.close(tells)


def tell(number: "Callable[[int], int]", messages: range, pipe: int) -> None:
    """Write their numbers, when they are known, if somebody is there to read them."""
    is_wanted = second.is_wanted(pipe)
    found = array("Q")
    for place in range(0, len(messages), BATCH):
        if not is_wanted():
            return
        found.extend(map(number, messages[place : place + BATCH]))
    second.write(pipe, found)
