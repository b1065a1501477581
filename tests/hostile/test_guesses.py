"""guesses.py: who guesses stays slowed down, however he goes about it; the neighbours of a forgotten device do not."""

import pytest

from tests.hostile import guesses
from tests.hostile.guesses import AT_ONCE, CLIENTS, LONGEST, Play, neighbours_wait

MINUTES = 3


@pytest.mark.parametrize("name", CLIENTS)
def test_guesses_a_minute(name: str) -> None:
    """Of a source no more than its connections allow that wait the longest delay each, but for the first second."""
    clients = CLIENTS[name]()
    first, *others = Play().guesses_a_minute(clients, MINUTES)
    most = len(clients) * AT_ONCE * 60 / LONGEST
    assert max(others) <= most
    assert first <= most + len(clients) * AT_ONCE


def test_an_own_account_gains_nothing() -> None:
    """Good logins between wait as well: fewer guesses than without them."""
    with_it = sum(Play().guesses_a_minute(guesses.own_account(), MINUTES))
    assert with_it <= sum(Play().guesses_a_minute(guesses.one_password_many_names(), MINUTES))


def test_neighbours_of_forgotten_devices() -> None:
    """They wait while the wrong passwords are remembered, and never again."""
    waits = neighbours_wait(20)
    assert waits[0] == LONGEST
    assert set(waits[6:]) == {0.0}
