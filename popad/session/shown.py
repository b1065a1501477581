"""What a session of the daemon says of itself. A unit's session tells systemd (STATUS=); these have nobody to tell, so
each keeps the text in memory of its own, where `popad who` finds it: a memory file, by /proc/PID/fd.

Root makes the file before the login. Its name (the client, and since when) cannot be changed then, its content can:
that is the session's own word. Nobody else is told, waits, or reads it unless somebody asks.
"""

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.net.connection import Connection

from popad.notify import Notifier

# Of the file; behind it stand the client's address, its port (0: none), seconds of the epoch, and the proxy's address
# where it came by one.
NAME = "popad-session"
LARGEST = 1024  # octets of the content, which is a line
STATUS = "STATUS="


class Shown(Notifier):
    """In place of systemd's ear, for one client."""

    def __init__(self, connection: "Connection") -> None:
        super().__init__()
        name = f"{NAME} {connection.rhost or 'unknown'} {connection.rport or 0} {int(time.time())} {connection.proxy}"
        try:
            self.file = os.memfd_create(name.rstrip())
        except OSError:
            self.file = -1  # too many files: the session is served, and not shown

    def close(self) -> None:
        """For who goes on without a session."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def tell(self, *assignments: str, waits: bool = True) -> None:
        """Keep the status, if it is among them."""
        for each in assignments:
            if each.startswith(STATUS) and self.file >= 0:
                line = each.removeprefix(STATUS).encode("utf-8", "replace")
                try:
                    os.pwrite(self.file, line[: LARGEST - 1] + b"\n", 0)
                except OSError:
                    pass  # no memory: what it said before stands
