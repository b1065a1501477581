"""HAProxy in front of both shapes: who the client is, what is counted for whom, and what is no session."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import certificates
from tests.support.daemon import Daemon, daemon, free_ports
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import NAME, PASSWORD, PYTHON, Server

PROXY, CLIENT, OTHER = "127.0.0.1", "127.0.0.5", "127.0.0.6"  # all are this machine's
CONFIGURATION = """
defaults
    mode tcp
    timeout connect 10s
    timeout client 120s
    timeout server 120s
frontend pop3
    bind 127.0.0.1:{port}
    default_backend popad
frontend pop3s
    bind 127.0.0.1:{port_tls} ssl crt {certificate}
    default_backend popad
backend popad
    option tcp-check
    tcp-check expect string +OK
    server one 127.0.0.1:{popad} {how} check-send-proxy check inter 100ms
"""

pytestmark = pytest.mark.skipif(
    shutil.which("haproxy") is None and not os.path.exists("/usr/sbin/haproxy"), reason="haproxy is not installed"
)


class Line:
    """A client that comes from an address of its own."""

    def __init__(self, port: int, address: str, context: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(address, 0))
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.lines = self.socket.makefile("rb")

    def line(self) -> bytes:
        return self.lines.readline()

    def ask(self, command: str) -> bytes:
        self.socket.sendall(command.encode() + b"\r\n")
        return self.line()

    def close(self) -> None:
        self.lines.close()
        self.socket.close()

    def log_in(self) -> bytes:
        self.line()
        self.ask(f"USER {NAME}")
        return self.ask(f"PASS {PASSWORD}")


class Proxied:
    """HAProxy's two ports."""

    def __init__(self, port: int, port_tls: int, certificate: Path) -> None:
        self.port = port
        self.port_tls = port_tls
        self.certificate = certificate


@contextmanager
def haproxy(place: Path, popad: int, how: str) -> Iterator[Proxied]:
    """In front of the port `popad`; it has looked whether somebody is there."""
    pair = certificates.make(place, "localhost", name="haproxy")
    both = place / "haproxy.both"
    both.write_text(pair.chain.read_text() + pair.key.read_text())
    ports = free_ports(socket.AF_INET, "127.0.0.1", 2)
    file = place / "haproxy.cfg"
    file.write_text(CONFIGURATION.format(port=ports[0], port_tls=ports[1], certificate=both, popad=popad, how=how))
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    with (place / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([program, "-db", "-f", str(file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or listens(ports[0]))
        assert process.poll() is None, (place / "haproxy.log").read_text()
        yield Proxied(ports[0], ports[1], pair.chain)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def place(server: Server) -> Path:
    home = server.path / "haproxy"
    home.mkdir()
    return home


@contextmanager
def behind(
    server: Server, place: Path, how: str = "send-proxy-v2", **settings: str
) -> Iterator[tuple[Daemon, Proxied]]:
    given = {"PROXY_FROM": PROXY, "MIN_DELAY": "1", **settings}
    with (
        daemon(server, {f"POPAD_{name}": value for name, value in given.items()}) as served,
        haproxy(place, served.ports[0], how) as proxied,
    ):
        yield served, proxied


@pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2"])
def test_the_client_is_who_has_connected_to_the_proxy(server: Server, place: Path, how: str) -> None:
    with behind(server, place, how) as (served, proxied):
        client = Line(proxied.port, CLIENT)
        assert client.log_in().startswith(b"+OK")
        assert client.ask("QUIT").startswith(b"+OK")
        client.close()
        (entry,) = served.entries("session-closed")
        assert (entry["rhost"], entry["proxy"], entry["user"]) == (CLIENT, PROXY, NAME)
        time.sleep(0.5)  # some of HAProxy's own looks
        of_proxy = [entry for entry in served.server.log if entry.get("rhost") == PROXY]
        assert {entry["event"] for entry in of_proxy} <= {"session-opened", "login-not-attempted"}
        assert all("proxy" in entry for entry in of_proxy)  # they came by way of HAProxy: the look of this test


def test_what_is_counted_is_counted_for_the_client(server: Server, place: Path) -> None:
    with behind(server, place, MAX_SESSIONS_PER_SOURCE="2") as (served, proxied):
        clients = [Line(proxied.port, CLIENT) for _ in range(2)]
        assert all(client.line().startswith(b"+OK") for client in clients)
        third = Line(proxied.port, CLIENT)
        assert third.line() == b""
        (entry,) = served.entries("limit-reached")
        assert (entry["rhost"], entry["limit"]) == (CLIENT, "limit of 2 sessions of one source")
        others = [Line(proxied.port, OTHER) for _ in range(2)]
        assert all(client.line().startswith(b"+OK") for client in others)
        for client in (*clients, third, *others):
            client.close()


def test_tls_that_the_proxy_has_ended(server: Server, place: Path) -> None:
    """A client may log in then, where it may not without; and it is not told to begin TLS."""
    with behind(server, place, "send-proxy-v2-ssl", PLAINTEXT="tls") as (served, proxied):
        client = Line(proxied.port, CLIENT)
        client.line()
        assert client.ask(f"USER {NAME}").startswith(b"-ERR [AUTH]")
        client.close()
        context = ssl.create_default_context(cafile=str(proxied.certificate))
        client = Line(proxied.port_tls, CLIENT, context)
        assert client.log_in().startswith(b"+OK")
        client.ask("QUIT")
        client.close()
        (entry,) = served.entries("session-closed")
        assert (entry["rhost"], entry["tls"].split()[0]) == (CLIENT, "TLSv1.3")


def test_guesses_are_the_clients(server: Server, place: Path) -> None:
    with behind(server, place) as (served, proxied):
        for address, delay in ((CLIENT, 1), (CLIENT, 2), (OTHER, 1)):
            client = Line(proxied.port, address)
            client.line()
            client.ask(f"USER nobody-{address}-{delay}")
            assert client.ask("PASS wrong").startswith(b"-ERR [AUTH]")
            client.close()
        reasons = [entry["reason"].rpartition("; ")[2] for entry in served.entries("login-failed", 3)]
        assert [reason.split()[3] for reason in reasons] == ["1", "2", "1"]


@pytest.mark.parametrize(
    "header", [b"", b"CAPA\r\nQUIT\r\n", b"PROXY TCP4 x y 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"]
)
def test_a_proxy_that_says_nothing_of_its_client(server: Server, place: Path, header: bytes) -> None:
    with behind(server, place, LOGIN_TIMEOUT="1") as (served, _):
        line = Line(served.ports[0], PROXY)
        line.socket.sendall(header)
        try:
            assert line.line() == b""
        except ConnectionResetError:
            pass
        line.close()
        (entry,) = served.entries("proxy-refused")
        assert entry["rhost"] == PROXY
    assert "session-opened" not in {entry["event"] for entry in server.log if entry.get("proxy") != PROXY}


@pytest.mark.parametrize("header", [b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x00"])
def test_a_header_from_elsewhere(server: Server, place: Path, header: bytes) -> None:
    """It is not believed, and there is no session behind it."""
    with behind(server, place) as (served, _):
        line = Line(served.ports[0], OTHER)
        line.line()
        line.socket.sendall(header + f"USER {NAME}\r\nPASS {PASSWORD}\r\n".encode())
        said = b"".join(line.lines.readlines())
        assert b"+OK" not in said.replace(b"+OK bye", b"")
        line.close()
        wait_until(lambda: any("PROXY header" in entry.get("reason", "") for entry in served.server.log))
        assert "login-passed" not in {entry["event"] for entry in served.server.log}
        assert all(entry["rhost"] == OTHER for entry in served.server.log if "PROXY header" in entry.get("reason", ""))


def test_a_session_for_each_connection(server: Server, place: Path) -> None:
    """As systemd starts them: each is handed one connection, and knows the proxy only."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        settings = {"PATH": os.defpath, **server.settings, "POPAD_PROXY_FROM": PROXY}
        command = ["systemd-socket-activate", "--accept", "-l", "0", PYTHON, "-m", "popad"]
        if shutil.which(command[0]) is None:
            pytest.skip("systemd-socket-activate is not installed")
        port = listening.getsockname()[1]
    names = [f"-E{name}" for name in settings]
    command = [command[0], "--accept", f"--listen=127.0.0.1:{port}", *names, PYTHON, "-m", "popad"]
    with server.stderr.open("ab") as stderr:
        process = subprocess.Popen(command, env=settings, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr)
    try:
        wait_until(lambda: listens(port))
        with haproxy(place, port, "send-proxy-v2") as proxied:
            client = Line(proxied.port, CLIENT)
            assert client.log_in().startswith(b"+OK")
            client.ask("QUIT")
            client.close()
            wait_until(lambda: "session-closed" in server.stderr.read_text())
            line = next(line for line in server.stderr.read_text().splitlines() if "event=session-closed" in line)
            assert f"rhost={CLIENT}" in line
            assert f"proxy={PROXY}" in line
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_the_configuration_of_the_manual(tmp_path: Path) -> None:
    """HAProxy understands it, word for word; what is left out is its own defaults."""
    page = (CHECKOUT / "packaging/man/popad.8").read_text()
    (block,) = re.findall(r"^\.Bd -literal.*\n(frontend pop3\n(?:.*\n)+?)\.Ed$", page, re.M)
    file = tmp_path / "haproxy.cfg"
    file.write_text("defaults\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n" + block)
    is_understood(file)


def test_the_example_for_several_hosts() -> None:
    """tests/cluster has them."""
    is_understood(CHECKOUT / "packaging/examples/haproxy.cfg")


def is_understood(file: Path) -> None:
    """By HAProxy, without a warning."""
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    done = subprocess.run([program, "-c", "-f", str(file)], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower(), done.stderr
