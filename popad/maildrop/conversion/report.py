"""What a conversion says while it is under way, and in the end."""

import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

from popad.maildrop.conversion.building import NotConverted

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
PAUSE = 0.5  # seconds between two words about how far it is


class Report:
    """Counts of what was done. `tell` is called from time to time with the messages that are done, and all."""

    def __init__(self, tell: "Callable[[int, int], None]") -> None:
        self.tell = tell
        self.told = time.monotonic()
        self.messages = 0
        self.octets = 0  # on the wire
        self.listed = 0  # messages whose id a list has, as popad would give another one
        self.flags = 0  # messages that have some
        self.changed = 0  # messages that differ by an octet or a line end, as they could not be told apart without
        self.left_out = 0  # files of a Maildir that are marked as deleted
        self.arrived = 0  # messages that came to the source when it had been converted
        self.renamed = ""  # what the source is called now
        self.trouble = ""  # what is not as it should be, all the same

    def at(self, message: int, count: int) -> None:
        """A moment to be told to end, and to say how far it is. Raises NotConverted."""
        if signal.sigpending() & {*ENDING}:
            raise NotConverted("it was told to end")
        if time.monotonic() - self.told > PAUSE:
            self.told = time.monotonic()
            self.tell(message, count)
