"""SCRAM (RFC 5802, RFC 7677): client and server show each other that they know the password, and neither says it.

A name that nobody has is asked the same way, and refused like one whose proof is wrong.
"""

import base64
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from popad.auth.credentials import File
    from popad.auth.identity import Account
    from popad.settings import Settings

from popad.auth import identity
from popad.auth.identity import LoginFailed, Unknown
from popad.auth.sasl.attempt import MOST_OCTETS, Attempt, Cancelled, Client, Talk
from popad.errors import ContractBroken

PLUS = "-PLUS"  # behind the name of a scheme: with channel binding
BINDING = b"tls-server-end-point"  # RFC 5929 section 4: the one that Python's ssl can be asked for
# Of the client's second message: what it thinks the channel is, nonce, what else there is, proof.
FINAL, END, CANCEL = b"final", b"end", b"cancel"
SECOND_SHAPES = {FINAL: (MOST_OCTETS, MOST_OCTETS, MOST_OCTETS, MOST_OCTETS), CANCEL: ()}
LAST_SHAPES: "dict[bytes, Sequence[int]]" = {END: (), CANCEL: ()}
NONCE_OCTETS = 18  # of the server's part, before base64


class Scram(Attempt):
    """The dialogue up to the proof; what is left is to look at it."""

    def __init__(
        self, message: "Sequence[bytearray]", file: "File", client: Client, settings: "Settings", talk: Talk
    ) -> None:
        """Raises Cancelled, ContractBroken, Unavailable."""
        mechanism, flag, kind, whose, name, nonce, more = map(bytes, message)
        super().__init__(mechanism, name, whose)
        self.talk = talk
        scheme = mechanism.decode("ascii").removesuffix(PLUS)
        binds = mechanism.endswith(PLUS.encode())
        check_nonce(nonce)
        check_more(more)
        self.wrong = why_wrong(flag, kind, client, binds=binds)
        try:
            user = identity.user_of(name, settings)
        except Unknown:
            user = name.decode("utf-8", "surrogateescape")
        self.verifier, self.account = file.for_proof(user, scheme)
        bare = b"n=%b,r=%b" % (saslname(name), nonce) + (b"," + more if more else b"")
        gs2 = b"%b,%b," % (flag + (b"=" + kind if kind else b""), b"a=" + saslname(whose) if whose else b"")
        nonce += base64.b64encode(os.urandom(NONCE_OCTETS))
        salt = base64.b64encode(self.verifier.salt)
        server_first = b"r=%b,s=%b,i=%d" % (nonce, salt, self.verifier.iterations)
        answer = talk.challenge(server_first, SECOND_SHAPES)
        if answer[0] == CANCEL:
            raise Cancelled("the client cancelled it")
        channel, client_nonce, more, self.proof = map(bytes, answer[1:])
        check_more(more)
        if client_nonce != nonce:
            self.wrong = self.wrong or "the nonce is another one"
        if channel != gs2 + (client.binding if binds else b""):
            self.wrong = (
                self.wrong or "the channel binding is another one: somebody is between the client and this host"
            )
        final = b"c=%b,r=%b" % (base64.b64encode(channel), client_nonce) + (b"," + more if more else b"")
        self.auth_message = b",".join((bare, server_first, final))
        self.secret = bytearray(self.proof)  # never the same twice: each wrong one is a guess

    def prove(self, user: str, _: str) -> "Account":
        """Takes a moment, the same for all."""
        proved = self.verifier.is_proved(self.proof, self.auth_message)
        if self.account is None:
            raise Unknown("the name is not in the credentials file, or not for this mechanism")
        if self.wrong:
            raise LoginFailed(self.wrong)
        if not proved or self.account.name != user:
            raise LoginFailed("wrong proof of a password")
        return self.account

    def confirm(self) -> None:
        """Show the client that this server has the verifier; it may not like what it sees."""
        signature = base64.b64encode(self.verifier.signature(self.auth_message))
        if self.talk.challenge(b"v=" + signature, LAST_SHAPES)[0] == CANCEL:
            raise Cancelled("the client does not believe that this is its server")


def why_wrong(flag: bytes, kind: bytes, client: Client, *, binds: bool) -> str:
    """What is wrong with what the client says of channel binding (RFC 5802 section 6); "" for nothing."""
    if flag not in (b"n", b"y", b"p") or bool(kind) != (flag == b"p"):
        raise ContractBroken("a message of SCRAM that no client has sent")
    if binds != (flag == b"p"):
        return "channel binding where the mechanism has none" if flag == b"p" else "no channel binding with -PLUS"
    if binds and (kind != BINDING or not client.binding):
        return "another channel binding than there is"
    if flag == b"y" and client.binding:
        return "the client was told that there is no channel binding: somebody is between it and this host"
    return ""


def check_nonce(nonce: bytes) -> None:
    """Raises ContractBroken: the child has let through what is no nonce."""
    if not nonce or any(not 0x21 <= octet <= 0x7E or octet == ord(",") for octet in nonce):
        raise ContractBroken("a nonce with what may not be in one")


def check_more(more: bytes) -> None:
    """Extensions are not known and change nothing, but belong to what is signed. Raises ContractBroken."""
    if b"\0" in more or b"\n" in more or b"\r" in more:
        raise ContractBroken("an extension with what may not be in one")


def saslname(name: bytes) -> bytes:
    """A name as it stands in a message."""
    return name.replace(b"=", b"=3D").replace(b",", b"=2C")
