"""What is in a mailbox after faults, against what must be: messages lost, doubled, damaged."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

TOKEN = re.compile(rb"^Message-ID: <\S+@faults\.invalid>\r?$", re.M)
SEPARATOR = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From ")
MOST_SHOWN = 20


@dataclass
class Tally:
    """A section's counts. `points`: states that a mailbox was opened in after a fault."""

    points: int = 0
    lost: int = 0
    doubled: int = 0
    damaged: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.points += other.points
        self.lost += other.lost
        self.doubled += other.doubled
        self.damaged += other.damaged
        self.notes += other.notes
        self.failures = (self.failures + other.failures)[:MOST_SHOWN]

    @property
    def bad(self) -> int:
        return self.lost + self.doubled + self.damaged

    def fail(self, where: str, lost: int = 0, doubled: int = 0, damaged: int = 0) -> None:
        """Count what is wrong, and remember where it was."""
        self.lost += lost
        self.doubled += doubled
        self.damaged += damaged
        if len(self.failures) < MOST_SHOWN:
            self.failures.append(f"{where}: {lost} lost, {doubled} doubled, {damaged} damaged")

    def as_json(self) -> dict[str, object]:
        counts = {"points": self.points, "lost": self.lost, "doubled": self.doubled, "damaged": self.damaged}
        return {**counts, "notes": dict(self.notes), "failures": self.failures}

    @classmethod
    def from_json(cls, counts: dict[str, Any]) -> "Tally":
        return cls(**{**counts, "notes": Counter(counts["notes"])})


def split(content: bytes) -> list[bytes]:
    """The messages of an mbox, by its separators alone."""
    starts = [found.start() for found in SEPARATOR.finditer(content)]
    if not starts:
        return [content] if content else []
    if starts[0]:
        starts.insert(0, 0)
    return [content[begin:end] for begin, end in zip(starts, [*starts[1:], len(content)], strict=True)]


def trimmed(message: bytes) -> bytes:
    """Without the line ends behind it: a blank line is no part of a message, and a last LF may have been missing."""
    return message.rstrip(b"\r\n")


def compare(content: bytes, wanted: Sequence[bytes], allowed: Iterable[bytes] = ()) -> tuple[int, int, int]:
    """Messages lost, doubled and damaged: each of `wanted` must be there once, those of `allowed` may.

    Damaged: there with other octets; or a piece of the mailbox that is no message at all.
    """
    there = Counter(map(trimmed, split(content)))
    lost = doubled = damaged = 0
    known = {trimmed(message): True for message in wanted} | {trimmed(message): False for message in allowed}
    strange = [piece for piece in there if piece not in known]
    for text, must in known.items():
        count = there[text]
        doubled += max(count - 1, 0)
        if not count and must:
            found = TOKEN.search(text)
            if found and any(found[0] in piece for piece in strange):
                damaged += 1
            else:
                lost += 1
    tokens = {found[0] for text, must in known.items() if must and (found := TOKEN.search(text)) and not there[text]}
    damaged += sum(there[piece] for piece in strange if not any(token in piece for token in tokens))
    return lost, doubled, damaged
