"""What became of each message: from what the deliverers and clients noted down, and the mailboxes in the end.

A message is lost if a program said that it had delivered it, nobody got +OK for a QUIT that deleted it, and it is not
in its mailbox. (One that a killed session was told to delete, and had not answered, may be there or not.) It is doubled
if it is there twice, was deleted twice, or is there though its deletion was confirmed. A mailbox is broken where a part
of it is no whole message.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .clients import Session


@dataclass
class Verdict:
    """The figures of a run."""

    seed: int
    seconds: float = 0
    deliveries: Counter[str] = field(default_factory=Counter)  # by program
    delivered: int = 0
    undelivered: int = 0  # the program said that it could not
    sessions: Counter[str] = field(default_factory=Counter)  # by outcome
    refusals: Counter[str] = field(default_factory=Counter)
    fetches: int = 0
    deletions: int = 0
    left: int = 0  # in the mailboxes in the end
    lost: int = 0
    doubled: int = 0
    broken: int = 0  # mailboxes
    damaged: int = 0  # messages retrieved that were none that had been delivered
    inconsistent: int = 0  # sessions whose lists and messages did not agree
    stuck: int = 0
    litter: list[str] = field(default_factory=list)  # lock files and temporary ones that are left
    examples: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.broken or self.damaged or self.inconsistent or self.stuck)

    def json(self) -> str:
        return json.dumps({**vars(self), "good": self.good}, indent=2)


@dataclass(frozen=True)
class Delivery:
    """What a deliverer knows of one message."""

    way: str
    user: str
    serial: int
    done: bool


def judge(
    seed: int,
    deliveries: Iterable[Delivery],
    sessions: Iterable[Session],
    mailboxes: Mapping[str, tuple[list[int], int]],
    shared: bool = False,
) -> Verdict:
    """`mailboxes`: a user's serials and broken parts. `shared`: sessions run side by side in a mailbox without a lock,
    so that two may have been asked to remove the same message.
    """
    verdict = Verdict(seed)
    confirmed: Counter[int] = Counter()
    perhaps: set[int] = set()
    for session in sessions:
        verdict.sessions[session.outcome] += 1
        if session.refusal:
            verdict.refusals[session.refusal.strip()] += 1
        verdict.fetches += len(session.fetched)
        verdict.damaged += len(session.damaged)
        verdict.examples += session.damaged
        verdict.inconsistent += session.unlisted
        verdict.stuck += session.outcome == "stuck"
        if session.outcome == "quit":
            confirmed.update(session.deleted)
        elif session.outcome == "killed" and session.quitting:
            perhaps.update(session.deleted)
    if shared:
        confirmed = Counter(confirmed.keys())
    verdict.deletions = confirmed.total()
    there: Counter[tuple[str, int]] = Counter()
    for user, (serials, broken) in mailboxes.items():
        there.update((user, serial) for serial in serials)
        verdict.left += len(serials)
        verdict.broken += bool(broken)
        if broken:
            verdict.examples.append(f"mailbox of {user}: {broken} parts are no whole message")
    for delivery in deliveries:
        copies = there.pop((delivery.user, delivery.serial), 0) + confirmed[delivery.serial]
        verdict.delivered += delivery.done
        verdict.undelivered += not delivery.done
        verdict.deliveries[delivery.way] += delivery.done
        if copies > 1:
            verdict.doubled += 1
        elif not copies and delivery.done and delivery.serial not in perhaps:
            verdict.lost += 1
        else:
            continue
        verdict.examples.append(f"{delivery}: deleted {confirmed[delivery.serial]} times, {copies} in all")
    if there:
        verdict.broken += 1
        verdict.examples.append(f"in mailboxes that they were not sent to: {dict(there)}")
    return verdict
