"""commands/kick.py: who is meant, who is told, and what is written of it. tests/system/test_who.py has both shapes."""

import argparse
import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from popad import journal
from popad.commands import kick, processes, sessions
from popad.commands.processes import Process
from popad.commands.sessions import Session
from popad.commands.standing import AUTHORIZATION, Standing
from tests.support.daemon import Daemon, daemon, named_popad
from tests.support.here import ROOT
from tests.support.patience import wait_until
from tests.support.serving import ALL, NAME, OWNER, PYTHON, Server, open_checkout

needs_root = pytest.mark.skipif(not ROOT, reason="needs root: looks into sessions")


def given(who: str, *kinds: str, in_json: bool = False) -> argparse.Namespace:
    return argparse.Namespace(who=who, json=in_json, **{kind: kind in kinds for kind in kick.KINDS})


def of_this(process: Process | None, said: str = "jane: 3 messages") -> Session:
    made = Session(process, "192.0.2.7", 41234)
    made.stands(Standing(said), logged_in=True)
    return made


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, journal.Value]]:
    """The fields of the journal's entries."""
    entries: list[dict[str, journal.Value]] = []
    monkeypatch.setattr(journal, "send", lambda event, **fields: entries.append({"event": event.name, **fields}))
    return entries


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "100"]) as process:
        yield process
        process.kill()


def process_of(pid: int) -> Process:
    found = processes.look(pid)
    assert found
    return found


# -- who is meant


@pytest.mark.parametrize(
    ("text", "kinds", "is_it"),
    [
        ("jane", (), True),
        ("nobody", (), True),  # whose process it is
        ("janet", (), False),
        ("192.0.2.7", (), True),
        ("::ffff:192.0.2.7", (), True),
        ("192.0.2.0/24", (), True),
        ("192.0.2.8", (), False),
        ("192.0.2.7", ("user",), False),
        ("jane", ("user",), True),
        ("4711", (), True),
        ("4711", ("user",), False),
        ("4711", ("session",), True),
        ("471", (), False),
    ],
)
def test_who_is_meant(
    text: str, kinds: tuple[str, ...], is_it: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session = of_this(Process(4711, 1, 1, 65534, "/x"))
    ended: list[Session] = []
    monkeypatch.setattr(kick, "sessions", lambda: ([session], True))

    def end(chosen: list[Session], _: str) -> list[str]:
        ended.extend(chosen)
        return [kick.ENDED]

    monkeypatch.setattr(kick, "end", end)
    assert kick.wrong(given(text, *kinds)) == ""
    assert kick.kick({}, given(text, *kinds)) == (0 if is_it else 1)
    assert ended == ([session] if is_it else [])
    assert ("there is no session of the" in capsys.readouterr().err) is not is_it


def test_arguments_that_cannot_be() -> None:
    assert kick.wrong(given("jane", "user", "address"))
    assert kick.wrong(given("jane", "address")) == "jane is no address"
    assert kick.wrong(given("192.0.2.7/24", "address"))
    assert kick.wrong(given("jane", "session")) == "jane is no session"


def test_nobody_is_found_where_not_all_is_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kick, "sessions", lambda: ([], False))
    assert kick.kick({}, given("192.0.2.7")) == 1
    assert "only root" in capsys.readouterr().err


# -- who is told


def test_the_right_process_is_told(
    sleeper: "subprocess.Popen[bytes]", noted: list[dict[str, journal.Value]], capsys: pytest.CaptureFixture[str]
) -> None:
    session = of_this(process_of(sleeper.pid))
    assert kick.end([session], "root (jane)") == [kick.ENDED]
    assert sleeper.wait() == -15
    (entry,) = noted
    assert entry == {
        "event": "session-kicked",
        "rhost": "192.0.2.7",
        "rport": 41234,
        "user": "jane",
        "pid": sleeper.pid,
        "by": "root (jane)",
    }


@pytest.mark.parametrize("change", ["started", "group"])
def test_another_process_with_that_number_is_not_told(
    change: str, sleeper: "subprocess.Popen[bytes]", noted: list[dict[str, journal.Value]]
) -> None:
    process = process_of(sleeper.pid)
    setattr(process, change, {"started": process.started - 1, "group": "/popad.slice/popad@1.service"}[change])
    assert kick.end([of_this(process)], "root") == [kick.GONE]
    assert sleeper.poll() is None
    assert noted == []


def test_one_that_has_ended(noted: list[dict[str, journal.Value]]) -> None:
    ended = subprocess.Popen(["true"])
    process = Process(ended.pid, 1, 1, 0, "/x")
    ended.wait()
    assert kick.end([of_this(process), of_this(None)], "root") == [kick.GONE, kick.NO_PROCESS]
    assert noted == []


@needs_root
def test_who_may_not(noted: list[dict[str, journal.Value]]) -> None:
    """The kernel says so, to whoever is neither root nor the user."""
    script = (
        "import os, sys; os.setuid(65534); sys.path.insert(0, '.');"
        "from popad.commands import kick, processes; from popad.commands.sessions import Session;"
        "print(kick.end([Session(processes.look(os.getppid()))], 'nobody'))"
    )
    said = subprocess.run([PYTHON, "-c", script], cwd=open_checkout(), capture_output=True, text=True, check=True)
    assert said.stdout == f"[{kick.NOT_ALLOWED!r}]\n"
    assert said.stderr == ""


def test_one_that_does_not_end(
    noted: list[dict[str, journal.Value]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kick, "PATIENCE", 0.05)
    script = "trap '' TERM; echo; read end"
    command = ["sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout and stubborn.stdout.readline()
        session = of_this(process_of(stubborn.pid))
        monkeypatch.setattr(kick, "sessions", lambda: ([session], True))
        assert kick.kick({}, given("jane", in_json=True)) == 1
        assert json.loads(capsys.readouterr().out) == {
            "session": stubborn.pid,
            "user": "jane",
            "address": "192.0.2.7",
            "outcome": kick.AT_WORK,
        }
        stubborn.communicate(b"\n")
    assert len(noted) == 1


# -- who has done it


@pytest.mark.parametrize(
    ("login", "environ", "by"),
    [
        ("4294967295", {}, "root"),
        ("4294967295", {"SUDO_USER": "nobody"}, "root (nobody)"),
        ("65534", {"SUDO_USER": "nobody"}, "root (nobody)"),
        ("65534", {"SUDO_USER": "daemon"}, "root (nobody, daemon)"),
        ("0", {"SUDO_USER": "root"}, "root"),
        ("4294967295", {"SUDO_USER": "nobody at all\nPOPAD_BY=root"}, "root"),
    ],
)
def test_who_has_done_it(login: str, environ: dict[str, str], by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(processes, "text", lambda _pid, _name: login)
    assert kick.who_asks(environ) == by


def test_a_user_cannot_say_who_has_called_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 65534)
    monkeypatch.setattr(processes, "text", lambda _pid, _name: "4294967295")
    assert kick.who_asks({"SUDO_USER": "daemon"}) == "nobody"


# -- a session of a daemon


@pytest.fixture
def running(server: Server) -> Iterator[Daemon]:
    with daemon(server, program=named_popad(server)) as running:
        yield running


def the_session(running: Daemon) -> int:
    """Its number, as soon as it says what it has."""
    found: list[int] = []

    def there() -> bool:
        ours = [each for each in sessions.sessions()[0] if each.pid in running.children]
        found[:] = [each.pid or 0 for each in ours if each.messages is not None or each.state == AUTHORIZATION]
        return len(found) == 1

    wait_until(there)
    return found[0]


@needs_root
def test_nothing_is_deleted(running: Daemon, noted: list[dict[str, journal.Value]]) -> None:
    client = running.connect()
    assert client.log_in().startswith(b"+OK")
    assert client.ask("DELE 1").startswith(b"+OK")
    before = running.server.mailbox.stat()
    assert kick.kick({}, given(str(the_session(running)))) == 0
    assert client.rest() == b""
    after = running.server.mailbox.stat()
    assert running.server.mailbox.read_bytes() == ALL
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    (interrupted,) = running.entries("session-interrupted")
    assert (interrupted["user"], interrupted["signal"]) == (NAME, "SIGTERM")
    assert [entry["user"] for entry in noted] == [NAME]


@needs_root
def test_before_the_login(running: Daemon, noted: list[dict[str, journal.Value]]) -> None:
    """Its preauth child goes, too; the daemon and the spare do not mind."""
    client = running.connect()
    assert client.line().startswith(b"+OK")
    assert kick.kick({}, given(str(the_session(running)), "session")) == 0
    assert client.rest() == b""
    wait_until(lambda: running.at_rest)
    (entry,) = running.entries("login-not-attempted")
    assert "told to end" in entry["reason"]
    assert [entry.get("user") for entry in noted] == [None]
    assert running.connect().log_in().startswith(b"+OK")


@needs_root
def test_all_of_an_account(running: Daemon, noted: list[dict[str, journal.Value]]) -> None:
    clients = [running.connect() for _ in range(2)]
    for client in clients:
        assert client.log_in().startswith(b"+OK")
    mine = [
        each for each in sessions.sessions()[0] if each.pid in running.children and kick.is_meant(each, "user", OWNER)
    ]
    assert kick.end(mine, "root") == [kick.ENDED] * 2
    assert [client.rest() for client in clients] == [b"", b""]
