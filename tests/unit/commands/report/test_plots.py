"""commands/report/plots.py: plots without words."""

from xml.etree.ElementTree import Element, fromstring

from popad.commands.report import plots
from popad.commands.report.distribution import LARGEST, Distribution
from popad.commands.report.timeline import Timeline

MINUTE = 60_000_000


def shapes(markup: str, name: str = "rect") -> list[Element]:
    return fromstring(markup).findall(name)  # noqa: S314


def titles(markup: str) -> list[str]:
    return [str(shape.findtext("title")) for shape in shapes(markup)]


def test_a_bar_a_step() -> None:
    timeline = Timeline(2)
    timeline.add(0, 1, 10)
    timeline.add(2 * MINUTE, 1, 5)
    plot = plots.timeline(timeline, 1, "logins")
    assert [title.rpartition(": ")[2] for title in titles(plot)] == ["10 logins", "5 logins"]
    assert [(shape.get("x"), shape.get("height")) for shape in shapes(plot)] == [("0", "100"), ("2", "50")]


def test_one_among_a_million_can_be_seen() -> None:
    timeline = Timeline(1)
    timeline.add(0, 0, 10**6)
    timeline.add(MINUTE, 0, 1)
    assert [shape.get("height") for shape in shapes(plots.timeline(timeline, 0, ""))] == ["100", "2"]


def test_times_of_any_length() -> None:
    found = Distribution()
    for value in (0, 1, 999, 1_000_000, LARGEST):
        found.add(value)
    plot = plots.times(found, "login")
    assert titles(plot) == [
        "up to 0.158 ms: 2",
        "1 ms to 1.58 ms: 1",
        "1 s to 1.58 s: 1",
        "1 h 45 min to 2 h 46 min: 1",
    ]
    width = float(fromstring(plot).attrib["viewBox"].split()[2])  # noqa: S314
    for line in shapes(plot, "line"):
        assert 0 <= float(line.attrib["x1"]) <= width


def test_hours_of_the_week() -> None:
    hours = [[0] * 24 for _ in range(7)]
    hours[6][23] = 9
    cells = shapes(plots.week(hours, "logins"))
    assert len(cells) == 7 * 24
    assert cells[-1].findtext("title") == "Sun 23:00: 9 logins"
    assert float(cells[-1].attrib["fill-opacity"]) > float(cells[0].attrib["fill-opacity"])


def test_ends_of_a_time() -> None:
    timeline = Timeline(1)
    timeline.add(MINUTE, 0)
    assert len(set(plots.ends(timeline))) == 1
    timeline.add(10**18, 0)
    assert plots.ends(timeline)[2] == "unknown"
