"""Sessions and daemons whose log cannot be written: they serve on, and what was lost is said when it works again."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, daemon, free_ports
from tests.support.here import CHECKOUT, ROOT
from tests.support.marks import needs_root
from tests.support.patience import PATIENCE, wait_until
from tests.support.pipe import Pipe
from tests.support.serving import NAME, PASSWORD, POPAD_WITHOUT_JOURNAL, PYTHON, Client, Server, read_logfmt

MAIL = b"From a@example.org Thu Jan  1 00:00:00 1970\nSubject: one\n\nbody\n\n"
SETTINGS = {"POPAD_MIN_DELAY": "1", "POPAD_MAX_SESSIONS_PER_SOURCE": "2", "POPAD_GUESS_DELAY": "0"}
# A session that reads and leaves.
EVENTS = 4 if ROOT else 5
# popad that finds neither a journal nor syslog but this socket.
WITH_SYSLOG = (
    "from popad import sinks; sinks.journald.path = '/nonexistent'; sinks.syslog.path = {!r}; "
    "from popad.__main__ import main; main()"
)


@contextmanager
def log_that_fails(kind: str) -> Iterator[int]:
    """A standard error on a full disk; a pipe that nobody reads; one that somebody does not read any more, and full."""
    if kind == "full disk":
        with open("/dev/full", "wb") as full:
            yield full.fileno()
        return
    pipe = Pipe()
    try:
        if kind == "reader gone":
            os.close(pipe.reading)
        else:
            pipe.fill()
        yield pipe.writing
    finally:
        pipe.close()


kinds = pytest.mark.parametrize("kind", ["full disk", "reader gone", "full pipe"])


@pytest.fixture
def server(public_path: Path) -> Server:
    server = Server(public_path)
    server.deliver(MAIL)
    return server


def check_session(client: Client) -> None:
    assert client.log_in() == b"+OK 1 messages (22 octets)"
    assert client.ask("STAT").startswith(b"+OK 1 ")
    assert client.ask("QUIT").startswith(b"+OK")
    client.close()


def check_daemon(running: Daemon) -> None:
    """Sessions good and bad, a limit, a helper that dies, new settings good and bad: whatever it would log."""
    check_session(running.connect())
    client = running.connect()
    client.line()
    client.ask(f"USER {NAME}")
    assert client.ask("PASS wrong").startswith(b"-ERR")
    client.close()
    wait_until(lambda: running.at_rest)
    clients = [running.connect(source="127.0.0.2") for _ in range(3)]
    assert sorted(client.line() for client in clients)[0] == b""
    for client in clients:
        client.close()
    wait_until(lambda: running.at_rest)
    helper = running.helper
    os.kill(helper, signal.SIGKILL)
    wait_until(lambda: running.helper != helper)
    running.reload()
    check_session(running.connect(source="127.0.0.3"))
    running.process.terminate()
    assert running.ended() == 0


@kinds
def test_a_daemon(server: Server, kind: str) -> None:
    with log_that_fails(kind) as log, daemon(server, SETTINGS, log=log) as running:
        check_daemon(running)


@kinds
def test_a_session_of_inetd(server: Server, kind: str) -> None:
    with log_that_fails(kind) as log, server.session(log=log) as (client, process):
        begun = time.monotonic()
        check_session(client)
        assert process.wait(PATIENCE) == 0
        assert time.monotonic() - begun < PATIENCE


@kinds
@pytest.mark.parametrize(
    ("arguments", "environment", "status"),
    [
        (["--unknown"], {}, 2),
        (["auth-helper"], {}, 2),
        (["-D", "--foreground", "--listen=192.0.2.1:1"], {}, 1),
        (["-D", "--foreground", "--listen=127.0.0.1:1"], {"POPAD_TIMEOUT": "soon"}, 78),
        ([], {}, 2),
    ],
)
def test_an_exit_status_that_nobody_can_be_told_the_reason_of(
    kind: str, arguments: list[str], environment: dict[str, str], status: int
) -> None:
    with log_that_fails(kind) as log:
        words, null = [*POPAD_WITHOUT_JOURNAL, *arguments], subprocess.DEVNULL
        given = {"PATH": os.defpath, **environment}
        done = subprocess.run(words, cwd=CHECKOUT, env=given, stdin=null, stderr=log, timeout=PATIENCE)
        assert done.returncode == status


@kinds
def test_a_wrong_setting_is_told_to_the_client_all_the_same(server: Server, kind: str) -> None:
    with log_that_fails(kind) as log, server.session({"POPAD_TIMEOUT": "soon"}, log=log) as (client, process):
        assert client.line().startswith(b"-ERR [SYS/PERM]")
        assert process.wait(PATIENCE) == 78


def test_what_sessions_of_a_daemon_have_lost_is_said(server: Server) -> None:
    """By the daemon, as they have gone; as soon as the pipe is read again, and without any other entry."""
    pipe = Pipe()
    try:
        with daemon(server, SETTINGS, log=pipe.writing) as running:
            pipe.fill()
            check_session(running.connect())
            wait_until(lambda: running.at_rest)
            pipe.read()
            said: list[bytes] = []

            def has_said() -> bool:
                said.append(pipe.read())
                return b"\n" in said[-1]

            wait_until(has_said)
            entry = read_logfmt(b"".join(said).decode().strip())
            assert (entry["event"], entry["lost"]) == ("entries-lost", str(EVENTS))
            check_session(running.connect())
            wait_until(lambda: running.at_rest)
            events = [read_logfmt(line)["event"] for line in pipe.read().decode().splitlines()]
            assert "entries-lost" not in events
            assert len(events) == EVENTS
    finally:
        pipe.close()


def listening(path: Path) -> socket.socket:
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(str(path))
    path.chmod(0o666)
    log.settimeout(PATIENCE)
    return log


def events_of(log: socket.socket, last: str) -> list[str]:
    """The events that syslog hears, up to `last`."""
    events: list[str] = []
    while last not in events:
        line = log.recv(10_000).decode()
        events += re.findall(r"^<\d+>.{15} popad\[\d+\]: .* event=(\S+)", line)
    return events


WHOLE = ["session-opened", *([] if ROOT else ["one-identity"]), "login-passed", "maildrop-loaded", "session-closed"]


def test_plain_inetd_is_heard(server: Server) -> None:
    """Its standard error is the client."""
    path = server.path / "syslog"
    with listening(path) as log:
        program = [PYTHON, "-c", WITH_SYSLOG.format(str(path))]
        with server.session(program=program, log=-1) as (client, _):
            check_session(client)
        assert events_of(log, "session-closed") == WHOLE


@needs_root
def test_a_daemon_that_has_detached_is_heard(server: Server) -> None:
    path = server.path / "syslog"
    (port,) = free_ports(socket.AF_INET, "127.0.0.1")
    code = (
        "import subprocess, socket, sys\n"
        f"subprocess.run(sys.argv[1:], check=True, stdin=subprocess.DEVNULL)\n"
        f"client = socket.create_connection(('127.0.0.1', {port}), {PATIENCE})\n"
        f"client.sendall(b'USER {NAME}\\r\\nPASS {PASSWORD}\\r\\nQUIT\\r\\n')\n"
        "while client.recv(1000): pass\n"
        "sys.stdin.read()\n"  # the session has its last word when its client has left
    )
    with listening(path) as log:
        popad = [PYTHON, "-c", WITH_SYSLOG.format(str(path)), "-D", f"--listen=127.0.0.1:{port}"]
        with subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", PYTHON, "-c", code, *popad],
            cwd=CHECKOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **server.settings},
            stdin=subprocess.PIPE,
        ) as machine:
            assert events_of(log, "session-closed") == ["daemon-started", *WHOLE]
            machine.communicate(timeout=PATIENCE)
        assert machine.returncode == 0
