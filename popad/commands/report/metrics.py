"""`popad metrics`: counters and histograms of the journal, for Prometheus."""

import argparse
import sys

from popad.commands.report import state
from popad.commands.report.entry import Selection
from popad.commands.report.journald import Journal, Unreadable
from popad.commands.report.openmetrics import exposition
from popad.commands.report.replacing import replace
from popad.commands.report.totals import Totals

INTERRUPTED = 130  # the shells' exit status for SIGINT


def metrics(given: argparse.Namespace) -> int:
    """Print the text, or write it to a file. Returns the exit status: 1 where entries cannot be read, or kept."""
    try:
        totals, cursor = state.load(given.state) if given.state is not None else (Totals(), "")
        journal = Journal(Selection(), given.directory, cursor)
        for entry in journal:
            totals.count(entry)
        if given.state is not None:
            state.save(given.state, totals, journal.cursor)  # first: what is not shown now is shown the next time
        replace(given.output or "-", exposition(totals))
    except (OSError, Unreadable, state.StateWrong) as error:
        sys.stderr.write(f"popad metrics: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return INTERRUPTED
    return 0
