"""daemon/exit_status.py: what a session's exit status says, and what it does not."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.daemon import exit_status
from popad.session.monitor import CONFIG, SOFTWARE, SUCCESS


def left_with(status: int) -> int:
    """The wait status of a process that has ended so."""
    pid = os.fork()
    if not pid:
        os._exit(status)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize("logged_in", [True, False])
@pytest.mark.parametrize("lost", [0, 1, 31])
def test_a_status_through_the_kernel(logged_in: bool, lost: int) -> None:
    assert exit_status.told(left_with(exit_status.status(logged_in, lost))) == (logged_in, lost)


def test_what_there_is_no_room_for() -> None:
    assert exit_status.told(exit_status.status(True, 1000) << 8) == (True, exit_status.MOST_LOST)


def test_success_says_that_nobody_has_logged_in() -> None:
    assert exit_status.status(False, 0) == SUCCESS
    assert exit_status.told(SUCCESS) == (False, 0)


@pytest.mark.parametrize("status", [SOFTWARE, CONFIG, 127, 255])
def test_other_statuses_say_nothing(status: int) -> None:
    assert exit_status.told(status << 8) is None


@given(st.integers(1, 127), st.booleans())
def test_a_signal_says_nothing(signal: int, core: bool) -> None:
    assert exit_status.told(signal | core << 7) is None
