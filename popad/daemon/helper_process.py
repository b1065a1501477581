"""A helper of the daemon's: the process that answers a relay, kept alive by the parent."""

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

from popad import journal
from popad.privsep import spawn
from popad.privsep.channel import message_pair

PAUSE = 1.0  # seconds after which a helper that died is started again; twice as many each time
LONGEST_PAUSE = 60.0


class HelperProcess:
    """Its process, and both ends of the relay: sessions inherit one, the helper has the other.

    What was asked while there is none waits in the relay.
    """

    def __init__(self, what: str, role: "Callable[[], int]") -> None:
        """`what` it is for, in the journal's words; `role` is what it does. Raises OSError."""
        self.what = what
        self.role = role
        self.relay, self.end = message_pair()
        self.pid = 0
        self.due = 0.0  # when it is started again
        self.pause = PAUSE / 2
        self.started = 0.0

    def start(self) -> None:
        """Start it, if there is none and its time has come."""
        if self.pid or time.monotonic() < self.due:
            return
        try:
            self.pid = spawn.spawn(self.role)
            self.started = time.monotonic()
        except OSError as error:
            journal.send(journal.HELPER_DIED, helper=self.what, reason=str(error))
            self.due = time.monotonic() + PAUSE

    def ended(self, status: int, now: float, *, is_expected: bool) -> None:
        """It has ended with this wait status: as it should, or with a reason for the journal."""
        self.pid = 0
        self.due = now
        if status and not is_expected:
            journal.send(journal.HELPER_DIED, helper=self.what, reason=f"wait status {status}")
            self.pause = PAUSE if now - self.started > LONGEST_PAUSE else min(self.pause * 2, LONGEST_PAUSE)
            self.due = now + self.pause

    def leave(self) -> None:
        """It has nobody to answer but those who have its relay already, and nobody waits for its end."""
        self.relay.close()
        self.end.close()

    def replace(self, successors_relay: "tuple[_socket.socket, _socket.socket]") -> None:
        """Start another one, with its own relay: the old one leaves when the last session that may ask it has."""
        self.leave()
        self.relay, self.end = successors_relay
        self.pid = 0
        self.due = 0.0
        self.pause = PAUSE / 2
        self.start()
