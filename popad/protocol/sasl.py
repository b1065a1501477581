"""SASL (RFC 4422) as POP3 has it (RFC 5034): base64 lines to and fro, and what the messages of a mechanism are made of.

Messages are only taken apart here. Whether they are right is for the auth helper to say, which checks the parts and
puts them together again itself. A mechanism that asks the client more than once lets the helper make the questions.
"""

import binascii

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Protocol

    class Helper(Protocol):
        """The auth helper, as a mechanism asks it."""

        def ask(self, *fields: bytes) -> bytes | None:
            """What the client is to be asked next; None where there is nothing left to ask."""

        def tell(self, *fields: bytes) -> None:
            """Say something that needs no answer."""

    # Takes responses and yields challenges. In the end: the fields for the helper, or None where it has them already.
    Steps = Generator[bytes, bytes, tuple[bytes, ...] | None]

from popad.errors import CommandRefused
from popad.values import ARGUMENT_OCTETS

RESPONSE_OCTETS = 12288  # of a line with its end, in an exchange and nowhere else (RFC 5034 section 4)
CANCEL = b"*"  # of the client's, in place of a response
NO_RESPONSE = b"="  # an initial response that is there and empty
MOST_OF_NONCE = 256  # octets that the client makes up; the helper adds to them
MOST_OCTETS = 512  # of each other part of a message: a nonce, a proof, the data of a channel binding
# What the helper is told besides a mechanism's name: the second message, that it was the last one, that there is none.
FINAL, END_EXCHANGE, CANCEL_EXCHANGE = b"final", b"end", b"cancel"
FIRST_BIT = 4  # authorization.py has the lower ones


class Mechanism:
    """A row of the table: its name, the bit of `may` that allows it, and its steps."""

    __slots__ = ("may", "name", "steps")

    def __init__(self, name: bytes, may: int, steps: "Callable[[bytes, Helper], Steps]") -> None:
        self.name = name
        self.may = may
        self.steps = steps


class Exchange:
    """One attempt, response by response."""

    def __init__(self, mechanism: Mechanism, helper: "Helper") -> None:
        self.steps = mechanism.steps(mechanism.name, helper)
        self.challenge = next(self.steps)  # the first; empty where the client speaks first
        self.fields: tuple[bytes, ...] | None = None

    def respond(self, line: bytes) -> bytes | None:
        """The next challenge; None where there is none, and `fields` are all. Raises CommandRefused."""
        if line == CANCEL:
            raise CommandRefused("cancelled")
        try:
            return self.steps.send(decoded(line))
        except StopIteration as end:
            self.fields = end.value
            return None

    def end(self) -> None:
        """It is not going on."""
        self.steps.close()


def challenge_line(challenge: bytes) -> bytes:
    """A challenge as it goes over the wire."""
    return b"+ %b\r\n" % binascii.b2a_base64(challenge, newline=False)


def decoded(line: bytes) -> bytes:
    """What a base64 line says. Raises CommandRefused for what no encoder makes (RFC 4648 section 3)."""
    try:
        octets = binascii.a2b_base64(line, strict_mode=True) if line else b""
    except binascii.Error:
        octets = b""
    if binascii.b2a_base64(octets, newline=False) != line:
        raise CommandRefused("not base64")
    return octets


def argument(text: bytes) -> bytes:
    """A name or a password, which may be as long as those of USER and PASS. Raises CommandRefused."""
    if len(text) > ARGUMENT_OCTETS:
        raise CommandRefused("name or password too long")
    return text


def part(text: bytes) -> bytes:
    """Another part of a message. Raises CommandRefused where it is too long, or has an end of a line or a NUL."""
    if len(text) > MOST_OCTETS or not {0x00, 0x0A, 0x0D}.isdisjoint(text):
        raise CommandRefused("message too long, or not text")
    return text


def nonce_of(text: bytes, most: int = MOST_OCTETS) -> bytes:
    """What makes an exchange unlike all others: printable ASCII but the comma (RFC 5802 section 7)."""
    if not text or len(text) > most or not all(0x21 <= octet <= 0x7E for octet in text):
        raise CommandRefused("not a nonce")
    return text


def octets_of(line: bytes) -> bytes:
    """What is in base64 within a message. Raises CommandRefused."""
    if len(octets := decoded(line)) > MOST_OCTETS:
        raise CommandRefused("message too long")
    return octets


def plain(name: bytes, _: "Helper") -> "Steps":
    """PLAIN (RFC 4616): whose mail, NUL, name, NUL, password."""
    parts = (yield b"").split(b"\0")
    if len(parts) != 3 or not parts[1]:
        raise CommandRefused("not a message of PLAIN")
    return (name, *map(argument, parts))


def login(name: bytes, _: "Helper") -> "Steps":
    """LOGIN (draft-murchison-sasl-login): name and password, each behind a question. Older than PLAIN, and in use."""
    user = argument((yield b"User Name\0"))
    password = argument((yield b"Password\0"))
    if not user or b"\0" in user:
        raise CommandRefused("no name")
    return name, user, password


def external(name: bytes, _: "Helper") -> "Steps":
    """EXTERNAL (RFC 4422 appendix A): whose mail, if anybody's; the certificate of the client's is all else."""
    whose = argument((yield b""))
    if b"\0" in whose:
        raise CommandRefused("NUL in a name")
    return name, whose


def scram(name: bytes, helper: "Helper") -> "Steps":
    """SCRAM (RFC 5802, 7677): the helper asks twice, the second time with a proof of its own."""
    first = client_first((yield b""))
    challenge = helper.ask(name, *first)
    if challenge is None:
        return None
    try:
        challenge = helper.ask(FINAL, *client_final((yield challenge)))
        if challenge is not None:
            if (yield challenge):
                raise CommandRefused("nothing was asked for")
            helper.tell(END_EXCHANGE)
    except (GeneratorExit, CommandRefused):
        helper.tell(CANCEL_EXCHANGE)
        raise
    return None


def client_first(message: bytes) -> tuple[bytes, ...]:
    """The parts of a client-first-message (RFC 5802 section 7): channel binding flag, its kind, whose mail, name,
    nonce, what else there is. Raises CommandRefused.
    """
    flag, _, rest = message.partition(b",")
    flag, equals, kind = flag.partition(b"=")
    whose, _, bare = rest.partition(b",")
    name, _, rest = bare.partition(b",")
    nonce, _, more = rest.partition(b",")
    if (
        flag not in (b"n", b"y", b"p")
        or bool(equals) != (flag == b"p")
        or bool(equals) != bool(kind)
        or (whose and (not whose.startswith(b"a=") or whose == b"a="))
        or not name.startswith(b"n=")
        or not nonce.startswith(b"r=")
    ):
        raise CommandRefused("not a message of SCRAM")
    return flag, part(kind), saslname(whose[2:]), saslname(name[2:]), nonce_of(nonce[2:], MOST_OF_NONCE), part(more)


def client_final(message: bytes) -> tuple[bytes, ...]:
    """The parts of a client-final-message: what the channel is bound to, nonce, what else there is, proof.

    Raises CommandRefused.
    """
    without, comma, proof = message.rpartition(b",p=")
    binding, _, rest = without.partition(b",")
    nonce, _, more = rest.partition(b",")
    if not comma or not binding.startswith(b"c=") or not nonce.startswith(b"r="):
        raise CommandRefused("not a message of SCRAM")
    return octets_of(binding[2:]), nonce_of(nonce[2:]), part(more), octets_of(proof)


def saslname(text: bytes) -> bytes:
    """A name in which a comma is `=2C` and an equals sign `=3D`. Raises CommandRefused."""
    name = text.replace(b"=2C", b",").replace(b"=3D", b"=")
    if b"\0" in text or text.count(b"=") != text.count(b"=2C") + text.count(b"=3D"):
        raise CommandRefused("not a name of SCRAM")
    return argument(name)


# In the order in which a client that takes the first one it knows should have them.
MECHANISMS = {
    name: Mechanism(name, FIRST_BIT << place, steps)
    for place, (name, steps) in enumerate(
        (
            (b"EXTERNAL", external),
            (b"SCRAM-SHA-256-PLUS", scram),
            (b"SCRAM-SHA-256", scram),
            (b"SCRAM-SHA-1-PLUS", scram),
            (b"SCRAM-SHA-1", scram),
            (b"PLAIN", plain),
            (b"LOGIN", login),
        )
    )
}


def allowed(may: int) -> list[str]:
    """The names of the mechanisms that a client may use, which may do what `may` says."""
    return [name.decode() for name, mechanism in MECHANISMS.items() if may & mechanism.may]
