"""session/monitor.py: whole sessions over TCP, with three identities where the tests run as root, else with one.

The others about sessions: test_monitor_logins.py (those that fail), test_monitor_ends.py, test_monitor_contract.py.
"""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from popad.net import arrival
from popad.session import monitor
from popad.settings import PREAUTH_UIDS
from tests.support import private
from tests.support.daemon import daemon
from tests.support.here import CHECKOUT, ROOT
from tests.support.marks import needs_root
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import (
    ALL,
    ONE,
    OWNER,
    PASSWORD,
    POPAD,
    POPAD_WITHOUT_JOURNAL,
    PREAUTH_USER,
    PYTHON,
    THREE,
    TWO,
    Client,
    Server,
    children_of,
    four,
    handed_over,
    ids,
    status_of,
)

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


def test_a_helper_that_systemd_started(server: Server) -> None:
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
def test_who_reads_what_unauthenticated_clients_send(server: Server) -> None:
    gid = ids(PREAUTH_USER)[1]
    with server.session() as (client, process):
        client.line()
        client.ask("CAPA")  # once it answers, the child has given up all that it gives up
        client.body()
        (child,) = children_of(process.pid)
        status, limits = status_of(child), limits_of(child)
        uid = PREAUTH_UIDS[child]
        assert (status["Uid"], status["Gid"], status["Groups"]) == (four(uid), four(gid), str(gid))
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        for limit in ("Max open files", "Max processes", "Max file size", "Max core file size"):
            assert limits[limit] == "0", limit
        assert status_of(process.pid)["Uid"] == four(0)
        client.ask("QUIT")


@needs_root
def test_no_core_file_with_a_password(server: Server) -> None:
    """Whatever popad was started with: the units have switched them off, inetd and a shell may not."""
    program = ["prlimit", "--core=unlimited", *POPAD_WITHOUT_JOURNAL]
    with server.session({}, program) as (client, process):
        client.line()
        client.ask("CAPA")
        client.body()
        for pid in (process.pid, *children_of(process.pid)):
            assert limits_of(pid)["Max core file size"] == "0"
    with daemon(server, {}, program=program) as running:
        wait_until(lambda: len(running.descendants) == 3)  # the helper, a session, its preauth child
        for pid in (running.process.pid, *running.descendants):
            assert limits_of(pid)["Max core file size"] == "0"


@needs_root
def test_who_serves_the_mail(server: Server) -> None:
    """After the login nobody is root, and the preauth child is gone."""
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
    """umask 077, whatever popad was started with; what is left of an update is the room for the next."""
    with server.session() as (client, process):
        client.log_in()
        assert status_of(process.pid)["Umask"] == "0077"
        client.ask("DELE 1")
        client.ask("QUIT")
    left = sorted(server.state.iterdir(), key=lambda path: path.suffix or path.name)
    assert [path.suffix or path.name for path in left] == [".ids", ".key", ".reserve", ".spare"]
    assert {path.stat().st_mode & 0o777 for path in left} == {0o600}


def test_descriptors_after_the_login(server: Server) -> None:
    """The client, the mailbox, the two directories; none of the credentials, of the child's or of the helper's."""
    with server.session() as (client, process):
        client.log_in()
        opened = {}
        for entry in Path(f"/proc/{process.pid}/fd").iterdir():
            opened[int(entry.name)] = os.readlink(entry)
        client.ask("QUIT")
    others = sorted(target.partition(":")[0] for fd, target in opened.items() if fd > 2)
    assert others == sorted(["socket", str(server.mailbox), str(server.state), str(server.cache)])


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
        assert client.log_in() == arrival.NOT_SERVED.rstrip()
        assert client.rest() == b""
    assert server.mailbox.read_bytes() == ALL


# Runs in a namespace with users of its own; prints what the session says, and who it is.
SYSTEM_USER = """
import json, os, sys
from pathlib import Path
from tests.support.serving import Server, status_of
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
    assert wrong == monitor.WRONG.decode().rstrip()
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


# -- systemd's ear


def test_what_systemd_is_told(server: Server) -> None:
    """READY=1 when the greeting has left, the status, and more time with the commands."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(server.path / "notify"))
        (server.path / "notify").chmod(0o666)
        systemd.settimeout(PATIENCE)
        with server.session(environment={"NOTIFY_SOCKET": str(server.path / "notify")}) as (client, _):
            assert client.line() == arrival.GREETING
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
    """RETR of 24 MB, half of it one line."""
    server.deliver(ONE + b"From big\nSubject: big\n\n" + b"body\n" * 2_000_000 + b"x" * 12_000_000 + b"\n")
    with server.session() as (client, process):
        client.log_in()
        before = int(status_of(process.pid)["VmHWM"].split()[0])  # kB, the most it has ever had
        assert client.ask("RETR 2") == b"+OK 24000018 octets"
        assert len(client.body()) == 24_000_018
        assert int(status_of(process.pid)["VmHWM"].split()[0]) < before + 8_000
        assert client.ask("QUIT").startswith(b"+OK")


# -- what root does


def test_docstring_says_what_runs_as_root() -> None:
    """The list at the head of the file has each thing that is called before become()."""
    assert monitor.__doc__ is not None
    for word in (
        "settings",
        "POPAD_USER",
        "greeting",
        "fork",
        "log",
        "notif",
        "request",
        "helper",
        "verdict",
        "POPAD_STATE",
        "POPAD_CACHE",
    ):
        assert word in monitor.__doc__


def test_replies_before_the_login_are_constants_with_response_codes() -> None:
    assert monitor.WRONG.startswith(b"-ERR [AUTH] ")
    assert monitor.LATER.startswith(b"-ERR [SYS/TEMP] ")
    assert arrival.NOT_SERVED.startswith(b"-ERR [SYS/PERM] ")
    for reply in (arrival.GREETING, monitor.WRONG, monitor.LATER, arrival.NOT_SERVED):
        assert reply.endswith(b"\r\n")
        assert b"<" not in reply  # RFC 1939 section 4: a greeting with a timestamp would promise APOP
