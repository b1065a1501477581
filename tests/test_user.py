"""user.py: sessions that end in other ways than by QUIT, and mailboxes that are not served, or not any more."""

import os
import select
import socket
import time

import pytest

from tests.others import lock_held
from tests.serving import (
    ALL,
    ONE,
    PATIENCE,
    THREE,
    TWO,
    Server,
)

# -- ends without QUIT


@pytest.mark.parametrize("said", [b"", b"NOOP\r\n", b"QUIT", b"QUIT x\r\n", b"NO\0OP\r\n"])
def test_a_client_that_leaves_loses_no_mail_and_blocks_nobody(server: Server, said: bytes) -> None:
    """RFC 1939 section 6; and the next session is served at once: no [IN-USE] for minutes after a dropped line."""
    with server.session() as (client, process):
        client.log_in()
        client.ask("DELE 1")
        client.send(said)
        client.socket.shutdown(socket.SHUT_WR)
        client.rest()
        assert process.wait(PATIENCE) == 0
    assert server.mailbox.read_bytes() == ALL
    assert server.events[-2:] == ["peer-gone", "session-closed"]
    closed = server.log[-1]
    assert (closed["deleted"], closed["left"]) == ("0", "3")
    with server.session() as (client, _):
        assert client.log_in() == b"+OK 3 messages (102 octets)"


def test_two_sessions_at_once(server: Server) -> None:
    """Nobody holds a lock between commands; the second to quit notices what the first has removed."""
    with server.session() as (one, _), server.session() as (other, process):
        assert one.log_in() == other.log_in() == b"+OK 3 messages (102 octets)"
        one.ask("DELE 1")
        other.ask("DELE 2")
        assert one.ask("QUIT").startswith(b"+OK")
        one.rest()
        other.send(b"QUIT\r\n")
        assert other.rest() == b""
        assert process.wait(PATIENCE) == 0
    assert server.mailbox.read_bytes() == TWO + THREE
    assert "maildrop-changed" in server.events


def test_a_session_that_is_stopped_removes_nothing(server: Server) -> None:
    """systemctl stop: SIGTERM."""
    with server.session() as (client, process):
        client.log_in()
        client.ask("DELE 1")
        process.terminate()
        assert process.wait(PATIENCE) != 0
    assert server.mailbox.read_bytes() == ALL


def test_the_autologout_timer(server: Server) -> None:
    with server.session({"POPAD_TIMEOUT": "1"}) as (client, process):
        client.log_in()
        client.ask("DELE 1")
        assert client.rest() == b""
        assert process.wait(PATIENCE) == 0
    assert server.mailbox.read_bytes() == ALL
    assert server.events[-2:] == ["peer-silent", "session-closed"]


@pytest.mark.parametrize("octets", [b"N", b"x" * 4096], ids=["an octet at a time", "as fast as it can"])
def test_what_is_no_command_does_not_reset_the_timer(server: Server, octets: bytes) -> None:
    """RFC 1939 section 3: a command does. A line that never ends keeps no session."""
    with server.session({"POPAD_TIMEOUT": "1"}) as (client, process):
        client.log_in()
        client.ask("DELE 1")
        client.socket.setblocking(False)
        ended = os.pidfd_open(process.pid)
        try:
            while not select.select([ended], [], [], 0.02 if len(octets) == 1 else 0)[0]:
                try:
                    client.send(octets)
                except BlockingIOError:
                    select.select([ended], [client.socket], [], PATIENCE)
                except ConnectionError:
                    break
        finally:
            os.close(ended)
        assert process.wait(PATIENCE) == 0
    assert server.mailbox.read_bytes() == ALL
    assert server.events[-2:] == ["peer-silent", "session-closed"]


def test_each_command_resets_the_timer(server: Server) -> None:
    """Commands for longer than the timer, with pauses that are shorter."""
    with server.session({"POPAD_TIMEOUT": "1"}) as (client, _):
        client.log_in()
        begun = time.monotonic()
        while time.monotonic() < begun + 1.5:
            assert client.ask("NOOP").startswith(b"+OK")
            select.select([client.socket], [], [], 0.3)
        assert client.ask("QUIT").startswith(b"+OK")


def test_a_client_that_never_reads(server: Server) -> None:
    """It does not hold a session for longer than one that says nothing."""
    server.deliver(ONE + b"From big\nSubject: big\n\n" + b"x" * 99_999 + b"\n" * 100_000)
    with server.session({"POPAD_TIMEOUT": "1"}) as (client, process):
        client.log_in()
        client.send(b"RETR 2\r\n" * 200)
        assert process.wait(PATIENCE) == 0
    assert server.events[-2:] == ["peer-silent", "session-closed"]


# -- mailboxes that are not served, or not any more


def test_what_is_no_mailbox(server: Server) -> None:
    server.deliver(b"Subject: no From line\n\nbody\n")
    with server.session() as (client, process):
        assert client.log_in().startswith(b"-ERR [SYS/PERM] ")
        assert client.rest() == b""
        client.close()
        assert process.wait(PATIENCE) == 0
    assert server.log[-1]["event"] == "maildrop-refused"
    assert "not an mbox" in server.log[-1]["reason"]


def test_a_mailbox_that_somebody_else_keeps_locked(server: Server) -> None:
    """popa3d waits for ever; here the client is told, and may come again."""
    with lock_held(server.mailbox), server.session({"POPAD_LOCK_TIMEOUT": "1"}) as (client, process):
        assert client.log_in().startswith(b"-ERR [IN-USE] ")
        assert client.rest() == b""
        client.close()
        assert process.wait(PATIENCE) == 0
    assert server.log[-1]["event"] == "maildrop-refused"
    with server.session() as (client, _):
        assert client.log_in().startswith(b"+OK")


def test_no_state_directory(server: Server) -> None:
    server.state.rmdir()
    with server.session() as (client, _):
        assert client.log_in().startswith(b"-ERR [SYS/TEMP] ")
    assert server.log[-1]["event"] == "maildrop-refused"
    assert "POPAD_STATE" in server.log[-1]["reason"]


def test_an_update_that_fails(server: Server) -> None:
    with server.session({"POPAD_LOCK_TIMEOUT": "1"}) as (client, _):
        client.log_in()
        client.ask("DELE 1")
        with lock_held(server.mailbox):
            assert client.ask("QUIT").startswith(b"-ERR [SYS/TEMP] ")
        assert client.rest() == b""
    assert server.mailbox.read_bytes() == ALL
    assert server.events[-2:] == ["update-failed", "session-closed"]
    assert (server.log[-1]["deleted"], server.log[-1]["left"]) == ("0", "3")


@pytest.mark.parametrize("command", [b"RETR 1\r\n", b"TOP 1 0\r\n", b"UIDL\r\n", b"QUIT\r\n"])
def test_another_program_changes_the_mailbox(server: Server, command: bytes) -> None:
    """No reply, nothing removed: whatever could be said of these messages might be wrong."""
    with server.session() as (client, process):
        client.log_in()
        client.ask("DELE 3")
        with server.mailbox.open("r+b") as file:
            file.write(ONE.replace(b"one", b"eno"))
        client.send(b"STAT\r\n" + command + b"NOOP\r\n")
        assert client.rest() == b"+OK 2 67\r\n"
        assert process.wait(PATIENCE) == 0
    assert server.mailbox.read_bytes() == ONE.replace(b"one", b"eno") + TWO + THREE
    assert server.events[-2:] == ["maildrop-changed", "session-closed"]


def test_mail_that_arrives_meanwhile_stays(server: Server) -> None:
    with server.session() as (client, _):
        client.log_in()
        client.ask("DELE 1")
        with server.mailbox.open("ab") as file:
            file.write(b"From d\nDate: 4\n\nbody 4\n\n")
        assert client.ask("STAT") == b"+OK 2 69"
        assert client.ask("QUIT").startswith(b"+OK")
    assert server.mailbox.read_bytes() == TWO + THREE + b"From d\nDate: 4\n\nbody 4\n\n"
