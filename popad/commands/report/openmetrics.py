"""Totals as OpenMetrics text, which Prometheus and what speaks its language reads."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from popad.commands.report.distribution import Distribution
    from popad.commands.report.totals import Totals

from popad.commands.report.shown import plain

MICRO = 1_000_000
# Bounds of buckets, in seconds and octets: of two digits, so that a distribution has them exactly.
SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LONG = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0)
SIZES = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10)

# Families: name, unit, what it is; and where its figures are.
COUNTERS = {
    "popad_messages_retrieved": ("retrieved", "Messages sent by RETR."),
    "popad_messages_topped": ("topped", "Messages looked at by TOP."),
    "popad_messages_deleted": ("deleted", "Messages removed."),
    "popad_entries_lost": ("lost", "Entries that no log has taken."),
}
LABELLED = {
    "popad_logins_by_mechanism": ("mechanism", "Logins, by mechanism; USER is USER and PASS."),
    "popad_logins_by_encryption": ("encryption", "Logins, by version of TLS."),
    "popad_connections_refused": ("limit", "Connections that the standalone daemon refused, by limit."),
}
HISTOGRAMS = {
    "popad_login_seconds": ("login", SHORT, MICRO, "From the connection to the verdict, where the login passed."),
    "popad_maildrop_open_seconds": ("opening", SHORT, MICRO, "From the verdict until the mailbox is open."),
    "popad_session_seconds": ("session", LONG, MICRO, "Sessions in which somebody has logged in."),
    "popad_maildrop_bytes": ("maildrop", SIZES, 1, "Mailboxes, as they were opened."),
    "popad_session_sent_bytes": ("sent", SIZES, 1, "Octets sent in a session."),
}


def exposition(totals: "Totals") -> str:
    """The whole text, up to its end mark."""
    return "".join(f"{line}\n" for line in lines(totals)) + "# EOF\n"


def lines(totals: "Totals") -> "Iterator[str]":
    """A family after the other, each with its metadata first."""
    yield from head("popad_entries", "counter", "Entries of popad in the journal, by event.")
    yield from labelled("popad_entries", "event", totals.events)
    for name, (place, what) in COUNTERS.items():
        yield from head(name, "counter", what)
        yield f"{name}_total {totals.sums[place]}"
    for name, (place, what) in LABELLED.items():
        yield from head(name, "counter", what)
        yield from labelled(name, place, totals.labelled[place])
    for name, (place, bounds, scale, what) in HISTOGRAMS.items():
        yield from head(name, "histogram", what)
        yield from histogram(name, totals.distributions[place], bounds, scale)
    if totals.last:
        name = "popad_last_entry_timestamp_seconds"
        yield from head(name, "gauge", "When the last entry that was counted was written.")
        yield f"{name} {totals.last / MICRO:.6f}"


def head(name: str, kind: str, what: str) -> "Iterator[str]":
    """A family's metadata. Its unit is the end of its name."""
    yield f"# TYPE {name} {kind}"
    if (unit := name.rpartition("_")[2]) in ("seconds", "bytes"):
        yield f"# UNIT {name} {unit}"
    yield f"# HELP {name} {what}"


def labelled(name: str, label: str, counts: "Mapping[str, int]") -> "Iterator[str]":
    """A counter for each value of a label."""
    for value, number in counts.items():
        yield f'{name}_total{{{label}="{escaped(value)}"}} {number}'


def histogram(name: str, found: "Distribution", bounds: "Sequence[float]", scale: int) -> "Iterator[str]":
    """Its buckets, each with all that are smaller; `scale`: what the distribution counts in one of the unit."""
    for bound in bounds:
        yield f'{name}_bucket{{le="{bound}"}} {found.up_to(round(bound * scale))}'
    yield f'{name}_bucket{{le="+Inf"}} {found.number}'
    yield f"{name}_count {found.number}"
    yield f"{name}_sum {found.total / scale if scale > 1 else found.total}"


def escaped(value: str) -> str:
    """A label's value between double quotes."""
    return plain(value).replace("\\", "\\\\").replace('"', '\\"')
