"""A header of a proxy is an address that others write the same, or an error; nothing behind it is read, and what the
monitor believes is what its reader can have said.
"""

import ipaddress

from popad.net import proxy
from popad.net.proxy import SIGNATURE, HeaderWrong, unpack
from tests.fuzz.cutting import Octets

BEGINNINGS = (
    b"",
    SIGNATURE,
    b"PROXY ",
    SIGNATURE + b"\x21\x11\x00\x0c",
    SIGNATURE + b"\x21\x21",
    b"PROXY TCP4 ",
    b"PROXY TCP6 ",
)
BEHIND = b"\x00BEHIND"


class End(Exception):
    """There is no more."""


def try_one(data: bytes) -> None:
    octets = Octets(data)
    text = BEGINNINGS[octets.number() % len(BEGINNINGS)] + octets.rest()
    whole, place = text + BEHIND, 0

    def take(count: int) -> bytes:
        nonlocal place
        if place + count > len(whole):
            raise End
        place += count
        return whole[place - count : place]

    try:
        said = proxy.read(take)
    except (HeaderWrong, End):
        return
    if text.startswith(SIGNATURE):
        assert place == 16 + int.from_bytes(whole[14:16], "big")
    else:
        assert whole[:place].count(b"\n") == 1
        assert whole[:place].endswith(b"\r\n")
    if said.address:
        ipaddress.ip_address(said.address)
    assert vars(unpack([bytearray(field) for field in said.pack()])) == vars(said)
    try:
        again = unpack([bytearray(field) for field in octets.rest().split(b",")[:4]])
    except ValueError:
        return
    assert not again.address or ipaddress.ip_address(again.address).compressed
