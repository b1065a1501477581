"""The dashboard and the alerts among the examples: by what reads them, and by the metrics that there are."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad import journal
from popad.commands.report.entry import Entry
from popad.commands.report.openmetrics import exposition
from popad.commands.report.totals import Totals
from popad.sinks import ERROR
from tests.support import dashboard, prometheus, unpacked
from tests.support.entries import history
from tests.support.here import CHECKOUT

parser = pytest.importorskip("prometheus_client.openmetrics.parser")

ALERTS = CHECKOUT / "packaging/examples/popad-alerts.yml"
CASES = Path(__file__).with_name("popad-alerts.yml")


@pytest.fixture(scope="module", autouse=True)
def promtool() -> None:
    try:
        prometheus.program("promtool")
    except unpacked.Unavailable as reason:
        pytest.skip(str(reason))


def samples() -> dict[str, set[str]]:
    """The names that Prometheus has of a journal with each event, with their labels."""
    totals = Totals()
    for when, event, fields in history():
        totals.count(Entry(when, {"event": event.name, **{name: str(value) for name, value in fields.items()}}))
    found: dict[str, set[str]] = {}
    for family in parser.text_string_to_metric_families(exposition(totals)):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> Iterator[tuple[str, str]]:
    yield from dashboard.expressions(job="popad", instance=".+")
    rules = ALERTS.read_text()
    yield from re.findall(r"- alert: (\w+)\n +expr: \|\n((?: {10}.*\n)+)", rules)


def events_named(text: str) -> set[str]:
    """In the matchers of an expression."""
    return {name for matched in re.findall(r'event=~?"([^"]*)"', text) for name in matched.split("|")}


# -- both -------------------------------------------------------------------------------------------------------------


def test_metrics_and_labels_exist() -> None:
    known = samples()
    seen = set()
    for title, expression in expressions():
        named = re.findall(r"(popad_\w+)(?:\{([^}]*)\})?", expression)
        assert named, title
        for name, matchers in named:
            assert name in known, title
            assert set(re.findall(r"(\w+)=", matchers)) <= known[name] | {"job", "instance"}, title
            seen.add(name)
        for label in re.findall(r"by \(([^)]*)\)", expression):
            assert set(label.split(", ")) <= {"job", "instance"} | set.union(*(known[name] for name, _ in named)), title
    families = {re.sub("_(total|bucket|count|sum)$", "", name) for name in known}
    assert {re.sub("_(total|bucket|count|sum)$", "", name) for name in seen} == families


def test_events_exist() -> None:
    for title, expression in expressions():
        assert events_named(expression) <= {event.name for event in journal.EVENTS}, title


def test_promtool_takes_each_expression(tmp_path: Path) -> None:
    rules = "groups:\n- name: all\n  rules:\n"
    for number, (_, expression) in enumerate(expressions()):
        folded = " ".join(expression.split())
        rules += f"  - record: popad:{number}\n    expr: '{folded}'\n"
    (tmp_path / "rules.yml").write_text(rules)
    said = prometheus.promtool("check", "rules", tmp_path / "rules.yml")
    assert f"SUCCESS: {number + 1} rules found" in said.stdout, said.stderr


# -- the dashboard ----------------------------------------------------------------------------------------------------


def test_grafanas_library_keeps_all_of_it() -> None:
    given = dashboard.read()
    assert [*dashboard.lost(given, dashboard.through_the_library(given))] == []


def test_grafanas_library_knows_no_word_of_our_own() -> None:
    given = dashboard.read()
    given["panels"][0]["fieldConfig"]["defaults"]["unitt"] = "s"
    given["panels"][6]["options"]["legend"]["show"] = True
    places = [*dashboard.lost(given, dashboard.through_the_library(given))]
    assert places == [".panels[0].fieldConfig.defaults.unitt", ".panels[6].options.legend.show"]


def test_errors_and_warnings_are_all_that_there_are() -> None:
    by_title = {title: events_named(expression) for title, expression in dashboard.expressions(job="", instance="")}
    errors = {event.name for event in journal.EVENTS if event.priority <= ERROR}
    assert by_title["Errors"] == by_title["Errors, by event"] == errors
    assert by_title["Warnings, by event"] == {
        event.name for event in journal.EVENTS if event.priority == journal.WARNING
    }


def test_panels_do_not_overlap() -> None:
    panels = dashboard.read()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        cell
        for place in (panel["gridPos"] for panel in panels)
        for cell in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        )
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


# -- the alerts -------------------------------------------------------------------------------------------------------


def judged(rules: str, place: Path) -> bool:
    """Whether the cases come out as they say, with these rules."""
    (place / ALERTS.name).write_text(rules)
    cases = CASES.read_text().replace("../../packaging/examples/popad-alerts.yml", ALERTS.name)
    (place / "cases.yml").write_text(cases)
    assert prometheus.promtool("check", "rules", place / ALERTS.name).returncode == 0
    return prometheus.promtool("test", "rules", place / "cases.yml").returncode == 0


def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    assert judged(ALERTS.read_text(), tmp_path)


@pytest.mark.parametrize(
    ("condition", "other"),
    [
        ("|update-failed", ""),
        ("maildrop-refused|", ""),
        ("|ids-not-kept", ""),
        ("maildrop-refused|", "maildrop-changed|maildrop-refused|"),
        ("[15m])) > 0\n", "[15m])) >= 0\n"),
        ("> 0.2\n", "> 0.1\n"),
        ("> 0.2\n", "> 2\n"),
        ('> sum by (job, instance) (rate(popad_entries_total{event="session-closed"}[10m]))', ""),
        ("for: 10m", "for: 0m"),
        ("> 5\n", "> 50\n"),
        ("0.95", "0.999"),
        (">= 20", ">= 0"),
        ("for: 15m", "for: 0m"),
    ],
)
def test_each_condition_of_an_alert_counts(condition: str, other: str, tmp_path: Path) -> None:
    """Without it a case comes out otherwise."""
    rules = ALERTS.read_text()
    assert condition in rules
    assert not judged(rules.replace(condition, other), tmp_path)
