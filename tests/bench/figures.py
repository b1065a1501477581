"""What a run has measured: values by server and metric, and what is to be said about them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GROWTH = (10, 100, 1_000, 10_000, 20_000, 100_000, 200_000)  # messages


@dataclass(frozen=True)
class Metric:
    """A column: what it says, in which unit, and which end is good. `digits` behind the point in tables."""

    title: str
    unit: str
    more_is_better: bool = False
    digits: int = 1


METRICS = {
    "login_ms": Metric("login, one client", "ms"),
    "login_rate": Metric("logins, 8 clients", "/s", True, 0),
    "login_load": Metric("of the processors the clients take", "%"),
    "small_ms": Metric("small, one client", "ms"),
    "small_rate": Metric("small, 8 clients", "/s", True),
    "small_load": Metric("of the processors the clients take", "%"),
    "greeting_ms": Metric("greeting", "ms"),
    "session_ms": Metric("login, STAT and QUIT, to the end of the stream", "ms"),
    "big_first_s": Metric("big: first login", "s", digits=3),
    "big_later_s": Metric("big: later logins", "s", digits=3),
    "big_uidl_first_s": Metric("big: first UIDL", "s", digits=3),
    "big_uidl_later_s": Metric("big: later UIDL", "s", digits=3),
    "big_look_s": Metric("big: first login with UIDL", "s", digits=3),
    "big_retr_s": Metric("big: RETR all", "s", digits=2),
    "big_dele_first_s": Metric("big: DELE first, QUIT", "s", digits=3),
    "big_dele_all_s": Metric("big: DELE all, QUIT", "s", digits=2),
    "one_mb_s": Metric("one: RETR", "MB/s", True, 0),
    "maildir_first_s": Metric("Maildir: first login", "s", digits=3),
    "maildir_later_s": Metric("Maildir: later logins", "s", digits=3),
    "maildir_uidl_s": Metric("Maildir: UIDL", "s", digits=3),
    "maildir_retr_s": Metric("Maildir: RETR all", "s", digits=2),
    "maildir_dele_all_s": Metric("Maildir: DELE all, QUIT", "s", digits=3),
    "maildir_sized_first_s": Metric("S= and W=: first login", "s", digits=3),
    "maildir_sized_later_s": Metric("S= and W=: later logins", "s", digits=3),
    "maildir_sized_uidl_s": Metric("S= and W=: UIDL", "s", digits=3),
    "maildir_sized_retr_s": Metric("S= and W=: RETR all", "s", digits=2),
    "maildir_sized_dele_all_s": Metric("S= and W=: DELE all, QUIT", "s", digits=3),
    "maildir_growth_s": Metric("Maildir, 200,000: later logins", "s", digits=3),
    "maildir_growth_mb": Metric("Maildir, 200,000: PSS of a session", "MB"),
    "tls_handshakes": Metric("POP3S: handshake, greeting, QUIT, 8 clients", "/s", True),
    "tls_rate/plain": Metric("plain sessions, 8 clients", "/s", True),
    "tls_rate/pop3s": Metric("POP3S sessions, 8 clients", "/s", True),
    "tls_greeting_ms": Metric("POP3S: greeting", "ms", digits=2),
    "tls_login_ms/plain": Metric("plain login", "ms", digits=2),
    "tls_login_ms/stls": Metric("STLS login", "ms", digits=2),
    "tls_login_ms/pop3s": Metric("POP3S login", "ms", digits=2),
    "tls_cost_ms/stls": Metric("STLS login, less a plain one", "ms", digits=2),
    "tls_cost_ms/pop3s": Metric("POP3S login, less a plain one", "ms", digits=2),
    "tls_mb_s": Metric("POP3S: RETR of 100 MB", "MB/s", True, 0),
    "tls_round_trip_us": Metric("POP3S: NOOP", "us", digits=0),
    "tls_resumed": Metric("POP3S: resumed", "%", True, 0),
    "tls_relay_mb": Metric("PSS of a relay", "MB", digits=2),
    "idle_mb": Metric("PSS of an idle session", "MB", digits=2),
    **{f"growth_first_s/{count}": Metric(f"{count:,}: first login", "s", digits=3) for count in GROWTH},
    **{f"growth_later_s/{count}": Metric(f"{count:,}: later logins", "s", digits=4) for count in GROWTH},
}
# Of one login, as its client waits for the replies. In the session's order.
LOGIN_STEPS = ("greeting", "USER", "PASS", "STAT", "QUIT")
METRICS |= {f"login_step_ms/{step}": Metric(f"login: {step}", "ms", digits=2) for step in LOGIN_STEPS}


class Figures:
    """The values of all rounds. `notes` and `failures` are shown beside the figures they belong to."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.notes: dict[tuple[str, str], str] = {}
        self.failures: dict[tuple[str, str], str] = {}  # by server and work

    def add(self, server: str, metric: str, *values: float, note: str = "") -> None:
        """Values of a metric that METRICS has, measured on a server."""
        if metric not in METRICS:
            raise KeyError(metric)
        self.values[server, metric] += values
        if note:
            self.notes[server, metric] = note

    def median(self, server: str, metric: str) -> float | None:
        """The median of all rounds, None where nothing was measured."""
        values = self.values.get((server, metric))
        return statistics.median(values) if values else None

    def percentile(self, server: str, metric: str, percent: int) -> float | None:
        """The value that so many percent of all do not pass."""
        values = sorted(self.values.get((server, metric), ()))
        return values[max(0, -(-len(values) * percent // 100) - 1)] if values else None

    def measured(self, metric: str) -> list[str]:
        """The servers that have this metric, in the order of their first value."""
        return [server for server, name in self.values if name == metric and self.values[server, name]]

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Figures:
        """The figures that a file of --json has."""
        made = cls()
        for row in content["figures"]:
            made.add(row["server"], row["metric"], *row["values"], note=row["note"])
        made.failures = {(row["server"], row["work"]): row["why"] for row in content["failures"]}
        return made

    def rows(self) -> list[dict[str, object]]:
        """For JSON: one object for each server and metric."""
        return [
            {
                "server": server,
                "metric": metric,
                "unit": METRICS[metric].unit,
                "median": self.median(server, metric),
                "p50": self.percentile(server, metric, 50),
                "p95": self.percentile(server, metric, 95),
                "note": self.notes.get((server, metric), ""),
                "values": values,
            }
            for (server, metric), values in self.values.items()
            if values
        ]
