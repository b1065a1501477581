"""commands/listening.py: Listen= as systemd shows it, and what the kernel says that listens."""

import socket

import pytest

from popad.commands.listening import configured, listening, unpacked, wrong_listening
from popad.commands.units import DAEMON, SOCKET


@pytest.mark.parametrize(
    ("shown", "addresses"),
    [
        ("[::]:110 (Stream)", [("::", 110)]),
        ("192.0.2.1:1110 (Stream) [2001:db8::1]:110 (Stream)", [("192.0.2.1", 1110), ("2001:db8::1", 110)]),
        ("/run/popad/x.sock (Stream)", []),
        ("", []),
    ],
)
def test_what_is_configured(shown: str, addresses: list[tuple[str, int]]) -> None:
    assert list(configured(shown)) == addresses


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_what_listens(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        place = address, listener.getsockname()[1]
        assert place not in listening()
        listener.listen()
        assert place in listening()
    assert place not in listening()


def test_addresses_of_the_kernel() -> None:
    """As x86 has them: each word of 32 bits with its last octet first."""
    assert unpacked("0100007F") == "127.0.0.1"
    assert unpacked("B80D0120000000000000000001000000") == "2001:db8::1"


def test_a_socket_that_does_not_listen_where_it_is_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        shown = {"ActiveState": "active", "Listen": f"127.0.0.1:{port} (Stream) 127.0.0.2:{port} (Stream)"}
        text = f"is to listen on 127.0.0.2:{port} and does not: systemctl "
        assert list(wrong_listening(SOCKET, shown)) == [f"popad.socket: {text}restart popad.socket"]
        (complaint,) = wrong_listening(DAEMON, shown)
        assert complaint == f"popad-standalone.socket: {text}stop popad, then systemctl start popad"
    assert list(wrong_listening(SOCKET, shown | {"ActiveState": "inactive"})) == []


def test_a_host_without_ipv6() -> None:
    """systemd listens on 0.0.0.0 in place of [::] there."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        shown = {"ActiveState": "active", "Listen": f"[::]:{server.getsockname()[1]} (Stream)"}
        assert list(wrong_listening(SOCKET, shown)) == []
