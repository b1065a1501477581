"""The header that a proxy sends in front of a client's octets: PROXY protocol, versions 1 and 2 (haproxy.org,
proxy-protocol.txt of 2.8). Not one octet behind it is read.

Version 2's checksum (PP2_TYPE_CRC32C) is not looked at: TCP has one.
"""

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

from popad.protocol.authorization import PROXY_HEADERS

OLD_SIGNATURE, SIGNATURE = PROXY_HEADERS  # of version 1 (section 2.1) and 2 (section 2.2)
OLD_OCTETS = 107  # the longest header of version 1, section 2.1
MOST_OCTETS = 4096  # of a header of version 2 that is read: addresses, and what a proxy says of TLS
LOCAL, PROXIED = 0x20, 0x21  # version and command
FAMILIES = {0x11: (_socket.AF_INET, 4), 0x21: (_socket.AF_INET6, 16)}  # TCP; octets of an address
OLD_FAMILIES = {b"TCP4": _socket.AF_INET, b"TCP6": _socket.AF_INET6}
# What version 2 can say beside addresses: of TLS, its version, its cipher (section 2.2.6).
SSL, SSL_VERSION, SSL_CIPHER = 0x20, 0x21, 0x23
CLIENT_SSL = 0x01  # the client has connected over TLS
MOST_WORD = 64


class HeaderWrong(Exception):
    """There is no header, or one that says nothing of a client. The text is for the journal."""


class Header:
    """Who has connected to the proxy; no address where that is the proxy itself."""

    def __init__(self, address: str = "", port: int = 0, version: str = "", cipher: str = "") -> None:
        """`version` and `cipher`: of TLS between the client and the proxy; empty where there is none."""
        self.address = address
        self.port = port
        self.version = version
        self.cipher = cipher

    def pack(self) -> list[bytes]:
        """For unpack()."""
        return [self.address.encode(), b"%d" % self.port, self.version.encode(), self.cipher.encode()]


LIMITS = (46, 5, MOST_WORD, MOST_WORD)


def unpack(fields: "list[bytearray]") -> Header:
    """What pack() made. Raises ValueError for what it cannot have made."""
    address, port, version, cipher = (field.decode("ascii") for field in fields)
    if address:
        family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
        if canonical(family, address) != address:
            raise ValueError("an address that is none")
    if not port.isdigit() or int(port) > 0xFFFF or not (version + cipher).isprintable():
        raise ValueError("a header that nobody has sent")
    return Header(address, int(port), version, cipher)


def canonical(family: int, address: str) -> str:
    """An address as all others write it. Raises ValueError."""
    try:
        return _socket.inet_ntop(family, _socket.inet_pton(family, address))
    except OSError:
        raise ValueError("no address") from None


def read(take: "Callable[[int], bytes]") -> Header:
    """The header, of `take`, which reads exactly so many octets. Raises HeaderWrong, and what `take` raises."""
    begin = take(len(SIGNATURE))
    if begin == SIGNATURE:
        kind, family, *length = take(4)
        if (octets := int.from_bytes(length, "big")) > MOST_OCTETS:
            raise HeaderWrong(f"a PROXY header of {octets} octets")
        return parse(kind, family, take(octets))
    if not begin.startswith(OLD_SIGNATURE):
        raise HeaderWrong("no PROXY header")
    line = begin
    while not line.endswith(b"\n"):
        if len(line) >= OLD_OCTETS:
            raise HeaderWrong("a PROXY header without an end")
        line += take(1)
    return parse_line(line)


def parse_line(line: bytes) -> Header:
    """A header of version 1 (section 2.1). Raises HeaderWrong."""
    words = line.removesuffix(b"\r\n").split(b" ")
    if line.endswith(b"\r\n") and words[1] == b"UNKNOWN":
        return Header()
    try:
        if len(words) != 6 or not line.endswith(b"\r\n"):
            raise ValueError
        family = OLD_FAMILIES[words[1]]
        source, _ = (canonical(family, word.decode("ascii")) for word in words[2:4])
        port, _ = map(port_of, words[4:])
    except (KeyError, ValueError):
        raise HeaderWrong("a PROXY header that cannot be understood") from None
    return Header(source, port)


def port_of(word: bytes) -> int:
    """A port in decimal digits. Raises ValueError."""
    if not word.isdigit() or len(word) > 5 or int(word) > 0xFFFF or (word != b"0" and word.startswith(b"0")):
        raise ValueError("no port")
    return int(word)


def parse(kind: int, family: int, rest: bytes) -> Header:
    """A header of version 2 behind its first 16 octets (section 2.2). Raises HeaderWrong."""
    if kind == LOCAL:
        return Header()
    if kind != PROXIED:
        raise HeaderWrong("a PROXY header of another version, or with another command")
    if family not in FAMILIES:
        raise HeaderWrong("a PROXY header for a client without an address of TCP")
    kind_of_address, octets = FAMILIES[family]
    if len(rest) < 2 * octets + 4:
        raise HeaderWrong("a PROXY header that is cut short")
    source = _socket.inet_ntop(kind_of_address, rest[:octets])
    port = int.from_bytes(rest[2 * octets : 2 * octets + 2], "big")
    version = cipher = ""
    for what, value in values(rest[2 * octets + 4 :]):
        # Of a client that has not come over TLS itself (but over a connection that has been) nothing is promised.
        if what == SSL and len(value) >= 5 and value[0] & CLIENT_SSL:
            said = dict(values(value[5:]))
            version = word_of(said.get(SSL_VERSION, b"")) or "TLS"
            cipher = word_of(said.get(SSL_CIPHER, b""))
    return Header(source, port, version, cipher)


def values(octets: bytes) -> "Iterator[tuple[int, bytes]]":
    """Types and values, each behind its length. Raises HeaderWrong."""
    while octets:
        begin, end = 3, 3 + int.from_bytes(octets[1:3], "big")
        if end > len(octets) or len(octets) < begin:
            raise HeaderWrong("a PROXY header with a part that is cut short")
        yield octets[0], octets[begin:end]
        octets = octets[end:]


def word_of(octets: bytes) -> str:
    """Printable ASCII, or nothing."""
    word = octets[:MOST_WORD]
    return word.decode() if word.isascii() and word.decode().isprintable() else ""
