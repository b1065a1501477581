"""The report as text."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from popad.commands.report.figures import Figures
    from popad.commands.report.tables import Table

import textwrap

from popad.commands.report import catalog
from popad.commands.report.figures import TROUBLES
from popad.commands.report.shown import count, cut, moment, plain
from popad.commands.report.tables import tables

WIDTH = 80


def report(figures: "Figures", notes: list[str], texts: "dict[str, tuple[str, str]]") -> "Iterator[str]":
    """The lines. `texts` are the catalog's; `notes` say what was not counted."""
    yield heading(figures)
    yield from notes
    for table in tables(figures):
        yield ""
        yield from lines(table)
    yield from troubles(figures, texts)


def heading(figures: "Figures") -> str:
    """How much there was, and of what time."""
    entries = f"{count(figures.entries)} entries"
    return f"{entries}, {moment(figures.first)} to {moment(figures.last)}" if figures.first else entries


def lines(table: "Table") -> "Iterator[str]":
    """A table, its numbers in columns."""
    yield table.title
    rows = [(cut(name), *numbers) for name, *numbers in (table.head, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *numbers in rows[0 if len(table.head) > 2 or table.head[0] else 1 :]:
        padded = (number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True))
        yield f"  {'  '.join((name.ljust(widths[0]), *padded))}"
    if table.note:
        yield from textwrap.wrap(table.note, WIDTH, initial_indent="  ", subsequent_indent="  ")


def troubles(figures: "Figures", texts: "dict[str, tuple[str, str]]") -> "Iterator[str]":
    """Warnings and errors: the last entry of each kind, and what the catalog says."""
    for name, trouble in figures.troubles.items():
        if not trouble.examples:
            continue
        subject, text = texts.get(TROUBLES[name].message_id, (TROUBLES[name].name, ""))
        when, fields = trouble.examples[-1]
        yield ""
        yield f"{name}: {count(figures.events[name])}, the last {moment(when) if when else 'at an unknown time'}"
        who = (f"{field} {plain(fields[field])}" for field in ("rhost", "user", "maildrop") if fields.get(field))
        yield f"  {subject}: {', '.join((*who, plain(fields.get('reason', 'no reason is given'))))}"
        for line in catalog.filled(text, fields).splitlines():
            yield f"    {plain(line)}".rstrip()
