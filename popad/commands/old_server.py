"""A POP3 server that clients are to leave: asked for its unique-ids, sizes, headers and, where it must be, messages.

Nothing is deleted there. Each answer is bounded: in the time that a line may take, in its lines, in its octets.
"""

import socket
import ssl
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PORT, TLS_PORT = 110, 995
PATIENCE = 60.0  # seconds for each line
AT_LEAST = 0.001  # seconds, as none would be for ever
LONGEST_LINE = 1024  # octets of an answer's first line, or of a line of a list: RFC 2449 section 4 has 512
MOST_CAPABILITIES = 1000  # lines
PIECE = 65536  # octets of a message's line that are read together
LARGEST_HEADER = 1 << 24  # octets: popad serves longer ones, to nobody's use
LARGEST_MESSAGE = 1 << 32  # octets: of one that is read for its header alone
AHEAD = 50  # commands that are sent before their answers are read, where the server knows PIPELINING


class NotAnswered(Exception):
    """The old server cannot be asked, refuses, or does not speak POP3. The text is for an administrator."""


class Server:
    """Where it is and how it is reached: `tls` is "" for none, tls (from the first octet) or stls."""

    def __init__(self, host: str, port: int, tls: str = "", ca: str | None = None) -> None:
        """`ca`: a file with the certificates that are believed, in place of the system's."""
        self.host = host
        self.port = port
        self.tls = tls
        self.ca = ca

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def encrypted(self, line: socket.socket) -> socket.socket:
        """The same connection with TLS. Raises OSError, also for a certificate that is not believed."""
        return ssl.create_default_context(cafile=self.ca).wrap_socket(line, server_hostname=self.host)


def address_of(given: str, tls: str) -> tuple[str, int]:
    """HOST, HOST:PORT or [ADDRESS]:PORT. Raises ValueError."""
    default = TLS_PORT if tls == "tls" else PORT
    host, colon, port = given.rpartition(":")
    if not colon or (given.endswith("]") and given.startswith("[")) or (":" in host and not host.startswith("[")):
        host, port = given, str(default)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{given!a} is not HOST, HOST:PORT or [ADDRESS]:PORT")
    return host, int(port)


class Asked:
    """One session with the server. All methods raise NotAnswered."""

    def __init__(self, server: Server, name: str, password: bytes) -> None:
        self.server = server
        try:
            self.line = socket.create_connection((server.host, server.port), PATIENCE)
        except (OSError, UnicodeError) as error:  # a name that the DNS cannot have
            raise NotAnswered(f"{server}: {error}") from error
        self.incoming, self.place = b"", 0  # what was read and, from there on, not taken
        try:
            self.begin(name.encode(), password)
        except BaseException:
            self.close()
            raise

    def begin(self, name: bytes, password: bytes) -> None:
        """From the greeting to the login."""
        if any(octet in name + password for octet in b"\r\n\0"):
            raise NotAnswered("a name or a password with a line end cannot be sent")
        if self.server.tls == "tls":
            self.encrypt()
        self.answer("the greeting")
        if self.server.tls == "stls":
            self.ask(b"STLS")
            self.encrypt()
        self.ask(b"USER " + name)
        self.ask(b"PASS " + password, b"PASS")
        self.ahead = AHEAD if self.knows(b"PIPELINING") else 1

    def encrypt(self) -> None:
        """Go on with TLS. What was read ahead in the clear is forgotten."""
        self.incoming, self.place = b"", 0
        try:
            self.line = self.server.encrypted(self.line)
        except OSError as error:
            raise NotAnswered(f"{self.server}: {error}") from error

    def knows(self, capability: bytes) -> bool:
        """Whether CAPA lists it."""
        self.send([b"CAPA"])
        if not self.heard().startswith(b"+OK"):
            return False
        return [capability] in [line.upper().split()[:1] for line in self.list_lines(MOST_CAPABILITIES)]

    def ids(self, most: int) -> dict[int, str]:
        """The unique-ids of messages 1, 2, ..., as far as it has them."""
        return {number: text.decode("latin-1") for number, text in self.listing(b"UIDL", most).items()}

    def sizes(self, most: int) -> dict[int, int]:
        """Octets of each message, as it counts them."""
        listed = self.listing(b"LIST", most)
        sizes = {number: rest.partition(b" ")[0] for number, rest in listed.items()}  # more may stand behind a size
        if not all(text.isdigit() and len(text) <= 18 for text in sizes.values()):
            raise NotAnswered("LIST: a size that is no number")
        return {number: int(text) for number, text in sizes.items()}

    def listing(self, command: bytes, most: int) -> dict[int, bytes]:
        """Lines of a number and a word."""
        self.ask(command)
        found: dict[int, bytes] = {}
        for line in self.list_lines(most):
            number, _, rest = line.partition(b" ")
            if not (number.isdigit() and len(number) <= 10):
                raise NotAnswered(f"{command.decode()}: {line[:80]!a}")
            found[int(number)] = rest.strip(b" ")
        return found

    def headers(self, numbers: "Sequence[int]") -> "Iterator[tuple[int, list[bytes]]]":
        """Of each message the octets of its header, in blocks, with LF for line ends. By TOP, or by RETR where it has
        none.
        """
        for place in range(0, len(numbers), self.ahead):
            batch = numbers[place : place + self.ahead]
            self.send([b"TOP %d 0" % number for number in batch])
            refused = []
            for number in batch:
                if self.heard().startswith(b"+OK"):
                    yield number, list(self.lines_of_message(LARGEST_HEADER))
                else:
                    refused.append(number)
            for number in refused:
                header: list[bytes] = []
                self.retrieve(number, header.append, LARGEST_HEADER, until_blank=True)
                yield number, header

    def retrieve(self, number: int, take: "Callable[[bytes], object]", most: int, *, until_blank: bool = False) -> None:
        """A message's octets, in blocks, with LF for line ends; those behind its header are left out if so wanted."""
        self.ask(b"RETR %d" % number)
        is_wanted = begins_line = True
        count = 0
        for piece in self.lines_of_message(LARGEST_MESSAGE):
            if is_wanted and (count := count + len(piece)) > most:
                raise NotAnswered(f"RETR {number}: more than {most} octets")
            if is_wanted:
                take(piece)
            if until_blank and begins_line and piece == b"\n":
                is_wanted = False
            begins_line = piece.endswith(b"\n")

    def leave(self) -> None:
        """QUIT: what was marked, say as read, is kept; and nothing was deleted."""
        self.ask(b"QUIT")
        self.close()

    def close(self) -> None:
        self.line.close()

    # -- lines

    def send(self, commands: "Sequence[bytes]") -> None:
        try:
            self.line.settimeout(PATIENCE)
            self.line.sendall(b"".join(command + b"\r\n" for command in commands))
        except OSError as error:
            raise NotAnswered(f"{self.server}: {error}") from error

    def ask(self, command: bytes, shown: bytes = b"") -> None:
        """A command that has to succeed; `shown` is what an administrator may see of it."""
        self.send([command])
        self.answer((shown or command).decode("ascii", "backslashreplace"))

    def answer(self, what: str) -> None:
        """The first line of an answer, which has to be +OK."""
        said = self.heard()
        if not said.startswith(b"+OK"):
            raise NotAnswered(f"{self.server}: {what}: {said.decode('ascii', 'backslashreplace')}")

    def heard(self) -> bytes:
        """A line without its end."""
        line = self.read(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise NotAnswered(f"{self.server}: {'a line without an end' if line else 'it has closed the connection'}")
        return line.rstrip(b"\r\n")

    def list_lines(self, most: int) -> "Iterator[bytes]":
        """The lines of a list, which ends with a dot."""
        for _ in range(most + 1):
            if (line := self.heard()) == b".":
                return
            yield line
        raise NotAnswered(f"{self.server}: a list of more than {most} lines")

    def lines_of_message(self, most: int) -> "Iterator[bytes]":
        """Up to the line with the dot: lines, long ones in pieces, without the dots that were stuffed, LF for CRLF."""
        begins_line, count, held = True, 0, b""
        while True:
            if not (piece := self.read(PIECE)):
                raise NotAnswered(f"{self.server}: it has closed the connection in the middle of a message")
            piece, held = held + piece, b""
            if begins_line and piece.startswith(b"."):
                if piece.rstrip(b"\r\n") == b"." and piece.endswith(b"\n"):
                    return
                piece = piece[1:]
            begins_line = piece.endswith(b"\n")
            if piece.endswith(b"\r\n"):
                piece = piece[:-2] + b"\n"
            elif piece.endswith(b"\r"):
                piece, held = piece[:-1], b"\r"
            count += len(piece)
            if count > most:
                raise NotAnswered(f"{self.server}: a header or a message of more than {most} octets")
            if piece:
                yield piece

    def read(self, most: int) -> bytes:
        """A line or, of a longer one, so many octets, within PATIENCE in all; nothing at the end of the connection."""
        deadline = time.monotonic() + PATIENCE
        try:
            while (end := self.incoming.find(b"\n", self.place)) < 0 and len(self.incoming) - self.place < most:
                self.line.settimeout(max(deadline - time.monotonic(), AT_LEAST))
                if not (more := self.line.recv(PIECE)):
                    break
                self.incoming, self.place = self.incoming[self.place :] + more, 0
        except OSError as error:
            raise NotAnswered(f"{self.server}: {error}") from error
        size = min(end + 1 if end >= 0 else len(self.incoming), self.place + most) - self.place
        self.place += size
        return self.incoming[self.place - size : self.place]
