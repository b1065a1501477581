"""A short delivery race (tests/race/run is the long one), and that it would see a loss."""

from typing import Any

import pytest

from tests.support.serials import message, serial_of, serials_in

from .clients import Session
from .driver import MAILDIR_WAYS, race
from .programs import Unavailable
from .verdict import Delivery, judge

SEED = 1939


def run(**options: Any) -> dict[str, Any]:
    try:
        return race(**{"seed": SEED, **options})
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("kill", [False, True], ids=["all live", "some killed"])
def test_nothing_is_lost_or_doubled(kill: bool) -> None:
    figures = run(deliveries=150, seconds=4, kill=kill, users=3)
    assert figures["good"], figures
    assert figures["delivered"] > 20
    assert figures["deletions"] > 10
    assert figures["sessions"]["quit"] > 5
    assert kill or not figures["litter"]


@pytest.mark.parametrize("kill", [False, True], ids=["all live", "some killed"])
def test_nothing_is_lost_or_doubled_in_maildirs(kill: bool) -> None:
    figures = run(deliveries=150, seconds=4, kill=kill, users=3, maildirs=True)
    assert figures["good"], figures
    assert figures["delivered"] > 20
    assert figures["deletions"] > 10
    assert set(figures["deliveries"]) == set(MAILDIR_WAYS)
    assert not figures["litter"]


LOUD = {"deliveries": 2000, "seconds": 2, "users": 1, "clients": 4}


def test_a_short_lock_is_enough() -> None:
    figures = run(ways=["fcntl_alone"], **LOUD)
    assert figures["good"], figures


@pytest.mark.parametrize(
    ("way", "without_locks"),
    [("fcntl_alone", True), ("reckless", False)],
    ids=["popad does not lock", "the program does not lock"],
)
def test_a_loss_would_be_seen(way: str, without_locks: bool) -> None:
    """Who appends while an update moves messages is unlucky in most runs of two seconds: it gets several."""
    for number in range(8):
        figures = run(seed=SEED + number, ways=[way], without_locks=without_locks, **LOUD)
        if figures["lost"] + figures["broken"] + figures["damaged"] > 0:
            assert not figures["good"]
            return
    pytest.fail("nothing was lost without a lock")


# -- the judge --------------------------------------------------------------------------------------------------------


def delivery(done: bool = True) -> Delivery:
    return Delivery("exim", "h0", 7, done)


def session(outcome: str, quitting: bool = True) -> Session:
    return Session("h0", outcome, quitting=quitting, fetched=[7], deleted=[7])


HERE, TWICE, GONE = [7], [7, 7], list[int]()


@pytest.mark.parametrize(
    ("sessions", "there", "lost", "doubled"),
    [
        ([], HERE, 0, 0),
        ([], GONE, 1, 0),
        ([], TWICE, 0, 1),
        ([session("quit")], GONE, 0, 0),
        ([session("quit")], HERE, 0, 1),
        ([session("quit"), session("quit")], GONE, 0, 1),
        ([session("dropped", quitting=False)], GONE, 1, 0),
        ([session("refused")], GONE, 1, 0),
        ([session("gone")], GONE, 1, 0),
        ([session("killed", quitting=False)], GONE, 1, 0),
        ([session("killed")], GONE, 0, 0),
        ([session("killed")], HERE, 0, 0),
        ([session("killed")], TWICE, 0, 1),
        ([session("killed"), session("quit")], GONE, 0, 0),
        ([session("killed"), session("quit")], HERE, 0, 1),
    ],
)
def test_what_is_lost_and_what_is_doubled(sessions: list[Session], there: list[int], lost: int, doubled: int) -> None:
    verdict = judge(SEED, [delivery()], sessions, {"h0": (there, 0)})
    assert (verdict.lost, verdict.doubled) == (lost, doubled)
    assert verdict.good is not (lost or doubled)


def test_two_sessions_that_share_a_mailbox_may_remove_the_same_message() -> None:
    both = [session("quit"), session("quit")]
    assert judge(SEED, [delivery()], both, {"h0": (GONE, 0)}, shared=True).good
    assert judge(SEED, [delivery()], both, {"h0": (HERE, 0)}, shared=True).doubled == 1
    assert judge(SEED, [delivery()], [], {"h0": (TWICE, 0)}, shared=True).doubled == 1
    assert judge(SEED, [delivery()], [], {"h0": (GONE, 0)}, shared=True).lost == 1


def test_a_message_that_was_not_delivered_may_be_there_once() -> None:
    assert judge(SEED, [delivery(done=False)], [], {"h0": (GONE, 0)}).good
    assert judge(SEED, [delivery(done=False)], [], {"h0": (HERE, 0)}).good
    assert judge(SEED, [delivery(done=False)], [], {"h0": (TWICE, 0)}).doubled == 1


def test_mailboxes_with_what_does_not_belong_there() -> None:
    assert judge(SEED, [delivery()], [], {"h0": (HERE, 1)}).broken == 1
    assert judge(SEED, [delivery()], [], {"h0": (HERE, 0), "s0": (HERE, 0)}).broken == 1


def test_mailboxes_are_read_octet_by_octet() -> None:
    one, two = (b"From a\n" + message(number, SEED) + b"\n" for number in (1, 2))
    assert serials_in(b"", SEED) == ([], 0)
    assert serials_in(one + two + b"\n", SEED) == ([1, 2], 0)
    assert serials_in(one + two[:-20], SEED) == ([1], 1)
    assert serials_in(one[20:] + two, SEED) == ([2], 1)
    assert serials_in(one.replace(b"end of", b"End of"), SEED) == ([], 1)
    assert serials_in(one[:-1] + two, SEED)[1] == 1
    assert serial_of(message(1, SEED), SEED + 1) is None
