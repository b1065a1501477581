"""maildrop/mbox/second.py: a process that says what it finds, and ends with whoever wants to know."""

import os
from contextlib import suppress

import pytest

from popad.arrays import array
from popad.maildrop.mbox import second


def test_it_says_more_than_a_pipe_holds() -> None:
    numbers = array("q", range(-10_000, 10_000))
    answer, tells = os.pipe()
    pid = second.start(lambda: second.write(tells, numbers))
    os.close(tells)
    with open(answer, "rb") as pipe:
        assert pipe.read() == numbers.tobytes()
    assert os.waitpid(pid, 0) == (pid, 0)


def test_it_has_nothing_to_say_of_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """Nor does it go on as the first process does."""

    def fail() -> None:
        raise KeyboardInterrupt

    pid = second.start(fail)
    assert os.waitpid(pid, 0) == (pid, 0)
    assert capfd.readouterr() == ("", "")


def test_it_is_wanted_as_long_as_somebody_reads() -> None:
    answer, tells = os.pipe()
    is_wanted = second.is_wanted(tells)
    assert is_wanted()
    with suppress(BlockingIOError):  # however full the pipe is
        os.set_blocking(tells, False)
        while os.write(tells, bytes(4096)):
            pass
    assert is_wanted()
    os.close(answer)
    assert not is_wanted()
    os.close(tells)


@pytest.mark.parametrize("cores", [1, 2])
def test_it_wants_a_core_of_its_own(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert second.is_possible() == (cores == 2)
