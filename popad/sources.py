"""What counts as one source of connections and of guesses: an IPv4 address, or a network of IPv6 addresses."""

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Network = tuple[bytes, int]  # an address of 4 or 16 octets, and how many of its bits count

IPV4_MAPPED = bytes(10) + b"\xff\xff"


def source_of(address: str, ipv6_prefix: int) -> bytes:
    """The source that `address` belongs to: 4 octets, or 16 with all but the first `ipv6_prefix` bits cleared.

    What is no address is a source of its own.
    """
    try:
        octets = packed(address)
    except (OSError, ValueError):
        return address.encode("utf-8", "surrogateescape")
    return octets if len(octets) == 4 else first_bits(octets, ipv6_prefix).to_bytes(16, "big")


def packed(address: str) -> bytes:
    """4 octets of an IPv4 address, also of one written as IPv6, or 16. Raises OSError and ValueError."""
    octets = _socket.inet_pton(_socket.AF_INET6 if ":" in address else _socket.AF_INET, address.partition("%")[0])
    return octets.removeprefix(IPV4_MAPPED)


def first_bits(octets: bytes, bits: int) -> int:
    """An address as a number, with all but its first `bits` bits cleared."""
    cleared = 8 * len(octets) - bits
    return int.from_bytes(octets, "big") >> cleared << cleared


def network(text: str) -> "Network":
    """ADDRESS or ADDRESS/BITS. Raises ValueError, and OSError for what is no address."""
    address, slash, length = text.partition("/")
    octets = packed(address)
    bits = int(length) if length.isascii() and length.isdigit() and len(length) < 4 else -1
    if not slash:
        bits = 8 * len(octets)
    if "%" in address or not 0 <= bits <= 8 * len(octets) or first_bits(octets, bits) != int.from_bytes(octets, "big"):
        raise ValueError("not a network")
    return octets, bits


def is_in(address: str, networks: "Iterable[Network]") -> bool:
    """Whether `address` belongs to one of them. What is no address belongs to none."""
    try:
        octets = packed(address)
    except (OSError, ValueError):
        return False
    return any(
        len(octets) == len(of) and first_bits(octets, bits) == int.from_bytes(of, "big") for of, bits in networks
    )
