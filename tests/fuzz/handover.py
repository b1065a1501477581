"""A message between processes is either exactly the fields that were allowed, or an end of the session; and what was
unpacked is wiped.
"""

from popad.auth import verdict
from popad.auth.sasl.password import NAME_AND_PASSWORD
from popad.auth.sasl.table import FIRST
from popad.errors import ContractBroken
from popad.privsep.channel import LENGTH, unpack
from popad.session.preauth import MAX_AHEAD
from tests.fuzz.cutting import Octets

SHAPES = ((8, MAX_AHEAD), NAME_AND_PASSWORD, FIRST, verdict.REQUEST_LIMITS, verdict.VERDICT_LIMITS, (), (0,), (3, 3))


def expected(message: bytes, limits: tuple[int, ...]) -> list[bytes] | None:
    """The fields, read one after the other; None where the message is not what is allowed."""
    fields = []
    for limit in limits:
        length, message = message[:LENGTH], message[LENGTH:]
        if len(length) < LENGTH or (size := int.from_bytes(length, "big")) > min(limit, len(message)):
            return None
        fields.append(message[:size])
        message = message[size:]
    return None if message else fields


def framed(octets: Octets) -> bytes:
    """A message that is nearly right: fields with their lengths, some of them wrong."""
    message = b""
    for size in octets.numbers():
        field = octets.rest()[:size]
        octets.place += len(field)
        message += (len(field) + (octets.number() == 7)).to_bytes(LENGTH, "big") + field
    return message


def try_one(data: bytes) -> None:
    octets = Octets(data)
    limits = SHAPES[octets.number() % len(SHAPES)]
    message = framed(octets) + octets.rest()
    received = bytearray(message)
    try:
        fields: list[bytearray] | None = unpack(received, limits)
    except ContractBroken:
        fields = None
    assert fields == expected(message, limits)
    if fields is not None:
        assert not any(received)
