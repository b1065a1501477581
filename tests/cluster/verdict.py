"""What became of each message and each session: from what clients and deliverers noted down, HAProxy's log, and the
Maildirs in the end.

A message is lost if it was delivered, no QUIT that deleted it was answered +OK, and it is not in its Maildir. One that
a session was to delete whose QUIT had no answer may be there or not. It is doubled if it is there twice, or though its
deletion was confirmed, or if a session got it that began after that. It is damaged where one octet differs.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.support.serials import message, serial_of

from .clients import Poll
from .hosts import Store

# HAProxy's tcplog: the client, the server, how it ended, and how often the connection was tried again.
LINE = re.compile(
    r"(?P<address>[\d.]+):(?P<port>\d+) \[[^]]*\] pop3 popad/(?P<server>\S+) \S+ \S+ (?P<end>\S\S) "
    r"\d+/\d+/\d+/\d+/(?P<retries>\+?\d+) "
)


@dataclass
class Mail:
    """Of all messages."""

    delivered: int = 0
    fetched: int = 0
    deleted: int = 0
    left: int = 0
    undecided: int = 0  # asked to be deleted by a QUIT that had no answer, and gone
    lost: list[int] = field(default_factory=list)
    doubled: list[int] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)  # their unique-id was not the same in all sessions
    on_several: int = 0  # seen on more than one host


def judge(
    deliveries: Mapping[int, str], polls: Sequence[Poll], left: Mapping[int, int], hosts: Mapping[int, str]
) -> Mail:
    """`left`: how often each serial is in its Maildir, octet for octet; `hosts`: by the place of a poll, its host."""
    mail = Mail(delivered=len(deliveries), left=sum(left.values()))
    ids: dict[int, set[str]] = defaultdict(set)
    seen_on: dict[int, set[str]] = defaultdict(set)
    deleted_at: dict[int, float] = {}
    undecided: set[int] = set()
    for place, poll in sorted(enumerate(polls), key=lambda each: each[1].began):
        mail.damaged += poll.damaged
        for serial, unique_id in poll.ids.items():
            ids[serial].add(unique_id)
            seen_on[serial].add(hosts.get(place, ""))
            if serial in deleted_at or serial not in deliveries:
                mail.doubled.append(serial)
        if poll.outcome == "quit":
            deleted_at |= dict.fromkeys(poll.deleted, poll.ended)
        elif poll.quitting:
            undecided.update(poll.deleted)
    mail.fetched, mail.deleted = len(ids), len(deleted_at)
    for serial in deliveries:
        there = left.get(serial, 0)
        if there > 1 or (there and serial in deleted_at):
            mail.doubled.append(serial)
        elif not there and serial not in deleted_at:
            if serial in undecided:
                mail.undecided += 1
            else:
                mail.lost.append(serial)
    mail.moved = [serial for serial, texts in ids.items() if len(texts) > 1]
    mail.on_several = sum(len(names - {""}) > 1 for names in seen_on.values())
    return mail


def what_is_left(store: Store, seed: int) -> tuple[Counter[int], list[str]]:
    """How often each message is in the Maildirs, octet for octet; and files that are none of them."""
    found: Counter[int] = Counter()
    damaged = []
    for user in store.users:
        for part in ("new", "cur"):
            for file in (store.maildir(user) / part).iterdir():
                octets = file.read_bytes()
                serial = serial_of(octets, seed)
                if serial is None or octets != message(serial, seed):
                    damaged.append(str(file))
                else:
                    found[serial] += 1
    return found, damaged


def who_served(polls: Sequence[Poll], lines: Iterable[str]) -> tuple[dict[int, str], set[int]]:
    """By the place of a poll: its host, as HAProxy's log has it; and those for which another one was tried first."""
    logged: dict[tuple[str, int], list[re.Match[str]]] = defaultdict(list)
    for line in lines:
        if match := LINE.search(line):
            logged[match["address"], int(match["port"])].append(match)
    hosts, again = {}, set()
    for place, poll in enumerate(polls):
        if found := logged.get((poll.address, poll.port)):
            match = found.pop(0)
            hosts[place] = match["server"]
            if match["retries"] != "0":
                again.add(place)
    return hosts, again


@dataclass
class Sessions:
    """Of what happened to one host."""

    at_work: int = 0  # on that host, when it happened
    ended: int = 0  # of those, without a QUIT that was answered
    others_at_work: int = 0
    others_ended: list[str] = field(default_factory=list)  # what ended them
    turned_over: int = 0  # connections that HAProxy gave to another host when the first did not answer
    refused: list[str] = field(default_factory=list)  # all other sessions without an end of their own
    before: list[float] = field(default_factory=list)  # seconds until the login was answered, on the other hosts
    during: list[float] = field(default_factory=list)
    longest: float = 0.0  # seconds: of any login on any host since then
    later: int = 0  # sessions of that host after it had come back


def sessions(
    polls: Sequence[Poll],
    hosts: Mapping[int, str],
    again: Iterable[int],
    host: str,
    moments: tuple[float, float, float, float],
) -> Sessions:
    """What became of them when something happened to `host`. `moments`: from when on it happened, until when it could
    end sessions, when it was over, and how long what follows counts as "during".
    """
    found = Sessions()
    turned = set(again)
    begin, still, end, until = moments
    for place, poll in enumerate(polls):
        server, is_whole = hosts.get(place, ""), poll.outcome == "quit"
        why = f"{poll.user} on {server or 'no host'}: {poll.outcome} {poll.said}".strip()
        over = still if is_whole else begin  # one that is whole may have ended just before it happened
        if poll.began <= still and poll.ended > over and place not in turned:
            if server == host:
                found.at_work += 1
                found.ended += not is_whole
            else:
                found.others_at_work += 1
                found.others_ended += [why] * (not is_whole)
        elif not is_whole:
            found.refused.append(why)
        if server == host and poll.began > end:
            found.later += 1
        if poll.began + poll.logged_in > begin:
            found.longest = max(found.longest, poll.logged_in)
        if place in turned:
            found.turned_over += 1
        elif server != host and poll.logged_in:
            if poll.ended <= begin:
                found.before.append(poll.logged_in)
            elif begin <= poll.began < until:
                found.during.append(poll.logged_in)
    return found


def percentile(numbers: Sequence[float], of_hundred: float) -> float:
    """The smallest number that so many of a hundred are not above; 0 of none."""
    ordered = sorted(numbers)
    return ordered[max(0, math.ceil(len(ordered) * of_hundred / 100) - 1)] if ordered else 0.0
