"""commands/report/totals.py: what is counted of each entry."""

import pytest

from popad import journal
from popad.commands.report.entry import Entry
from popad.commands.report.totals import LABELS, OTHER, PATIENCE, PENDING, TABLE, Totals, number

SESSION = {"rhost": "192.0.2.7", "rport": "40000", "user": "alice"}


def counted(*entries: tuple[int, str, dict[str, str]]) -> Totals:
    totals = Totals()
    for when, event, fields in entries:
        totals.count(Entry(when, {"event": event, **fields}))
    return totals


def test_it_is_decided_what_is_counted_of_each_event() -> None:
    assert [*TABLE] == [event.name for event in journal.EVENTS]
    assert all(callable(getattr(Totals, method)) for method in TABLE.values())


@pytest.mark.parametrize("name", TABLE)
def test_each_event_is_counted_also_without_fields(name: str) -> None:
    totals = counted((0, name, {}), (5, name, {}))
    assert totals.events[name] == totals.entries == 2
    assert (totals.first, totals.last) == (5, 5)


def test_the_event_of_a_later_version() -> None:
    assert counted((1, "invented", {})).events[OTHER] == 1


def test_a_session() -> None:
    totals = counted(
        (1_000, "session-opened", SESSION),
        (3_000, "login-passed", SESSION | {"mechanism": "USER", "tls": "TLSv1.3 X"}),
        (8_000, "maildrop-loaded", SESSION | {"octets": "700"}),
        (
            9_000,
            "session-closed",
            SESSION | {"retrieved": "2", "topped": "1", "deleted": "4", "sent_octets": "99", "duration_usec": "8000"},
        ),
    )
    totals_of = {name: (found.number, found.total) for name, found in totals.distributions.items()}
    expected = {"login": 2_000, "opening": 5_000, "session": 8_000, "maildrop": 700, "sent": 99}
    assert totals_of == {name: (1, total) for name, total in expected.items()}
    assert totals.sums == {"retrieved": 2, "topped": 1, "deleted": 4, "dropped": 0, "lost": 0}
    assert totals.labelled == {"mechanism": {"USER": 1}, "encryption": {"TLSv1.3": 1}, "limit": {}}
    assert not totals.pending


@pytest.mark.parametrize("between", [-1, PATIENCE + 1])
def test_a_port_that_is_used_again_is_another_session(between: int) -> None:
    totals = counted((1_000, "session-opened", SESSION), (1_000 + between, "login-passed", SESSION))
    assert totals.distributions["login"].number == 0


def test_limits_and_losses() -> None:
    totals = counted((0, "limit-reached", {"limit": "a", "dropped": "7"}), (0, "entries-lost", {"lost": "3"}))
    assert totals.sums["dropped"] == 7
    assert totals.labelled["limit"] == {"a": 7}
    assert totals.sums["lost"] == 3


def test_what_waits_is_bounded() -> None:
    totals = Totals()
    for port in range(PENDING + 9):
        totals.count(Entry(1, {"event": "session-opened", "rhost": "192.0.2.7", "rport": str(port)}))
    assert len(totals.pending) == PENDING


def test_labels_are_bounded() -> None:
    totals = Totals()
    for place in range(9 * LABELS):
        totals.count(Entry(0, {"event": "login-passed", "mechanism": str(place) + "x" * 70_000}))
    assert len(totals.labelled["mechanism"]) == LABELS + 1
    assert sum(totals.labelled["mechanism"].values()) == 9 * LABELS
    assert max(map(len, totals.labelled["mechanism"])) < 100


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "٣", "9" * 5000])
def test_what_is_no_number(text: str) -> None:
    assert number({"a": text}, "a") is None
