"""tls/start.py and what the session makes of it: STLS, TLS at once, nothing that goes from before it to behind it, and
helpers that do not answer as they should.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.net.connection import Connection
from popad.net.encryption import Encryption
from popad.privsep.channel import Channel
from popad.settings import Settings
from popad.tls import start
from tests.support import certificates
from tests.support.certificates import HOST, Pair
from tests.support.daemon import Daemon, daemon, free_ports
from tests.support.marks import needs_root
from tests.support.patience import PATIENCE
from tests.support.serving import ALL, NAME, OWNER, PASSWORD, Client, Server, four, sockets_of, status_of


@pytest.fixture
def pair(server: Server) -> Pair:
    pair = certificates.make(server.path)
    server.settings |= certificates.settings(pair)
    return pair


def behind(client: Client, pair: Pair) -> Client:
    """The client behind a handshake."""
    trusting = ssl.create_default_context(cafile=str(pair.chain))
    return Client(trusting.wrap_socket(client.socket, server_hostname=HOST))


@contextlib.contextmanager
def encrypted(server: Server, pair: Pair, **settings: str) -> Iterator[Client]:
    """A session with STLS, as under inetd: its helper is its own."""
    with server.session(settings) as (plain, process):
        assert plain.line().startswith(b"+OK")
        assert plain.ask("STLS") == b"+OK begin TLS"
        client = behind(plain, pair)
        yield client
        client.close()
        assert process.wait(PATIENCE) == 0


def test_a_session_under_inetd(server: Server, pair: Pair) -> None:
    with encrypted(server, pair) as client:
        assert client.ask(f"USER {NAME}").startswith(b"+OK")
        assert client.ask(f"PASS {PASSWORD}").startswith(b"+OK 3 messages")
        client.ask("DELE 1")
        assert client.ask("QUIT").startswith(b"+OK")
        assert client.rest() == b""
    assert server.mailbox.read_bytes() != ALL
    closed = server.log[-1]
    assert (closed["event"], closed["deleted"], closed["tls_name"]) == ("session-closed", "1", HOST)
    assert closed["tls"].startswith("TLSv1.3 TLS_")


def test_a_large_message(server: Server, pair: Pair) -> None:
    mail = b"From x@y Thu Jan  1 00:00:00 1970\nSubject: large\n\n" + b"0123456789 and more\n" * 300_000
    server.deliver(mail)
    with encrypted(server, pair) as client:
        client.ask(f"USER {NAME}")
        client.ask(f"PASS {PASSWORD}")
        assert client.ask("RETR 1").startswith(b"+OK")
        assert client.body().replace(b"\r\n", b"\n") == mail.partition(b"\n")[2]


# -- from before TLS to behind it: RFC 2595 section 4; "NO STARTTLS", 2021


def test_a_name_given_in_the_clear_is_forgotten(server: Server, pair: Pair) -> None:
    with server.session() as (plain, process):
        plain.line()
        assert plain.ask(f"USER {NAME}").startswith(b"+OK")
        plain.ask("STLS")
        client = behind(plain, pair)
        assert client.ask(f"PASS {PASSWORD}") == b"-ERR USER first"
        client.close()
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("injected", [b"USER alice\r\n", b"CAPA\r\n", b"U", b"\r\n", b"\x16\x03\x01"])
def test_what_is_sent_behind_stls_is_never_executed(server: Server, pair: Pair, injected: bytes) -> None:
    """In the same segment: refused, and the session ends (CVE-2011-0411)."""
    with server.session() as (plain, process):
        plain.line()
        plain.send(b"STLS\r\n" + injected)
        assert plain.rest() == b"-ERR nothing may follow STLS before its answer\r\n"
        assert process.wait(PATIENCE) == 0
    assert server.log[-1]["reason"] == "too many errors, after STLS"


def test_what_is_sent_a_moment_after_stls_is_no_command_either(server: Server, pair: Pair) -> None:
    """In a segment of its own, whether it comes before the answer or after it: TLS does not begin with it."""
    for pause in (0.0, 0.001, 0.1):
        with server.session() as (plain, process):
            plain.line()
            plain.send(b"STLS\r\n")
            time.sleep(pause)
            with contextlib.suppress(ConnectionError):
                plain.send(b"USER alice\r\nPASS x\r\nCAPA\r\n")
            heard = plain.rest()
            assert process.wait(PATIENCE) == 0
        assert b"capability" not in heard and heard.count(b"+OK") <= 1
        assert not {"login-failed", "login-passed"} & set(server.events)


def test_no_reply_is_made_before_tls_for_a_client_behind_it(server: Server, pair: Pair) -> None:
    """Response injection: nothing but +OK leaves in the clear after STLS; the first thing behind it is an answer."""
    with encrypted(server, pair) as client:
        client.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        client.socket.settimeout(PATIENCE)
        assert client.ask("NOOP") == b"-ERR unknown command"


@pytest.mark.parametrize("state", ["twice", "after the login"])
def test_stls_is_refused(server: Server, pair: Pair, state: str) -> None:
    with encrypted(server, pair) as client:
        if state == "after the login":
            client.ask(f"USER {NAME}")
            client.ask(f"PASS {PASSWORD}")
        assert client.ask("CAPA").startswith(b"+OK")
        assert b"STLS" not in client.body()
        assert client.ask("STLS").startswith(b"-ERR")
        assert client.ask("NOOP" if state == "after the login" else f"USER {NAME}").startswith(b"+OK")


def test_without_a_certificate_there_is_none(server: Server) -> None:
    with server.session() as (client, process):
        client.line()
        assert client.ask("STLS") == b"-ERR TLS is not possible here"
        assert client.ask("QUIT").startswith(b"+OK")
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(("policy", "login"), [("", True), ("local", True), ("always", True), ("tls", False)], ids=str)
def test_who_may_log_in_without(server: Server, pair: Pair, policy: str, login: bool) -> None:
    """This host may, unless nobody may; tests/system has other hosts."""
    with server.session({"POPAD_PLAINTEXT": policy}) as (client, process):
        client.line()
        assert client.ask(f"USER {NAME}").startswith(b"+OK" if login else b"-ERR [AUTH] no login without TLS")
        assert client.ask(f"PASS {PASSWORD}").startswith(b"+OK" if login else b"-ERR [AUTH] no login without TLS")
        client.ask("QUIT")
        assert process.wait(PATIENCE) == 0


# -- the helper


@contextlib.contextmanager
def serving(server: Server, **settings: str) -> Iterator[Daemon]:
    """A daemon with both ports."""
    ports = free_ports(socket.AF_INET, "127.0.0.1", 2)
    where = [f"--listen=127.0.0.1:{ports[0]}", f"--listen-tls=127.0.0.1:{ports[1]}"]
    with daemon(server, settings, arguments=where, ports=ports) as served:
        yield served


@pytest.mark.parametrize("at_once", [True, False])
def test_the_daemon(server: Server, pair: Pair, at_once: bool) -> None:
    with serving(server) as served:
        plain = served.connect(port=served.ports[at_once])
        if not at_once:
            plain.line()
            plain.ask("STLS")
        client = behind(plain, pair)
        if at_once:
            assert client.line().startswith(b"+OK")
        client.ask(f"USER {NAME}")
        assert client.ask(f"PASS {PASSWORD}").startswith(b"+OK")
        client.ask("QUIT")
        client.close()


def test_the_daemons_helper_is_killed_in_mid_life(server: Server, pair: Pair) -> None:
    """Connections go on, the next client waits for its successor, and the journal says which helper it was."""
    with serving(server) as served:
        old = behind(served.connect(port=served.ports[1]), pair)
        assert old.line().startswith(b"+OK")
        (helper,) = [pid for pid in served.children if b"tls-helper" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(helper, signal.SIGKILL)
        new = behind(served.connect(port=served.ports[1]), pair)
        assert new.line().startswith(b"+OK")
        for client in (old, new):
            client.ask(f"USER {NAME}")
            assert client.ask(f"PASS {PASSWORD}").startswith(b"+OK")
            client.ask("QUIT")
            client.close()
        (died,) = served.entries("helper-died")
        assert died["helper"] == "TLS"


@needs_root
def test_a_user_has_no_way_to_the_helpers(server: Server, pair: Pair) -> None:
    """Whether TLS was begun or not: the session has no socket of the daemon's any more when it is the user's."""
    with serving(server) as served:
        plain = served.connect()
        plain.log_in()
        encrypted = behind(served.connect(port=served.ports[1]), pair)
        encrypted.log_in()
        owner = pwd.getpwnam(OWNER).pw_uid
        sessions = [pid for pid in served.children if status_of(pid)["Uid"] == four(owner)]
        assert len(sessions) == 2
        for session in sessions:
            assert sockets_of(session)
            assert not sockets_of(session) & sockets_of(served.process.pid)
        encrypted.close()


def test_a_quiet_log_has_no_handshakes(server: Server, pair: Pair) -> None:
    """Of scanners; that TLS is not possible is no matter of theirs."""
    with serving(server, POPAD_LOG="quiet") as served:
        client = served.connect(port=served.ports[1])
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        client.rest()
        other = behind(served.connect(port=served.ports[1]), pair)
        other.log_in()
        other.ask("QUIT")
        other.close()
        served.entries("session-closed")
    assert "handshake-failed" not in server.events
    with server.session({"POPAD_LOG": "quiet", "POPAD_TLS_SOCKET": str(server.path / "none")}) as (plain, process):
        plain.line()
        plain.ask("STLS")
        assert process.wait(PATIENCE) == 0
    assert server.events[-1] == "tls-unavailable"


def test_a_handshake_that_fails_is_in_the_log(server: Server, pair: Pair) -> None:
    for said, reason in ((b"hello, world\r\n" * 3, "version"), (b"", "the client left")):
        with server.session() as (plain, process):
            plain.line()
            plain.ask("STLS")
            plain.send(said)
            plain.socket.shutdown(socket.SHUT_WR)
            plain.rest()
            assert process.wait(PATIENCE) == 0
        assert server.events[-1] == "handshake-failed"
        assert reason in server.log[-1]["reason"]


def test_a_handshake_has_a_time_limit(server: Server, pair: Pair) -> None:
    with server.session({"POPAD_TLS_TIMEOUT": "1"}) as (plain, process):
        plain.line()
        plain.ask("STLS")
        began = time.monotonic()
        plain.send(b"\x16\x03\x01")
        plain.rest()
        assert process.wait(PATIENCE) == 0
        assert 0.5 < time.monotonic() - began < 20
    assert server.log[-1]["reason"] == "timed out"


def test_a_helper_that_is_not_there(server: Server, pair: Pair) -> None:
    with server.session({"POPAD_TLS_SOCKET": str(server.path / "none")}) as (plain, process):
        plain.line()
        assert plain.ask("STLS") == b"-ERR [SYS/TEMP] TLS is not possible now"
        assert plain.rest() == b""
        assert process.wait(PATIENCE) == 0
    assert server.events[-1] == "tls-unavailable"


ANSWERS = {
    "nothing": [],
    "another shape": [b"up"],
    "what does not print": [b"up", b"TLSv1.3\n", b"", b"", b"no", b""],
    "an end": None,
}


@pytest.mark.parametrize("what", ANSWERS)
def test_a_helper_that_says_what_it_may_not(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no TLS, and the client's connection is the helper's: the session has none to speak over."""
    monkeypatch.setattr(start, "GRACE", -0.5)
    path = str(tmp_path / "tls.sock")
    settings = Settings({"POPAD_TLS_SOCKET": path, "POPAD_TLS_TIMEOUT": "1"})
    answer = ANSWERS[what]
    client, inside = socket.socketpair()
    held: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening, client:
        listening.bind(path)
        listening.listen()
        connection = Connection(inside.detach(), "192.0.2.7", 1)

        def helper() -> None:
            asking, _ = listening.accept()
            held.append(asking)
            channel = Channel(asking)
            _, fds = channel.receive_with_descriptors((64,), PATIENCE, 2)
            held.extend(socket.socket(fileno=fd) for fd in fds)
            if answer:
                channel.send(answer)
            elif answer is None:
                asking.close()

        thread = threading.Thread(target=helper)
        thread.start()
        outcome = start.hand_over(connection, start.reach(settings, None), settings, lambda: None)
        thread.join()
        assert client.recv(1) == b"", "it ends, though the helper has a copy of it"
        assert outcome.is_helpers_fault
        assert not outcome.is_up and outcome.reason.startswith("the TLS helper")
        assert connection.is_encrypted, "it is the plain end, over which nothing is said"
        connection.socket.close()
        for each in held:
            each.close()


def test_a_helper_that_systemd_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket takes requests, and nobody takes them out: the client is not kept for longer than the session."""
    monkeypatch.setattr(start, "GRACE", -0.5)
    path = str(tmp_path / "tls.sock")
    settings = Settings({"POPAD_TLS_SOCKET": path, "POPAD_TLS_TIMEOUT": "1"})
    client, inside = socket.socketpair()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening, client:
        listening.bind(path)
        listening.listen()
        connection = Connection(inside.detach(), "192.0.2.7", 1)
        outcome = start.hand_over(connection, start.reach(settings, None), settings, lambda: None)
        assert outcome.is_helpers_fault and "time limit" in outcome.reason
        client.settimeout(PATIENCE)
        assert client.recv(1) == b""
        connection.socket.close()


def test_what_is_meant_by_up() -> None:
    assert Encryption("TLSv1.3").is_up
    assert not Encryption(reason="no").is_up
