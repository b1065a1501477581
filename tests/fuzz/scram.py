"""What a preauth child says of SCRAM, whatever it is, gets nobody in without the password, and ends in an error which
the helper knows.
"""

from popad.auth import verifiers
from popad.auth.identity import Account, LoginFailed, Unavailable
from popad.auth.sasl.attempt import Cancelled, Client, Silent, Talk
from popad.auth.sasl.scram import CANCEL, FINAL, SECOND_SHAPES, Scram
from popad.auth.sasl.table import SHAPES
from popad.errors import ContractBroken
from popad.privsep.channel import LENGTH, unpack
from popad.settings import Settings
from tests.fuzz.cutting import Octets

VERIFIER = verifiers.make(b"secret", "SCRAM-SHA-256", 1, b"saltsalt")
SETTINGS = Settings({"POPAD_AUTH": "file"})
NAMES = (b"SCRAM-SHA-256", b"SCRAM-SHA-256-PLUS")


class File:
    """Has one user."""

    def for_proof(self, name: str, scheme: str) -> tuple[verifiers.Verifier, Account | None]:
        return VERIFIER, Account(name) if name == "alice" else None


class Said(Talk):
    """A child that answers each challenge with what the input has."""

    def __init__(self, octets: Octets) -> None:
        self.octets = octets
        self.waited = 0.0

    def challenge(self, octets: bytes, shapes: object) -> list[bytearray]:
        assert len(octets) <= 1024
        which = (FINAL, CANCEL)[self.octets.number() % 8 == 7]
        return message(self.octets, which, SECOND_SHAPES[which])


def message(octets: Octets, name: bytes, limits: tuple[int, ...]) -> list[bytearray]:
    """Fields as a channel lets them through."""
    fields = [name]
    for limit in limits:
        size = min(octets.number() * ((limit > 255 and octets.number() % 3) or 1), limit)
        field = octets.rest()[:size]
        octets.place += len(field)
        fields.append(field)
    whole = b"".join(len(field).to_bytes(LENGTH, "big") + field for field in fields)
    return unpack(bytearray(whole), (len(name), *limits))


def try_one(data: bytes) -> None:
    octets = Octets(data)
    name = NAMES[octets.number() % 2]
    client = Client("192.0.2.7", b"d" * 32 if octets.number() % 2 else b"")
    first = message(octets, name, tuple(SHAPES[name]))
    try:
        attempt = Scram(first, File(), client, SETTINGS, Said(octets))  # type: ignore[arg-type]  # as much as is used
        attempt.prove("alice", "192.0.2.7")
    except (Cancelled, Silent, ContractBroken, LoginFailed, Unavailable):
        return
    raise AssertionError("without the password")
