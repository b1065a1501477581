"""The relay: TLS to the client, plain octets to the session. It knows nothing of POP3.

Each direction waits for its own outlet: as long as that takes nothing, nothing more is read for it, so that at most a
block is held, and what a slow client keeps waiting is the session, which has the time limits.
"""

import select
import socket
import ssl
import time

BLOCK = 1 << 17  # octets at a time: eight records of TLS in one send(2)
LAST = 1.0  # seconds in which the client may answer the end of TLS
DRAIN = 30.0  # seconds in which it takes nothing of what is left when the session has ended
GONE = (BrokenPipeError, ConnectionResetError)


class Relay:
    """A connection to a client behind its handshake, and the plain end of it."""

    def __init__(
        self,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        client: socket.socket,
        plain: socket.socket,
    ) -> None:
        self.tls = tls
        self.incoming = incoming
        self.outgoing = outgoing
        self.client = client
        self.plain = plain
        self.to_client: bytes | memoryview = b""
        self.to_plain: bytes | memoryview = b""
        self.client_speaks = self.session_speaks = True
        self.session_is_there = True  # not so where it has ended and left something to read
        for each in (client, plain):
            each.setblocking(False)

    def run(self) -> None:
        """Pass octets on until both sides have ended. What they do raises nothing."""
        try:
            self.decrypt()  # what has come right behind the handshake
            self.pump()
            self.say_goodbye()
        except (OSError, ssl.SSLError):
            pass  # a reset, or what is no TLS: both sides see the end
        finally:
            for each in (self.client, self.plain):
                try:
                    each.shutdown(socket.SHUT_RDWR)  # systemd has a copy of the client's
                except OSError:
                    pass
                each.close()

    def pump(self) -> None:
        """Until the session has ended and the client has all that it said; or takes nothing of it for too long."""
        taken_at = time.monotonic()
        while self.session_speaks or self.to_client:
            poll = select.poll()
            if at_client := self.wanted_of_client():
                poll.register(self.client, at_client)
            at_plain = self.wanted_of_plain()
            if at_plain or self.session_is_there:
                poll.register(self.plain, at_plain)  # for nothing else it is waited for to hear of its end
            left = None if self.session_is_there else max(taken_at + DRAIN - time.monotonic(), 0) * 1000
            ready = dict(poll.poll(left))
            if not ready:
                return
            if self.session_is_there and ready.get(self.plain.fileno(), 0) & select.POLLHUP:
                self.session_is_there, taken_at = False, time.monotonic()
            if self.client.fileno() in ready:
                if self.to_client:
                    before = len(self.to_client)
                    self.to_client = send(self.client, self.to_client)
                    taken_at = time.monotonic() if len(self.to_client) < before else taken_at
                if at_client & select.POLLIN:
                    self.read_client()
            if self.plain.fileno() in ready:
                if self.to_plain:
                    self.give_to_plain(self.to_plain)
                if at_plain & select.POLLIN:
                    self.read_plain()

    def wanted_of_client(self) -> int:
        """What is waited for there. Not the end of one who says nothing more: poll() would tell of it for ever."""
        reads = self.client_speaks and not self.to_plain
        return (select.POLLOUT if self.to_client else 0) | (select.POLLIN if reads else 0)

    def wanted_of_plain(self) -> int:
        """What is waited for there."""
        reads = self.session_speaks and not self.to_client
        return (select.POLLOUT if self.to_plain else 0) | (select.POLLIN if reads else 0)

    def read_client(self) -> None:
        """Records of the client's, or its end."""
        try:
            data = self.client.recv(BLOCK)
        except BlockingIOError:
            return
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()
        self.decrypt()

    def decrypt(self) -> None:
        """All that the records say which have come, to the session."""
        pieces = []
        try:
            while piece := self.tls.read(BLOCK):  # a record at most, whatever is asked for
                pieces.append(piece)
            self.client_speaks = False
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.client_speaks = False
        if pieces:
            self.give_to_plain(b"".join(pieces))
        if self.outgoing.pending:  # the answer to a new key of the client's (RFC 8446 section 4.6.3)
            self.to_client = send(self.client, bytes(self.to_client) + self.outgoing.read())
        if not self.client_speaks and not self.to_plain:
            self.end_plain()

    def give_to_plain(self, data: bytes | memoryview) -> None:
        """To the session, which may have ended: it does not want to know then, and has been heard to its end."""
        try:
            self.to_plain = send(self.plain, data)
        except GONE:
            self.to_plain, self.client_speaks = b"", False
            return
        if not self.to_plain and not self.client_speaks:
            self.end_plain()

    def end_plain(self) -> None:
        """The client says no more. What the session still says is sent."""
        try:
            self.plain.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has ended

    def read_plain(self) -> None:
        """What the session says, into records; or its end."""
        try:
            data = self.plain.recv(BLOCK)
        except BlockingIOError:
            return
        except GONE:
            data = b""  # it has ended, and left something unread
        if data:
            self.tls.write(data)
            self.to_client = send(self.client, self.outgoing.read())
        else:
            self.session_speaks = self.session_is_there = False

    def say_goodbye(self) -> None:
        """The session has ended: close_notify, the end of the stream, and an ear for what the client has sent before it
        hears of that. What is left unread would make the kernel reset the connection, and the client lose the last
        reply.
        """
        if self.to_client:
            return  # it takes nothing
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass  # the client's own close_notify has not come, and need not
        if not send(self.client, self.outgoing.read()):
            end_stream(self.client)


def end_stream(client: socket.socket) -> None:
    """End our side, and hear the other out for a moment. Raises OSError."""
    client.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + LAST
    poll = select.poll()
    poll.register(client, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000) and client.recv(BLOCK):
        pass


def send(side: socket.socket, data: bytes | memoryview) -> bytes | memoryview:
    """Send what can be sent now. Returns the rest. Raises OSError."""
    while data:
        try:
            sent = side.send(data)
        except BlockingIOError:
            return data
        data = memoryview(data)[sent:]
    return b""
