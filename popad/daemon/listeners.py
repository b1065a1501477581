"""Where the standalone daemon listens: sockets passed by systemd, addresses that it was given, or every address."""

import errno
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

from popad.net.activation import all_passed_by_systemd

POP3_PORT = 110  # where services(5) does not say
BACKLOG = 65535  # the kernel cuts it to net.core.somaxconn: a burst waits there
NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def passed(environ: "os._Environ[str]") -> list[socket.socket]:
    """The listening sockets that systemd has passed (Accept=no), if any. Raises ValueError for other sockets."""
    fds = all_passed_by_systemd(environ)
    if fds:
        from systemd.daemon import is_socket_inet  # not in the memory of a daemon that listens itself

        if not all(is_socket_inet(fd, type=socket.SOCK_STREAM, listening=1) for fd in fds):
            raise ValueError("systemd has passed a socket that does not listen for TCP (Accept=no, ListenStream=)")
    return [socket.socket(fileno=fd) for fd in fds]


def listening(addresses: "Sequence[str]", families: frozenset[int]) -> list[socket.socket]:
    """Sockets that listen: on `addresses` (ADDRESS:PORT, or :PORT for every address), or on every address and the POP3
    port. Raises OSError and ValueError.

    `families`: IPv4, IPv6, or both, for every address.
    """
    if not addresses:
        return [everywhere(pop3_port(), families)]
    return [
        everywhere(port_of(address[1:], address), families) if address.startswith(":") else listen(*address_of(address))
        for address in addresses
    ]


def everywhere(port: int, families: frozenset[int]) -> socket.socket:
    """A socket for every address; on a host without IPv6 both families are IPv4 alone. Raises OSError."""
    if socket.AF_INET6 in families:
        try:
            return listen(socket.AF_INET6, ("::", port), dual_stack=socket.AF_INET in families)
        except OSError as error:
            if (
                not isinstance(error.__cause__, OSError)
                or error.__cause__.errno not in NO_IPV6
                or socket.AF_INET not in families
            ):
                raise
    return listen(socket.AF_INET, ("0.0.0.0", port))


def pop3_port() -> int:
    """The port of services(5)."""
    try:
        return socket.getservbyname("pop3", "tcp")
    except OSError:
        return POP3_PORT


def address_of(text: str) -> tuple[int, tuple[str, int]]:
    """192.0.2.1:110 or [2001:db8::1]:110 as family and address. Raises ValueError."""
    host, _, port = text.rpartition(":")
    number = port_of(port if host else "", text)
    family = socket.AF_INET6 if host.startswith("[") and host.endswith("]") else socket.AF_INET
    try:
        socket.inet_pton(family, host.strip("[]"))
    except OSError:
        raise ValueError(f"{text}: {host} is not an address") from None
    return family, (host.strip("[]"), number)


def port_of(digits: str, text: str) -> int:
    """A port as it was typed in `text`. Raises ValueError."""
    if not (digits.isascii() and digits.isdigit()) or not 0 < int(digits) < 65536:
        raise ValueError(f"{text}: expected ADDRESS:PORT, [ADDRESS]:PORT or :PORT")
    return int(digits)


def listen(family: int, address: tuple[str, int], dual_stack: bool = False) -> socket.socket:
    """A listening socket. Raises OSError that names the address."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        raise OSError(f"{host}:{address[1]}: {error.strerror}") from error
    return listener
