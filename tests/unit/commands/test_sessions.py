"""commands/sessions.py: which sessions there are, by the words of systemd, and by the processes of a real daemon."""

import os
import pwd
import socket
import subprocess
from collections.abc import Iterator

import pytest

from popad.commands import processes, sessions, units
from popad.commands.processes import Process
from popad.commands.sessions import Session
from tests.support.daemon import Daemon, daemon, named_popad
from tests.support.here import ROOT
from tests.support.patience import wait_until
from tests.support.serving import NAME, OWNER, Server

USER = pwd.getpwnam("nobody")
UNIT = {
    "Id": "popad@7-127.0.0.1:110-192.0.2.7:41234.service",
    "ActiveState": "active",
    "Job": "",
    "MainPID": "4711",
    "ExecMainStartTimestamp": "@1764000000",
    "StatusText": "jane: 3 messages, 1 deleted, TLSv1.3",
    "ControlGroup": "/popad.slice/popad@7.service",
}


@pytest.fixture
def of_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process is a user's."""
    monkeypatch.setattr(processes, "look", lambda pid: Process(pid, 1, 1, USER.pw_uid, UNIT["ControlGroup"]))


@pytest.fixture
def of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "look", lambda pid: Process(pid, 1, 1, 0, UNIT["ControlGroup"]))


def session_of(**changed: str) -> Session:
    found = sessions.of_unit({**UNIT, **changed})
    assert found
    return found


# -- units


@pytest.mark.usefixtures("of_user")
def test_a_unit() -> None:
    found = session_of()
    assert (found.pid, found.address, found.port, found.since) == (4711, "192.0.2.7", 41234, 1764000000)
    assert (found.user, found.account, found.tls) == ("jane", "nobody", "TLSv1.3")
    assert (found.state, found.messages, found.deleted) == ("transaction", 3, 1)


@pytest.mark.usefixtures("of_user")
@pytest.mark.parametrize(
    ("instance", "address"),
    [
        ("popad@0-::1:110-2001:db8::7:41234.service", "2001:db8::7"),
        ("popad@12-2001:db8::1:995-2001:db8::7:41234.service", "2001:db8::7"),
    ],
)
def test_a_unit_of_an_ipv6_client(instance: str, address: str) -> None:
    found = session_of(Id=instance)
    assert (found.address, found.port) == (address, 41234)


@pytest.mark.usefixtures("of_user")
def test_who_a_session_is_does_not_depend_on_its_word() -> None:
    """Its process says that: it may call itself what it likes, and its account stands beside it."""
    found = session_of(StatusText="root: 3 messages")
    assert (found.who, found.account) == ("root (nobody)", "nobody")
    found = session_of(StatusText="nobody: 3 messages")
    assert found.who == "nobody"
    found = session_of(StatusText="authorization, 192.0.2.7")  # nothing said since the login
    assert (found.state, found.who, found.messages) == ("transaction", "nobody", None)


@pytest.mark.usefixtures("of_user")
def test_a_client_that_came_by_a_proxy() -> None:
    found = session_of(StatusText="jane: 3 messages, from 198.51.100.1")
    assert (found.address, found.port, found.proxy) == ("198.51.100.1", None, "192.0.2.7")


@pytest.mark.usefixtures("of_root")
def test_before_the_login() -> None:
    found = session_of(StatusText="authorization, 192.0.2.7, TLSv1.3")
    assert (found.state, found.who, found.tls) == ("authorization", "", "TLSv1.3")
    found = session_of(StatusText="jane: 3 messages")  # root's part never says so
    assert (found.state, found.who, found.messages) == ("authorization", "", None)


@pytest.mark.usefixtures("of_root")
def test_on_the_way_up_and_down() -> None:
    assert session_of(ActiveState="activating", StatusText="").state == "starting"
    assert session_of(ActiveState="deactivating").state == "ending"
    waits = session_of(ActiveState="inactive", Job="123", MainPID="0", StatusText="")  # for a mount, say
    assert (waits.state, waits.pid, waits.address) == ("starting", None, "192.0.2.7")
    assert sessions.of_unit({**UNIT, "ActiveState": "inactive", "MainPID": "0"}) is None


def test_a_unit_that_has_ended_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "look", lambda _: None)
    assert sessions.of_unit(UNIT) is None


def test_another_process_has_the_number_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "look", lambda pid: Process(pid, 1, 1, USER.pw_uid, "/user.slice"))
    assert sessions.of_unit(UNIT) is None


@pytest.mark.usefixtures("of_user")
def test_a_status_adds_no_property(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other programs take for the end of a line is none: or a session could name another's process."""
    status = "".join(f"jane{end}MainPID=1" for end in "\r\v\f\x1c\x85\u2028")

    class Done:
        returncode = 0
        stdout = f"Id=popad@1.service\nMainPID=2\nStatusText={status}\n\nId=popad@2.service\n".encode()

    monkeypatch.setattr(subprocess, "run", lambda *_, **__: Done)
    first, second = units.show_all(["popad@*.service"], ["Id"])
    assert first == {"Id": "popad@1.service", "MainPID": "2", "StatusText": status}
    assert second == {"Id": "popad@2.service"}


# -- the daemon


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/usr/bin/python3 -IS /usr/sbin/popad -D --foreground", True),
        ("/opt/popad/bin/python /opt/popad/bin/popad -4D", True),
        ("python3 -m popad --foreground -D", True),
        ("/usr/bin/python3 -IS /usr/sbin/popad tls-helper", False),
        ("/usr/bin/python3 -IS /usr/sbin/popad", False),
        ("grep -D skip popad", False),
        ("", False),
    ],
)
def test_the_command_line_of_a_daemon(line: str, expected: bool) -> None:
    assert sessions.is_daemon(line.split(" ")) is expected


@pytest.fixture
def running(server: Server) -> Iterator[Daemon]:
    with daemon(server, program=named_popad(server)) as running:
        yield running


def of(running: Daemon) -> dict[int, Session]:
    """The sessions of this daemon, by the client's port; others may run on this host."""
    found, _ = sessions.sessions()
    ours = {running.process.pid, *running.descendants}
    return {each.port or 0: each for each in found if each.pid in ours}


needs_root = pytest.mark.skipif(not ROOT, reason="needs root: looks into sessions")


@needs_root
def test_the_sessions_of_a_daemon(running: Daemon) -> None:
    """Those that have a client, and nobody else of its processes; what each does, and for how long."""
    reader, guest = running.connect(), running.connect()
    assert guest.line().startswith(b"+OK")
    assert reader.log_in().startswith(b"+OK")
    reader.ask("DELE 2")
    ports = [each.socket.getsockname()[1] for each in (reader, guest)]
    wait_until(lambda: [bool(each.deleted) for each in of(running).values()].count(True) == 1)
    found = of(running)
    assert sorted(found) == sorted(ports)
    assert {each.pid for each in found.values()} == set(running.sessions)
    mail, silent = (found[port] for port in ports)
    assert (mail.who, mail.address, mail.state) == (f"{NAME} ({OWNER})", "127.0.0.1", "transaction")
    assert (mail.messages, mail.deleted, mail.tls) == (3, 1, "")
    assert (silent.who, silent.address, silent.state) == ("", "127.0.0.1", "authorization")
    assert mail.since and silent.since and abs(mail.since - silent.since) <= 5
    assert reader.ask("QUIT").startswith(b"+OK")
    wait_until(lambda: sorted(of(running)) == ports[1:])


@needs_root
def test_a_client_of_the_daemon_that_came_by_a_proxy(server: Server) -> None:
    with daemon(server, {"POPAD_PROXY_FROM": "127.0.0.1"}, program=named_popad(server)) as running:
        client = running.connect()
        client.send(b"PROXY TCP4 192.0.2.7 127.0.0.1 4321 110\r\n")
        assert client.log_in().startswith(b"+OK")
        wait_until(lambda: of(running)[4321].messages == 3)
        found = of(running)[4321]
        assert (found.address, found.proxy, found.idle) == ("192.0.2.7", "127.0.0.1", None)
        # A unit's name has the proxy's address, so the status has the client's.
        shown = processes.shown(found.pid or 0, 0)
        assert shown and shown[1] == f"{NAME}: 3 messages, from 192.0.2.7"


@needs_root
def test_a_session_cannot_hide(running: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may give its memory file up: its uid tells, and less is said of it. To who is not root that is how it is."""
    assert running.connect().log_in().startswith(b"+OK")
    monkeypatch.setattr(processes, "shown", lambda *_: None)
    (found,) = of(running).values()
    assert (found.who, found.address, found.state, found.messages) == (OWNER, "", "transaction", None)

    def not_allowed(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(processes, "shown", not_allowed)
    assert list(of(running)) == [0]
    assert not sessions.sessions()[1]


def test_what_a_session_has_forked_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "shown", lambda pid, _: ("192.0.2.7 1 2", "jane: 3 messages") if pid > 1 else None)
    main, session, scan = (Process(*each, "/x") for each in ((1, 1, 0, 0), (2, 2, 1, 1000), (3, 3, 2, 1000)))
    found, is_all = sessions.of_processes([main, session, scan], ())
    assert ([each.pid for each in found], is_all) == ([2], True)


def test_popads_own_users_are_no_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "shown", lambda *_: None)
    main, *others = (Process(pid, 1, 1, uid, "/x") for pid, uid in enumerate((0, 42, 0x7E000003, 1000), 1))
    found, _ = sessions.of_processes([main, *others], {42})
    assert [each.pid for each in found] == [4]


def test_a_users_program_with_such_a_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """No session, unless it is in the daemon's control group: as one that has outlived its daemon is."""
    monkeypatch.setattr(processes, "shown", lambda *_: None)
    main, program = Process(2, 1, 1, 0, "/popad"), Process(3, 1, 1, 1000, "/user")
    assert sessions.of_processes([main, program], (), ["/popad"])[0] == []
    program.group = "/popad"
    assert [each.pid for each in sessions.of_processes([main, program], (), ["/popad"])[0]] == [3]


def test_what_such_a_program_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the same command line, and is no session, either."""
    monkeypatch.setattr(processes, "shown", lambda *_: None)
    main, program, forked = (Process(*each, "/x") for each in ((2, 1, 1, 0), (3, 1, 1, 1000), (4, 1, 3, 1000)))
    assert sessions.of_processes([main, program, forked], ())[0] == []


def test_where_all_have_one_uid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that was not started as root: what a session says is all that there is."""
    lines = {2: "authorization, 192.0.2.7", 3: "jane: 3 messages"}
    monkeypatch.setattr(processes, "shown", lambda pid, _: ("192.0.2.7 1 2", lines[pid]) if pid in lines else None)
    found, _ = sessions.of_processes([Process(pid, 1, 1, USER.pw_uid, "/x") for pid in (1, 2, 3)], ())
    assert [(each.state, each.who) for each in found] == [("authorization", ""), ("transaction", "jane (nobody)")]


# -- how long a client has been silent

SS = """\
0 0 127.0.0.1:110 192.0.2.7:41234 timer:(keepalive,50sec,0) cubic lastsnd:5 lastrcv:61999 lastack:7
0      0      [::ffff:127.0.0.1]:110 [::ffff:192.0.2.8]:2    cubic lastrcv:999 lastack:7
0 0 [fe80::1%eth0]:110 [fe80::2%eth0]:3 cubic
what it has never said
"""


def test_silences() -> None:
    assert dict(sessions.silences(SS)) == {
        (socket.inet_pton(socket.AF_INET, "192.0.2.7"), 41234): 61,
        (socket.inet_pton(socket.AF_INET, "192.0.2.8"), 2): 0,
        (socket.inet_pton(socket.AF_INET6, "fe80::2"), 3): 0,
    }


def test_without_ss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    session = Session(None, "192.0.2.7", 41234)
    sessions.add_idle([session])
    assert session.idle is None
