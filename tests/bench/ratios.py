"""The ratios that popad is held to: between figures of one run, as absolute figures move from machine to machine.

Where the table of the asked ratios leaves a choice it is made against popad: of several peers the best one counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench.figures import METRICS, Figures

DAEMON, ACCEPT = "popad-daemon", "popad-accept"
LINE_OF_PYTHON = "python-line"


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


def growth(figures: Figures) -> float | None:
    """How many times longer a later login takes where there are 200,000 messages in place of 20,000."""
    few, many = (figures.median(DAEMON, f"growth_later_s/{count}") for count in (20_000, 200_000))
    return many / few if few and many is not None else None


TABLE = (
    Asked(
        "small_rate",
        "small sessions/s, 8 clients: -D against Dovecot tuned",
        1.5,
        against(DAEMON, "small_rate", ["dovecot-tuned"]),
        at_least=True,
    ),
    Asked("login_daemon", "login p50: -D against popa3d -D", 1.3, against(DAEMON, "login_ms", ["popa3d"])),
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
    Asked("big_first", "big, first login: -D against popa3d", 1.5, against(DAEMON, "big_first_s", ["popa3d"])),
    Asked("big_later_popa3d", "big, later login: -D against popa3d", 0.2, against(DAEMON, "big_later_s", ["popa3d"])),
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
    Asked(
        "pss_daemon_mb", "PSS of a logged-in idle session, MB: -D", 2, lambda figures: figures.median(DAEMON, "idle_mb")
    ),
    Asked(
        "pss_accept_mb",
        "PSS of a logged-in idle session, MB: Accept=yes",
        8,
        lambda figures: figures.median(ACCEPT, "idle_mb"),
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


def ratios(figures: Figures) -> list[Ratio]:
    """All rows of TABLE with what was reached."""
    return [Ratio(row, row.value(figures)) for row in TABLE]
