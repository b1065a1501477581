"""session/monitor.py: logins that fail, what the client and the log hear, and what the processes know meanwhile."""

import os
import signal
import socket

import pytest

from popad.auth import credentials, verifiers
from popad.session import monitor
from popad.settings import PREAUTH_UIDS
from popad.values import ARGUMENT_OCTETS, COMMAND_OCTETS
from tests.support.here import ROOT
from tests.support.marks import needs_root
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import (
    ALL,
    NAME,
    PASSWORD,
    PREAUTH_USER,
    Server,
    children_of,
    four,
    ids,
    sockets_of,
    status_of,
)


def add_to_credentials(server: Server, name: str) -> None:
    with server.credentials.open("a") as file:
        file.write(credentials.line(name, PASSWORD.encode(), verifiers.LEAST_ITERATIONS) + "\n")


def refused(server: Server, name: str, password: str = PASSWORD, **settings: str) -> tuple[bytes, dict[str, str]]:
    """All that the client hears after PASS, though it goes on; and the last entry of the log."""
    add_to_credentials(server, "root")
    add_to_credentials(server, PREAUTH_USER)
    given = {"guess_delay": "0", **settings}  # no test waits for a verdict
    with server.session({f"POPAD_{key.upper()}": value for key, value in given.items()}) as (client, process):
        client.line()
        assert client.ask(f"USER {name}").startswith(b"+OK")
        client.send(f"PASS {password}\r\nSTAT\r\nUSER alice\r\nPASS {PASSWORD}\r\n".encode())
        heard = client.rest()
        client.close()  # the session waits for that, a second at most
        assert process.wait(PATIENCE) == 0
    assert server.mailbox.read_bytes() == ALL
    assert password not in server.stderr.read_text()
    return heard, server.log[-1]


def test_a_wrong_password(server: Server) -> None:
    heard, entry = refused(server, "alice", "Sesame")
    assert heard == monitor.WRONG
    assert (entry["event"], entry["user"]) == ("login-failed", "alice")


@pytest.mark.parametrize("name", ["nobody-here", "hunter2", "..", "../x", "a/b"])
def test_an_unknown_name_is_not_logged(server: Server, name: str) -> None:
    """It may be a password typed too early."""
    heard, entry = refused(server, name)
    assert heard == monitor.WRONG
    assert entry["event"] == "login-failed"
    assert "user" not in entry
    assert f'"{name}"' not in server.stderr.read_text()


def test_an_unknown_name_is_logged_if_asked_for(server: Server) -> None:
    _, entry = refused(server, "nobody-here", log_unknown="yes")
    assert entry["user"] == "nobody-here"


@pytest.mark.parametrize("name", ["root", PREAUTH_USER])
def test_users_whom_popad_refuses_to_be(server: Server, name: str) -> None:
    if not ROOT and name == PREAUTH_USER:
        pytest.skip("needs root: without it there is no user for preauth")
    heard, entry = refused(server, name)
    assert heard == monitor.WRONG
    assert (entry["event"], entry["user"]) == ("login-refused", name)


def test_names_and_passwords_with_formats_and_quotes(server: Server) -> None:
    heard, entry = refused(server, "%s%n{0}\"'\\x", "%n%n%n%n{user}", log_unknown="yes")
    assert heard == monitor.WRONG
    assert entry["user"] == "%s%n{0}\"'\\x5cx"


def test_a_helper_that_cannot_answer(server: Server) -> None:
    heard, entry = refused(server, "alice", auth_socket=f"{server.path}/missing")
    assert heard == monitor.LATER
    assert entry["event"] == "login-unavailable"
    server.credentials.chmod(0o644)
    heard, entry = refused(server, "alice")
    assert heard == monitor.LATER
    assert "mode 0644" in entry["reason"]
    assert "user" not in entry  # nobody has found out whether it is a name
    assert refused(server, "alice", log_unknown="yes")[1]["user"] == "alice"


def test_an_answer_that_takes_too_long(server: Server) -> None:
    """A helper that accepts and says nothing."""
    path = server.path / "auth.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(path))
        listening.listen()
        heard, entry = refused(server, "alice", auth_socket=str(path), auth_timeout="1")
    assert heard == monitor.LATER
    assert entry["reason"] == "no verdict in 1 seconds"


@needs_root
def test_who_reads_what_a_refused_client_goes_on_to_say(server: Server) -> None:
    """Not root: the session has become POPAD_USER before it reads, to let the last reply arrive."""
    with server.session() as (client, process):
        client.line()
        client.ask("USER alice")
        client.send(b"PASS wrong\r\n")
        assert client.rest() == monitor.WRONG
        client.send(b"NOOP\r\n")
        status = status_of(process.pid)
        assert (status["Uid"], status["Gid"]) == (four(PREAUTH_UIDS[process.pid]), four(ids(PREAUTH_USER)[1]))


@needs_root
def test_a_helper_on_demand_knows_no_client(server: Server) -> None:
    """It checks a password that takes seconds to check; meanwhile its descriptors are looked at."""
    line = credentials.line(NAME, PASSWORD.encode(), 1000)
    server.credentials.write_text(line.replace("$1000:", f"${verifiers.MAX_ITERATIONS}:"))
    with server.session() as (client, process):
        client.line()
        client.ask(f"USER {NAME}")
        (preauth,) = children_of(process.pid)
        client.send(f"PASS {PASSWORD}\r\n".encode())
        wait_until(lambda: bool(set(children_of(process.pid)) - {preauth}))
        (helper,) = set(children_of(process.pid)) - {preauth}
        connection = os.readlink(f"/proc/{process.pid}/fd/0")
        try:
            # The end of its own channel, and the one over which it is told name and password.
            wait_until(lambda: 1 <= len(sockets_of(helper)) <= 2 and connection not in sockets_of(helper))
        finally:
            os.kill(helper, signal.SIGKILL)
        assert client.rest() == monitor.LATER


# -- every length around each limit


@pytest.mark.parametrize("end", [b"\r\n", b"\n"], ids=["CRLF", "LF"])
@pytest.mark.parametrize("octets", range(ARGUMENT_OCTETS - 3, ARGUMENT_OCTETS + 4))
@pytest.mark.parametrize("command", [b"USER ", b"PASS "])
def test_lengths_around_the_limits(server: Server, command: bytes, octets: int, end: bytes) -> None:
    """A line is too long, or what it carries reaches the helper: the longest name and password log in."""
    name, password = ("x" * octets, PASSWORD) if command == b"USER " else (NAME, "x" * octets)
    server.credentials.write_text(credentials.line(name, password.encode(), verifiers.LEAST_ITERATIONS) + "\n")
    fits = len(command) + octets + len(end) <= COMMAND_OCTETS
    with server.session({"POPAD_MAILDROP": f"mbox:{server.mailbox}"}) as (client, process):
        client.line()
        client.send(b"USER " + name.encode() + end + b"PASS " + password.encode() + end + b"QUIT" + end)
        answers = [line[:4] for line in client.rest().splitlines()]
        client.close()
        assert process.wait(PATIENCE) == 0
    assert ("login-passed" in server.events) == fits
    assert "login-unavailable" not in server.events
    assert "Traceback" not in server.stderr.read_text()
    too_long = [b"-ERR", b"-ERR", b"+OK "] if command == b"USER " else [b"+OK ", b"-ERR", b"+OK "]
    assert answers == ([b"+OK "] * 3 if fits else too_long)


@needs_root
def test_who_has_logged_in_gains_no_privileges(server: Server) -> None:
    """Also where no unit has seen to it."""
    with server.session() as (client, process):
        assert client.log_in().startswith(b"+OK")
        assert status_of(process.pid)["NoNewPrivs"] == "1"
        client.ask("QUIT")
