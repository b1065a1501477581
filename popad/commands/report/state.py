"""Totals between two runs of `popad metrics`: so they only grow, also when the journal forgets its oldest entries."""

import contextlib
import fcntl
import json
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

from popad.commands.report.distribution import Distribution
from popad.commands.report.replacing import replace
from popad.commands.report.totals import DISTRIBUTIONS, LABELLED, PENDING, SUMS, Totals

FORMAT = 1
OWN = 0o600  # addresses of clients whose login is waited for are in it
LARGEST = 1 << 26  # octets: with all sessions that can be waited for it has 2 MB
COUNTS = ("number", "total", "largest")


class StateWrong(Exception):
    """The file is not what this program has written; the text says so."""


@contextlib.contextmanager
def alone(path: str) -> "Iterator[None]":
    """Keep other runs with this file waiting, which else would read the same entries meanwhile. Raises OSError,
    StateWrong.

    By a file beside it, as it is itself replaced; not by the directory, which every user who can read it could lock.
    """
    lock = open_own(f"{path}.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def open_own(path: str, flags: int) -> int:
    """A file that no other user can have put there, and not one that hangs who opens it. No link is followed, which
    would have one made elsewhere. Raises OSError, StateWrong.
    """
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, OWN)
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_uid in (0, os.geteuid()) and status.st_size <= LARGEST:
        return fd
    os.close(fd)
    raise StateWrong(f"{path}: not a file of this user's, or larger than {LARGEST} octets")


def load(path: str) -> tuple[Totals, str]:
    """The totals, and the cursor of the last entry in them; new ones where there is no file.

    Raises OSError, StateWrong.
    """
    totals = Totals()
    try:
        with open(open_own(path, os.O_RDONLY), encoding="utf-8") as file:
            kept = json.load(file)
        if kept["format"] != FORMAT:
            raise ValueError("of another version")
        cursor = kept["cursor"]
        if not isinstance(cursor, str):
            raise TypeError("no cursor")
        fill(totals, kept)
    except FileNotFoundError:
        return totals, ""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StateWrong(f"{path}: not a state of popad metrics ({error}); without it counters begin anew") from None
    return totals, cursor


def fill(totals: Totals, kept: "dict[str, Any]") -> None:
    """Put in what was kept. Raises ValueError, KeyError, TypeError, AttributeError where it is of another shape."""
    for name, number in kept["events"].items():
        totals.events[name] = whole(number)  # also of an event that this version does not know
    totals.sums |= {name: whole(kept["sums"][name]) for name in SUMS}
    for name in LABELLED:
        totals.labelled[name] = {label: whole(number) for label, number in kept["labelled"][name].items()}
    for name in DISTRIBUTIONS:
        found, of = totals.distributions[name], kept["distributions"][name]
        found.counts = {int(value): whole(number) for value, number in of["counts"].items()}
        found.number, found.total, found.largest = (whole(of[each]) for each in COUNTS)
    totals.first, totals.last = whole(kept["first"]), whole(kept["last"])
    for rhost, rport, opened, passed in kept["pending"][-PENDING:]:
        totals.pending[str(rhost), str(rport)] = whole(opened), whole(passed)


def whole(number: object) -> int:
    """A count. Raises TypeError where it is none."""
    if type(number) is not int or number < 0:
        raise TypeError(f"{number!r:.20} is no count")
    return number


def save(path: str, totals: Totals, cursor: str) -> None:
    """Replace the file in one step. Raises OSError."""
    kept = {
        "format": FORMAT,
        "cursor": cursor,
        "events": totals.events,
        "sums": totals.sums,
        "labelled": totals.labelled,
        "distributions": {name: describe(found) for name, found in totals.distributions.items()},
        "first": totals.first,
        "last": totals.last,
        "pending": [[*session, *times] for session, times in totals.pending.items()],
    }
    replace(path, json.dumps(kept), OWN)


def describe(found: Distribution) -> dict[str, object]:
    """A distribution, as it is kept."""
    return {"counts": found.counts, **{name: getattr(found, name) for name in COUNTS}}
