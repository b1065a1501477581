"""The loop of both states: read, parse, dispatch, write. What a command means is in the state's table.

Answers are collected while complete commands are at hand and written together before the next read, so that a client
that pipelines (RFC 2449 section 6.6) is answered without a pause; a long answer is written as it comes.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Protocol

    Reply = bytes | Iterable[bytes]

    class Peer(Protocol):
        """The client. Both raise PeerGone and PeerSilent."""

        def read(self) -> bytes: ...
        def write(self, data: bytes, /) -> None: ...

    class State(Protocol):
        """What the handlers of a table work on; the dialogue ends when `over` is set."""

        over: bool

        @property
        def line_octets(self) -> int:
            """How long the next line may be, with its end."""

        @property
        def asks(self) -> "Callable[[bytes], Reply] | None":
            """What takes the next line, where the client was asked for something that is no command."""

        def meanwhile(self) -> None:
            """The client has its answers, and its next command has not come."""

        def failed(self, failure: "MaildropChanged | MaildropUnreadable | MessageGone") -> None:
            """A command is not answered as it should be, for the sake of the maildrop."""

        def refused(self, text: str, line: bytes, /) -> bytes:
            """The answer to a command that is refused for this reason; `line` is empty where it could not be read."""

    Table = Mapping[bytes, "Command"]

from popad.errors import CommandRefused, MaildropChanged, MaildropUnreadable, MessageGone
from popad.protocol.lines import Lines
from popad.protocol.replies import err

ENOUGH = 65536  # octets of answers that are worth a write of their own
NUMBER_OCTETS = 40  # RFC 1939 section 3: a server takes arguments that are so long, and no number needs more
MAX_NUMBER = 2147483647  # popa3d's: a number that does not fit is an error, never another number

NOTHING = "nothing"
NUMBER = "number"
OPTIONAL_NUMBER = "optional number"
NUMBER_AND_LINES = "number and lines"
NAME = "name, which may have spaces"
REST = "rest of the line"
OPTIONAL_WORDS = "any number of words"
WHY = {
    MaildropChanged: "another program has changed the mailbox",
    MaildropUnreadable: "the mailbox cannot be read now",
    MessageGone: "another program has removed the message",
}
HOW_MANY = {NOTHING: (0, 0), NUMBER: (1, 1), OPTIONAL_NUMBER: (0, 1), NUMBER_AND_LINES: (2, 2), NAME: (1, 1)}


class Command:
    """A row of a table: the handler, and the arguments it takes."""

    __slots__ = ("arguments", "handler")

    def __init__(self, handler: "Callable[..., Reply]", arguments: str = NOTHING) -> None:
        self.handler = handler
        self.arguments = arguments


def converse(peer: "Peer", lines: Lines, table: "Table", state: "State", max_argument: int) -> None:
    """Answer commands until the state is over. `max_argument`: octets of a name.

    Raises what the peer and the handlers raise, except CommandRefused. MaildropChanged and MaildropUnreadable are
    raised only where a part of an answer has left, which must never look complete; else they are the answer.
    """
    out: list[bytes] = []  # joined when they are written: each octet is copied once
    octets = 0
    while not state.over:
        mark, begun = len(out), False
        line: bytes | None = b""
        try:
            line = lines.take(state.line_octets)
            if line is None:
                peer.write(b"".join(out))
                out, octets = [], 0
                state.meanwhile()
                lines.feed(peer.read())
                continue
            answer = state.asks(line) if state.asks else dispatch(table, state, line, max_argument)
            for block in (answer,) if isinstance(answer, bytes) else answer:
                if octets + len(block) > ENOUGH:
                    begun = begun or len(out) > mark
                    peer.write(b"".join(out))
                    out, octets, mark = [], 0, 0
                if len(block) > ENOUGH:
                    begun = True
                    peer.write(block)  # without a copy
                else:
                    out.append(block)
                    octets += len(block)
        except CommandRefused as refused:
            out.append(state.refused(refused.text, line or b""))
        except (MaildropChanged, MaildropUnreadable, MessageGone) as failure:
            state.failed(failure)
            if begun:
                raise
            out[mark:] = [err(WHY[type(failure)], failure.code)]
            octets = sum(map(len, out))
    peer.write(b"".join(out))


def dispatch(table: "Table", state: "State", line: bytes, max_argument: int) -> "Reply":
    """Find the command of `line` in the table and call its handler with its arguments, checked."""
    verb, _, rest = line.partition(b" ")
    command = table.get(verb.upper())
    if command is None:
        raise CommandRefused("unknown command" if verb else "no command")
    if command.arguments == REST:
        if not rest:
            raise CommandRefused("argument missing")
        return command.handler(state, rest)
    # One space separates; popa3d forgives one at the end of the line and no other.
    text = rest.removesuffix(b" ")
    if command.arguments == OPTIONAL_WORDS:
        return command.handler(state, text.split(b" ") if rest else [])
    words = [] if not rest else [text] if command.arguments == NAME else text.split(b" ")
    least, most = HOW_MANY[command.arguments]
    if not least <= len(words) <= most:
        raise CommandRefused("wrong number of arguments")
    limit = max_argument if command.arguments == NAME else NUMBER_OCTETS
    for word in words:
        if not 0 < len(word) <= limit or word.startswith(b" "):
            raise CommandRefused("argument empty or too long")
    if command.arguments == NAME:
        return command.handler(state, *words)
    if command.arguments == NUMBER_AND_LINES:
        return command.handler(state, number(words[0]), digits(words[1]))
    return command.handler(state, *map(number, words))


def digits(word: bytes) -> int:
    """A decimal number of plain digits (bytes.isdigit() knows no others). More lines than a message has are all."""
    if not word.isdigit():
        raise CommandRefused("not a number")
    return int(word)


def number(word: bytes) -> int:
    """The number of a message."""
    if (value := digits(word)) > MAX_NUMBER:
        raise CommandRefused("not a number")
    return value
