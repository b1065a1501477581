"""Octets from the client into command lines, whatever pieces they arrive in.

Strategy: the buffer holds at most one line that is too long to execute plus what one read brought; a line past the
limit is dropped as it comes and leaves one refusal behind, so that it is answered once and never executed in part.
"""

from popad.errors import CommandRefused
from popad.values import COMMAND_OCTETS


class Lines:
    """A buffer: feed() octets in, take() lines out."""

    def __init__(self, pending: bytes = b"") -> None:
        self.buffer = pending
        self.start = 0  # where the next line begins in the buffer
        self.dropping = False  # the beginning of this line is gone: it was too long

    def feed(self, data: bytes) -> None:
        """Take in what the client sent."""
        self.buffer = self.buffer[self.start :] + data
        self.start = 0

    def take(self, limit: int = COMMAND_OCTETS) -> bytes | None:
        """The next complete line without its CRLF (or bare LF), or None when there is none yet. `limit`: its octets.

        Raises CommandRefused for a line that is too long or has a NUL in it; that line is gone then.
        """
        end = self.buffer.find(b"\n", self.start)
        if end < 0:
            if self.dropping or len(self.buffer) - self.start > limit:
                self.dropping = True
                self.buffer = b""
                self.start = 0
            return None
        line = self.buffer[self.start : end]
        octets = end + 1 - self.start
        self.start = end + 1
        if self.dropping or octets > limit:
            self.dropping = False
            raise CommandRefused("line too long")
        if b"\0" in line:
            raise CommandRefused("NUL in a command")
        return line.removesuffix(b"\r")

    def rest(self) -> bytes:
        """What has been read and not taken: travels on to whoever reads the next line."""
        return self.buffer[self.start :]
