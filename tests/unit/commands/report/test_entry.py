"""commands/report/entry.py: which entries are wanted."""

import pytest

from popad.commands.report.entry import Entry, Selection
from popad.sources import network


def test_all_are_wanted_where_nothing_is_said() -> None:
    assert Selection().wants(Entry(0, {"event": "reloaded"}))


@pytest.mark.parametrize(("when", "is_wanted"), [(9, False), (10, True), (20, True), (21, False)])
def test_from_and_until(when: int, is_wanted: bool) -> None:
    assert Selection(10, 20).wants(Entry(when, {"event": "reloaded"})) == is_wanted


def test_an_entry_without_a_time_is_in_no_time() -> None:
    selection = Selection(since=10)
    assert not selection.wants(Entry(0, {"event": "reloaded"}))
    assert selection.undated == 1


def test_a_user() -> None:
    selection = Selection(user="alice")
    assert selection.wants(Entry(0, {"event": "login-failed", "user": "alice"}))
    assert not selection.wants(Entry(0, {"event": "login-failed", "user": "alice2"}))
    assert not selection.wants(Entry(0, {"event": "session-opened"}))


def test_a_network() -> None:
    selection = Selection(address=network("192.0.2.0/24"))
    assert selection.wants(Entry(0, {"event": "login-failed", "rhost": "192.0.2.7"}))
    for address in ("192.0.3.7", "unknown", ""):
        assert not selection.wants(Entry(0, {"event": "login-failed", "rhost": address}))
