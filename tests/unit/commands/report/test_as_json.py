"""commands/report/as_json.py: all figures for a program."""

import json

from popad.commands.report.as_json import RANKINGS, as_json
from popad.commands.report.entry import Entry
from popad.commands.report.figures import Figures
from popad.commands.report.ranking import Ranking
from popad.commands.report.totals import Totals
from tests.support.entries import FIELDS, START, history


def test_a_history_with_each_event() -> None:
    figures = Figures()
    for when, event, fields in history():
        figures.count(Entry(when, {"event": event.name, **{name: str(value) for name, value in fields.items()}}))
    found = json.loads(json.dumps(as_json(figures, ["a note"], {})))
    assert found["entries"] == len(history())
    assert found["first"] == START / 1e6
    assert found["sums"]["deleted"] == 2 * int(str(FIELDS["deleted"]))
    assert found["distributions"]["session"]["p99"] == FIELDS["duration_usec"]
    assert found["rankings"]["failures_by_user"]["rows"] == [{"name": "alice", "logins": 4}]
    assert found["troubles"]["update-failed"]["examples"][0]["user"] == "alice"
    assert sum(step[1] for step in found["timeline"]["steps"]) == 2
    assert found["notes"] == ["a note"]


def test_each_figure_is_there() -> None:
    """Under its own name, or in rankings."""
    made = vars(Figures())
    assert RANKINGS.keys() == {name for name, value in made.items() if isinstance(value, Ranking)}
    found = as_json(Figures(), [], {})
    assert found.keys() >= made.keys() - RANKINGS.keys() - {"labelled", "pending"}
    assert Totals().labelled == found["labels"]


def test_nothing() -> None:
    assert as_json(Figures(), [], {})["first"] is None
