"""maildrop/mbox/numbers.py: two processes make what one makes, and one does what the other cannot."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from popad.maildrop.mbox import numbers
from popad.privsep import spawn
from popad.privsep.channel import Channel
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import children_of

MESSAGES = range(7, 30_007)
HALF = MESSAGES[len(MESSAGES) // 2]
HERE = os.getpid()


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    before = children_of(os.getpid()), os.listdir("/proc/self/fd")
    yield
    assert (children_of(os.getpid()), os.listdir("/proc/self/fd")) == before  # nobody and nothing is left


def number(message: int) -> int:
    return (1 << 64) - message


def made(of: Callable[[int], int] = number, messages: range = MESSAGES) -> bool:
    """Whether they are what one process makes."""
    return numbers.of_all(of, messages).tolist() == list(map(number, messages))


def test_more_than_a_pipe_holds() -> None:
    here = []

    def noted(message: int) -> int:
        here.append(message)
        return number(message)

    assert made(noted)
    assert here == list(range(MESSAGES[0], HALF))  # the other half was made elsewhere


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


@pytest.mark.parametrize("octets", [0, 1, 7, 8, 9, 8 * 15_000 - 1])
def test_a_second_process_that_dies(octets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever in its answer."""
    real = os.write

    def write(fd: int, data: memoryview) -> int:
        rest = data[:octets]
        while rest:
            rest = rest[real(fd, rest) :]
        os._exit(1)

    monkeypatch.setattr(os, "write", write)
    assert made()


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
        here = os.getpid()

        def slow(message: int) -> int:
            if os.getpid() != here:
                os.read(waits, 1)  # for each message
            elif message == MESSAGES[0]:
                (second,) = children_of(here)
                channel.send([str(second).encode()])
                signal.pause()
            return number(message)

        numbers.of_all(slow, MESSAGES)

    child = spawn.with_channel(session)
    (said,) = child.channel.receive([20], PATIENCE)
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)
    child.channel.close()
    os.close(waits)
    os.write(goes, bytes(numbers.BATCH))  # as many as it makes before it looks
    wait_until(lambda: not is_alive(int(said)))
    os.close(goes)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
