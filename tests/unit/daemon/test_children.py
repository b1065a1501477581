"""daemon/children.py: what a session, the spare and the auth helper have of the daemon, and what they do without."""

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, daemon, free_ports
from tests.support.marks import needs_root
from tests.support.patience import wait_until
from tests.support.serving import (
    NAME,
    PASSWORD,
    POPAD_WITHOUT_JOURNAL,
    Client,
    Server,
    children_of,
    links_of,
    sockets_of,
    status_of,
)

QUICK = {"POPAD_MIN_DELAY": "1", "POPAD_GUESS_DELAY": "0", "POPAD_STOP_TIMEOUT": "20"}


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def logged_in(running: Daemon) -> Client:
    client = running.connect()
    assert client.log_in().startswith(b"+OK")
    return client


def greeted(running: Daemon) -> tuple[Client, int, int]:
    """A client, its session, and the session's preauth child when it is root no more."""
    client = running.connect()
    assert client.line().startswith(b"+OK")
    (session,) = running.sessions
    wait_until(lambda: bool(children_of(session)))
    (preauth,) = children_of(session)
    wait_until(lambda: status_of(preauth)["Uid"].split()[0] != "0")
    return client, session, preauth


@needs_root
def test_a_session_of_root_becomes_its_user(server: Server) -> None:
    with daemon(server, QUICK) as running:
        client, session, preauth = greeted(running)
        client.ask(f"USER {NAME}")
        assert client.ask(f"PASS {PASSWORD}").startswith(b"+OK")
        assert status_of(session)["Uid"].split() == [str(server.mailbox.stat().st_uid)] * 4
        assert gone(preauth)
        client.close()


@needs_root
def test_started_without_standard_streams(server: Server) -> None:
    """A socket that is opened then must not get one of their numbers, which a preauth child keeps open."""
    program = ["/bin/sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', *POPAD_WITHOUT_JOURNAL]
    with daemon(server, QUICK, program=program) as running:
        assert links_of(running.process.pid) >= {"/dev/null"}
        _, _, preauth = greeted(running)
        # The daemon has the connection, too, until it has given it away.
        wait_until(lambda: not sockets_of(preauth) & sockets_of(running.process.pid))


@needs_root
def test_what_a_session_keeps_of_the_daemon(server: Server) -> None:
    """Neither a listening socket nor systemd's ear; the preauth child not even the relay."""
    with daemon(server, QUICK) as running:
        client, session, preauth = greeted(running)
        # Listening, systemd, both ends of two relays, the handoff to the spare session.
        wait_until(lambda: len(sockets_of(running.process.pid)) == 7)
        of_daemon = sockets_of(running.process.pid)
        assert len(sockets_of(session) & of_daemon) == 1
        assert not sockets_of(preauth) & of_daemon
        client.ask(f"USER {NAME}")
        assert client.ask(f"PASS {PASSWORD}").startswith(b"+OK")
        assert not sockets_of(session) & of_daemon
        assert len(sockets_of(running.helper) & of_daemon) == 1
        wait_until(lambda: bool(children_of(running.spare)))
        (spares_child,) = children_of(running.spare)
        wait_until(lambda: len(sockets_of(spares_child)) == 2)  # its ends of its channels
        assert not sockets_of(spares_child) & (of_daemon | sockets_of(running.spare))
        assert len(sockets_of(running.spare) & of_daemon) == 2
        client.close()


def test_the_next_client_gets_the_spare(server: Server) -> None:
    """With its preauth child, which was there before the client; and another one waits."""
    with daemon(server, QUICK) as running:
        for _ in range(3):
            wait_until(lambda: running.at_rest and bool(children_of(running.spare)))
            spare = running.spare
            (preauth,) = children_of(spare)
            client = running.connect()
            assert client.line().startswith(b"+OK")
            assert running.sessions == [spare]
            assert children_of(spare) == [preauth]
            wait_until(lambda: len(running.children) == 3)
            assert client.ask(f"USER {NAME}").startswith(b"+OK")
            assert client.ask(f"PASS {PASSWORD}").startswith(b"+OK")
            client.close()
    assert {entry["rhost"] for entry in server.log if "rhost" in entry} == {"127.0.0.1"}


@pytest.mark.parametrize("whom", ["spare", "its child"])
def test_a_spare_that_is_killed(server: Server, whom: str) -> None:
    """The next client is served all the same."""
    with daemon(server, QUICK) as running:
        wait_until(lambda: running.at_rest and bool(children_of(running.spare)))
        spare = running.spare
        killed = spare if whom == "spare" else children_of(spare)[0]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: gone(killed) or not links_of(killed))  # nobody waits for the spare's child yet
        client = running.connect()
        assert client.line().startswith(b"+OK")
        assert client.ask(f"USER {NAME}").startswith(b"+OK")
        assert client.ask(f"PASS {PASSWORD}").startswith(b"+OK")
        client.close()
        wait_until(lambda: running.at_rest and running.spare != spare)


def test_settings_that_are_read_again_are_for_the_next_client(server: Server) -> None:
    """Though its session has been waiting since before."""
    config = server.path / "popad.conf"
    config.write_text("POPAD_MAX_ARGUMENT=40\n")
    arguments = [f"--config={config}", f"--listen=127.0.0.1:{free_ports(socket.AF_INET, '127.0.0.1')[0]}"]
    port = int(arguments[1].rpartition(":")[2])
    with daemon(server, QUICK, arguments, [port]) as running:
        wait_until(lambda: running.at_rest and bool(children_of(running.spare)))
        left = running.descendants
        config.write_text("POPAD_MAX_ARGUMENT=60\n")
        running.reload()
        client = running.connect()
        client.line()
        assert client.ask(f"USER {'x' * 50}").startswith(b"+OK")
        client.close()
        wait_until(lambda: all(map(gone, left)))  # the old helper, the old spare and its preauth child


def test_a_terminal_interrupts_the_daemon_alone(server: Server) -> None:
    """Ctrl-C goes to the foreground group: sessions have left it, and finish."""
    with daemon(server, QUICK) as running:
        client = logged_in(running)
        groups = {os.getpgid(pid) for pid in running.children}
        assert os.getpgid(running.process.pid) not in groups
        running.process.send_signal(signal.SIGINT)
        assert client.ask("QUIT").startswith(b"+OK")
        client.close()
        assert running.ended() == 0
