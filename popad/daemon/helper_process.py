"""The daemon's auth helper: the process that answers the relay, kept alive by the parent."""

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

from popad import journal
from popad.privsep import spawn
from popad.privsep.channel import message_pair

PAUSE = 1.0  # seconds after which a helper that died is started again


class HelperProcess:
    """Its process, and both ends of the relay: sessions inherit one, the helper has the other.

    What was asked while there is none waits in the relay.
    """

    def __init__(self, role: "Callable[[], int]") -> None:
        """`role` is what it does. Raises OSError."""
        self.role = role
        self.relay, self.end = message_pair()
        self.pid = 0
        self.due = 0.0  # when it is started again

    def start(self) -> None:
        """Start it, if there is none and its time has come."""
        if self.pid or time.monotonic() < self.due:
            return
        try:
            self.pid = spawn.spawn(self.role)
        except OSError as error:
            journal.send(journal.HELPER_DIED, reason=str(error))
            self.due = time.monotonic() + PAUSE

    def ended(self, status: int, now: float, *, is_expected: bool) -> None:
        """It has ended with this wait status: as it should, or with a reason for the journal."""
        self.pid = 0
        self.due = now
        if status and not is_expected:
            journal.send(journal.HELPER_DIED, reason=f"wait status {status}")
            self.due = now + PAUSE

    def replace(self, successors_relay: "tuple[_socket.socket, _socket.socket]") -> None:
        """Start another one, with its own relay: the old one leaves when the last session that may ask it has."""
        self.relay.close()
        self.end.close()
        self.relay, self.end = successors_relay
        self.pid = 0
        self.due = 0.0
        self.start()
