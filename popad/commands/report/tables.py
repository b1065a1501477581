"""The figures as tables of words, which the text and the page show both."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from popad.commands.report.figures import Figures
    from popad.commands.report.ranking import Ranking

from popad.commands.report.shown import count, duration, octets

ROWS = 10  # of a ranking
PERCENTS = (50, 90, 99)
TIMES = {"login": "login", "opening": "opening a mailbox", "session": "session"}
SIZES = {"maildrop": "mailbox, as it was opened", "sent": "sent in a session"}


class Table:
    """A title, the names of columns, and rows of a text and numbers; a note says what else a reader has to know.

    `amounts` are those of the rows that they are ranked by, for bars.
    """

    def __init__(
        self,
        title: str,
        head: tuple[str, ...],
        rows: list[tuple[str, ...]],
        note: str = "",
        amounts: "Sequence[int]" = (),
    ) -> None:
        self.title = title
        self.head = head
        self.rows = rows
        self.note = note
        self.amounts = amounts


def tables(figures: "Figures") -> "Iterator[Table]":
    """Those that have a row."""
    yield from filter(lambda table: table.rows, every_table(figures))


def every_table(figures: "Figures") -> "Iterator[Table]":
    """Also those without a row."""
    yield Table("Sessions", ("", "number"), [(name, count(number)) for name, number in sessions(figures) if number])
    yield Table("Messages", ("", "number"), [(name, count(number)) for name, number in messages(figures) if number])
    yield Table(
        "Times and sizes",
        ("", "number", *(f"{percent} %" for percent in PERCENTS), "most"),
        [*percentiles(figures)],
        "Percentiles have two digits, rounded up. A login is from the connection to the verdict, with what the client"
        " takes; opening a mailbox is from there on.",
    )
    yield ranked("Logins that failed, by address", ("address", "logins"), figures.failures_by_address)
    names = ranked("Logins that failed, by user", ("user", "logins"), figures.failures_by_user)
    if figures.unnamed_failures:
        names.note = f"{count(figures.unnamed_failures)} more had names that are not shown. {names.note}".strip()
        names.rows = names.rows or [("names that are not shown", count(figures.unnamed_failures))]
    yield names
    yield ranked("Connections, by address", ("address", "connections"), figures.clients)
    yield Table(
        "Users",
        ("user", "sent", "sessions", "deleted"),
        [
            (name, octets(sent), count(sessions), count(deleted))
            for name, (sent, sessions, deleted) in figures.users.first(ROWS)
        ],
        note_of(figures.users, octets(figures.users.forgotten)),
        amounts_of(figures.users),
    )
    yield Table(
        "Mailboxes that open slowly",
        ("mailbox", "longest", "mean", "times"),
        [
            (name, duration(longest), duration(total // times), count(times))
            for name, (longest, total, times) in figures.slow.first(ROWS)
        ],
        note_of(figures.slow, duration(figures.slow.forgotten)),
        amounts_of(figures.slow),
    )
    yield Table("Updates", ("", "number"), [(name, count(number)) for name, number in updates(figures) if number])
    yield Table(
        "Limits reached", ("limit", "connections refused"), [*labels(figures, "limit")], note_of_limits(figures)
    )
    yield ranked("Refused at a limit, by address", ("address that an entry names", "entries"), figures.refused)
    yield Table("Logins, by mechanism", ("mechanism", "logins"), [*labels(figures, "mechanism")])
    yield Table("Logins, by encryption", ("TLS", "logins"), [*labels(figures, "encryption")])
    yield Table(
        "Entries", ("event", "entries"), [(name, count(number)) for name, number in figures.events.items() if number]
    )


def sessions(figures: "Figures") -> "Iterator[tuple[str, int]]":
    """What became of connections."""
    events = figures.events
    yield "connections", events["session-opened"]
    yield "logins", events["login-passed"]
    yield "logins that failed", events["login-failed"] + events["login-refused"]
    yield "logins that could not be checked", events["login-unavailable"]
    yield "left without a login", events["login-not-attempted"]
    yield "TLS was not begun", events["handshake-failed"] + events["tls-unavailable"]
    yield "sessions that have ended", events["session-closed"]
    yield "of these without QUIT", events["peer-gone"]
    yield "of these silent for too long", events["peer-silent"]
    yield "of these told to end", events["session-interrupted"]
    yield "refused at a limit", figures.sums["dropped"]
    yield "refused by TCP wrappers", events["access-denied"]


def messages(figures: "Figures") -> "Iterator[tuple[str, int]]":
    """What sessions did."""
    yield "retrieved", figures.sums["retrieved"]
    yield "looked at (TOP)", figures.sums["topped"]
    yield "deleted", figures.sums["deleted"]
    yield "octets sent", figures.distributions["sent"].total


def updates(figures: "Figures") -> "Iterator[tuple[str, int]]":
    """What became of messages that were to be deleted."""
    yield "updates", figures.events["maildrop-updated"]
    yield "messages removed", figures.sums["deleted"]
    yield "updates that failed", figures.events["update-failed"]
    yield "interrupted and finished later", figures.events["update-recovered"]
    yield "interrupted and not finished", figures.events["update-orphaned"]


def percentiles(figures: "Figures") -> "Iterator[tuple[str, ...]]":
    """Rows of those distributions that have a value."""
    for names, show in ((TIMES, duration), (SIZES, octets)):
        for name, title in names.items():
            found = figures.distributions[name]
            if found.number:
                values = [found.percentile(percent) for percent in PERCENTS]
                yield title, count(found.number), *map(show, values), show(found.largest)


def labels(figures: "Figures", name: str) -> "Iterator[tuple[str, str]]":
    """Rows by label, those with the most first."""
    for label, number in sorted(figures.labelled[name].items(), key=lambda item: (-item[1], item[0])):
        yield label, count(number)


def ranked(title: str, head: tuple[str, str], ranking: "Ranking") -> Table:
    """The first rows of a ranking by a number."""
    rows: list[tuple[str, ...]] = [(name, count(amounts[0])) for name, amounts in ranking.first(ROWS)]
    return Table(title, head, rows, note_of(ranking, count(ranking.forgotten)), amounts_of(ranking))


def amounts_of(ranking: "Ranking") -> list[int]:
    """What the rows that are shown are ranked by."""
    return [amounts[0] for _, amounts in ranking.first(ROWS)]


def note_of(ranking: "Ranking", forgotten: str) -> str:
    """What is not in a table of its rows."""
    if ranking.has_forgotten:
        return f"There were too many names to count them all: a name may have up to {forgotten} more."
    return f"{count(len(ranking.rows))} in all." if len(ranking.rows) > ROWS else ""


def note_of_limits(figures: "Figures") -> str:
    """What the journal does not have of refused connections."""
    return "Those that systemd refused are not among them." if figures.labelled["limit"] else ""
