"""How many sessions there may be, in all and of one source: popa3d's rules, for the standalone daemon.

A session takes a slot until its process has ended *and* its start is `min_delay` old, so that a client that connects
and leaves again and again runs out of slots. Two rules are not popa3d's. A session in which somebody has logged in
gives its slot back when it ends: there are clients that poll many accounts, or log in again for each message, and who
floods in that way has a name. And where sessions that have ended hold all slots, a source that has none still gets one:
else 50 connections a second, from many sources, would keep everybody else out.
"""

import heapq

# The source of a session whose client only the proxy knows: no one source. Where it ends as that, it was a look of the
# proxy's own, or a proxy that said nothing.
UNTOLD = b""
STRETCH = 20  # times max_sessions: what ended sessions may hold in such a flood. Bounds memory, and forks a second


class Slots:
    """The slots taken. Times are seconds of any clock that only goes forward."""

    def __init__(self, max_sessions: int, max_per_source: int, min_delay: float) -> None:
        self.max_sessions = max_sessions
        self.max_per_source = max_per_source
        self.min_delay = min_delay
        self.running: dict[int, tuple[bytes, float]] = {}  # of each process: source, start
        self.cooling: list[tuple[float, bytes]] = []  # heap: when the slot of an ended process is free, source
        self.of_source: dict[bytes, int] = {}

    @property
    def taken(self) -> int:
        """Slots taken, by running sessions and by those that ended too early."""
        return len(self.running) + len(self.cooling)

    def limit_reached(self, source: bytes, now: float) -> str | None:
        """Which limit keeps `source` from a slot now; None if it may have one."""
        while self.cooling and self.cooling[0][0] <= now:
            self.free(heapq.heappop(self.cooling)[1])
        stretched = self.max_sessions if source in self.of_source else STRETCH * self.max_sessions
        if len(self.running) >= self.max_sessions or self.taken >= stretched:
            return f"limit of {self.max_sessions} sessions"
        return self.limit_of(source)

    def limit_of(self, source: bytes) -> str | None:
        """Which limit of its own keeps `source` from a slot; None if there is none."""
        if source != UNTOLD and self.of_source.get(source, 0) >= self.max_per_source:
            return f"limit of {self.max_per_source} sessions of one source"
        return None

    def started(self, pid: int, source: bytes, now: float) -> None:
        """A session has begun."""
        self.running[pid] = source, now
        self.of_source[source] = self.of_source.get(source, 0) + 1

    def moved(self, pid: int, source: bytes, now: float) -> str | None:
        """A session is known to be another source's: which limit keeps that from a slot; None if it has it now."""
        if (limit := self.limit_of(source)) is not None:
            return limit
        old, start = self.running[pid]
        self.free(old)
        self.running[pid] = source, start
        self.of_source[source] = self.of_source.get(source, 0) + 1
        return None

    def ended(self, pid: int, now: float, *, is_known: bool = False) -> bool:
        """A process has ended; whether it was a session. `is_known`: somebody had logged in."""
        if (slot := self.running.pop(pid, None)) is None:
            return False
        source, start = slot
        if start + self.min_delay > now and not is_known and source != UNTOLD:
            heapq.heappush(self.cooling, (start + self.min_delay, source))
        else:
            self.free(source)
        return True

    def free(self, source: bytes) -> None:
        """One slot of `source` is free again."""
        self.of_source[source] -= 1
        if not self.of_source[source]:
            del self.of_source[source]


class Dropped:
    """The connections that were not served, and which of them the journal has not heard of."""

    def __init__(self) -> None:
        self.in_all = 0
        self.unsaid = 0
        self.last = ("", "")  # address, which limit
        self.next = 0.0  # when the journal may hear of the next

    def count(self, address: str, limit: str) -> None:
        """One more."""
        self.in_all += 1
        self.unsaid += 1
        self.last = address, limit

    def due(self, now: float, pause: float) -> "dict[str, str | int]":
        """What the journal is to hear now, as fields of its entry, and not again for `pause` seconds; or nothing."""
        if not self.unsaid or now < self.next:
            return {}
        address, limit = self.last
        fields: dict[str, str | int] = {"rhost": address, "limit": limit, "dropped": self.unsaid}
        self.next = now + pause
        self.unsaid = 0
        return fields
