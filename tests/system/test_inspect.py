"""`popad inspect` on an installed machine: as root and as the user, beside what the port gives."""

from __future__ import annotations

import json
from typing import Any

from tests.support.trees import tree
from tests.system.conftest import MESSAGES, PASSWORD, Server, mbox

PROSE = "Subject: way\n\nDirections:\n\nFrom the station go north.\n"


def inspect(server: Server, *words: str, as_user: str = "") -> tuple[int, dict[str, Any]]:
    """The exit status and the object; nothing of the machine's mail or memory has changed."""
    who = ["setpriv", f"--reuid={as_user}", f"--regid={as_user}", "--init-groups"] if as_user else []
    places = [server.machine.root / place for place in ("var/mail", "var/lib/popad", "var/cache/popad")]
    before = tree(*places)
    done = server.machine.run([*who, "/usr/sbin/popad", "inspect", "--json", *words], check=False)
    assert tree(*places) == before
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def listed(server: Server, name: str) -> list[tuple[int, str]]:
    with server.connect().logged_in(name, PASSWORD) as client:
        client.ok("LIST")
        sizes = [int(line.split()[1]) for line in client.body().splitlines()]
        client.ok("UIDL")
        ids = [line.split()[1].decode() for line in client.body().splitlines()]
        client.ok("QUIT")
    return list(zip(sizes, ids, strict=True))


def test_what_the_port_gives(server: Server) -> None:
    """Before the first session, while one is there, and behind it; in the words of the journal, where it is refused."""
    name = server.add_user([*MESSAGES, PROSE, MESSAGES[0]])
    status, found = inspect(server, "--user", name)
    assert (status, found["served"], found["wrong"]) == (0, True, [])
    assert [row["line"] for row in found["text_lines"]] == ["From the station go north."]
    assert found["facts"]["sandbox"] == "popad@.service may write to /var/mail"
    shown = [(row["octets"], row["id"]) for row in found["messages"]]
    with server.connect().logged_in(name, PASSWORD) as client:
        client.ok("DELE 1")
        assert [(row["octets"], row["id"]) for row in inspect(server, "--user", name)[1]["messages"]] == shown
    assert listed(server, name) == shown
    assert [(row["octets"], row["id"]) for row in inspect(server, f"/var/mail/{name}")[1]["messages"]] == shown
    of_user = inspect(server, as_user=name)[1]
    assert of_user["messages"][0]["octets"] == shown[0][0]
    assert of_user["facts"]["redo_log"].startswith("not known: only root can tell")


def test_what_is_refused(server: Server) -> None:
    machine = server.machine
    name = server.add_user()
    machine.run(["ln", "-s", f"/var/mail/{name}", "/var/mail/link"])
    machine.run(["chown", "-h", f"{name}:", "/var/mail/link"])
    machine.run(["mkfifo", "/var/mail/fifo"])
    machine.run(["chown", f"{name}:", "/var/mail/fifo"])
    for path in ("/var/mail/link", "/var/mail/fifo"):
        status, found = inspect(server, path)
        assert (status, found["reason"], found["code"]) == (1, "not a regular file", "SYS/PERM")
    machine.run(["rm", "/var/mail/link", "/var/mail/fifo"])
    since = machine.cursor()
    machine.write(f"/var/mail/{name}", "x" + mbox(MESSAGES), mode=0o600, owner=f"{name}:mail")
    status, found = inspect(server, "--user", name)
    with server.connect().greeted() as client:
        client.ok(f"USER {name}")
        assert client.say(f"PASS {PASSWORD}").startswith(b"-ERR [SYS/PERM]")
    entry = machine.wait_entry({"POPAD_EVENT": "maildrop-refused", "POPAD_USER": name}, after=since)
    assert (status, found["reason"]) == (1, entry["POPAD_REASON"])


def test_mail_that_the_sandbox_hides(server: Server) -> None:
    name = server.add_user(mailbox="/home/{name}/mailbox")
    with server.settings("POPAD_MAILDROP=mbox:{home}/mailbox\n"):
        status, found = inspect(server, "--user", name)
        assert (status, found["served"]) == (1, True)
        assert found["wrong"] == [
            f"popad@.service does not see /home/{name} (ProtectHome=tmpfs): popad check has the line to write"
        ]
        with server.drop_in("popad@.service", "[Service]\nProtectHome=no\nReadWritePaths=-/home\n"):
            assert inspect(server, "--user", name)[0] == 0
