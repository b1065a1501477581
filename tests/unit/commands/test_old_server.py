"""commands/old_server.py: popad as the old server, and scripts of servers that know less, or answer what they like."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping

import pytest

from popad.commands import old_server
from popad.commands.old_server import Asked, NotAnswered, address_of
from popad.commands.old_server import Server as Old
from tests.support import certificates
from tests.support.daemon import daemon, free_ports
from tests.support.patience import PATIENCE
from tests.support.serving import NAME, PASSWORD, Server

MOST = 1000


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(old_server, "PATIENCE", 10.0)


EACH = {"POPAD_MAX_SESSIONS_PER_SOURCE": "100", "POPAD_GUESS_DELAY": "0"}


@contextlib.contextmanager
def scripted(answers: Mapping[bytes, bytes], greeting: bytes = b"+OK\r\n") -> Iterator[Old]:
    """A server on loopback with one answer for each command, -ERR for the others."""

    def serve() -> None:
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as lines, contextlib.suppress(ConnectionError):
            connection.sendall(greeting)
            for line in lines:
                connection.sendall(answers.get(line.rstrip(b"\r\n"), b"-ERR\r\n"))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Old("127.0.0.1", listening.getsockname()[1])
        finally:
            thread.join(PATIENCE)


LOGIN = {b"USER a": b"+OK\r\n", b"PASS b": b"+OK\r\n", b"QUIT": b"+OK\r\n"}


@contextlib.contextmanager
def asked(answers: Mapping[bytes, bytes] = {}, greeting: bytes = b"+OK\r\n") -> Iterator[Asked]:
    with scripted(LOGIN | dict(answers), greeting) as old:
        session = Asked(old, "a", b"b")
        try:
            yield session
        finally:
            session.close()


@pytest.mark.parametrize(
    ("given", "tls", "wanted"),
    [
        ("mail.example.org", "", ("mail.example.org", 110)),
        ("mail.example.org", "stls", ("mail.example.org", 110)),
        ("mail.example.org", "tls", ("mail.example.org", 995)),
        ("mail.example.org:1110", "tls", ("mail.example.org", 1110)),
        ("[::1]:1110", "", ("::1", 1110)),
        ("[::1]", "", ("::1", 110)),
        ("::1", "", ("::1", 110)),
    ],
)
def test_addresses(given: str, tls: str, wanted: tuple[str, int]) -> None:
    assert address_of(given, tls) == wanted


@pytest.mark.parametrize("given", ["", ":110", "host:0", "host:65536", "host:pop3", "[]:110"])
def test_what_is_no_address(given: str) -> None:
    with pytest.raises(ValueError):
        address_of(given, "")


def test_popad_is_asked(server: Server) -> None:
    with daemon(server, EACH) as running:
        session = Asked(Old("127.0.0.1", running.ports[0]), NAME, PASSWORD.encode())
        assert session.ahead == old_server.AHEAD
        assert session.sizes(MOST) == {1: 33, 2: 34, 3: 35}
        ids = session.ids(MOST)
        assert (list(ids), len(set(ids.values()))) == ([1, 2, 3], 3)
        headers = {number: b"".join(blocks) for number, blocks in session.headers([1, 3, 2])}
        assert list(headers) == [1, 3, 2]
        assert headers[2] == b"Date: 2\nSubject: two\n\n"
        blocks: list[bytes] = []
        session.retrieve(2, blocks.append, MOST)
        assert b"".join(blocks) == b"Date: 2\nSubject: two\n\n.body 2\n"
        session.leave()


@pytest.mark.parametrize("way", ["tls", "stls"])
def test_over_tls(server: Server, way: str) -> None:
    pair = certificates.make(server.path, "localhost")
    settings = EACH | {
        "POPAD_TLS_CERTIFICATE": str(pair.chain),
        "POPAD_TLS_KEY": str(pair.key),
        "POPAD_TLS_USER": "mail",
    }
    option = "--listen-tls" if way == "tls" else "--listen"
    ports = free_ports(socket.AF_INET, "127.0.0.1")
    with daemon(server, settings, arguments=[f"{option}=127.0.0.1:{ports[0]}"], ports=ports):
        session = Asked(Old("localhost", ports[0], way, str(pair.chain)), NAME, PASSWORD.encode())
        assert len(session.ids(MOST)) == 3
        session.leave()
        with pytest.raises(NotAnswered, match="certificate verify failed"):
            Asked(Old("localhost", ports[0], way), NAME, PASSWORD.encode())
        with pytest.raises(NotAnswered, match=r"127\.0\.0\.1"):
            Asked(Old("127.0.0.1", ports[0], way, str(pair.chain)), NAME, PASSWORD.encode())


def test_a_wrong_password_is_not_shown(server: Server) -> None:
    with daemon(server, EACH) as running, pytest.raises(NotAnswered) as refused:
        Asked(Old("127.0.0.1", running.ports[0]), NAME, b"wrong-one")
    assert "PASS: -ERR [AUTH]" in str(refused.value)
    assert "wrong-one" not in str(refused.value)


@pytest.mark.parametrize(("name", "password"), [("a\r\nDELE 1", b"b"), ("a", b"b\r\nDELE 1"), ("a", b"\0")])
def test_what_would_be_two_commands(name: str, password: bytes) -> None:
    with scripted({}) as old, pytest.raises(NotAnswered, match="cannot be sent"):
        Asked(old, name, password)


def test_without_top_a_message_is_fetched_for_its_header() -> None:
    message = b"+OK\r\nSubject: x\r\n\r\nbody\r\n\r\nmore\r\n.\r\n"
    with asked({b"RETR 1": message, b"RETR 2": message}) as session:
        assert session.ahead == 1
        assert list(session.headers([1, 2])) == [(1, [b"Subject: x\n", b"\n"]), (2, [b"Subject: x\n", b"\n"])]


def test_dots_line_ends_and_long_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b"+OK\r\n..a\r\n...\r\n" + b"x" * 50 + b"\r\r\n\r\n.b\r\nbare\n.\r\n"
    for piece in (7, 50, 51, 52, 53, 54, 65536):
        monkeypatch.setattr(old_server, "PIECE", piece)
        blocks: list[bytes] = []
        with asked({b"RETR 1": lines}) as session:
            session.retrieve(1, blocks.append, MOST)
        assert b"".join(blocks) == b".a\n..\n" + b"x" * 50 + b"\r\n\nb\nbare\n"


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({b"UIDL": b"+OK\r\n1 a\r\n2 b\r\n3 c\r\n.\r\n"}, "more than 2 lines"),
        ({b"UIDL": b"+OK\r\nx a\r\n.\r\n"}, "UIDL: b'x a'"),
        ({b"UIDL": b"+OK\r\n" + b"1" * 2000 + b"\r\n.\r\n"}, "without an end"),
        ({}, "UIDL: -ERR"),
    ],
)
def test_a_list_that_is_none(answers: Mapping[bytes, bytes], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with asked(answers) as session, pytest.raises(NotAnswered, match=said):
        session.ids(2)


def test_a_connection_that_ends() -> None:
    for answer, said in ((b"+OK\r\n1 a", "without an end"), (b"+OK\r\n", "closed the connection")):
        with asked({b"UIDL": answer}) as session:
            session.send([b"UIDL"])
            session.line.shutdown(socket.SHUT_WR)
            assert session.heard() == b"+OK"
            with pytest.raises(NotAnswered, match=said):
                list(session.list_lines(MOST))


def test_sizes_that_are_none() -> None:
    with (
        asked({b"LIST": b"+OK\r\n1 x\r\n.\r\n"}) as session,
        pytest.raises(NotAnswered, match="a size that is no number"),
    ):
        session.sizes(MOST)


def test_what_stands_behind_a_size() -> None:
    """Nothing, mostly; a server may say more (RFC 1939 section 5, LIST)."""
    with asked({b"LIST": b"+OK\r\n1 120 seen\r\n2  7\r\n.\r\n"}) as session:
        assert session.sizes(MOST) == {1: 120, 2: 7}


@pytest.mark.parametrize("name", ["mail..example", "x" * 64])
def test_a_name_that_cannot_be(name: str) -> None:
    with pytest.raises(NotAnswered, match=name):
        Asked(Old(name, 110), "a", b"b")


def test_a_header_or_a_message_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(old_server, "LARGEST_HEADER", 100)
    endless = b"+OK\r\n" + b"X: y\r\n" * 50 + b".\r\n"
    with asked({b"TOP 1 0": endless}) as session, pytest.raises(NotAnswered, match="more than 100 octets"):
        list(session.headers([1]))
    with asked({b"RETR 1": endless}) as session, pytest.raises(NotAnswered, match="more than 100 octets"):
        list(session.headers([1]))
    with asked({b"RETR 1": endless}) as session, pytest.raises(NotAnswered, match="more than 100 octets"):
        session.retrieve(1, lambda _: None, 100)
    with asked({b"RETR 1": b"+OK\r\nhalf"}) as session:
        session.send([b"RETR 1"])
        session.line.shutdown(socket.SHUT_WR)
        assert session.heard() == b"+OK"
        with pytest.raises(NotAnswered, match="in the middle of a message"):
            list(session.lines_of_message(100))


def test_a_body_without_an_end_behind_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no TOP: it is not kept, and not read for ever."""
    monkeypatch.setattr(old_server, "LARGEST_MESSAGE", 100)
    message = b"+OK\r\nX: y\r\n\r\n" + b"body\r\n" * 50 + b".\r\n"
    with asked({b"RETR 1": message}) as session, pytest.raises(NotAnswered, match="more than 100 octets"):
        list(session.headers([1]))


def test_a_line_that_comes_octet_by_octet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is that of the line, not of each octet."""
    monkeypatch.setattr(old_server, "PATIENCE", 0.3)
    has_given_up = threading.Event()

    def drip() -> None:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            while not has_given_up.wait(0.02):
                connection.sendall(b"+")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(NotAnswered, match="timed out"):
                Asked(Old("127.0.0.1", listening.getsockname()[1]), "a", b"b")
        finally:
            has_given_up.set()
            thread.join(PATIENCE)


@pytest.mark.parametrize("greeting", [b"-ERR busy\r\n", b"220 smtp\r\n", b"\r\n"])
def test_who_does_not_greet(greeting: bytes) -> None:
    with scripted({}, greeting) as old, pytest.raises(NotAnswered, match="the greeting"):
        Asked(old, "a", b"b")


def test_nobody_is_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(NotAnswered, match="refused"):
            Asked(Old("127.0.0.1", free.getsockname()[1]), "a", b"b")


def test_who_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(old_server, "PATIENCE", 0.05)
    with scripted({b"USER a": b""}) as old, pytest.raises(NotAnswered, match="timed out"):
        Asked(old, "a", b"b")
