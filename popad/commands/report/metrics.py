"""`popad metrics`: counters and histograms of the journal, or of lines of logfmt, for Prometheus."""

import argparse
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from popad.commands.report.entry import Entry

from popad.commands.report import state
from popad.commands.report.entry import Selection
from popad.commands.report.journald import Journal, Unreadable
from popad.commands.report.logfmt import lines_of
from popad.commands.report.openmetrics import exposition
from popad.commands.report.replacing import replace
from popad.commands.report.totals import Totals

INTERRUPTED = 130  # the shells' exit status for SIGINT
FAILURES = (OSError, Unreadable, state.StateWrong)


def wrong(given: argparse.Namespace) -> str:
    """What is wrong with the options; "" for nothing."""
    if given.http and given.output is not None:
        return "--http and --output do not go together"
    if given.logfmt is None:
        return ""
    others = (("--state", given.state), ("--http", given.http or None), ("--directory", given.directory))
    return next((f"--logfmt and {name} do not go together" for name, value in others if value is not None), "")


def metrics(given: argparse.Namespace) -> int:
    """Print the text, write it to a file or send it to a client. Returns the exit status: 1 where entries cannot be
    read, or kept. Raises NotInvokedRight where there is to be a client, and is none.
    """
    try:
        if given.http:
            answer(given)
        else:
            replace(given.output or "-", text(given))
    except FAILURES as error:
        sys.stderr.write(f"popad metrics: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return INTERRUPTED
    return 0


def text(given: argparse.Namespace) -> str:
    """What is to be shown. Raises OSError, Unreadable, StateWrong."""
    if given.logfmt is not None:
        with lines_of(given.logfmt) as lines:
            return exposition(counted(lines, Totals()))
    if given.state is None:
        return exposition(counted(Journal(Selection(), given.directory), Totals()))
    with state.alone(given.state):  # the first of many that come while a large journal is read for the first time
        totals, cursor = state.load(given.state)
        journal = Journal(Selection(), given.directory, cursor)
        counted(journal, totals)
        state.save(given.state, totals, journal.cursor)  # first: what is not shown now is shown the next time
    return exposition(totals)


def counted(entries: "Iterable[Entry]", totals: Totals) -> Totals:
    """The totals, with all of them. Raises what reading them raises."""
    for entry in entries:
        totals.count(entry)
    return totals


def answer(given: argparse.Namespace) -> None:
    """Answer a request on the connection that systemd has passed. Raises NotInvokedRight, and what text() raises."""
    import socket

    from popad.commands.report.scraped import serve
    from popad.net.activation import accept

    passed = accept(os.environ)
    with socket.socket(fileno=os.dup(passed.fileno())) as client:
        if failure := serve(client, lambda: text(given), FAILURES):
            raise failure
