"""daemon/listeners.py: where the daemon listens, and what it says where it cannot."""

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from popad.daemon import listeners
from tests.support.daemon import free_ports

BOTH = frozenset((socket.AF_INET, socket.AF_INET6))
V4, V6 = frozenset((socket.AF_INET,)), frozenset((socket.AF_INET6,))


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A free one in place of 110."""
    (port,) = free_ports(socket.AF_INET6, "::")
    monkeypatch.setattr(listeners, "pop3_port", lambda: port)
    yield port


def reaches(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize(
    ("families", "expected"), [(BOTH, (True, True)), (V4, (True, False)), (V6, (False, True))], ids=["", "-4", "-6"]
)
def test_every_address_of_the_families(port: int, families: frozenset[int], expected: tuple[bool, bool]) -> None:
    sockets = listeners.listening([], families)
    try:
        assert (reaches("127.0.0.1", port), reaches("::1", port)) == expected
    finally:
        for each in sockets:
            each.close()


def test_every_address_and_a_port(port: int) -> None:
    (only,) = listeners.listening([f":{port}"], BOTH)
    try:
        assert (reaches("127.0.0.1", port), reaches("::1", port)) == (True, True)
    finally:
        only.close()


@pytest.mark.parametrize("reason", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_host_without_ipv6(port: int, monkeypatch: pytest.MonkeyPatch, reason: int) -> None:
    """Both is IPv4 alone there; -6 is an error."""

    class Host(socket.socket):
        def bind(self, address: Any, /) -> None:
            if self.family == socket.AF_INET6:
                raise OSError(reason, os.strerror(reason))
            super().bind(address)

    monkeypatch.setattr("socket.socket", Host)
    for addresses in ([], [f":{port}"]):
        (only,) = listeners.listening(addresses, BOTH)
        assert only.family == socket.AF_INET
        only.close()
    with pytest.raises(OSError, match=f"::.:{port}"):
        listeners.listening([], V6)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"^127.0.0.1:{port}: Address already in use"):
            listeners.listening([f"127.0.0.1:{port}"], BOTH)


def test_an_address_of_another_host_is_named() -> None:
    with pytest.raises(OSError, match=r"^192\.0\.2\.1:8110: Cannot assign requested address"):
        listeners.listening(["192.0.2.1:8110"], BOTH)


def test_addresses() -> None:
    assert listeners.address_of("192.0.2.1:110") == (socket.AF_INET, ("192.0.2.1", 110))
    assert listeners.address_of("[2001:db8::1]:65535") == (socket.AF_INET6, ("2001:db8::1", 65535))
    assert listeners.address_of("[::]:1") == (socket.AF_INET6, ("::", 1))


@pytest.mark.parametrize(
    "text",
    [
        *("", "110", ":110", "192.0.2.1", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:pop3"),
        *("192.0.2.1:-1", "192.0.2.1:\u0661", "::1:110", "2001:db8::1:110", "[192.0.2.1]:110", "[::1]", "[::1:110"),
        *("localhost:110", "192.0.2:110", "192.0.2.1 :110"),
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        listeners.address_of(text)


def test_the_port_of_services(monkeypatch: pytest.MonkeyPatch) -> None:
    assert listeners.pop3_port() == 110

    def unknown(name: str, protocol: str) -> int:
        raise OSError("service/proto not found")

    monkeypatch.setattr("socket.getservbyname", unknown)
    assert listeners.pop3_port() == 110


def passed(monkeypatch: pytest.MonkeyPatch, one: socket.socket) -> list[socket.socket]:
    monkeypatch.setattr("popad.daemon.listeners.all_passed_by_systemd", lambda environ: [one.detach()])
    return listeners.passed(os.environ)


def test_passed_by_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    address = server.getsockname()
    (listener,) = passed(monkeypatch, server)
    assert listener.getsockname() == address
    listener.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the daemon ends there
@pytest.mark.parametrize("kind", ["udp", "unix", "connected"])
def test_other_sockets_passed_by_systemd(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    one, other = socket.socketpair()
    with other:
        if kind == "udp":
            one.close()
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if kind == "connected":
            one.close()
            one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with pytest.raises(ValueError, match="does not listen for TCP"):
            passed(monkeypatch, one)
