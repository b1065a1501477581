"""One attempt to log in: what a mechanism knows of it, and the talk with the preauth child that it may need."""

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol

    from popad.auth.identity import Account

    class Channel(Protocol):
        """Messages to and from the preauth child: popad.privsep.channel.Channel."""

        def send(self, fields: Sequence[bytes]) -> None: ...
        def receive_request(self, shapes: Mapping[bytes, Sequence[int]], timeout: float | None) -> list[bytearray]: ...


from popad.errors import ContractBroken

# Octets of what the child may say besides names: of a part of a message, of what a client makes up for an exchange.
MOST_OCTETS, MOST_OF_NONCE = 512, 256
LONGEST = 30.0  # seconds that a client may think about a challenge


class Cancelled(Exception):
    """The client does not go on with it, which says nothing about a password: it may begin anew."""


class Silent(Exception):
    """The client does not answer."""


class Client:
    """What the monitor says of a client; the preauth child has no part in it."""

    def __init__(self, rhost: str, binding: bytes = b"", certified: str = "") -> None:
        """`binding`: the digest of the certificate that the client was shown (tls-server-end-point, RFC 5929).
        `certified`: the name in the client's own. Empty where there is none.
        """
        self.rhost = rhost
        self.binding = binding
        self.certified = certified


class Talk:
    """The way to the preauth child, and through it to the client."""

    def __init__(self, channel: "Channel", patience: float) -> None:
        """`patience`: seconds in which each message has to come."""
        self.channel = channel
        self.patience = patience
        self.waited = 0.0  # for answers to challenges

    def hear(self, shapes: "Mapping[bytes, Sequence[int]]") -> list[bytearray]:
        """A message of one of these shapes. Raises ContractBroken, TimeoutError."""
        return self.channel.receive_request(shapes, self.patience)

    def challenge(self, octets: bytes, shapes: "Mapping[bytes, Sequence[int]]") -> list[bytearray]:
        """What is said to this challenge. Raises Cancelled, ContractBroken, Silent."""
        asked = time.monotonic()
        try:
            self.channel.send((octets,))
            return self.channel.receive_request(shapes, min(self.patience, LONGEST))
        except TimeoutError:
            raise Silent from None
        except ConnectionError:
            raise Cancelled("the client left") from None
        finally:
            self.waited += time.monotonic() - asked


class Attempt:
    """Base of all mechanisms. Names are as the client has typed them."""

    def __init__(self, mechanism: bytes, name: bytes, whose: bytes = b"", secret: bytearray | None = None) -> None:
        """`whose`: the authorization identity (RFC 4422 section 2), the mail's owner; empty for the name itself.
        `secret`: what a guess at this account is known by.
        """
        self.mechanism = mechanism
        self.name = name
        self.whose = whose
        self.secret = bytearray() if secret is None else secret

    def prove(self, user: str, rhost: str) -> "Account":
        """The account of `user`, who the name means. Raises what identity.py defines, whoever that is in the time that
        it takes.
        """
        raise NotImplementedError

    def confirm(self) -> None:
        """The login has passed; what there is to say before that is known. Raises Cancelled, ContractBroken."""

    def forget(self) -> None:
        """This process may live on."""
        self.secret[:] = bytes(len(self.secret))


def only(message: "Sequence[bytearray]", count: int) -> list[bytes]:
    """The fields of a message behind its first. Raises ContractBroken where one has a NUL."""
    fields = [bytes(field) for field in message[1:]]
    if len(fields) != count or any(b"\0" in field for field in fields):
        raise ContractBroken("a message with a NUL")
    return fields
