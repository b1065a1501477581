"""session/postauth.py: sessions that end in other ways than by QUIT, and mailboxes that cannot be served."""

import os
import select
import signal
import socket
import time

import pytest

from tests.support.daemon import daemon
from tests.support.marks import needs_root
from tests.support.others import lock_held, unreadable_while
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import ALL, ONE, POPAD_WITHOUT_JOURNAL, PYTHON, THREE, TWO, Server

NOT_REMOVED = b"-ERR [SYS/TEMP] some deleted messages not removed\r\n"

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
        assert other.ask("QUIT") == b"-ERR [SYS/TEMP] some deleted messages not removed"
        assert other.rest() == b""
        assert process.wait(PATIENCE) == 0
    assert server.mailbox.read_bytes() == TWO + THREE
    assert server.events[-2:] == ["maildrop-changed", "session-closed"]
    assert (server.log[-1]["deleted"], server.log[-1]["left"]) == ("0", "3")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_session_that_is_told_to_end_removes_nothing(server: Server, number: signal.Signals) -> None:
    """systemctl stop: SIGTERM. The journal has its end."""
    with server.session() as (client, process):
        client.log_in()
        client.ask("RETR 2")
        client.body()
        client.ask("DELE 1")
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert client.rest() == b""
    assert server.mailbox.read_bytes() == ALL
    interrupted, closed = server.log[-2:]
    assert (interrupted["event"], interrupted["signal"]) == ("session-interrupted", number.name)
    assert (closed["event"], closed["retrieved"], closed["deleted"], closed["left"]) == (
        "session-closed",
        "1",
        "0",
        "3",
    )


def test_a_session_that_is_told_to_end_while_its_client_takes_no_answer(server: Server) -> None:
    server.deliver(b"From big\nSubject: big\n\n" + b"body\n" * 3_000_000)
    with server.session() as (client, process):
        client.log_in()
        client.send(b"RETR 1\r\n")
        client.line()
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert server.events[-2:] == ["session-interrupted", "session-closed"]


@pytest.mark.parametrize("said", [b"", b"USER alice\r\n"])
def test_a_session_that_is_told_to_end_before_its_login(server: Server, said: bytes) -> None:
    with server.session() as (client, process):
        client.line()
        client.send(said)
        wait_until(lambda: "session-opened" in server.events)
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert client.rest() in (b"", b"+OK now PASS\r\n")  # it may have come to the answer
    (entry,) = [entry for entry in server.log if entry["event"] == "login-not-attempted"]
    assert entry["reason"] == "the session was told to end (SIGTERM)"


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


def test_a_client_that_reads_slowly_and_steadily(server: Server) -> None:
    """For several times the time limit: it has all of the answer, and then its next command counts."""
    big = b"From big\nSubject: big\n\n" + b"x" * 79 + b"\n" * 150_000
    server.deliver(ONE + big + b"\n" + THREE)
    with server.session({"POPAD_TIMEOUT": "1"}, receive_buffer=8192) as (client, _):
        client.log_in()
        client.send(b"RETR 2\r\n")
        begun, received = time.monotonic(), b""
        while not received.endswith(b"\r\n.\r\n"):
            time.sleep(0.03)  # a slow line
            received += client.socket.recv(4000)
        assert time.monotonic() - begun > 2
        assert client.ask("DELE 1").startswith(b"+OK")
        assert client.ask("QUIT").startswith(b"+OK")
    assert server.mailbox.read_bytes() == big + b"\n" + THREE
    assert server.events[-2:] == ["maildrop-updated", "session-closed"]


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


@pytest.mark.parametrize("command", ["RETR 1", "TOP 1 0", "UIDL", "QUIT"])
def test_another_program_changes_the_mailbox(server: Server, command: str) -> None:
    """No message, nothing removed: whatever could be given of these messages might be wrong. The journal hears once."""
    with server.session() as (client, process):
        client.log_in()
        client.ask("DELE 3")
        with server.mailbox.open("r+b") as file:
            file.write(ONE.replace(b"one", b"eno"))
        assert client.ask("STAT") == b"+OK 2 67"
        for _ in range(1 if command == "QUIT" else 3):
            assert client.ask(command).startswith(b"-ERR [SYS/TEMP] ")
        client.send(b"" if command == "QUIT" else b"QUIT\r\n")
        assert client.rest() == (b"" if command == "QUIT" else NOT_REMOVED)
        assert process.wait(PATIENCE) == 0
    assert server.mailbox.read_bytes() == ONE.replace(b"one", b"eno") + TWO + THREE
    assert server.events[-3:] == ["maildrop-loaded", "maildrop-changed", "session-closed"]
    assert (server.log[-1]["retrieved"], server.log[-1]["topped"], server.log[-1]["deleted"]) == ("0", "0", "0")


def append(server: Server) -> None:
    """Mail comes: the next look at the mailbox takes the lock."""
    with server.mailbox.open("ab") as file:
        file.write(b"From d\nDate: 4\n\nbody 4\n\n")


@pytest.mark.parametrize("command", ["RETR 1", "TOP 1 0", "UIDL"])
def test_a_lock_that_is_held_too_long_in_mid_session(server: Server, command: str) -> None:
    """Nothing has changed, so the session and its marks live on, and the same command works when the lock is gone."""
    with server.session({"POPAD_LOCK_TIMEOUT": "1"}) as (client, process):
        client.log_in()
        client.ask("DELE 3")
        append(server)
        with lock_held(server.mailbox):
            assert client.ask(command) == b"-ERR [SYS/TEMP] the mailbox cannot be read now"
            assert client.ask("STAT") == b"+OK 2 67"
        assert client.ask(command).startswith(b"+OK")
        client.body()
        append(server)
        with lock_held(server.mailbox):
            client.send(b"QUIT\r\n")
            assert client.rest() == NOT_REMOVED
        assert process.wait(PATIENCE) == 0
    assert server.mailbox.read_bytes() == ALL + 2 * b"From d\nDate: 4\n\nbody 4\n\n"
    assert server.events[-3:] == ["maildrop-unreadable", "update-failed", "session-closed"]
    for entry in server.log[-3:-1]:
        assert entry["reason"] == "another program held the lock for 1 seconds"


def test_a_lock_that_is_gone_in_time(server: Server) -> None:
    with server.session() as (client, _):
        client.log_in()
        client.ask("DELE 1")
        append(server)
        with lock_held(server.mailbox) as tell:
            os.write(tell, b"x")
            assert client.ask("RETR 2").startswith(b"+OK")
            client.body()
        assert client.ask("QUIT").startswith(b"+OK")
    assert server.mailbox.read_bytes() == TWO + THREE + b"From d\nDate: 4\n\nbody 4\n\n"


@pytest.mark.parametrize("update", [False, True], ids=["session", "QUIT"])
def test_a_mailbox_on_a_failing_disk(server: Server, update: bool) -> None:
    """EIO is no change by another program: the client may try again, and it works when the disk does."""
    trigger = server.path / "failing"
    environment = unreadable_while(trigger)
    with server.session(environment=environment) as (client, process):
        assert client.log_in().startswith(b"+OK")
        client.ask("DELE 3")
        append(server)
        trigger.touch()
        for command in () if update else ("RETR 1", "TOP 1 0", "UIDL", "UIDL 2", "RETR 1"):
            assert client.ask(command) == b"-ERR [SYS/TEMP] the mailbox cannot be read now"
        if update:
            client.send(b"QUIT\r\n")
            assert client.rest() == NOT_REMOVED
        else:
            trigger.unlink()
            assert client.ask("RETR 1") == b"+OK 33 octets"
            client.body()
            assert client.ask("QUIT").startswith(b"+OK")
        assert process.wait(PATIENCE) == 0
    if update:
        assert server.mailbox.read_bytes() == ALL + b"From d\nDate: 4\n\nbody 4\n\n"
        assert server.events[-2:] == ["update-failed", "session-closed"]
    else:
        assert server.mailbox.read_bytes() == ONE + TWO + b"From d\nDate: 4\n\nbody 4\n\n"
        assert server.events[-3:] == ["maildrop-unreadable", "maildrop-updated", "session-closed"]
        assert server.log[-1]["retrieved"] == "1"
    entry = server.log[-2] if update else server.log[-3]
    assert "Input/output error" in entry["reason"]


def test_a_disk_that_fails_in_the_middle_of_a_message(server: Server) -> None:
    """What has left must not look complete: the connection ends."""
    trigger = server.path / "failing"
    server.deliver(ONE + b"From big\nSubject: big\n\n" + b"x" * 79 * 100_000 + b"\n\n" + THREE)
    with server.session(environment=unreadable_while(trigger)) as (client, process):
        client.log_in()
        client.send(b"RETR 2\r\nNOOP\r\n")
        assert client.line().startswith(b"+OK")  # the first blocks have left, and the buffers do not hold the rest
        trigger.touch()
        rest = client.rest()
        assert process.wait(PATIENCE) == 0
    assert 0 < len(rest) < 79 * 100_000
    assert not rest.endswith(b"\n")
    assert server.events[-2:] == ["maildrop-unreadable", "session-closed"]
    assert server.log[-1]["retrieved"] == "0"


def test_mail_that_arrives_meanwhile_stays(server: Server) -> None:
    with server.session() as (client, _):
        client.log_in()
        client.ask("DELE 1")
        with server.mailbox.open("ab") as file:
            file.write(b"From d\nDate: 4\n\nbody 4\n\n")
        assert client.ask("STAT") == b"+OK 2 69"
        assert client.ask("QUIT").startswith(b"+OK")
    assert server.mailbox.read_bytes() == TWO + THREE + b"From d\nDate: 4\n\nbody 4\n\n"


@needs_root
def test_a_mailbox_that_can_only_be_read_is_told_when_it_is_opened(server: Server) -> None:
    """As where the unit's sandbox has it so: mail is given, and the journal knows at once why none will be deleted."""
    spool = server.mailbox.parent
    script = f'mount --bind "{spool}" "{spool}" && mount -o remount,bind,ro "{spool}" && exec "$@"'
    program = ["unshare", "--mount", "sh", "-c", script, "sh", *POPAD_WITHOUT_JOURNAL]
    with server.session(program=program) as (client, process):
        client.log_in()
        (told,) = [entry for entry in server.log if entry["event"] == "maildrop-read-only"]
        assert f"ReadWritePaths={spool} " in told["reason"]
        client.send(b"RETR 1\r\n")
        assert client.line().startswith(b"+OK")
        client.body()
        client.ask("DELE 1")
        assert client.ask("QUIT").startswith(b"-ERR [SYS/PERM] some deleted messages not removed")
        assert process.wait(PATIENCE) == 0
    assert server.mailbox.read_bytes() == ALL
    (failed,) = [entry for entry in server.log if entry["event"] == "update-failed"]
    assert f"ReadWritePaths={spool} " in failed["reason"]


# Writes, as entries are written, whether the collector is on when the client is greeted and when its commands are read,
# and how many objects it never looks through.
COLLECTOR = (
    "import gc, sys; from popad import sinks; from popad.net import arrival; from popad.session import postauth; "
    "sinks.journald.path = sinks.syslog.path = '/nonexistent'\n"
    "def look(place, name):\n"
    "    real = getattr(place, name)\n"
    "    def looking(*given):\n"
    "        sys.stderr.write(f'event={name} on={gc.isenabled()} kept={gc.get_freeze_count()}\\n')\n"
    "        return real(*given)\n"
    "    setattr(place, name, looking)\n"
    "look(arrival.Arrival, '__init__'); look(postauth, 'converse')\n"
    "from popad.__main__ import main; main()"
)


def test_the_collector_is_off_until_all_is_loaded(server: Server) -> None:
    with server.session(program=[PYTHON, "-c", COLLECTOR]) as (client, _):
        client.log_in()
        client.ask("QUIT")
    greeted, conversing = (entry for entry in server.log if "on" in entry)
    assert (greeted["event"], greeted["on"], int(greeted["kept"])) == ("__init__", "False", 0)
    assert (conversing["event"], conversing["on"]) == ("converse", "True")
    assert int(conversing["kept"]) > 1000


def test_the_daemons_collector_is_as_it_was_before_the_fork(server: Server) -> None:
    """On Python 3.13 a session that sets objects aside once more has 0.75 MB more of its own."""
    with daemon(server, program=(PYTHON, "-c", COLLECTOR)) as running:
        client = running.connect()
        client.log_in()
        client.ask("QUIT")
        running.entries("session-closed")
    greeted, conversing = [entry for entry in server.log if "on" in entry][-2:]
    assert (greeted["event"], conversing["event"]) == ("__init__", "converse")
    assert (greeted["on"], conversing["on"]) == ("True", "True")
    assert 1000 < int(conversing["kept"]) <= int(greeted["kept"])
