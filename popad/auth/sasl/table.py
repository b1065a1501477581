"""The mechanisms: what the preauth child says first of each, and what becomes of that."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from popad.auth.identity import Account
    from popad.auth.sasl.attempt import Attempt, Client, Talk
    from popad.settings import Settings

    class Source(Protocol):
        """Where accounts are known. All raise what identity.py defines."""

        refused_soonest: float  # seconds, see helper.refused_after()

        def authenticate(self, name: str, password: bytes, rhost: str) -> Account: ...
        def vouch(self, name: str, rhost: str) -> Account: ...

    Begin = Callable[[Sequence[bytearray], Source, Client, Settings, Talk], Attempt]

from popad.auth.sasl.attempt import MOST_OCTETS, MOST_OF_NONCE
from popad.auth.sasl.external import WHOSE, External
from popad.auth.sasl.password import NAME_AND_PASSWORD, WHOSE_NAME_AND_PASSWORD, Password
from popad.auth.verdict import MAX_NAME
from popad.errors import ContractBroken
from popad.settings import sasl_mechanisms


class Mechanism:
    """A row: the octets that each field of the first message may have, behind the name, and how it begins."""

    def __init__(self, limits: "Sequence[int]", begin: "Begin") -> None:
        self.limits = limits
        self.begin = begin


def password(
    message: "Sequence[bytearray]", source: "Source", _client: "Client", _settings: "Settings", _talk: "Talk"
) -> "Attempt":
    """A name and a password, however they came."""
    return Password(message, source)


def external(
    message: "Sequence[bytearray]", source: "Source", client: "Client", _settings: "Settings", _talk: "Talk"
) -> "Attempt":
    """A certificate, which was shown before."""
    return External(message, source, client)


def scram(
    message: "Sequence[bytearray]", source: "Source", client: "Client", settings: "Settings", talk: "Talk"
) -> "Attempt":
    """A dialogue, which is at its proof when this returns."""
    from popad.auth.credentials import File  # which have OpenSSL's hashes: not for who has PAM
    from popad.auth.sasl.scram import Scram

    if not isinstance(source, File):
        raise ContractBroken("SCRAM where there are no verifiers")
    return Scram(message, source, client, settings, talk)


# SCRAM's first message: channel binding flag, its kind, whose mail, name, nonce, what else there is.
FIRST = (1, MOST_OCTETS, MAX_NAME, MAX_NAME, MOST_OF_NONCE, MOST_OCTETS)
MECHANISMS = {
    b"USER": Mechanism(NAME_AND_PASSWORD, password),
    b"PLAIN": Mechanism(WHOSE_NAME_AND_PASSWORD, password),
    b"LOGIN": Mechanism(NAME_AND_PASSWORD, password),
    b"EXTERNAL": Mechanism(WHOSE, external),
    b"SCRAM-SHA-256": Mechanism(FIRST, scram),
    b"SCRAM-SHA-256-PLUS": Mechanism(FIRST, scram),
    b"SCRAM-SHA-1": Mechanism(FIRST, scram),
    b"SCRAM-SHA-1-PLUS": Mechanism(FIRST, scram),
}
SHAPES = {name: row.limits for name, row in MECHANISMS.items()}


def begin(source: "Source", client: "Client", settings: "Settings", talk: "Talk") -> "Attempt":
    """What the child begins with. Raises ContractBroken, Cancelled, TimeoutError and Unavailable."""
    message = talk.hear(SHAPES)
    name = bytes(message[0])
    if name != b"USER" and name.removesuffix(b"-PLUS").decode() not in sasl_mechanisms(settings):
        raise ContractBroken("a mechanism that is not offered")
    return MECHANISMS[name].begin(message, source, client, settings, talk)
