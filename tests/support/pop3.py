"""A POP3 client for tests that says exactly what it is told and shows exactly what came back."""

from __future__ import annotations

import contextlib
import socket
from types import TracebackType


class Pop3:
    """One connection. Lines are bytes without their CRLF; every read has the socket's time limit."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.port = connection.getsockname()[1]
        self.unread = b""

    def __enter__(self) -> Pop3:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def line(self) -> bytes:
        """The next line; empty at the end of the stream."""
        while b"\r\n" not in self.unread:
            block = self.socket.recv(65536)
            if not block:
                return b""
            self.unread += block
        line, _, self.unread = self.unread.partition(b"\r\n")
        return line

    def say(self, line: str) -> bytes:
        """Send one line and return the first line of the reply."""
        self.socket.sendall(line.encode() + b"\r\n")
        return self.line()

    def ok(self, line: str) -> bytes:
        """Send one line; the rest of the +OK that it must get."""
        reply = self.say(line)
        assert reply.startswith(b"+OK"), (line.split()[0], reply)
        return reply[4:]

    def body(self) -> bytes:
        """A multi-line reply after its first line, dots unstuffed, lines ending in LF."""
        lines = []
        while (line := self.line()) != b".":
            lines.append(line.removeprefix(b".") + b"\n")
        return b"".join(lines)

    def greeted(self) -> Pop3:
        """Read the greeting. For `with`: closes the connection where that fails."""
        with contextlib.ExitStack() as failure:
            failure.enter_context(self)
            greeting = self.line()
            assert greeting.startswith(b"+OK"), greeting
            failure.pop_all()
        return self

    def logged_in(self, name: str, password: str) -> Pop3:
        """Greeting, USER, PASS. For `with`, as greeted()."""
        with contextlib.ExitStack() as failure:
            failure.enter_context(self.greeted())
            self.ok(f"USER {name}")
            self.ok(f"PASS {password}")
            failure.pop_all()
        return self

    def closed(self) -> bool:
        """Whether the server ends the stream without another octet."""
        return self.unread == b"" and self.socket.recv(1) == b""
