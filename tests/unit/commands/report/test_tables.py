"""commands/report/tables.py: the figures as tables of words."""

from popad.commands.report.entry import Entry
from popad.commands.report.figures import Figures
from popad.commands.report.ranking import KEPT
from popad.commands.report.tables import ROWS, Table, every_table, tables
from tests.support.entries import FIELDS, history


def of_all_events() -> Figures:
    figures = Figures()
    for when, event, fields in history():
        figures.count(Entry(when, {"event": event.name, **{name: str(value) for name, value in fields.items()}}))
    return figures


def named(figures: Figures, title: str) -> Table:
    (found,) = [table for table in tables(figures) if table.title == title]
    return found


def test_a_history_with_each_event_fills_each_table() -> None:
    figures = of_all_events()
    assert all(table.rows for table in every_table(figures))
    for table in tables(figures):
        assert {len(row) for row in table.rows} == {len(table.head)}
    assert named(figures, "Logins that failed, by address").rows == [(str(FIELDS["rhost"]), "4")]


def test_nothing_fills_none() -> None:
    assert [*tables(Figures())] == []


def test_that_names_were_forgotten_is_told() -> None:
    figures = Figures()
    for number in range(ROWS + 1):
        figures.count(Entry(0, {"event": "login-failed", "rhost": f"192.0.2.{number}"}))
    assert named(figures, "Logins that failed, by address").note == f"{ROWS + 1} in all."
    for number in range(2 * KEPT):
        figures.count(Entry(0, {"event": "login-failed", "rhost": str(number)}))
    note = named(figures, "Logins that failed, by address").note
    assert note == "There were too many names to count them all: a name may have up to 1 more."


def test_failures_without_a_name_are_told() -> None:
    figures = Figures()
    figures.count(Entry(0, {"event": "login-failed", "rhost": "192.0.2.7"}))
    table = named(figures, "Logins that failed, by user")
    assert table.rows == [("names that are not shown", "1")]
