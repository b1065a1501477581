"""session/monitor.py: sessions that end without a login."""

import os
import select
import socket

import pytest

from tests.support.patience import PATIENCE
from tests.support.serving import Server, reset


def test_quit_before_the_login(server: Server) -> None:
    with server.session() as (client, process):
        client.line()
        assert client.ask("QUIT").startswith(b"+OK")
        assert client.rest() == b""
        assert process.wait(PATIENCE) == 0
    assert (server.log[-1]["event"], server.log[-1]["reason"]) == ("login-not-attempted", "QUIT")


@pytest.mark.parametrize("said", [b"", b"USER alice\r\n", b"USER alice\r\nPASS secret", b"QUIT"])
def test_a_client_that_leaves_before_the_login(server: Server, said: bytes) -> None:
    """An unterminated last line is never executed, PASS and QUIT included."""
    with server.session() as (client, process):
        client.line()
        client.send(said)
        client.socket.shutdown(socket.SHUT_WR)
        client.rest()
        assert process.wait(PATIENCE) == 0
    after = ", after USER" if said.startswith(b"USER") else ""
    assert (server.log[-1]["event"], server.log[-1]["reason"]) == ("login-not-attempted", "the client left" + after)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"CAPA\r\nauth plain\r\n*\r\n", "the client left, after CAPA, AUTH, AUTH (refused)"),
        (b"hunter2\r\nUSER\r\n", "the client left, after another word (refused), USER (refused)"),
        (b"\x16\x03\x01\x02\x00\x01\x00" + b"\0" * 509, "the client left, after the beginning of TLS (refused)"),
        (b"NOOP\r\n" * 10, "too many errors, after " + ", ".join(["NOOP (refused)"] * 10)),
        (b"CAPA\r\n" * 20 + b"QUIT\r\n", "QUIT, after " + ", ".join(["CAPA"] * 16)),
    ],
    ids=["AUTH", "a password", "TLS", "errors", "much"],
)
def test_what_came_before_is_told(server: Server, said: bytes, told: str) -> None:
    """By verbs that popad knows: what else a client says may be a password."""
    with server.session() as (client, process):
        client.line()
        client.send(said)
        client.socket.shutdown(socket.SHUT_WR)
        client.rest()
        assert process.wait(PATIENCE) == 0
    assert (server.log[-1]["event"], server.log[-1]["reason"]) == ("login-not-attempted", told)
    assert "hunter2" not in server.stderr.read_text()


def test_a_client_that_is_gone_before_the_greeting(server: Server) -> None:
    """A port scan: connect, reset."""
    with server.session() as (client, process):
        client.incoming.close()
        reset(client.socket)
        assert process.wait(PATIENCE) == 0
    assert server.events in (["login-not-attempted"], ["session-opened", "login-not-attempted"])


def test_an_unauthenticated_client_has_a_time_limit(server: Server) -> None:
    with server.session({"POPAD_LOGIN_TIMEOUT": "1"}) as (client, process):
        client.line()
        client.ask("USER alice")
        assert client.rest() == b""
        assert process.wait(PATIENCE) == 0
    assert (server.log[-1]["event"], server.log[-1]["reason"]) == ("login-not-attempted", "timed out, after USER")


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        pytest.param(b"x" * 4096, "timed out", id="one line"),
        pytest.param(b"CAPA\r\n" * 100, "too many errors", id="CAPA"),
        pytest.param(b"\0\n" * 100, "too many errors", id="NUL"),
        pytest.param(b"USER\r\n" * 100, "too many errors", id="USER"),
    ],
)
def test_an_unauthenticated_client_that_never_stops_has_an_end(server: Server, octets: bytes, reason: str) -> None:
    """The time limit of all, or the number of commands; and before the parent loses its patience with the child."""
    with server.session({"POPAD_LOGIN_TIMEOUT": "1"}) as (client, process):
        client.socket.setblocking(False)
        ended = os.pidfd_open(process.pid)
        try:
            send_and_read_until(client.socket, ended, octets)
        finally:
            os.close(ended)
        assert process.wait(PATIENCE) == 0
    assert server.log[-1]["event"] == "login-not-attempted"
    assert server.log[-1]["reason"].partition(", after ")[0] == reason


def send_and_read_until(connection: socket.socket, ended: int, octets: bytes) -> None:
    """Send and read as much as possible until the process has ended."""
    fd = connection.fileno()
    while True:
        readable, writable, _ = select.select([fd, ended], [fd], [], PATIENCE)
        assert readable or writable, "neither end does anything"
        if ended in readable:
            return
        try:
            if fd in readable and not connection.recv(1 << 20):
                return
            if fd in writable:
                connection.send(octets)
        except BlockingIOError:
            continue
        except OSError:
            return
