"""`popad who`: the live sessions, as a table, as JSON, or as a screen that stays up to date."""

import argparse
import contextlib
import json
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import curses
    from collections.abc import Iterator, Sequence

from popad.commands.sessions import Session, sessions
from popad.commands.standing import TRANSACTION

EVERY = 3.0  # seconds between two looks: one costs 1 ms for each unit, of which systemd has a third
HEADINGS = ("SESSION", "USER", "ADDRESS", "TLS", "STATE", "MESSAGES", "DELETED", "SINCE", "IDLE")
TO_THE_RIGHT = ("SESSION", "MESSAGES", "DELETED", "IDLE")
DAY = 24 * 60 * 60
NOT_ALL = (
    "of the standalone daemon's sessions only root sees those before the login, and more than the user of the others"
)


def wrong(given: argparse.Namespace) -> str:
    """What is wrong with the options; "" for nothing."""
    return "--watch and --json do not go together" if given.watch and given.json else ""


def who(given: argparse.Namespace) -> int:
    """Show them. Returns the exit status: 1 where they could not be had."""
    try:
        if given.watch:
            return watch()
        found, is_all = sessions()
    except OSError as error:
        sys.stderr.write(f"popad who: {error}\n")
        return 1
    if given.json:
        for each in found:
            print(json.dumps(described(each)))
    else:
        print(*table(found, time.time()), sep="\n")
    if not is_all:
        sys.stderr.write(f"popad who: {NOT_ALL}\n")
    return 0


def described(session: Session) -> dict[str, str | int | None]:
    """For programs: what is not known is null, times are UTC and seconds."""
    since = session.since
    return {
        "session": session.pid,
        "user": session.user or session.account or None,
        "account": session.account or None,
        "address": session.address or None,
        "port": session.port,
        "proxy": session.proxy or None,
        "tls": session.tls or None,
        "state": session.state,
        "messages": session.messages,
        "deleted": session.deleted,
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since)) if since is not None else None,
        "idle": session.idle,
        "unit": session.unit or None,
    }


def table(found: "Sequence[Session]", now: float) -> "Iterator[str]":
    """Lines for people."""
    rows = [HEADINGS, *(row(each, now) for each in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for each in rows:
        cells = zip(HEADINGS, each, widths, strict=True)
        yield "  ".join(
            cell.rjust(width) if name in TO_THE_RIGHT else cell.ljust(width) for name, cell, width in cells
        ).rstrip()


def row(session: Session, now: float) -> tuple[str, ...]:
    """The cells of a session."""
    return (
        number(session.pid),
        session.who or "-",
        where(session),
        session.tls or "-",
        session.state,
        number(session.messages),
        number(session.deleted),
        moment(session.since, now),
        length(session.idle),
    )


def where(session: Session) -> str:
    """The client's address, and the proxy's."""
    return f"{session.address or '-'}{f' by {session.proxy}' if session.proxy else ''}"


def number(value: int | None) -> str:
    """A cell with a number."""
    return "-" if value is None else str(value)


def moment(seconds: int | None, now: float) -> str:
    """The time of day; the day, too, of what is more than a day ago."""
    if seconds is None:
        return "-"
    return time.strftime("%H:%M:%S" if now - seconds < DAY else "%Y-%m-%d %H:%M", time.localtime(seconds))


def length(seconds: int | None) -> str:
    """In the largest unit of which there are two."""
    if seconds is None:
        return "-"
    for octave, unit in ((60 * 60, "h"), (60, "m")):
        if seconds >= 2 * octave:
            return f"{seconds // octave}{unit}"
    return f"{seconds}s"


# -- the screen


def watch() -> int:
    """Until q or Ctrl-C. Raises OSError where the sessions cannot be had."""
    import curses
    import locale

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise OSError("--watch needs a terminal")
    locale.setlocale(locale.LC_ALL, "")
    try:
        curses.wrapper(keep_showing)
    except curses.error as error:
        raise OSError(f"this terminal cannot be used: {error}") from None
    except KeyboardInterrupt:
        pass
    return 0


def keep_showing(screen: "curses.window") -> None:
    """Look, show, and wait for a key or for the next look. Raises OSError."""
    import curses

    with contextlib.suppress(curses.error):  # a terminal without colours
        curses.use_default_colors()  # not white on black where all else is black on white
    with contextlib.suppress(curses.error):  # one that always shows its cursor
        curses.curs_set(0)
    screen.timeout(int(EVERY * 1000))
    while True:
        found, is_all = sessions()
        height, width = screen.getmaxyx()
        screen.erase()
        for place, line in enumerate(page(found, is_all, time.time(), height)):
            look = curses.A_BOLD if line.startswith(HEADINGS[0]) else curses.A_NORMAL
            screen.insnstr(place, 0, line, width, look)  # not addnstr: it cannot write to the last cell of a screen
        screen.refresh()
        if screen.getch() == ord("q"):
            return


def page(found: "Sequence[Session]", is_all: bool, now: float, height: int) -> list[str]:
    """What fits into so many lines."""
    logged_in = sum(each.state == TRANSACTION for each in found)
    first = f"{moment(int(now), now)}  {len(found)} sessions, {logged_in} logged in; q ends this"
    lines = [first, *([NOT_ALL] if not is_all else []), "", *table(found, now)]
    if len(lines) <= height:
        return lines
    return [*lines[: height - 1], f"… and {len(lines) - height + 1} more"][-height:]
