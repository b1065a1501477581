"""tls/relay.py: octets in both directions, ends of both sides, sides that take nothing, and what breaks off."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.settings import Settings
from popad.tls import relay
from popad.tls.certificates import Contexts
from tests.support.certificates import HOST, make
from tests.support.patience import PATIENCE
from tests.support.serving import reset


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("relay")
    make(path)
    return path


class Ends:
    """A relay in a thread, the client behind its handshake, and the session's end."""

    def __init__(self, place: Path) -> None:
        contexts = Contexts(
            Settings({"POPAD_TLS_CERTIFICATE": str(place / "tls.pem"), "POPAD_TLS_KEY": str(place / "tls.key")})
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            outside = socket.create_connection(listener.getsockname(), PATIENCE)
            client, _ = listener.accept()
        self.session, plain = socket.socketpair()
        self.session.settimeout(PATIENCE)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = contexts.first.wrap_bio(incoming, outgoing, server_side=True)

        def serve() -> None:
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    client.sendall(outgoing.read())
                    incoming.write(client.recv(16384))
            client.sendall(outgoing.read())
            relay.Relay(tls, incoming, outgoing, client, plain).run()

        self.thread = threading.Thread(target=serve, daemon=True)
        self.thread.start()
        trusting = ssl.create_default_context(cafile=str(place / "tls.pem"))
        self.client = trusting.wrap_socket(outside, server_hostname=HOST)

    def ended(self) -> bool:
        self.thread.join(PATIENCE)
        return not self.thread.is_alive()


@pytest.fixture
def ends(place: Path) -> Iterator[Ends]:
    made = Ends(place)
    yield made
    for each in (made.client, made.session):
        each.close()
    assert made.ended()


def all_of(side: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count and (more := side.recv(1 << 20)):
        got += more
    return got


def test_octets_go_both_ways(ends: Ends) -> None:
    ends.client.sendall(b"USER alice\r\n")
    assert ends.session.recv(100) == b"USER alice\r\n"
    ends.session.sendall(b"+OK\r\n")
    assert ends.client.recv(100) == b"+OK\r\n"


@pytest.mark.parametrize("octets", [1, 16384, 16385, 131072, 5_000_000])
def test_each_octet_arrives_once_and_in_its_order(ends: Ends, octets: int) -> None:
    sent = os.urandom(octets)
    writer = threading.Thread(target=ends.session.sendall, args=(sent,))
    writer.start()
    assert all_of(ends.client, octets) == sent
    writer.join()
    writer = threading.Thread(target=ends.client.sendall, args=(sent,))
    writer.start()
    assert all_of(ends.session, octets) == sent
    writer.join()


def test_both_at_once(ends: Ends) -> None:
    """Neither waits for the other: no deadlock where both send more than buffers hold."""
    much = os.urandom(3_000_000)
    writers = [threading.Thread(target=side.sendall, args=(much,)) for side in (ends.session, ends.client)]
    got: dict[str, bytes] = {}
    readers = [
        threading.Thread(target=lambda: got.update(client=all_of(ends.client, len(much)))),
        threading.Thread(target=lambda: got.update(session=all_of(ends.session, len(much)))),
    ]
    for thread in (*writers, *readers):
        thread.start()
    for thread in (*writers, *readers):
        thread.join(PATIENCE)
    assert got["client"] == got["session"] == much


def test_the_session_ends(ends: Ends) -> None:
    """The last reply arrives, then close_notify, then the end of the stream."""
    ends.session.sendall(b"+OK bye\r\n")
    ends.session.close()
    assert all_of(ends.client, 100) == b"+OK bye\r\n"
    with ends.client.unwrap() as plain:  # raises where no close_notify came
        assert plain.recv(1) == b""


def test_the_session_ends_with_much_unsent(ends: Ends) -> None:
    """And with something of the client's that it has not read."""
    ends.client.sendall(b"NOOP\r\n" * 10)
    much = os.urandom(4_000_000)

    def last_words() -> None:
        ends.session.sendall(much)
        ends.session.close()

    writer = threading.Thread(target=last_words)
    writer.start()
    assert all_of(ends.client, len(much) + 1) == much
    writer.join()


def test_the_client_says_no_more(ends: Ends) -> None:
    """close_notify: the session hears the end, and what it still says arrives."""
    ends.client.sendall(b"QUIT\r\n")
    ends.client.setblocking(False)
    with pytest.raises(ssl.SSLWantReadError):
        ends.client.unwrap()
    assert all_of(ends.session, 100) == b"QUIT\r\n"
    ends.session.sendall(b"+OK bye\r\n")
    ends.session.close()
    assert ends.ended()


def test_the_stream_ends_without_close_notify(ends: Ends) -> None:
    """What TLS calls a truncation: to POP3 a client that has left. An unfinished command is none."""
    ends.client.sendall(b"DELE 1\r\nQUI")
    os.close(ends.client.detach())
    assert all_of(ends.session, 100) == b"DELE 1\r\nQUI"
    ends.session.close()
    assert ends.ended()


def test_the_client_resets_the_connection(ends: Ends) -> None:
    ends.session.sendall(b"+OK\r\n")
    assert all_of(ends.client, 5) == b"+OK\r\n"
    reset(ends.client)
    assert all_of(ends.session, 1) == b""
    assert ends.ended()


@pytest.mark.parametrize(
    "octets", [b"NOOP\r\n" * 40, b"\x17\x03\x03\x00\x10" + bytes(16)], ids=["plain text", "a forged record"]
)
def test_what_is_no_record_of_this_connection_ends_it(ends: Ends, octets: bytes) -> None:
    raw = socket.socket(fileno=os.dup(ends.client.fileno()))
    with raw:
        raw.sendall(octets)
        assert all_of(ends.session, 1) == b""
        assert ends.ended()


def test_a_client_that_takes_nothing_stops_the_session_and_no_more(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most a block and the buffers of the kernel are held; when the session has ended it is waited for so long."""
    monkeypatch.setattr(relay, "DRAIN", 0.3)
    ends.session.setblocking(False)
    taken = 0
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            taken += ends.session.send(bytes(65536))
            deadline = time.monotonic() + 0.5
        except BlockingIOError:
            pass
    assert taken < 16 << 20
    ends.session.close()
    assert ends.ended()


def test_a_session_that_reads_nothing_stops_the_client(ends: Ends) -> None:
    ends.client.settimeout(0.5)
    taken = 0
    with pytest.raises(TimeoutError):
        while True:
            taken += ends.client.send(bytes(65536))
    assert 0 < taken < 16 << 20
