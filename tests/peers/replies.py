"""What a server answered, command by command: cut out of one session's octets, by neither server's code."""

from dataclasses import dataclass

MULTI_LINE = {b"RETR", b"TOP", b"CAPA"}
MULTI_LINE_WITHOUT_ARGUMENT = {b"LIST", b"UIDL"}
# The text behind +OK belongs to the protocol here; elsewhere it is for people.
NUMBERS = {b"STAT", b"LIST", b"UIDL", b"LAST"}


@dataclass(frozen=True)
class Reply:
    """`command` is b"" for the greeting; `body` is what stands between the status line and the line of a dot."""

    command: bytes
    positive: bool
    text: bytes
    body: bytes | None = None

    @property
    def verb(self) -> bytes:
        return self.command.partition(b" ")[0].upper()

    @property
    def content(self) -> tuple[bytes | None, ...]:
        """What is to be the same in both servers: the sign, numbers and payload."""
        sign = b"+OK" if self.positive else b"-ERR"
        if not self.positive or self.verb not in NUMBERS or self.body is not None:
            return sign, self.body
        return sign, self.text


def commands(sent: bytes) -> list[bytes]:
    """The lines of a script without their line ends; the last may be unterminated."""
    return [line.removesuffix(b"\r") for line in sent.split(b"\n")]


def parse(sent: bytes, received: bytes) -> list[Reply]:
    """Raises ValueError for octets that are no answer to `sent`."""
    answers = []
    rest = received
    for command in [b"", *commands(sent)]:
        if not rest:
            break
        status, end, rest = rest.partition(b"\r\n")
        sign, _, text = status.partition(b" ")
        if not end or sign not in (b"+OK", b"-ERR") or any(octet < 32 or octet > 126 for octet in text):
            raise ValueError(f"no status line: {status[:200]!r}")
        verb, _, argument = command.partition(b" ")
        verb = verb.upper()
        body = None
        if sign == b"+OK" and (verb in MULTI_LINE or (verb in MULTI_LINE_WITHOUT_ARGUMENT and not argument)):
            if rest.startswith(b".\r\n"):
                body, rest = b"", rest[3:]
            else:
                body, end, rest = rest.partition(b"\r\n.\r\n")
                if not end:
                    raise ValueError(f"no end of {command!r}: {body[-200:]!r}")
                body += end[:2]
        answers.append(Reply(command, sign == b"+OK", text, body))
    if rest:
        raise ValueError(f"more answers than commands: {rest[:200]!r}")
    return answers
