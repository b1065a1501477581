"""commands/login_trial.py: `popad test-login` against a daemon with one virtual user, and without one."""

from __future__ import annotations

import argparse
import fcntl
import io
import os
import socket
from collections.abc import Iterator

import pytest

from popad.commands import effective, login_trial, units
from popad.commands.login_trial import reached, try_login, who_locks, wrong
from tests.support.daemon import daemon
from tests.support.maildirs import Mail
from tests.support.marks import needs_root
from tests.support.serving import ALL, NAME, PASSWORD, Server


class Typed:
    """Standard input that is no terminal."""

    def __init__(self, octets: bytes) -> None:
        self.buffer = io.BytesIO(octets)

    def isatty(self) -> bool:
        return False


@pytest.fixture(autouse=True)
def this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The units and the file of this machine do not matter, and the tests' sessions do not write to its journal."""
    monkeypatch.setattr(effective, "CONFIGURATION", "/nonexistent")
    monkeypatch.setattr(units, "RUNNING", "/nonexistent")
    monkeypatch.setattr(login_trial, "written", lambda port, since: [f"entries of {port > 0}"])


def tried(
    server: Server, monkeypatch: pytest.MonkeyPatch, name: str, password: str, address: str | None, **more: str
) -> int:
    monkeypatch.setattr("sys.stdin", Typed(password.encode() + b"\n"))
    return try_login({**server.settings, **more}, name, address)


@pytest.fixture
def port(server: Server) -> Iterator[str]:
    with daemon(server) as served:
        yield f"127.0.0.1:{served.ports[0]}"


@needs_root
def test_each_step_of_a_login(
    server: Server, port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"POPAD_STRIP_DOMAINS": "example.org"}
    assert tried(server, monkeypatch, f"{NAME}@example.org", PASSWORD, port, **settings) == 1
    said = capsys.readouterr().out
    assert f"'{NAME}@example.org' is '{NAME}'" in said
    assert "greeting:  +OK popad ready" in said
    assert "PASS ...:  -ERR [AUTH]" in said, "the daemon knows nothing of that setting"
    assert tried(server, monkeypatch, NAME, PASSWORD, port) == 0
    said = capsys.readouterr().out
    status = os.stat(server.mailbox)
    steps = [line.partition(":")[0] for line in said.splitlines()]
    assert steps == [
        *("name", "password", "account", "mailbox", "mailbox", "greeting", "USER", "PASS ...", "STAT", "QUIT"),
        "journal",
    ]
    assert f"a line of {server.credentials}" in said
    assert f"uid {status.st_uid}, gid" in said
    assert f"can be opened: {len(ALL)} octets, mode 0600, uid {status.st_uid}" in said
    assert "STAT:      +OK 3 " in said
    assert "journal:   entries of True" in said
    assert PASSWORD not in said
    assert server.mailbox.read_bytes() == ALL


def test_without_a_password_no_login_is_tried(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tried(server, monkeypatch, NAME, "", "127.0.0.1:1") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "login:     not tried: no password was given"


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("bob", {}, "has no line for 'bob'"),
        ("../x", {}, "the name could mean another path"),
        (NAME, {"POPAD_VIRTUAL_USER": "root"}, "uid 0"),
        (NAME, {"POPAD_CREDENTIALS": "/nonexistent"}, "/nonexistent"),
    ],
    ids=["no line", "no name", "root", "no file"],
)
def test_where_it_stops(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    more: dict[str, str],
    said: str,
) -> None:
    assert tried(server, monkeypatch, name, PASSWORD, "127.0.0.1:1", **more) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("refused:   ") and said in last


def test_a_wrong_setting(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert tried(server, monkeypatch, NAME, PASSWORD, None, POPAD_TIMEOUT="soon") == 1
    assert capsys.readouterr().out.startswith("settings:  POPAD_TIMEOUT: ")


def test_nobody_listens(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{free.getsockname()[1]}"
        assert tried(server, monkeypatch, NAME, PASSWORD, where) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"refused:   {where}: ")


@needs_root
def test_a_mailbox_that_is_not_there_and_one_that_is_none(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.mailbox.unlink()
    tried(server, monkeypatch, NAME, "", None)
    assert "mailbox:   is not there: a maildrop without a message" in capsys.readouterr().out
    server.mailbox.mkdir()
    tried(server, monkeypatch, NAME, "", None)
    assert "mailbox:   cannot be opened: not a regular file" in capsys.readouterr().out


@needs_root
def test_a_maildir(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    place = server.path / "maildirs"
    place.mkdir()
    mail = Mail(place)
    mail.deliver()
    mail.deliver(name="1.a.h:2,S", cur=True)
    where = {"POPAD_MAILDROP": f"maildir:{mail.path}"}
    tried(server, monkeypatch, NAME, "", None, **where)
    said = capsys.readouterr().out
    assert "mailbox:   can be opened: 1 messages in new, 1 in cur" in said
    assert f"mailbox:   can only be read: {mail.path}/new: no right to write" in said  # it is root's here
    (mail.path / "cur/1.a.h:2,S").unlink()
    (mail.path / "cur").rmdir()
    tried(server, monkeypatch, NAME, "", None, **where)
    assert (
        f"mailbox:   cannot be opened: {mail.path}: no Maildir: cur: No such file or directory"
        in capsys.readouterr().out
    )
    tried(server, monkeypatch, NAME, "", None, POPAD_MAILDROP=f"maildir:{place}/none")
    assert "mailbox:   is not there: a maildrop without a message" in capsys.readouterr().out


@needs_root
def test_who_has_it_locked(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lock = server.mailbox.with_name(f"{NAME}.lock")
    lock.touch()
    with server.mailbox.open("r+b") as mailbox:
        fcntl.lockf(mailbox, fcntl.LOCK_EX)
        tried(server, monkeypatch, NAME, "", None)
    said = capsys.readouterr().out
    assert f"is locked (fcntl) by process {os.getpid()}" in said
    assert f"has a lock file, {lock}" in said
    assert who_locks(os.stat(server.mailbox)) == ""


@pytest.mark.parametrize("given", ["127.0.0.1", "localhost:110", ":110", "127.0.0.1:0", "[::1]"])
def test_what_is_no_address(given: str) -> None:
    assert wrong(argparse.Namespace(address=given)).startswith("--address: ")
    assert wrong(argparse.Namespace(address="127.0.0.1:110")) == wrong(argparse.Namespace(address=None)) == ""


def test_where_popad_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reached(None) == ("127.0.0.1", 110)
    assert reached("[::1]:1110") == ("::1", 1110)
    monkeypatch.setattr(units, "are_there", lambda: True)
    monkeypatch.setattr(units, "in_use", lambda: [units.SOCKET])
    for listen, wanted in (("[::]:1110 (Stream)", "127.0.0.1"), ("192.0.2.1:1110 (Stream)", "192.0.2.1")):
        monkeypatch.setattr(units, "show", lambda unit, listen=listen: {"Listen": listen})
        assert reached(None) == (wanted, 1110)
