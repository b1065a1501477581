"""What both `popad report` and `popad metrics` count of entries: events, sums, times and sizes."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from popad.commands.report.entry import Entry

from popad.commands.report.distribution import Distribution
from popad.journal import EVENTS

OTHER = "other"
LABELS = 30  # different texts of one kind: there are fewer mechanisms, limits and versions of TLS
LABEL = 60  # characters of one
PENDING = 10_000  # sessions whose login or mailbox is waited for
PATIENCE = (
    600_000_000  # microseconds until one is given up: more than POPAD_LOGIN_TIMEOUT and POPAD_AUTH_TIMEOUT come to
)
DIGITS = 18  # of a number

# What is done with an entry of each kind, beside counting it: a method of Totals.
TABLE = {
    "session-opened": "opened",
    "login-passed": "passed",
    "login-failed": "failed",
    "login-refused": "failed",
    "login-unavailable": "ended",
    "login-not-attempted": "ended",
    "proxy-refused": "seen",
    "handshake-failed": "ended",
    "tls-unavailable": "ended",
    "certificate-expires": "seen",
    "peer-gone": "seen",
    "peer-silent": "seen",
    "maildrop-loaded": "loaded",
    "maildrop-refused": "ended",
    "maildrop-changed": "seen",
    "maildrop-unreadable": "seen",
    "message-gone": "seen",
    "size-wrong": "seen",
    "maildrop-updated": "seen",  # session-closed has the same number
    "update-failed": "seen",
    "update-recovered": "seen",
    "update-orphaned": "seen",
    "ids-not-kept": "seen",
    "maildrop-read-only": "seen",
    "protocol": "seen",
    "session-closed": "closed",
    "session-interrupted": "seen",
    "session-kicked": "seen",  # the session has entries of its own
    "access-denied": "seen",
    "limit-reached": "limited",
    "session-stopped": "seen",
    "helper-died": "seen",
    "daemon-started": "seen",
    "memory-not-shared": "seen",
    "daemon-stopped": "seen",
    "reloaded": "seen",
    "reload-refused": "seen",
    "setting-wrong": "seen",
    "contract-broken": "ended",
    "one-identity": "seen",
    "entries-lost": "lost",
}
SUMS = ("retrieved", "topped", "deleted", "dropped", "lost")
DISTRIBUTIONS = ("login", "opening", "session", "maildrop", "sent")
LABELLED = ("mechanism", "encryption", "limit")


class Totals:
    """Counts that only grow. Times are microseconds, sizes octets.

    `login` is the time from the connection to the verdict, with all that the client takes; `opening` the time from
    there until the mailbox is open; both come of the times of entries.
    """

    def __init__(self) -> None:
        self.events: dict[str, int] = {event.name: 0 for event in EVENTS} | {OTHER: 0}
        self.sums = dict.fromkeys(SUMS, 0)
        self.distributions = {name: Distribution() for name in DISTRIBUTIONS}
        self.labelled: dict[str, dict[str, int]] = {name: {} for name in LABELLED}
        self.first = self.last = 0  # microseconds since 1970; 0 where no entry has a time
        self.pending: dict[tuple[str, str], tuple[int, int]] = {}  # when a session was opened, when its login passed

    def count(self, entry: "Entry") -> None:
        """Count an entry."""
        name = entry.fields["event"]
        if name not in TABLE:
            self.events[OTHER] += 1  # of a later version
            return
        self.events[name] += 1
        if entry.when:
            self.first = min(self.first or entry.when, entry.when)
            self.last = max(self.last, entry.when)
        getattr(self, TABLE[name])(entry)

    @property
    def entries(self) -> int:
        """How many were counted."""
        return sum(self.events.values())

    def seen(self, entry: "Entry") -> None:
        """Nothing but that it was there."""

    def opened(self, entry: "Entry") -> None:
        """A client has come."""
        self.wait_for(entry, entry.when, 0)

    def passed(self, entry: "Entry") -> None:
        """A login."""
        self.label("mechanism", entry.fields.get("mechanism") or "unknown")
        self.label("encryption", entry.fields.get("tls", "").partition(" ")[0] or "none")
        opened, _ = self.pending.get(session_of(entry), (0, 0))
        self.time_since(opened, entry, "login")
        self.wait_for(entry, opened, entry.when)

    def failed(self, entry: "Entry") -> None:
        """A login that was none."""
        self.ended(entry)

    def ended(self, entry: "Entry") -> None:
        """Nothing more is waited for."""
        self.pending.pop(session_of(entry), None)

    def loaded(self, entry: "Entry") -> None:
        """A mailbox is open."""
        self.size("maildrop", entry, "octets")
        _, passed = self.pending.pop(session_of(entry), (0, 0))
        took = self.time_since(passed, entry, "opening")
        if took is not None:
            self.opened_in(entry, took)

    def opened_in(self, entry: "Entry", took: int) -> None:
        """A mailbox was opened in so many microseconds."""

    def closed(self, entry: "Entry") -> None:
        """A session with its figures."""
        for name in ("retrieved", "topped", "deleted"):
            self.sums[name] += number(entry.fields, name) or 0
        self.size("session", entry, "duration_usec")
        self.size("sent", entry, "sent_octets")
        self.ended(entry)

    def limited(self, entry: "Entry") -> None:
        """Connections that were refused."""
        dropped = number(entry.fields, "dropped") or 0
        self.sums["dropped"] += dropped
        self.label("limit", entry.fields.get("limit") or "unknown", dropped)

    def lost(self, entry: "Entry") -> None:
        """Entries that nobody has."""
        self.sums["lost"] += number(entry.fields, "lost") or 0

    def size(self, name: str, entry: "Entry", field: str) -> None:
        """Add a field to a distribution, where the entry has it."""
        value = number(entry.fields, field)
        if value is not None:
            self.distributions[name].add(value)

    def label(self, name: str, text: str, amount: int = 1) -> None:
        """Count by a text that popad has chosen; what others forge has a bound."""
        counts = self.labelled[name]
        text = text[:LABEL]
        if text not in counts and len(counts) >= LABELS:
            text = OTHER
        counts[text] = counts.get(text, 0) + amount

    def wait_for(self, entry: "Entry", opened: int, passed: int) -> None:
        """Remember when a session did what, in place of the oldest where there are too many."""
        if not entry.when:
            return
        self.pending.pop(session_of(entry), None)
        if len(self.pending) >= PENDING:
            del self.pending[next(iter(self.pending))]
        self.pending[session_of(entry)] = opened, passed

    def time_since(self, began: int, entry: "Entry", name: str) -> int | None:
        """Add the time from `began` to this entry; None where it is not known."""
        took = entry.when - began
        if not began or not 0 <= took <= PATIENCE:
            return None
        self.distributions[name].add(took)
        return took


def session_of(entry: "Entry") -> tuple[str, str]:
    """What the entries of one session have in common: the client's address and port."""
    return entry.fields.get("rhost", "")[:LABEL], entry.fields.get("rport", "")[:DIGITS]


def number(fields: "Mapping[str, str]", name: str) -> int | None:
    """A field that is a number; None where it is not."""
    text = fields.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS else None
