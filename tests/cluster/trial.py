"""One trial: a cluster under load, something that happens to a host, and the row of figures that comes of it."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from . import verdict
from .clients import Load
from .events import ENDS_SESSIONS, EVENTS
from .hosts import Cluster
from .verdict import Mail, Sessions, percentile

MOST_LATER = 2.0  # times: how much slower logins on the other hosts may be, at the 99th percentile
COUNTS_FROM = 0.1  # seconds: below that nobody notices how many times slower it is


@dataclass
class Trial:
    """What was tried, and what came of it."""

    hosts: int
    shape: str
    event: str
    took: float  # seconds that the event itself took
    polls: int
    mail: Mail
    sessions: Sessions

    @property
    def faults(self) -> list[str]:
        """All that must not be, whatever the machine has to do besides."""
        mail, found = self.mail, self.sessions
        faults = [f"{name}: {what[:5]}" for name, what in self.bad_mail().items() if what]
        faults += [f"another host's session ended: {why}" for why in found.others_ended[:5]]
        faults += [f"a session had no end: {why}" for why in found.refused[:5]]
        if self.event not in ENDS_SESSIONS and found.ended:
            faults.append(f"{found.ended} sessions of the host ended")
        if self.event != "machine-killed" and not found.later:
            faults.append("the host did not come back")
        if not (found.at_work and found.others_at_work and mail.on_several):
            faults.append("too little happened to say anything")
        return faults

    def bad_mail(self) -> dict[str, list[int] | list[str]]:
        """Messages by what is wrong with them."""
        mail = self.mail
        return {"lost": mail.lost, "doubled": mail.doubled, "damaged": mail.damaged, "with several ids": mail.moved}

    @property
    def is_slower(self) -> str:
        """How much longer logins on the other hosts took, where that is more than it may be; else ""."""
        before, during = (percentile(times, 99) for times in (self.sessions.before, self.sessions.during))
        if during <= max(MOST_LATER * before, COUNTS_FROM):
            return ""
        return f"logins on the others took {during:.3f} s at the 99th percentile, {before:.3f} s before"

    def row(self) -> dict[str, str]:
        """The columns of the table."""
        mail, found = self.mail, self.sessions
        times = [f"{1000 * percentile(each, rank):.0f}" for each in (found.before, found.during) for rank in (50, 99)]
        return {
            "hosts": str(self.hosts),
            "shape": self.shape.removesuffix(".service"),
            "event": self.event,
            "took s": f"{self.took:.1f}",
            "sessions": str(self.polls),
            "at work there": str(found.at_work),
            "ended there": str(found.ended),
            "at work elsewhere": str(found.others_at_work),
            "ended elsewhere": str(len(found.others_ended)),
            "asked another host": str(found.turned_over),
            "delivered": str(mail.delivered),
            "fetched": str(mail.fetched),
            "on several hosts": str(mail.on_several),
            "lost": str(len(mail.lost)),
            "doubled": str(len(mail.doubled)),
            "damaged": str(len(mail.damaged)),
            "QUIT unanswered": str(mail.undecided),
            "p50/p99 before ms": "/".join(times[:2]),
            "p50/p99 during ms": "/".join(times[2:]),
            "longest ms": f"{1000 * found.longest:.0f}",
        }


def attempt(
    cluster: Cluster, event: str, *, rate: float = 20.0, before: float = 15.0, after: float = 15.0, seed: int = 1939
) -> Trial:
    """Have `event` happen to the first of the hosts, `before` seconds after the load has begun; it goes on for `after`
    seconds behind it. `rate`: deliveries a second.
    """
    host = cluster.hosts[0]
    cluster.store.empty()
    with tempfile.TemporaryDirectory() as place:
        with Load(cluster, seed, rate, Path(place)) as load:
            time.sleep(before)  # the load is what it is for
            begin = time.monotonic()
            EVENTS[event](cluster, host)
            end = time.monotonic()
            time.sleep(after)
            until = time.monotonic()
        polls, deliveries = load.polls(), load.deliveries()
    served, again = verdict.who_served(polls, cluster.log())
    left, damaged = verdict.what_is_left(cluster.store, seed)
    mail = verdict.judge(deliveries, polls, left, served)
    mail.damaged += damaged
    still = end if event in ENDS_SESSIONS else begin
    found = verdict.sessions(polls, served, again, host.name, (begin, still, end, until))
    return Trial(len(cluster.hosts), host.shape, event, end - begin, len(polls), mail, found)
