"""A second process of a session, for what its client would wait for: most machines have a second core.

It is forked from the first, and has the same identity and the same descriptors. It writes what it finds to a pipe and
ends; soon, if the first has ended. The first does without what it has not said.
"""

import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from popad.arrays import array

NUMBER = 8  # octets of each number in a pipe


def is_possible() -> bool:
    """Whether it would have a core of its own."""
    return len(os.sched_getaffinity(0)) > 1


def start(work: "Callable[[], None]") -> int:
    """A process that does that and ends. Raises OSError."""
    if pid := os.fork():
        return pid
    try:
        work()
    finally:
        os._exit(0)  # without a word, and nothing of the session's own


def is_wanted(pipe: int) -> "Callable[[], bool]":
    """In the second process: tells whether somebody is left to read the pipe."""
    poll = select.poll()
    poll.register(pipe, 0)
    return lambda: not poll.poll(0)


def write(pipe: int, numbers: "array[int]") -> None:
    """All of them. Raises OSError."""
    rest = memoryview(numbers).cast("B")
    while rest:
        rest = rest[os.write(pipe, rest) :]
