"""session.py: whole sessions over TCP, as root with three identities where the tests run as root, else with one."""

import os
import pwd
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from popad import session
from popad.auth import credentials
from tests import private
from tests.others import lock_held
from tests.serving import (
    CHECKOUT,
    NAME,
    OWNER,
    PASSWORD,
    PATIENCE,
    POPAD,
    PYTHON,
    STRANGER,
    Client,
    Server,
    children_of,
    handed_over,
    status_of,
)

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="needs root: the session becomes other users")

ONE = b"From a\nDate: 1\nSubject: one\n\nbody 1\n\n"
TWO = b"From b\nDate: 2\nSubject: two\n\n.body 2\n\n"
THREE = b"From c\nDate: 3\nSubject: three\n\nbody 3\n\n"
ALL = ONE + TWO + THREE


@pytest.fixture
def server(public_path: Path) -> Server:
    server = Server(public_path)
    server.deliver(ALL)
    return server


def ids(name: str) -> tuple[int, int]:
    entry = pwd.getpwnam(name)
    return entry.pw_uid, entry.pw_gid


def four(number: int) -> str:
    """real, effective, saved and file system id."""
    return " ".join([str(number)] * 4)


# -- a session from one end to the other


def test_fetch_and_delete(server: Server) -> None:
    with server.session() as (client, process):
        assert client.log_in() == b"+OK 3 messages (102 octets)"
        assert client.ask("RETR 2").startswith(b"+OK")
        assert client.body() == b"Date: 2\r\nSubject: two\r\n\r\n..body 2\r\n"
        assert client.ask("DELE 2").startswith(b"+OK")
        assert client.ask("QUIT").startswith(b"+OK")
        assert client.rest() == b""
        assert process.wait(PATIENCE) == 0
    assert server.mailbox.read_bytes() == ONE + THREE


def test_log_of_a_session(server: Server) -> None:
    with server.session() as (client, _):
        port = str(client.socket.getsockname()[1])
        client.log_in()
        received = len(client.ask("TOP 1 0")) + 2 + len(client.body()) + 3
        received += len(client.ask("RETR 2")) + 2 + len(client.body()) + 3
        for command in ("DELE 2", "DELE 3", "QUIT"):
            received += len(client.ask(command)) + 2
    received += len(b"+OK 3 messages (102 octets)\r\n")
    *first, passed, loaded, updated, closed = server.log
    assert [entry["event"] for entry in first] == ["session-opened"] + ["one-identity"] * (not ROOT)
    assert [entry["event"] for entry in (passed, loaded, updated, closed)] == [
        "login-passed",
        "maildrop-loaded",
        "maildrop-updated",
        "session-closed",
    ]
    for entry in server.log:
        assert (entry["rhost"], entry["rport"]) == ("127.0.0.1", port)
        assert entry["message"].startswith("127.0.0.1: ")
    for entry in (passed, loaded, updated, closed):
        assert (entry["user"], entry["maildrop"]) == ("alice", f"mbox:{server.mailbox}")
    assert (loaded["messages"], loaded["octets"]) == ("3", "102")
    assert (updated["deleted"], updated["left"], updated["left_octets"]) == ("2", "1", "33")
    assert {name: closed[name] for name in ("retrieved", "topped", "deleted", "left", "sent_octets")} == {
        "retrieved": "1",
        "topped": "1",
        "deleted": "2",
        "left": "1",
        "sent_octets": str(received),
    }
    assert 0 < int(closed["duration_usec"]) < PATIENCE * 1_000_000


def test_commands_pipelined_over_the_login(server: Server) -> None:
    """All in one segment, before the greeting has been read (RFC 2449 section 6.6; popa3d's clients do it)."""
    commands = f"USER alice\r\nPASS {PASSWORD}\r\nSTAT\r\nDELE 1\r\nRETR 3\r\nQUIT\r\nNOOP\r\n".encode()
    with server.session() as (client, _):
        client.send(commands)
        *answers, last = client.rest().split(b"\r\n")
    assert last == b""
    assert [answer.split(b" ")[0] for answer in answers[:6]] == [b"+OK"] * 6
    assert answers[3] == b"+OK 3 102"
    assert answers[6:-1] == [b"Date: 3", b"Subject: three", b"", b"body 3", b"."]
    assert answers[-1].startswith(b"+OK")
    assert server.mailbox.read_bytes() == TWO + THREE


def test_much_is_pipelined_over_the_login(server: Server) -> None:
    """More than one read brings: part of it is read ahead by the child and travels, the rest waits in the socket."""
    with server.session() as (client, _):
        client.send(f"USER alice\r\nPASS {PASSWORD}\r\n".encode() + b"NOOP\r\n" * 5000 + b"STAT\r\nQUIT\r\n")
        answers = client.rest().split(b"\r\n")
    assert answers.count(b"+OK nothing done") == 5000
    assert answers[-3:-1] == [b"+OK 3 102", b"+OK bye"]


def test_an_octet_at_a_time(server: Server) -> None:
    with server.session() as (client, _):
        for octet in f"USER alice\r\nPASS {PASSWORD}\r\nSTAT\r\nQUIT\r\n".encode():
            client.send(bytes([octet]))
        assert client.rest().split(b"\r\n")[-3] == b"+OK 3 102"


def test_a_warm_helper(server: Server) -> None:
    """The other way to the same verdict."""
    path = server.path / "auth.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(path))
        listening.listen()
        helper = subprocess.Popen(
            handed_over(listening, *POPAD, "auth-helper"),
            cwd=CHECKOUT,
            env={"PATH": os.defpath, **server.settings},
            pass_fds=[listening.fileno()],
        )
        try:
            for password, answer in (("wrong", b"-ERR [AUTH]"), (PASSWORD, b"+OK 3 messages")):
                with server.session({"POPAD_AUTH_SOCKET": str(path)}) as (client, _):
                    client.line()
                    client.ask("USER alice")
                    assert client.ask(f"PASS {password}").startswith(answer)
        finally:
            helper.terminate()
            helper.wait()


# -- who runs as whom


def limits_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): line[26:47].strip() for line in lines}


@needs_root
def test_who_reads_what_strangers_send(server: Server) -> None:
    uid, gid = ids(STRANGER)
    with server.session() as (client, process):
        client.line()
        client.ask("CAPA")  # once it answers, the child has given up all that it gives up
        client.body()
        (child,) = children_of(process.pid)
        status, limits = status_of(child), limits_of(child)
        assert (status["Uid"], status["Gid"], status["Groups"]) == (four(uid), four(gid), str(gid))
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        for limit in ("Max open files", "Max processes", "Max file size", "Max core file size"):
            assert limits[limit] == "0", limit
        assert status_of(process.pid)["Uid"] == four(0)
        client.ask("QUIT")


@needs_root
def test_who_serves_the_mail(server: Server) -> None:
    """After the login nobody is root, and the process that strangers spoke to is gone."""
    uid, gid = ids(OWNER)
    with server.session() as (client, process):
        client.log_in()
        status = status_of(process.pid)
        assert (status["Uid"], status["Gid"], status["Groups"]) == (four(uid), four(gid), str(gid))
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
        assert children_of(process.pid) == []
        client.ask("QUIT")


@needs_root
def test_files_are_made_for_their_user_alone(server: Server) -> None:
    """umask 077, whatever popad was started with; nothing is left of an update."""
    with server.session() as (client, process):
        client.log_in()
        assert status_of(process.pid)["Umask"] == "0077"
        client.ask("DELE 1")
        client.ask("QUIT")
    assert [path.name for path in server.state.iterdir()] == [".key"]


def test_descriptors_after_the_login(server: Server) -> None:
    """The client, the mailbox, the state directory; none of the credentials, of the child's or of the helper's."""
    with server.session() as (client, process):
        client.log_in()
        opened = {}
        for entry in Path(f"/proc/{process.pid}/fd").iterdir():
            opened[int(entry.name)] = os.readlink(entry)
        client.ask("QUIT")
    others = sorted(target.partition(":")[0] for fd, target in opened.items() if fd > 2)
    assert others == sorted(["socket", str(server.mailbox), str(server.state)])


@contextmanager
def session_as(name: str, server: Server, **settings: str) -> Iterator[Client]:
    """A session that is not started as root."""
    uid, gid = ids(name)
    become = f"import os; os.setgroups([]); os.setgid({gid}); os.setuid({uid})"
    program = [PYTHON, "-c", f"{become}; os.execv({PYTHON!r}, {list(POPAD)!r})"]
    os.chown(server.credentials, uid, gid)
    given = {f"POPAD_{name.upper()}": value for name, value in settings.items()}
    with server.session(given, program) as (client, _):
        yield client


@needs_root
def test_without_root_the_same_roles_have_one_uid(server: Server) -> None:
    server.stderr.touch()
    server.stderr.chmod(0o666)
    with session_as(OWNER, server) as client:
        assert client.log_in() == b"+OK 3 messages (102 octets)"
        client.ask("DELE 1")
        assert client.ask("QUIT").startswith(b"+OK")
    assert server.mailbox.read_bytes() == TWO + THREE


@needs_root
def test_without_root_nobody_else_can_be_served(server: Server) -> None:
    with session_as(OWNER, server, virtual_user="daemon", user="popad-no-such-user") as client:
        assert client.log_in() == session.NOT_SERVED.rstrip()
        assert client.rest() == b""
    assert server.mailbox.read_bytes() == ALL


# Runs in a namespace with users of its own; prints what the session says, and who it is.
SYSTEM_USER = """
import json, os, sys
from pathlib import Path
from tests.serving import Server, status_of
place = json.load(sys.stdin)
server = Server(Path(place))
server.mailbox.write_bytes(b"From a\\nDate: 1\\n\\nbody\\n\\n")
os.chown(server.mailbox, 61000, 61000)
server.mailbox.chmod(0o600)
settings = {"POPAD_AUTH": "pam", "POPAD_PAM_SERVICE": "popad", "POPAD_VIRTUAL_USER": ""}
answers = []
for password in ("wrong", "secret"):
    with server.session(settings) as (client, process):
        client.line()
        client.ask("USER alice")
        answers.append(client.ask(f"PASS {password}"))
        if password == "secret":
            answers += [status_of(process.pid)["Uid"].encode(), client.ask("DELE 1"), client.ask("QUIT")]
print(json.dumps([answer.decode() for answer in answers] + [server.mailbox.read_text(), server.events]))
"""


@needs_root
def test_a_system_user_through_pam(public_path: Path, tmp_path: Path) -> None:
    """The default: PAM says who it is, and the session becomes that user."""
    private.needs_a_namespace()
    (tmp_path / "passwd").write_text(Path("/etc/passwd").read_text() + "alice:x:61000:61000::/nonexistent:/bin/sh\n")
    (tmp_path / "shadow").write_text("alice:$1$popad$UkYuFxWOWv9uc0d1OK2rV1:1::::::\n")  # "secret", cheaply hashed
    (tmp_path / "pam.d").mkdir()
    (tmp_path / "pam.d/popad").write_text("auth required pam_unix.so nodelay\naccount required pam_unix.so\n")
    binds = {f"/etc/{name}": tmp_path / name for name in ("passwd", "shadow", "pam.d")}
    said = private.run(SYSTEM_USER, binds, str(public_path))
    assert isinstance(said, list)
    wrong, right, uid, *_, mailbox, events = said
    assert wrong == session.WRONG.decode().rstrip()
    assert (right, uid, mailbox) == ("+OK 1 messages (17 octets)", four(61000), "")
    assert events == [
        "session-opened",
        "login-failed",
        "session-opened",
        "login-passed",
        "maildrop-loaded",
        "maildrop-updated",
        "session-closed",
    ]


# -- logins that fail


def add_to_credentials(server: Server, name: str) -> None:
    with server.credentials.open("a") as file:
        file.write(credentials.line(name, PASSWORD.encode(), credentials.ITERATIONS) + "\n")


def refused(server: Server, name: str, password: str = PASSWORD, **settings: str) -> tuple[bytes, dict[str, str]]:
    """All that the client hears after PASS, though it goes on; and the last entry of the log."""
    add_to_credentials(server, "root")
    add_to_credentials(server, STRANGER)
    with server.session({f"POPAD_{key.upper()}": value for key, value in settings.items()}) as (client, process):
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
    assert heard == session.WRONG
    assert (entry["event"], entry["user"]) == ("login-failed", "alice")


@pytest.mark.parametrize("name", ["nobody-here", "hunter2", "..", "../x", "a/b"])
def test_an_unknown_name_is_not_logged(server: Server, name: str) -> None:
    """It may be a password typed too early."""
    heard, entry = refused(server, name)
    assert heard == session.WRONG
    assert entry["event"] == "login-failed"
    assert "user" not in entry
    assert f'"{name}"' not in server.stderr.read_text()


def test_an_unknown_name_is_logged_if_asked_for(server: Server) -> None:
    _, entry = refused(server, "nobody-here", log_unknown="yes")
    assert entry["user"] == "nobody-here"


@pytest.mark.parametrize("name", ["root", STRANGER])
def test_users_whom_popad_refuses_to_be(server: Server, name: str) -> None:
    if not ROOT and name == STRANGER:
        pytest.skip("needs root: without it there is no user for strangers")
    heard, entry = refused(server, name)
    assert heard == session.WRONG
    assert (entry["event"], entry["user"]) == ("login-refused", name)


def test_names_and_passwords_with_formats_and_quotes(server: Server) -> None:
    heard, entry = refused(server, "%s%n{0}\"'\\x", "%n%n%n%n{user}", log_unknown="yes")
    assert heard == session.WRONG
    assert entry["user"] == "%s%n{0}\"'\\x5cx"


def test_a_helper_that_cannot_answer(server: Server) -> None:
    heard, entry = refused(server, "alice", auth_socket=f"{server.path}/missing")
    assert heard == session.LATER
    assert entry["event"] == "login-unavailable"
    server.credentials.chmod(0o644)
    heard, entry = refused(server, "alice")
    assert heard == session.LATER
    assert "mode 0644" in entry["reason"]


def test_an_answer_that_takes_too_long(server: Server) -> None:
    """A helper that accepts and says nothing."""
    path = server.path / "auth.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(path))
        listening.listen()
        heard, entry = refused(server, "alice", auth_socket=str(path), auth_timeout="1")
    assert heard == session.LATER
    assert entry["reason"] == "no verdict in 1 seconds"


@needs_root
def test_who_reads_what_a_refused_client_goes_on_to_say(server: Server) -> None:
    """Not root: the session has become the user of strangers before it reads, to let the last reply arrive."""
    with server.session() as (client, process):
        client.line()
        client.ask("USER alice")
        client.send(b"PASS wrong\r\n")
        assert client.rest() == session.WRONG
        client.send(b"NOOP\r\n")
        assert status_of(process.pid)["Uid"] == four(ids(STRANGER)[0])


def wait_until(condition: Callable[[], bool]) -> None:
    """For what the kernel tells nobody about."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.005)


def sockets_of(pid: int) -> set[str]:
    """The sockets that a process has open."""
    links = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    return {link for link in links if link.startswith("socket:")}


@needs_root
def test_a_helper_on_demand_knows_no_client(server: Server) -> None:
    """It checks a password that takes seconds to check; meanwhile its descriptors are looked at."""
    line = credentials.line(NAME, PASSWORD.encode(), 1000)
    server.credentials.write_text(line.replace("$1000:", f"${credentials.MAX_ITERATIONS}:"))
    with server.session() as (client, process):
        client.line()
        client.ask(f"USER {NAME}")
        (stranger,) = children_of(process.pid)
        client.send(f"PASS {PASSWORD}\r\n".encode())
        wait_until(lambda: children_of(process.pid) not in ([], [stranger]))
        (helper,) = children_of(process.pid)
        try:
            wait_until(lambda: len(sockets_of(helper)) == 1)
            assert sockets_of(helper) & sockets_of(process.pid) == set()  # it is the helper's end of its channel
        finally:
            os.kill(helper, signal.SIGKILL)
        assert client.rest() == session.LATER


# -- ends without a login


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
    assert (server.log[-1]["event"], server.log[-1]["reason"]) == ("login-not-attempted", "the client left")


def test_a_client_that_is_gone_before_the_greeting(server: Server) -> None:
    """A port scan: connect, reset."""
    with server.session() as (client, process):
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        assert process.wait(PATIENCE) == 0
    assert server.events in ([], ["session-opened", "login-not-attempted"])


def test_a_stranger_has_a_time_limit(server: Server) -> None:
    with server.session({"POPAD_LOGIN_TIMEOUT": "1"}) as (client, process):
        client.line()
        client.ask("USER alice")
        assert client.rest() == b""
        assert process.wait(PATIENCE) == 0
    assert (server.log[-1]["event"], server.log[-1]["reason"]) == ("login-not-attempted", "timed out")


@pytest.mark.parametrize(
    "octets", [b"CAPA\r\n" * 100, b"x" * 4096, b"\0\n" * 100, b"USER\r\n" * 100], ids=["CAPA", "x", "NUL", "USER"]
)
def test_a_stranger_who_never_stops_has_the_same_time_limit(server: Server, octets: bytes) -> None:
    """The client ends after the server's time limit and before the parent loses its patience with the child."""
    with server.session({"POPAD_LOGIN_TIMEOUT": "1"}) as (client, process):
        client.socket.setblocking(False)
        ended = os.pidfd_open(process.pid)
        try:
            send_and_read_until(client.socket, ended, octets)
        finally:
            os.close(ended)
        assert process.wait(PATIENCE) == 0
    assert (server.log[-1]["event"], server.log[-1]["reason"]) == ("login-not-attempted", "timed out")


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


# -- processes that say what they may not say

HOSTILE = """
import os, sys
from popad import journal, privsep, session
journal.JOURNAL_SOCKET = "/nonexistent"
session.GRACE = -0.8  # with POPAD_LOGIN_TIMEOUT=1 the child is given up after 0.2 s
privsep.PATIENCE = 0.2
def authorization_role(asked, deadline, channel):
    {role}
session.authorization_role = authorization_role
from popad.__main__ import main
main()
"""
ROLES = {
    "says nothing and leaves": "pass",
    "says nothing and stays": "channel.receive([1], None)",
    "says nothing and stays for good": "os.read(os.pipe()[0], 1)",
    "speaks another language": 'channel.send((b"LOGIN", b"alice", b"secret", b""))',
    "wants something else": 'channel.send((b"root", b"alice", b"secret", b""))',
    "says too little": 'channel.send((b"login", b"alice", b"secret"))',
    "says too much": 'channel.send((b"login", b"alice", b"secret", b"", b""))',
    "names a long name": 'channel.send((b"login", b"a" * 256, b"secret", b""))',
    "sends a long rest": 'channel.send((b"login", b"alice", b"secret", b"x" * 32769))',
    "sends rubbish": 'channel.socket.send(b"\\xff" * 100)',
    "logs in and crashes": 'channel.send((b"login", b"alice", b"secret", b"")); os._exit(1)',
    "logs in and is killed": 'channel.send((b"login", b"alice", b"secret", b"")); os.kill(os.getpid(), 9)',
}


@pytest.mark.parametrize("role", ROLES)
def test_a_child_that_breaks_the_contract_ends_the_session(server: Server, role: str) -> None:
    """Nothing is answered, nobody is authenticated, and the reason is in the log."""
    program = [PYTHON, "-c", HOSTILE.format(role=ROLES[role])]
    with server.session({"POPAD_LOGIN_TIMEOUT": "1"}, program) as (client, process):
        assert client.rest() == session.GREETING
        assert process.wait(PATIENCE) == 70
    broken = [line for line in server.stderr.read_text().splitlines() if line.startswith("event=")][-1]
    assert broken.startswith("event=contract-broken priority=3 ")
    assert "login-passed" not in server.stderr.read_text()


@needs_root
def test_a_child_that_stays_and_cannot_be_killed(server: Server) -> None:
    """In the unit the session has no CAP_KILL: it ends itself, and systemd what is left."""
    code = HOSTILE.format(role="import time; privsep.become(*asked.stranger); time.sleep(2)")
    program = ["setpriv", "--bounding-set", "-kill", PYTHON, "-c", code]
    with server.session({"POPAD_LOGIN_TIMEOUT": "1"}, program) as (client, process):
        assert client.rest() == session.GREETING
        assert process.wait(PATIENCE) == 70
    assert (server.log[-1]["event"], server.log[-1]["reason"]) == ("contract-broken", "a child does not end")


# A helper's answer to every request, and what becomes of the login.
VERDICTS = {
    "root": ([b"passed", b"alice", b"0", b"0", b"mbox:/var/mail/alice", b""], "contract-broken"),
    "nobody by name": ([b"passed", b"", b"65534", b"65534", b"mbox:/var/mail/alice", b""], "contract-broken"),
    "no path": ([b"passed", b"alice", b"65534", b"65534", b"mbox:mail/alice", b""], "contract-broken"),
    "a way up": ([b"passed", b"alice", b"65534", b"65534", b"mbox:/var/mail/../../etc", b""], "contract-broken"),
    "another store": ([b"passed", b"alice", b"65534", b"65534", b"x:/var/mail/alice", b""], "contract-broken"),
    "no verdict": ([b"perhaps", b"", b"0", b"0", b"", b""], "login-unavailable"),
    "no number": ([b"passed", b"alice", b"-1", b"0", b"mbox:/x", b""], "login-unavailable"),
    "too short": ([b"passed", b"alice"], "login-unavailable"),
}


@pytest.mark.parametrize("what", VERDICTS)
def test_a_verdict_is_checked_again(server: Server, what: str) -> None:
    answer, event = VERDICTS[what]
    path = server.path / "auth.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(PATIENCE)
        with server.session({"POPAD_AUTH_SOCKET": str(path)}) as (client, process):
            client.line()
            client.ask("USER alice")
            client.send(b"PASS secret\r\n")
            asking, _ = listening.accept()
            with asking:
                asking.recv(4096)
                asking.sendall(b"".join(len(field).to_bytes(4, "big") + field for field in answer))
                heard = client.rest()
            client.close()
            assert process.wait(PATIENCE) == (70 if event == "contract-broken" else 0)
    assert heard == (b"" if event == "contract-broken" else session.LATER)
    assert server.events[-1] == event
    assert "login-passed" not in server.events


@needs_root
def test_a_verdict_for_the_user_of_strangers_is_refused(server: Server) -> None:
    VERDICTS["stranger"] = (
        [b"passed", b"alice", b"%d" % ids(STRANGER)[0], b"1", b"mbox:/var/mail/alice", b""],
        "contract-broken",
    )
    test_a_verdict_is_checked_again(server, "stranger")


# -- systemd's ear


def test_what_systemd_is_told(server: Server) -> None:
    """READY=1 when the greeting has left, the status, and more time with the commands."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(server.path / "notify"))
        (server.path / "notify").chmod(0o666)
        systemd.settimeout(PATIENCE)
        with server.session(environment={"NOTIFY_SOCKET": str(server.path / "notify")}) as (client, _):
            assert client.line() == session.GREETING
            ready = systemd.recv(4096).decode().splitlines()
            assert ready[:2] == ["READY=1", "STATUS=authorization, 127.0.0.1"]
            client.ask("USER alice")
            client.ask(f"PASS {PASSWORD}")
            told = []
            while "STATUS=alice: 3 messages" not in told:
                told += systemd.recv(4096).decode().splitlines()
            assert [line.partition("=")[0] for line in told] == ["EXTEND_TIMEOUT_USEC", "STATUS"]
            assert int(told[0].partition("=")[2]) >= 600_000_000
            client.ask("DELE 2")
            assert systemd.recv(4096) == b"STATUS=alice: 3 messages, 1 deleted"
            client.ask("QUIT")


# -- memory


def test_memory_does_not_grow_with_the_message(server: Server) -> None:
    """RETR of 60 MB, half of it one line."""
    server.deliver(ONE + b"From big\nSubject: big\n\n" + b"body\n" * 6_000_000 + b"x" * 30_000_000 + b"\n")
    with server.session() as (client, process):
        client.log_in()
        before = int(status_of(process.pid)["VmHWM"].split()[0])  # kB, the most it has ever had
        assert client.ask("RETR 2") == b"+OK 66000018 octets"
        assert len(client.body()) == 66_000_018
        assert int(status_of(process.pid)["VmHWM"].split()[0]) < before + 8_000
        assert client.ask("QUIT").startswith(b"+OK")


# -- what root does


def test_docstring_says_what_runs_as_root() -> None:
    """The list at the head of the file has each thing that is called before become()."""
    assert session.__doc__ is not None
    for word in (
        "settings",
        "POPAD_USER",
        "greeting",
        "fork",
        "log",
        "notif",
        "message",
        "helper",
        "verdict",
        "POPAD_STATE",
    ):
        assert word in session.__doc__


def test_replies_to_strangers_are_constants_with_response_codes() -> None:
    assert session.WRONG.startswith(b"-ERR [AUTH] ")
    assert session.LATER.startswith(b"-ERR [SYS/TEMP] ")
    assert session.NOT_SERVED.startswith(b"-ERR [SYS/PERM] ")
    for reply in (session.GREETING, session.WRONG, session.LATER, session.NOT_SERVED):
        assert reply.endswith(b"\r\n")
        assert b"<" not in reply  # RFC 1939 section 4: a greeting with a timestamp would promise APOP
