"""maildrop/mbox/numbers.py: two processes make what one makes, and one does what the other cannot."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from popad.maildrop.mbox import numbers
from popad.privsep import spawn
from popad.privsep.channel import Channel
from tests.support.descriptors import descriptors
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import children_of

MESSAGES = range(7, 30_007)
HERE = os.getpid()


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    before = children_of(os.getpid()), descriptors()
    yield
    assert (children_of(os.getpid()), os.listdir("/proc/self/fd")) == before  # nobody and nothing is left


def number(message: int) -> int:
    return (1 << 64) - message


def made(of: Callable[[int], int] = number, messages: range = MESSAGES) -> bool:
    """Whether they are what one process makes."""
    return numbers.of_all(of, messages).tolist() == list(map(number, messages))


@pytest.fixture
def second_first() -> Iterator[Callable[[int], int]]:
    """number(), which the first process makes none of before the second has made 20,000."""
    waits, goes = os.pipe()
    count = 0

    def of(message: int) -> int:
        nonlocal count
        count += 1
        if os.getpid() != HERE and count == 20_000:
            os.write(goes, b"x")
        elif os.getpid() == HERE and count == 1:
            os.read(waits, 1)
        return number(message)

    yield of
    os.close(waits)
    os.close(goes)


def test_more_than_a_pipe_holds(second_first: Callable[[int], int]) -> None:
    """The faster process makes more."""
    here = []

    def noted(message: int) -> int:
        here.append(message)
        return second_first(message)

    assert made(noted)
    assert len(here) <= 10_000


@pytest.mark.parametrize("count", [numbers.WORTH_IT, 255 * 256, 255 * 256 + 1, 1000 * 256 - 1])
def test_of_any_count(count: int) -> None:
    """The number of a part fits an octet."""
    assert made(messages=range(1, count + 1))


@pytest.mark.parametrize("why", ["few", "one core", "no process", "no pipe"])
def test_by_one_process(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise BlockingIOError

    messages = MESSAGES
    if why == "few":
        messages = range(1, numbers.WORTH_IT)
        monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    elif why == "one core":
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1})
        monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    else:
        monkeypatch.setattr(os, "fork" if why == "no process" else "pipe", fail)
    assert made(messages=messages)


@pytest.mark.parametrize("octets", [0, 1, 8, 9, 16, 8 * 257, 8 * 257 + 1, 8 * 257 + 8, 8 * 257 + 16, 100_000])
def test_a_second_process_that_dies(
    octets: int, second_first: Callable[[int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in its answer: the first makes what is missing."""
    real = os.write
    left = octets

    def write(fd: int, data: Any) -> int:
        nonlocal left
        if os.getpid() == HERE or isinstance(data, bytes):
            return real(fd, data)
        if not left:
            os._exit(1)
        count = real(fd, data[:left])
        left -= count
        return count

    monkeypatch.setattr(os, "write", write)
    assert made(second_first)


def test_a_second_process_that_fails() -> None:
    """The first finds out, too, or does not."""

    def there(message: int) -> int:
        if os.getpid() != HERE and message == MESSAGES[-1]:
            raise OSError(5, "Input/output error")
        return number(message)

    assert made(there)


@pytest.mark.parametrize("bad", [MESSAGES[0], MESSAGES[-1]])
def test_what_fails_is_raised(bad: int) -> None:
    def failing(message: int) -> int:
        if message == bad:
            raise ZeroDivisionError
        return number(message)

    with pytest.raises(ZeroDivisionError):
        numbers.of_all(failing, MESSAGES)


def test_a_first_process_that_dies() -> None:
    """The second ends soon, whatever it still has to do."""
    waits, goes = os.pipe()

    def session(channel: Channel) -> None:
        os.close(goes)
        here = os.getpid()

        def slow(message: int) -> int:
            if os.getpid() == here:
                (second,) = children_of(here)
                channel.send([str(second).encode()])
                signal.pause()
            os.read(waits, 1)  # for each message
            return number(message)

        numbers.of_all(slow, MESSAGES)

    child = spawn.with_channel(session)
    (said,) = child.channel.receive([20], PATIENCE)
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)
    child.channel.close()
    os.close(waits)
    os.write(goes, bytes(numbers.SMALLEST))  # as many as it makes before it looks
    try:
        wait_until(lambda: not is_alive(int(said)))
    finally:
        os.close(goes)  # it goes on, and ends


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
