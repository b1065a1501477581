"""Who asks a helper in a process of its own: the monitor, and the preauth child that speaks for a client."""

import base64

from popad.auth.helper import Helper
from popad.auth.verdict import VERDICT_LIMITS, Verdict, unpack_verdict
from popad.errors import ContractBroken
from popad.privsep import spawn
from popad.privsep.channel import Channel, message_pair
from popad.protocol.sasl import FINAL, MOST_OCTETS, client_final, client_first
from tests.support.patience import PATIENCE
from tests.support.scram import ScramClient

CHALLENGE_OCTETS = 1024


class Asking:
    """One request, and the channel of the child."""

    def __init__(self, made: Helper, rhost: bytes = b"192.0.2.7", binding: bytes = b"", certified: bytes = b"") -> None:
        self.child = spawn.with_channel(made.serve)
        self.credentials, theirs = (Channel(end) for end in message_pair())
        self.child.channel.send((rhost, binding, certified), theirs.fileno())
        self.theirs = theirs  # as the monitor, which keeps it

    def say(self, *fields: bytes) -> None:
        self.credentials.send(fields)

    def hear(self) -> bytes | None:
        """A challenge; None where there is a verdict in its place."""
        try:
            return bytes(self.credentials.receive((CHALLENGE_OCTETS,), PATIENCE)[0])
        except ContractBroken:
            return None

    def verdict(self) -> Verdict:
        try:
            return unpack_verdict(self.child.channel.receive(VERDICT_LIMITS, PATIENCE))
        finally:
            self.credentials.close()
            self.theirs.close()
            self.child.end()

    def begin(self, client: ScramClient) -> bytes | None:
        """The first message of SCRAM, as the child takes it apart; the answer."""
        self.say(client.scheme.encode(), *client_first(client.first()))
        return self.hear()

    def prove(self, client: ScramClient) -> bytes | None:
        """All of it but the last word; the server's signature, if there is one."""
        first = self.begin(client)
        if first is None:
            return None
        self.say(FINAL, *client_final(client.final(first)))
        return self.hear()


def cut(octets: bytes) -> bytes:
    """As much of a field as a message may have."""
    return octets[:MOST_OCTETS]


def decoded(text: bytes) -> bytes:
    return base64.b64decode(text)
