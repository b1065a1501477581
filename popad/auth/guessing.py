"""Guessing slowed down where all sessions meet: wrong passwords of a source, and for a name, put verdicts off.

The same wrong password again, from the same source for the same name, is no further guess: a forgotten phone that asks
every minute tells nobody anything, and must not keep its whole network waiting. It waits for the guesses that there
were, and adds none. What has been tried is known by a keyed hash; a password is not kept.

The tables are memory that the auth helper shares with its workers. Each has a fixed size: 4 places for each of 4,096
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
ENTRY = struct.Struct("=QIf")  # fingerprint, how often, when the last time (seconds since the table was made)
ROW_OCTETS = ENTRY.size * WAYS
FIRST_DELAY = 1.0  # seconds, after one wrong password
TRIED_MEMORY = 86400.0  # seconds since it was last tried: a device that asks less than once a day is no nuisance


class Table:
    """Counts that are forgotten `memory` seconds after they last grew. `clock` only goes forward."""

    def __init__(self, memory: float, clock: "Callable[[], float]") -> None:
        self.memory = memory
        self.clock = clock
        self.made = clock() - 1.0  # no entry has the time 0: that is one never used
        self.key = os.urandom(16)
        self.fd = os.memfd_create("popad-guesses")
        os.ftruncate(self.fd, ROWS * ROW_OCTETS)
        self.octets = mmap.mmap(self.fd, ROWS * ROW_OCTETS)

    def count(self, what: bytes, more: int | None) -> int:
        """How often there was `what`, after adding `more`. None: tell how often it was, and forget it."""
        digest = blake2b(what, digest_size=16, key=self.key).digest()
        row = int.from_bytes(digest[:8], "big") % ROWS * ROW_OCTETS
        fingerprint = int.from_bytes(digest[8:], "big")
        now = self.clock() - self.made
        places = range(row, row + ROW_OCTETS, ENTRY.size)
        entries = [(place, *ENTRY.unpack_from(self.octets, place)) for place in places]
        for place, whose, often, last in entries:
            if whose == fingerprint and last and last + self.memory > now:
                counted = int(often) + (more or 0)
                if more is None:
                    ENTRY.pack_into(self.octets, place, 0, 0, 0.0)
                elif more:
                    ENTRY.pack_into(self.octets, place, fingerprint, min(counted, 0xFFFFFFFF), now)
                return counted
        if more:
            place = min(entries, key=lambda entry: entry[3])[0]
            ENTRY.pack_into(self.octets, place, fingerprint, more, now)
        return more or 0


class Guesses:
    """Counts of wrong passwords. `longest` delay and `memory` in seconds."""

    def __init__(self, longest: float, memory: float, clock: "Callable[[], float]" = time.monotonic) -> None:
        self.longest = longest
        self.wrong = Table(memory, clock)
        self.tried = Table(max(memory, TRIED_MEMORY), clock)
        self.whose = ""  # wrong passwords the last verdict waits for

    def put_off(
        self, source: bytes, name: bytes, password: bytes | bytearray, passed: bool, trusted: bool = False
    ) -> float:
        """Take a verdict into account. Returns the seconds that it must wait. `trusted`: for its name only.

        A good login waits for the wrong ones of its source and for its name, and makes the name's forgotten. It does
        not make the source's forgotten: whoever has one account could guess at the others without a pause. Nor may it
        come sooner where it has come before: who hangs up on each verdict that does not come at once would know.
        """
        fcntl.lockf(self.wrong.fd, fcntl.LOCK_EX)
        try:
            guess = 0 if passed or self.was_tried(source, name, password) else 1
            of_source = 0 if trusted else self.wrong.count(b"source " + source, guess)
            of_name = self.wrong.count(b"name " + name, None if passed else guess)
        finally:
            fcntl.lockf(self.wrong.fd, fcntl.LOCK_UN)
        wrong = max(of_source, of_name)
        self.whose = "for this name" if of_name >= of_source else "of this source"
        return float(min(FIRST_DELAY * 2 ** (min(wrong, 32) - 1), self.longest)) if wrong else 0.0

    def was_tried(self, source: bytes, name: bytes, password: bytes | bytearray) -> bool:
        """Whether this wrong password is known to be one already. From now on it is."""
        return self.tried.count(b"%d %d " % (len(source), len(name)) + source + name + password, 1) > 1
