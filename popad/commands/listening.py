"""Whether a socket unit listens where it is to, for `popad check`: a drop-in for it counts when it is restarted, and
not when it is written.
"""

import ipaddress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

from popad.commands.units import DAEMON, SHAPES

LISTENS = "0A"  # TCP_LISTEN, as /proc/net/tcp shows it
RESTART = {
    shape: "systemctl stop popad, then systemctl start popad" if shape == DAEMON else f"systemctl restart {shape}"
    for shape in SHAPES
}
Address = tuple[str, int]


def wrong_listening(shape: str, shown: "Mapping[str, str]") -> "Iterator[str]":
    """What is configured for the shape's socket and nobody listens on. Nothing of a socket that is not active."""
    if shown.get("ActiveState") != "active":
        return
    there = listening()
    for address, port in configured(shown.get("Listen", "")):
        if not {(address, port), ("0.0.0.0", port) if address == "::" else (address, port)} & there:
            text = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            yield f"{SHAPES[shape][0]}: is to listen on {text} and does not: {RESTART[shape]}"


def configured(shown: str) -> "Iterator[Address]":
    """The addresses and ports of Listen= as systemd shows it: `[::]:110 (Stream) 192.0.2.1:110 (Stream)`."""
    for word in shown.split():
        host, colon, port = word.rpartition(":")
        if colon and port.isdigit():
            try:
                yield str(ipaddress.ip_address(host.strip("[]"))), int(port)
            except ValueError:
                continue  # an interface, say


def address_of(text: str) -> Address:
    """What is typed as 192.0.2.1:110 or [2001:db8::1]:110. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ValueError(f"{text}: expected ADDRESS:PORT or [ADDRESS]:PORT")
    return str(ipaddress.ip_address(host.strip("[]"))), int(port)


def listening() -> "set[Address]":
    """Where somebody listens for TCP on this host. Empty where the kernel does not show it."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as rows:
                fields = [row.split() for row in rows][1:]
        except OSError:
            continue
        for row in fields:
            if row[3] == LISTENS:
                host, _, port = row[1].partition(":")
                found.add((unpacked(host), int(port, 16)))
    return found


def unpacked(digits: str) -> str:
    """An address as the kernel shows it there: words of 32 bits, in the order of this machine."""
    octets = b"".join(bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8))
    return str(ipaddress.ip_address(octets))
