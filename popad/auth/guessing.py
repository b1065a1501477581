"""Guessing slowed down where all sessions meet: wrong passwords of a source, and for a name, put verdicts off.

The table is memory that the warm helper shares with its workers. It has a fixed size: 4 places for each of 4,096
values of a keyed hash, so that nobody can choose whose place he takes; where all 4 are in use, the oldest goes.
"""

import fcntl
import mmap
import os
import struct
import time
from _blake2 import blake2b  # hashlib would load OpenSSL into each helper forked on demand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ROWS, WAYS = 4096, 4
ENTRY = struct.Struct("=QIf")  # fingerprint, wrong passwords, when the last one came (seconds since the table was made)
ROW_OCTETS = ENTRY.size * WAYS
FIRST_DELAY = 1.0  # seconds, after one wrong password


class Guesses:
    """Counts of wrong passwords. `longest` delay and `memory` in seconds; `clock` only goes forward."""

    def __init__(self, longest: float, memory: float, clock: "Callable[[], float]" = time.monotonic) -> None:
        self.longest = longest
        self.memory = memory
        self.clock = clock
        self.made = clock() - 1.0  # no entry has the time 0: that is one never used
        self.key = os.urandom(16)
        self.fd = os.memfd_create("popad-guesses")
        os.ftruncate(self.fd, ROWS * ROW_OCTETS)
        self.table = mmap.mmap(self.fd, ROWS * ROW_OCTETS)

    def put_off(self, source: bytes, name: bytes, passed: bool) -> float:
        """Take a verdict into account. Returns the seconds that it must wait.

        A good login waits for the wrong ones of its source and for its name, and makes the name's forgotten. It does
        not make the source's forgotten: whoever has one account could guess at the others without a pause.
        """
        fcntl.lockf(self.fd, fcntl.LOCK_EX)
        try:
            of_source = self.count(b"source " + source, 0 if passed else 1)
            of_name = self.count(b"name " + name, None if passed else 1)
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)
        wrong = max(of_source, of_name)
        return float(min(FIRST_DELAY * 2 ** (min(wrong, 32) - 1), self.longest)) if wrong else 0.0

    def count(self, what: bytes, more: int | None) -> int:
        """The wrong passwords of `what`, after adding `more`. None: tell how many there were, and forget them."""
        digest = blake2b(what, digest_size=16, key=self.key).digest()
        row = int.from_bytes(digest[:8], "big") % ROWS * ROW_OCTETS
        fingerprint = int.from_bytes(digest[8:], "big")
        now = self.clock() - self.made
        entries = [(place, *ENTRY.unpack_from(self.table, place)) for place in range(row, row + ROW_OCTETS, ENTRY.size)]
        for place, whose, wrong, last in entries:
            if whose == fingerprint and last and last + self.memory > now:
                counted = int(wrong) + (more or 0)
                if more is None:
                    ENTRY.pack_into(self.table, place, 0, 0, 0.0)
                elif more:
                    ENTRY.pack_into(self.table, place, fingerprint, min(counted, 0xFFFFFFFF), now)
                return counted
        if more:
            place = min(entries, key=lambda entry: entry[3])[0]
            ENTRY.pack_into(self.table, place, fingerprint, more, now)
        return more or 0
