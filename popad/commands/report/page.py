"""The report as a page: one file of HTML with plots, that fetches nothing and runs nothing."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from popad.commands.report.figures import Figures
    from popad.commands.report.tables import Table

from popad.commands.report import catalog, plots
from popad.commands.report.figures import COLUMNS, TROUBLES
from popad.commands.report.markup import element, text
from popad.commands.report.shown import count, cut, duration, moment, octets
from popad.commands.report.style import STYLE
from popad.commands.report.tables import PERCENTS, TIMES, tables
from popad.commands.report.text import heading
from popad.journal import WARNING

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
HEAD = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>popad report</title>
<style>{STYLE}</style>
</head>
<body>
"""
A_DAY = 86_400_000_000  # microseconds
NAME, REASON = 90, 200  # characters that are shown


def page(figures: "Figures", notes: list[str], texts: "dict[str, tuple[str, str]]") -> str:
    """The whole file. `texts` are the catalog's; `notes` say what was not counted."""
    return HEAD + "\n".join(parts(figures, notes, texts)) + "\n</body>\n</html>\n"


def parts(figures: "Figures", notes: list[str], texts: "dict[str, tuple[str, str]]") -> "Iterator[str]":
    """From the top to the end."""
    lines = [element("p", text(line), class_="soft") for line in (heading(figures), *notes)]
    yield element("header", element("h1", "popad report") + "".join(lines))
    yield element("div", "".join(tiles(figures)), class_="tiles")
    week = [*by_week(figures)]
    plotted = [*over_time(figures), *how_long(figures, "" if week else "wide"), *week]
    yield element("div", "\n".join(plotted), class_="cards plots")
    yield element("main", "\n".join((*troubles(figures, texts), *map(card, tables(figures)))), class_="cards")


def tiles(figures: "Figures") -> "Iterator[str]":
    """What matters most, large."""
    login, opening = (figures.distributions[name] for name in ("login", "opening"))
    errors = sum(figures.events[name] for name, event in TROUBLES.items() if event.priority < WARNING)
    failed = figures.events["login-failed"] + figures.events["login-refused"]
    for value, what, is_bad in (
        (count(figures.events["login-passed"]), "logins", False),
        (count(failed), "logins that failed", False),
        (octets(figures.distributions["sent"].total), "sent", False),
        (count(figures.sums["deleted"]), "messages deleted", False),
        (duration(login.percentile(50)) if login.number else "", "login, 50 %", False),
        (duration(opening.percentile(99)) if opening.number else "", "mailbox open, 99 %", False),
        (count(figures.sums["dropped"]), "refused at a limit", figures.sums["dropped"] > 0),
        (count(errors), "errors", errors > 0),
    ):
        if value:
            yield element("div", element("b", text(value)) + text(what), class_="tile bad" if is_bad else "tile")


def over_time(figures: "Figures") -> "Iterator[str]":
    """A plot for each thing that has happened, each with a scale of its own: a flood does not hide the rest."""
    steps = figures.timeline.all_steps()
    if not steps:
        return
    step = duration(figures.timeline.width)
    shown = []
    for column, label in enumerate(COLUMNS):
        amounts = [amounts[column] for _, amounts in steps]
        if any(amounts):
            most = f"{count(sum(amounts))}, at most {count(max(amounts))} in {step}"
            plot = plots.timeline(figures.timeline, column, label)
            shown.append(labelled(label, most, plot, axis(*plots.ends(figures.timeline)), f"c{column}"))
    yield element("section", element("h2", "Over time") + "".join(shown), class_="wide")


def how_long(figures: "Figures", class_: str) -> "Iterator[str]":
    """The times as plots."""
    shown = []
    for column, (name, title) in enumerate(TIMES.items()):
        found = figures.distributions[name]
        if found.number:
            said = ", ".join(f"{percent} % {duration(found.percentile(percent))}" for percent in PERCENTS)
            shown.append(labelled(title, said, plots.times(found, title), powers(), f"c{column}"))
    if shown:
        yield element("section", element("h2", "How long it takes") + "".join(shown), class_=class_)


def by_week(figures: "Figures") -> "Iterator[str]":
    """Logins by day and hour, where there is more than a day to compare."""
    steps = figures.timeline.all_steps()
    if steps and steps[-1][0] - steps[0][0] > A_DAY and any(map(any, figures.timeline.week)):
        days = element("div", "".join(element("span", day) for day in plots.DAYS), class_="days")
        plot = plots.week(figures.timeline.week, COLUMNS[0])
        hours = axis(*(f"{hour:02d}:00" for hour in (0, 6, 12, 18)), "24:00")
        grid = element("div", days + plot + element("span", "") + hours, class_="week c0")
        yield element("section", element("h2", "Logins by day and hour") + grid)


def labelled(name: str, said: str, plot: str, below: str, class_: str) -> str:
    """A plot with its words."""
    above = element("p", element("strong", text(name)) + element("span", text(said), class_="soft"))
    return element("div", above + plot + below, class_=f"plot {class_}")


def axis(*labels: str) -> str:
    """Words below a plot, from its left end to its right."""
    return element("div", "".join(element("span", text(label)) for label in labels), class_="axis")


def powers() -> str:
    """The scale of times."""
    width = plots.LONGEST - plots.SHORTEST
    ticks = (
        element("span", text(label), style=f"left:{100 * (power - plots.SHORTEST) / width:.1f}%")
        for power, label in plots.TICKS.items()
    )
    return element("div", "".join(ticks), class_="axis")


def card(table: "Table") -> str:
    """A table, with bars where its rows are ranked."""
    most = max((1, *table.amounts))
    head = "".join(element("th", text(name), scope="col") for name in table.head)
    rows = []
    for place, (name, *numbers) in enumerate(table.rows):
        share = f"--share:{100 * table.amounts[place] / most:.1f}%" if table.amounts else ""
        cell = element("td", text(cut(name, NAME)), class_="share" if share else "", style=share)
        rows.append(element("tr", cell + "".join(element("td", text(number)) for number in numbers)))
    content = element("thead", element("tr", head)) + element("tbody", "".join(rows))
    note = element("p", text(table.note), class_="soft") if table.note else ""
    scrolled = element("div", element("table", content), class_="scroll")
    is_wide = "wide" if len(table.head) > 4 else ""
    return element("section", element("h2", text(table.title)) + scrolled + note, class_=is_wide)


def troubles(figures: "Figures", texts: "dict[str, tuple[str, str]]") -> "Iterator[str]":
    """Warnings and errors: what the catalog says of each kind, and the last entries."""
    shown = []
    for name, trouble in figures.troubles.items():
        if not trouble.examples:
            continue
        kind = "err" if TROUBLES[name].priority < WARNING else "warning"
        subject, body = texts.get(TROUBLES[name].message_id, (name, ""))
        number = element("span", f"{count(figures.events[name])} ", class_=kind)
        summary = element("summary", number + text(subject) + " " + element("code", text(name)))
        last = [example(when, fields) for when, fields in reversed(trouble.examples)]
        said = element("pre", text_of(catalog.filled(body, trouble.examples[-1][1])))
        shown.append(element("details", summary + said + "".join(last)))
    if shown:
        yield element("section", element("h2", "Warnings and errors") + "".join(shown), class_="wide")


def text_of(body: str) -> str:
    """Lines, as they are."""
    return "\n".join(map(text, body.splitlines()))


def example(when: int, fields: dict[str, str]) -> str:
    """One entry, shortly."""
    said = [cut(fields[name], REASON) for name in ("rhost", "user", "maildrop", "reason") if fields.get(name)]
    return element("p", text(", ".join((moment(when) if when else "at an unknown time", *said))), class_="soft")
