"""The ratios that popad is held to: between figures of one run, as absolute figures move from machine to machine.

Where the table of the asked ratios leaves a choice it is made against popad: of several peers the best one counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tests.bench.figures import METRICS, Figures

DAEMON, ACCEPT = "popad-daemon", "popad-accept"
LINE_OF_PYTHON = "python-line"
MAILDIR = "popad-maildir"
MAILDIR_PEERS = ("dovecot-tuned", "courier")
TLS_DAEMON, TLS_ACCEPT = "popad-daemon-tls", "popad-accept-tls"
TLS_ONE, TLS_SHARED = "dovecot-tls", "dovecot-tls-shared"  # a login process serves one client, or many


@dataclass(frozen=True)
class Asked:
    """One row: the work, the limit and the measure. `value` is None where a figure that it needs is missing."""

    name: str
    work: str
    limit: float
    value: Callable[[Figures], float | None]
    at_least: bool = False

    @property
    def asked(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


def against(mine: str, metric: str, peers: Sequence[str]) -> Callable[[Figures], float | None]:
    """The ratio of my median to that of the best of `peers`, all of which must have one."""

    def ratio(figures: Figures) -> float | None:
        own = figures.median(mine, metric)
        others = [figures.median(peer, metric) for peer in peers]
        known = [other for other in others if other is not None]
        if own is None or len(known) < len(peers):
            return None
        best = max(known) if METRICS[metric].more_is_better else min(known)
        return own / best if best else None

    return ratio


def first_look(figures: Figures) -> float | None:
    """Until a client has the unique-ids of a mailbox that the server has never seen, against popa3d: the worse of one
    session with both, and of UIDL in a later session than the first login.
    """

    def apart(server: str) -> float | None:
        login, uidl = (figures.median(server, metric) for metric in ("big_first_s", "big_uidl_first_s"))
        return None if login is None or uidl is None else login + uidl

    def both(figures: Figures) -> float | None:
        own, other = apart(DAEMON), apart("popa3d")
        return own / other if other and own is not None else None

    return worst(against(DAEMON, "big_look_s", ["popa3d"]), both)(figures)


def growth(figures: Figures) -> float | None:
    """How many times longer a later login takes where there are 200,000 messages in place of 20,000."""
    few, many = (figures.median(DAEMON, f"growth_later_s/{count}") for count in (20_000, 200_000))
    return many / few if few and many is not None else None


def worst(*rows: Callable[[Figures], float | None], at_least: bool = False) -> Callable[[Figures], float | None]:
    """The one of several measures that is furthest from what is asked; None where one of them is missing."""

    def value(figures: Figures) -> float | None:
        known = [found for row in rows if (found := row(figures)) is not None]
        if len(known) < len(rows):
            return None
        return min(known) if at_least else max(known)

    return value


def of_maildir(metric: str) -> Callable[[Figures], float | None]:
    """Against the better peer, with or without sizes in the names."""
    kinds = (f"maildir_{metric}", f"maildir_sized_{metric}")
    return worst(*(against(MAILDIR, kind, MAILDIR_PEERS) for kind in kinds))


def growth_of_maildir(figures: Figures) -> float | None:
    """How many times longer a later login takes where there are 200,000 files in place of 20,000."""
    few, many = (figures.median(MAILDIR, f"maildir_{metric}") for metric in ("later_s", "growth_s"))
    return many / few if few and many is not None else None


def within(server: str, metric: str, other: str) -> Callable[[Figures], float | None]:
    """The ratio of one of a server's medians to another."""

    def ratio(figures: Figures) -> float | None:
        own, base = figures.median(server, metric), figures.median(server, other)
        return own / base if base and own is not None else None

    return ratio


def median_of(server: str, metric: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures.median(server, metric)


TABLE = (
    Asked(
        "small_rate",
        "small sessions/s, 8 clients: -D against Dovecot tuned",
        1.0,
        against(DAEMON, "small_rate", ["dovecot-tuned"]),
        at_least=True,
    ),
    Asked("login_daemon", "login p50: -D against popa3d -D", 1.7, against(DAEMON, "login_ms", ["popa3d"])),
    Asked(
        "small_accept",
        "small session p50: Accept=yes against the best of popa3d, Courier, mailutils",
        0.15,
        against(ACCEPT, "small_ms", ["popa3d", "courier", "mailutils"]),
    ),
    Asked(
        "greeting",
        "greeting: Accept=yes against one line of python3 -I -S in the same unit",
        1.3,
        against(ACCEPT, "greeting_ms", [LINE_OF_PYTHON]),
    ),
    Asked(
        "accept_session",
        "login, STAT, QUIT to the end of the stream: Accept=yes against the line of Python",
        1.1,
        against(ACCEPT, "session_ms", [LINE_OF_PYTHON]),
    ),
    Asked("big_first", "big, first login: -D against popa3d", 1.5, against(DAEMON, "big_first_s", ["popa3d"])),
    Asked("big_first_uidl", "big, first login and first UIDL: -D against popa3d", 1.6, first_look),
    Asked("big_later_popa3d", "big, later login: -D against popa3d", 0.15, against(DAEMON, "big_later_s", ["popa3d"])),
    Asked(
        "big_later_dovecot",
        "big, later login: -D against Dovecot on mbox",
        0.6,
        against(DAEMON, "big_later_s", ["dovecot"]),
    ),
    Asked(
        "big_retr",
        "big, RETR all: -D against the faster Dovecot",
        0.5,
        against(DAEMON, "big_retr_s", ["dovecot", "dovecot-tuned"]),
    ),
    Asked(
        "dele_first",
        "big, DELE the first and QUIT: -D against popa3d",
        1.5,
        against(DAEMON, "big_dele_first_s", ["popa3d"]),
    ),
    Asked("one", "one, MB/s: -D against popa3d", 1.3, against(DAEMON, "one_mb_s", ["popa3d"]), at_least=True),
    Asked("growth", "later login: 200,000 messages against 20,000, -D", 10, growth),
    Asked("pss_daemon_mb", "PSS of a logged-in idle session, MB: -D", 2, median_of(DAEMON, "idle_mb")),
    Asked("pss_accept_mb", "PSS of a logged-in idle session, MB: Accept=yes", 8, median_of(ACCEPT, "idle_mb")),
    Asked("maildir_first", "Maildir, first login: -D against the better peer", 0.6, of_maildir("first_s")),
    Asked("maildir_later", "Maildir, later login: -D against the better peer", 0.5, of_maildir("later_s")),
    Asked("maildir_uidl", "Maildir, UIDL: -D against the better peer", 0.5, of_maildir("uidl_s")),
    Asked("maildir_retr", "Maildir, RETR all: -D against the better peer", 0.5, of_maildir("retr_s")),
    Asked("maildir_dele_all", "Maildir, DELE all: -D against the better peer", 0.7, of_maildir("dele_all_s")),
    Asked("maildir_growth", "Maildir, later login: 200,000 files against 20,000, -D", 11, growth_of_maildir),
    Asked(
        "maildir_mb", "Maildir of 200,000 files, PSS of a session, MB: -D", 40, median_of(MAILDIR, "maildir_growth_mb")
    ),
    Asked(
        "tls_handshakes",
        "handshakes/s, 8 clients: -D against Dovecot",
        2,
        against(TLS_DAEMON, "tls_handshakes", [TLS_ONE]),
        at_least=True,
    ),
    Asked(
        "tls_handshakes_shared",
        "handshakes/s, 8 clients: -D against Dovecot's shared login processes",
        0.3,
        against(TLS_DAEMON, "tls_handshakes", [TLS_SHARED]),
        at_least=True,
    ),
    Asked(
        "tls_greeting", "POP3S greeting: -D against Dovecot", 0.55, against(TLS_DAEMON, "tls_greeting_ms", [TLS_ONE])
    ),
    Asked(
        "tls_pop3s_cost",
        "POP3S login less a plain one: -D against Dovecot",
        1.1,
        against(TLS_DAEMON, "tls_cost_ms/pop3s", [TLS_ONE]),
    ),
    Asked(
        "tls_stls_cost",
        "STLS login less a plain one: -D against Dovecot",
        2,
        against(TLS_DAEMON, "tls_cost_ms/stls", [TLS_ONE]),
    ),
    Asked(
        "tls_accept_login",
        "login over TLS against a plain one, the worse of POP3S and STLS: Accept=yes",
        1.15,
        worst(*(within(TLS_ACCEPT, f"tls_login_ms/{how}", "tls_login_ms/plain") for how in ("pop3s", "stls"))),
    ),
    Asked(
        "tls_accept_rate",
        "sessions/s, 8 clients, POP3S against plain: Accept=yes",
        0.85,
        within(TLS_ACCEPT, "tls_rate/pop3s", "tls_rate/plain"),
        at_least=True,
    ),
    Asked(
        "tls_one",
        "100 MB over TLS, MB/s: -D against Dovecot",
        2.5,
        against(TLS_DAEMON, "tls_mb_s", [TLS_ONE]),
        at_least=True,
    ),
    Asked(
        "tls_round_trip", "NOOP over TLS: -D against Dovecot", 1, against(TLS_DAEMON, "tls_round_trip_us", [TLS_ONE])
    ),
    Asked(
        "tls_relay_mb",
        "PSS of a relay, MB, the worse shape",
        1.5,
        worst(*(median_of(server, "tls_relay_mb") for server in (TLS_DAEMON, TLS_ACCEPT))),
    ),
    Asked(
        "tls_resumed",
        "connections that resume, percent, the worse shape",
        95,
        worst(*(median_of(server, "tls_resumed") for server in (TLS_DAEMON, TLS_ACCEPT)), at_least=True),
        at_least=True,
    ),
)


@dataclass(frozen=True)
class Ratio:
    """What became of one row."""

    row: Asked
    value: float | None

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        return "met" if self.row.met(self.value) else "missed"

    @property
    def shown(self) -> str:
        return "" if self.value is None else f"{self.value:.2f}"


# Where a release asks for something else: with the Python of Debian 13 sessions share more of the daemon's memory.
LIMITS_OF: Mapping[str, Mapping[str, float]] = {"trixie": {"login_daemon": 1.3, "pss_daemon_mb": 1.2}}


def asked(release: str) -> list[Asked]:
    """The rows of TABLE with the limits of a Debian release, by its code name."""
    limits = LIMITS_OF.get(release, {})
    return [replace(row, limit=limits.get(row.name, row.limit)) for row in TABLE]


def ratios(figures: Figures, release: str) -> list[Ratio]:
    """All rows, for servers of that release, with what was reached."""
    return [Ratio(row, row.value(figures)) for row in asked(release)]
