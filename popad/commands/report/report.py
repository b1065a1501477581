"""`popad report`: what the journal, or lines of logfmt, have of a time."""

import argparse
import json
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from popad.commands.report.entry import Entry

from popad.commands.report import catalog, text
from popad.commands.report.as_json import as_json
from popad.commands.report.entry import Selection
from popad.commands.report.figures import Figures
from popad.commands.report.journald import Journal, Unreadable
from popad.commands.report.logfmt import lines_of
from popad.commands.report.moments import moment
from popad.commands.report.replacing import replace
from popad.commands.report.shown import count
from popad.journal import printable
from popad.sources import network

INTERRUPTED = 130  # the shells' exit status for SIGINT
A_MOMENT = "a moment, as yesterday, -1h30min or 2026-11-23 18:00"


def wrong(given: argparse.Namespace) -> str:
    """What is wrong with how it is called; "" for nothing."""
    if given.logfmt and given.directory:
        return "--logfmt and --directory do not go together"
    for name, value, parse, form in (
        ("--since", given.since, moment, A_MOMENT),
        ("--until", given.until, moment, A_MOMENT),
        ("--address", given.address, network, "an address or a network"),
    ):
        try:
            if value is not None:
                parse(value)
        except (ValueError, OSError):
            return f"{name}: {value!a} is not {form}"
    return ""


def report(given: argparse.Namespace) -> int:
    """Print the report, or write the page. Returns the exit status: 1 where entries cannot be read."""
    selection = Selection(
        moment(given.since) if given.since is not None else 0,
        moment(given.until) if given.until is not None else 0,
        printable(given.user) if given.user is not None else None,
        network(given.address) if given.address is not None else None,
    )
    figures = Figures()
    try:
        notes = [*read(given, selection, figures)]
        texts = catalog.read()
        if given.html is not None:
            from popad.commands.report.page import page

            replace(given.html, page(figures, notes, texts))
        if given.json:
            print(json.dumps(as_json(figures, notes, texts)))
        elif given.html is None:
            for line in text.report(figures, notes, texts):
                print(line)
    except (OSError, Unreadable) as error:
        sys.stderr.write(f"popad report: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return INTERRUPTED
    return 0


def read(given: argparse.Namespace, selection: Selection, figures: Figures) -> "Iterator[str]":
    """Count the entries; what was not counted, as sentences. Raises OSError, Unreadable."""
    if given.logfmt is None:
        journal = Journal(selection, given.directory)
        count_all(journal, selection, figures)
        if journal.forged:
            yield f"{count(journal.forged)} entries under popad's name are of users, and are not counted."
        return
    with lines_of(given.logfmt) as lines:
        count_all(lines, selection, figures)
    if lines.others:
        yield f"{count(lines.others)} lines are no entries, and not counted."
    if selection.undated:
        yield f"{count(selection.undated)} entries have no time, and are not counted with --since or --until."
    if figures.entries and not figures.first:
        yield "The lines have no times: how long logins and mailboxes take is not known."


def count_all(entries: "Iterable[Entry]", selection: Selection, figures: Figures) -> None:
    """Count those that are wanted."""
    for entry in entries:
        if selection.wants(entry):
            figures.count(entry)
