"""privsep/proxied.py: who reads the header, how long that may take, and what is believed."""

import os
import pwd
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from popad.errors import ContractBroken
from popad.net import proxy
from popad.net.connection import Connection
from popad.net.proxy import LIMITS, Header, HeaderWrong
from popad.privsep import proxied
from popad.privsep.proxied import believe, hear_of_client
from popad.settings import PREAUTH_UIDS
from tests.support.marks import needs_root
from tests.support.serving import PREAUTH_USER

HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 110\r\n"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Connection]]:
    client, server = socket.socketpair()
    connection = Connection(server.detach(), "127.0.0.1", 1)
    yield client, connection
    client.close()
    connection.socket.close()


def test_a_header_in_pieces(ends: tuple[socket.socket, Connection]) -> None:
    client, connection = ends

    def send() -> None:
        for octet in HEADER + b"CAPA\r\n":
            client.send(bytes([octet]))

    thread = threading.Thread(target=send)
    thread.start()
    header = hear_of_client(connection, None, 5)
    thread.join()
    assert (header.address, header.port) == ("192.0.2.7", 4660)
    assert connection.read(5) == b"CAPA\r\n"


@pytest.mark.parametrize(
    ("octets", "reason"), [(b"PROXY ", "in time"), (b"", "in time"), (b"CAPA\r\nCAPA\r\nQUIT\r\n", "no PROXY header")]
)
def test_no_header(ends: tuple[socket.socket, Connection], octets: bytes, reason: str) -> None:
    ends[0].send(octets)
    with pytest.raises(HeaderWrong, match=reason):
        hear_of_client(ends[1], None, 0.1)


def test_a_proxy_that_leaves(ends: tuple[socket.socket, Connection]) -> None:
    ends[0].send(HEADER[:10])
    ends[0].shutdown(socket.SHUT_WR)
    with pytest.raises(HeaderWrong, match="left"):
        hear_of_client(ends[1], None, 5)


@needs_root
def test_who_reads_it_can_do_nothing(ends: tuple[socket.socket, Connection], monkeypatch: pytest.MonkeyPatch) -> None:
    def look(_: object) -> Header:
        uid, gid = os.getuid(), os.getgid()
        try:
            os.open("/dev/null", os.O_RDONLY)
            opened = "opens"
        except OSError:
            opened = "opens nothing"
        raise HeaderWrong(f"{uid in PREAUTH_UIDS} {gid} {opened}")

    monkeypatch.setattr(proxy, "read", look)
    entry = pwd.getpwnam(PREAUTH_USER)
    identity = entry.pw_uid, entry.pw_gid
    with pytest.raises(HeaderWrong, match=f"True {identity[1]} opens nothing"):
        hear_of_client(ends[1], identity, 5)


@pytest.mark.parametrize("said", [(b"right", b"unknown", b"1", b"", b""), (b"right",), (b"left",), (b"wrong",), ()])
def test_a_reader_that_was_taken_over(
    ends: tuple[socket.socket, Connection], monkeypatch: pytest.MonkeyPatch, said: tuple[bytes, ...]
) -> None:
    class Taken:
        def pack(self) -> list[bytes]:
            return list(said[1:])

    monkeypatch.setattr(proxied, "RIGHT", said[0] if said else b"")
    monkeypatch.setattr(proxied, "SHAPES", {b"right": LIMITS, b"wrong": (100,)})
    monkeypatch.setattr(proxy, "read", lambda _: Taken())
    with pytest.raises(ContractBroken):
        hear_of_client(ends[1], None, 5)


def test_a_reader_that_does_not_end(ends: tuple[socket.socket, Connection], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "read", lambda _: time.sleep(30))
    monkeypatch.setattr(proxied, "GRACE", 0.1)
    monkeypatch.setattr("popad.privsep.spawn.PATIENCE", 0.1)
    with pytest.raises(ContractBroken):
        hear_of_client(ends[1], None, 0.1)


def test_what_is_believed(ends: tuple[socket.socket, Connection]) -> None:
    connection = ends[1]
    assert believe(connection, Header("::ffff:192.0.2.7", 4660)) is None
    assert (connection.rhost, connection.rport, connection.proxy) == ("192.0.2.7", 4660, "127.0.0.1")
    assert not connection.is_encrypted
    encryption = believe(connection, Header("192.0.2.7", 4660, "TLSv1.3"))
    assert encryption
    assert (connection.is_encrypted, encryption.version, encryption.cipher) == (True, "TLSv1.3", "unknown")


def test_a_health_check_is_greeted(ends: tuple[socket.socket, Connection]) -> None:
    client, connection = ends
    proxied.answer_health_check(connection, b"+OK\r\n")
    assert (client.recv(100), client.recv(100)) == (b"+OK\r\n", b"")
