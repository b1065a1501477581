"""Clients that leave mail on the server move from Dovecot or Courier to popad (migration.py)."""

from dataclasses import replace

import pytest

from tests.peers import migration
from tests.support.unpacked import Unavailable

OLD = migration.SERVERS[-1]


@pytest.fixture(autouse=True)
def _programs_are_there() -> None:
    try:
        migration.require()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("former", migration.SERVERS, ids=[former.name for former in migration.SERVERS])
def test_nothing_is_fetched_again_or_missed(former: migration.Former) -> None:
    with migration.home() as place:
        assert migration.move(place, former) == 0


def test_it_would_be_seen() -> None:
    with migration.home() as place:
        assert migration.move(place, replace(OLD, uidl=""), ["mpop"]) >= 20


def test_courier_takes_an_old_list() -> None:
    """So the ids that popad keeps are those that Courier has told: each of its three forms."""
    with migration.home() as place:
        assert migration.move(place, OLD, ["mpop"]) == 0
        told = (place / "mpop/uidls").read_text().split()
    for each in ("1600000000.M0P1.host", "1600000009.9+27+22+2B\\072.host", "UID7-1200", "UID8", "UID9-1234"):
        assert told.count(each) == 1, told
