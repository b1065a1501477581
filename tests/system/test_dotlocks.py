"""Lock files of real sessions: the sandbox hides processes and refuses kill(2), and all of this works in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.system.conftest import MESSAGES, PASSWORD, Server, mbox

REQUIRED = "POPAD_LOCKS=fcntl,dotlock\nPOPAD_LOCK_TIMEOUT=1\n"
AUTO = "POPAD_LOCK_TIMEOUT=1\n"


@contextmanager
def spool(server: Server, mode: str) -> Iterator[None]:
    """/var/mail with another mode than Debian's."""
    try:
        server.machine.run(["chmod", mode, "/var/mail"])
        yield
    finally:
        server.machine.run(["chmod", "2775", "/var/mail"])


@pytest.fixture(params=["popad.socket", "popad-standalone.service"])
def unit(request: pytest.FixtureRequest, server: Server) -> Iterator[str]:
    """Both shapes; the daemon reads its settings when it starts."""
    if request.param == "popad.socket":
        yield request.param
        return
    server.machine.run(["systemctl", "stop", "popad.socket"])
    try:
        yield request.param
    finally:
        server.machine.run(["systemctl", "stop", "popad-standalone.service"])
        server.machine.run(["systemctl", "start", "popad.socket"])


@contextmanager
def serving(server: Server, unit: str, settings: str) -> Iterator[None]:
    with server.settings(settings):
        if unit == "popad-standalone.service":
            server.machine.run(["systemctl", "restart", unit])
        yield


def locks(server: Server, directory: str) -> list[str]:
    """Lock files and temporary ones in a directory."""
    found = ["find", directory, "-name", "*.lock", "-o", "-name", ".popad*"]
    return server.machine.run(found).stdout.split()


def delete_one(server: Server, name: str) -> None:
    with server.connect().logged_in(name, PASSWORD) as client:
        client.ok("DELE 1")
        client.ok("QUIT")
        assert client.closed()


def login(server: Server, name: str) -> bytes:
    """The answer to the password."""
    with server.connect().greeted() as client:
        client.ok(f"USER {name}")
        return client.say(f"PASS {PASSWORD}")


def test_where_users_may_make_files(server: Server, unit: str) -> None:
    name = server.add_user()
    with spool(server, "1777"), serving(server, unit, REQUIRED):
        delete_one(server, name)
        assert locks(server, "/var/mail") == []
    assert (server.machine.root / "var/mail" / name).read_text() == mbox(MESSAGES[1:])


def test_where_they_may_not(server: Server, unit: str) -> None:
    """Debian's /var/mail: required means refused, and the journal says why; by default fcntl has to do."""
    name = server.add_user()
    since = server.machine.cursor()
    with serving(server, unit, REQUIRED):
        assert login(server, name).startswith(b"-ERR [SYS/PERM] ")
    entry = server.machine.wait_entry({"POPAD_EVENT": "maildrop-refused", "POPAD_USER": name}, after=since)
    reason = f"POPAD_LOCKS wants /var/mail/{name}.lock, which cannot be made: Permission denied"
    assert entry["POPAD_REASON"] == reason
    with serving(server, unit, AUTO):
        delete_one(server, name)
    assert (server.machine.root / "var/mail" / name).read_text() == mbox(MESSAGES[1:])


def test_lock_files_of_others(server: Server, unit: str) -> None:
    """One with the number of a process that lives is waited for, one of a dead process is removed."""
    name = server.add_user()
    path = f"/var/mail/{name}.lock"
    with spool(server, "1777"), serving(server, unit, AUTO):
        server.machine.write(path, "1\n", owner=f"{name}:mail")
        assert login(server, name).startswith(b"-ERR [IN-USE] ")
        dead = server.machine.run(["sh", "-c", "sh -c 'echo $$'"]).stdout
        server.machine.write(path, dead, owner=f"{name}:mail")
        delete_one(server, name)
        assert locks(server, "/var/mail") == []


def test_a_lock_file_with_the_number_of_another_process(server: Server, unit: str) -> None:
    """Left by a program three days ago; its number is a daemon's by now, which the sandbox hides."""
    name = server.add_user()
    path = f"/var/mail/{name}.lock"
    with spool(server, "1777"), serving(server, unit, AUTO):
        server.machine.write(path, server.machine.show("systemd-journald", "MainPID")["MainPID"], owner=f"{name}:mail")
        server.machine.run(["touch", "--date=3 days ago", path])
        delete_one(server, name)
        assert locks(server, "/var/mail") == []


def test_a_lock_file_of_another_user(server: Server, unit: str) -> None:
    """Where everybody may make files nobody can keep another one from his mail."""
    name = server.add_user()
    path = f"/var/mail/{name}.lock"
    with spool(server, "1777"), serving(server, unit, AUTO):
        server.machine.write(path, "1\n", owner="games:games")
        try:
            delete_one(server, name)
            assert locks(server, "/var/mail") == [path]
        finally:
            server.machine.run(["rm", path])


def test_in_homes(server: Server) -> None:
    """With the drop-in that popad@.service names."""
    name = server.add_user(mailbox="/home/{name}/mailbox")
    text = "[Service]\nProtectHome=no\nReadWritePaths=/home\n"
    with server.drop_in("popad@.service", text), server.settings(REQUIRED + "POPAD_MAILDROP=mbox:{home}/mailbox\n"):
        delete_one(server, name)
    assert locks(server, f"/home/{name}") == []
    assert (server.machine.root / "home" / name / "mailbox").read_text() == mbox(MESSAGES[1:])
