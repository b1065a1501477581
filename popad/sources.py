"""What counts as one source of connections and of guesses: an IPv4 address, or a network of IPv6 addresses."""

import _socket

IPV4_MAPPED = bytes(10) + b"\xff\xff"


def source_of(address: str, ipv6_prefix: int) -> bytes:
    """The source that `address` belongs to: 4 octets, or 16 with all but the first `ipv6_prefix` bits cleared.

    What is no address is a source of its own.
    """
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    try:
        packed = _socket.inet_pton(family, address.partition("%")[0])
    except (OSError, ValueError):
        return address.encode("utf-8", "surrogateescape")
    if packed.startswith(IPV4_MAPPED):
        return packed[len(IPV4_MAPPED) :]
    if family == _socket.AF_INET:
        return packed
    cleared = 128 - ipv6_prefix
    return (int.from_bytes(packed, "big") >> cleared << cleared).to_bytes(16, "big")
