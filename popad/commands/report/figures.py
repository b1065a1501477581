"""What `popad report` counts besides: who, when, and what went wrong."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.commands.report.entry import Entry

from popad.commands.report.ranking import Longest, Ranking
from popad.commands.report.timeline import Timeline
from popad.commands.report.totals import Totals, number
from popad.journal import EVENTS, WARNING

EXAMPLES = 3  # entries of one kind of trouble that are kept: the last
SHOWN = 300  # characters of a field that is kept
LOGINS, FAILURES, REFUSED = range(3)  # columns of the timeline
COLUMNS = ("logins", "failed logins", "refused connections")
TROUBLES = {event.name: event for event in EVENTS if event.priority <= WARNING}


class Trouble:
    """Entries of one kind that are warnings or errors: the last of them."""

    def __init__(self) -> None:
        self.examples: list[tuple[int, dict[str, str]]] = []  # when, fields

    def add(self, entry: "Entry") -> None:
        """Keep one, in place of the oldest."""
        kept = {name[:SHOWN]: value[:SHOWN] for name, value in list(entry.fields.items())[:SHOWN]}
        self.examples = [*self.examples[1 - EXAMPLES :], (entry.when, kept)]


class Figures(Totals):
    """Totals, with rankings whose size is bounded: see ranking.py."""

    def __init__(self) -> None:
        super().__init__()
        self.clients = Ranking()  # addresses: sessions
        self.failures_by_address = Ranking()
        self.failures_by_user = Ranking()
        self.unnamed_failures = 0  # the name is unknown, and not shown (POPAD_LOG_UNKNOWN)
        self.refused = Ranking()  # addresses: entries about a limit that name them, one for many connections
        self.users = Ranking()  # octets sent, sessions, messages deleted
        self.slow = Longest()  # mailboxes: the longest time to open, all times, how often
        self.troubles = {name: Trouble() for name in TROUBLES}
        self.timeline = Timeline(len(COLUMNS))

    def count(self, entry: "Entry") -> None:
        """Count an entry."""
        super().count(entry)
        if trouble := self.troubles.get(entry.fields["event"]):
            trouble.add(entry)

    def happened(self, entry: "Entry", column: int, amount: int = 1) -> None:
        """Put it into the timeline."""
        if entry.when:
            self.timeline.add(entry.when, column, amount)

    def opened(self, entry: "Entry") -> None:
        """A client has come."""
        super().opened(entry)
        self.clients.add(address_of(entry), 1)

    def passed(self, entry: "Entry") -> None:
        """A login."""
        super().passed(entry)
        self.happened(entry, LOGINS)

    def failed(self, entry: "Entry") -> None:
        """A login that was none."""
        super().failed(entry)
        self.happened(entry, FAILURES)
        self.failures_by_address.add(address_of(entry), 1)
        if user := entry.fields.get("user"):
            self.failures_by_user.add(user, 1)
        else:
            self.unnamed_failures += 1

    def opened_in(self, entry: "Entry", took: int) -> None:
        """A mailbox was opened in so many microseconds."""
        self.slow.add(entry.fields.get("maildrop") or "unknown", took, took, 1)

    def closed(self, entry: "Entry") -> None:
        """A session with its figures."""
        super().closed(entry)
        sent, deleted = (number(entry.fields, name) or 0 for name in ("sent_octets", "deleted"))
        self.users.add(entry.fields.get("user") or "unknown", sent, 1, deleted)

    def limited(self, entry: "Entry") -> None:
        """Connections that were refused."""
        super().limited(entry)
        dropped = number(entry.fields, "dropped") or 0
        self.happened(entry, REFUSED, dropped)
        self.refused.add(address_of(entry), 1)


def address_of(entry: "Entry") -> str:
    """The client's."""
    return entry.fields.get("rhost") or "unknown"
