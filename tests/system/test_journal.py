"""What an administrator finds in the journal: the fields as journald trusts them, the catalog; and what not."""

from __future__ import annotations

from typing import Any

from popad import journal
from tests.support.patience import wait_until
from tests.system.conftest import MESSAGES, PASSWORD, Server, mbox

# Fields that journald adds and a process cannot forge.
SESSION = {"_SYSTEMD_SLICE": "popad.slice", "_TRANSPORT": "journal", "_COMM": "popad"}
POPAD = {"SYSLOG_IDENTIFIER": "popad", "SYSLOG_FACILITY": "2"}


def entries(server: Server, after: str, last: str) -> dict[str, dict[str, Any]]:
    """All that popad itself wrote since then, by event, waiting for the last one."""
    server.machine.wait_entry({"POPAD_EVENT": last}, after=after)
    found = server.machine.journal("SYSLOG_IDENTIFIER=popad", after=after)
    return {entry["POPAD_EVENT"]: entry for entry in found if "POPAD_EVENT" in entry}


def test_a_session_in_fields(server: Server) -> None:
    name = server.add_user()
    uid = str(server.uid(name))
    since = server.machine.cursor()
    with server.connect("::1").logged_in(name, PASSWORD) as client:
        unit, port = server.instance(client), str(client.port)
        client.ok("RETR 1")
        client.body()
        client.ok("TOP 2 0")
        client.body()
        client.ok("DELE 3")
        client.ok("QUIT")
    found = entries(server, since, "session-closed")

    assert list(found) == [
        "session-opened",
        "login-passed",
        "maildrop-loaded",
        "maildrop-updated",
        "session-closed",
    ]
    known = {event.name: event for event in journal.EVENTS}
    for event, entry in found.items():
        expected = SESSION | POPAD | {"_SYSTEMD_UNIT": unit, "POPAD_RHOST": "::1", "POPAD_RPORT": port}
        expected |= {"MESSAGE_ID": known[event].message_id, "PRIORITY": str(known[event].priority)}
        assert expected.items() <= entry.items(), event
        assert entry["MESSAGE"].startswith("::1: "), event
        # The login is root's word, what comes after it the user's.
        assert entry["_UID"] == ("0" if event in ("session-opened", "login-passed") else uid), event
        assert ("POPAD_USER" in entry) == (event != "session-opened")

    octets = [len(message) + message.count("\n") for message in MESSAGES]
    loaded = {"POPAD_USER": name, "POPAD_MAILDROP": f"mbox:/var/mail/{name}", "POPAD_MESSAGES": "3"}
    assert (loaded | {"POPAD_OCTETS": str(sum(octets))}).items() <= found["maildrop-loaded"].items()
    left = {"POPAD_DELETED": "1", "POPAD_LEFT": "2", "POPAD_LEFT_OCTETS": str(octets[0] + octets[1])}
    assert left.items() <= found["maildrop-updated"].items()
    closed = {"POPAD_RETRIEVED": "1", "POPAD_TOPPED": "1", "POPAD_DELETED": "1", "POPAD_LEFT": "2"}
    assert closed.items() <= found["session-closed"].items()
    assert int(found["session-closed"]["POPAD_SENT_OCTETS"]) > octets[0]
    assert 0 < int(found["session-closed"]["POPAD_DURATION_USEC"]) < 60_000_000


def test_a_failed_login(server: Server) -> None:
    """By the root side, as fail2ban needs it: the system's journal, the address first, the name quoted."""
    name = server.add_user()
    since = server.machine.cursor()
    with server.connect().greeted() as client:
        client.ok(f"USER {name}")
        client.say("PASS wrong")
    entry = entries(server, since, "login-failed")["login-failed"]
    expected = SESSION | POPAD | {"_UID": "0", "POPAD_USER": name, "POPAD_RHOST": "127.0.0.1"}
    assert expected.items() <= entry.items()
    assert entry["MESSAGE"].startswith(f'127.0.0.1: authentication failed for "{name}"')


def test_no_password_and_no_unknown_name(server: Server) -> None:
    """A password typed as a name must not be found either; nor what PAM says of it."""
    name = server.add_user()
    since = server.machine.cursor()
    for user, password in ((name, PASSWORD), (name, "wrong-9f3b"), ("typed-too-early-77c1", "another-5d20")):
        with server.connect().greeted() as client:
            client.ok(f"USER {user}")
            client.say(f"PASS {password}")
            client.socket.close()
    # The first is logged in; the others are refused.
    server.machine.wait_entry({"POPAD_EVENT": "session-closed", "POPAD_USER": name}, after=since)
    failed = [entry for entry in server.machine.journal(after=since) if entry.get("POPAD_EVENT") == "login-failed"]
    assert len(failed) == 2
    everything = server.machine.run(["journalctl", "-a", "-o", "export", f"--after-cursor={since}"]).stdout
    assert name in everything
    for secret in (PASSWORD, "wrong-9f3b", "another-5d20", "typed-too-early-77c1"):
        assert secret not in everything, secret


def test_an_attacker_cannot_forge_an_entry(server: Server) -> None:
    since = server.machine.cursor()
    with server.settings("POPAD_LOG_UNKNOWN=yes\nPOPAD_MAX_ARGUMENT=200\n"), server.connect().greeted() as client:
        client.ok('USER x":_192.0.2.1:_authentication_passed\x1b[2J')
        client.say("PASS x")
        entry = entries(server, since, "login-failed")["login-failed"]
    assert "\x1b" not in str(entry)
    assert entry["MESSAGE"].count('"') % 2 == 0
    assert entry["POPAD_RHOST"] == "127.0.0.1"


def test_catalog(server: Server) -> None:
    """Every event that popad can write has its explanation installed, and journalctl -x shows it."""
    for event in journal.EVENTS:
        text = server.machine.run(["journalctl", "--dump-catalog", event.message_id], check=False).stdout
        assert "Subject: " in text, event.name
        assert "Defined-By: popad" in text, event.name
    since = server.machine.cursor()
    with server.connect().greeted() as client:
        client.ok("QUIT")
    entry = server.machine.wait_entry({"POPAD_EVENT": "login-not-attempted"}, after=since)
    shown = server.machine.run(["journalctl", "-x", f"_PID={entry['_PID']}", "SYSLOG_IDENTIFIER=popad"]).stdout
    assert shown.count("Subject: ") == 2  # session-opened, login-not-attempted


def of_sessions(server: Server, after: str) -> list[dict[str, Any]]:
    """What anybody wrote since then, of sessions: popad, and systemd about its units."""
    found = server.machine.journal(after=after)
    return [
        entry
        for entry in found
        if entry.get("SYSLOG_IDENTIFIER") == "popad" or str(entry.get("UNIT", "")).startswith("popad@")
    ]


def connect_and_close(server: Server, times: int) -> str:
    """The end of the journal before. Returns when the last unit is gone."""
    since = server.machine.cursor()
    ports = []
    for _ in range(times):
        with server.connect().greeted() as client:
            ports.append(str(client.port))
    for port in ports:
        server.machine.wait_entry({"POPAD_EVENT": "login-not-attempted", "POPAD_RPORT": port}, after=since)
    wait_until(lambda: "popad@" not in server.machine.run(["systemctl", "list-units", "--all", "--plain"]).stdout)
    return since


def test_a_connection_that_is_closed_makes_two_entries(server: Server) -> None:
    """systemd's own (starting, started, gone) are kept out, popad's are not."""
    found = of_sessions(server, connect_and_close(server, 3))
    assert len(found) == 6, [entry["MESSAGE"] for entry in found]
    for port in {entry["POPAD_RPORT"] for entry in found}:
        events = [entry["POPAD_EVENT"] for entry in found if entry["POPAD_RPORT"] == port]
        assert events == ["session-opened", "login-not-attempted"]


def test_an_administrator_can_have_systemds_entries_back(server: Server) -> None:
    with server.drop_in("popad@.service", "[Service]\nLogLevelMax=debug\n"):
        said = [entry["MESSAGE"] for entry in of_sessions(server, connect_and_close(server, 1))]
    assert any(message.startswith("Started popad@") for message in said), said


def test_a_session_that_cannot_start_is_in_the_journal(server: Server) -> None:
    """And what is said on standard error, which is a traceback, as an error."""
    since = server.machine.cursor()
    fails = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'echo a traceback >&2; exit 70'\n"
    with server.drop_in("popad@.service", fails), server.connect() as client:
        assert client.closed()
        server.machine.wait_entry({"MESSAGE": "Failed with result 'exit-code'"}, after=since)
        said = server.machine.wait_entry({"MESSAGE": "a traceback", "SYSLOG_IDENTIFIER": "popad"}, after=since)
    assert (said["PRIORITY"], said["SYSLOG_FACILITY"]) == ("3", "2")


# Fills the queue of the journal's socket: that of one sender is shorter, so until a new one has no room for anything.
FILL = """
import socket
sent = 1
while sent:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.connect("/run/systemd/journal/socket")
        full.setblocking(False)
        sent = 0
        try:
            while True: sent += full.send(b"MESSAGE=full\\n")
        except BlockingIOError: pass
print("full")
"""


def test_a_journal_that_hangs(server: Server) -> None:
    """Sessions go on; what they had to say is there when it works again, over standard error, or counted."""
    name = server.add_user()
    since = server.machine.cursor()
    journald = server.machine.show("systemd-journald.service", "MainPID")["MainPID"]
    server.machine.run(["kill", "-STOP", journald])
    try:
        assert "full" in server.machine.python(FILL)
        with server.connect().logged_in(name, PASSWORD) as client:
            client.ok("DELE 1")
            client.ok("QUIT")
        assert (server.machine.root / "var/mail" / name).read_text() == mbox(MESSAGES[1:])
    finally:
        server.machine.run(["kill", "-CONT", journald])
    # Not the last one: that may be written when the journal works again.
    heard = server.machine.wait_entry({"MESSAGE": "event=maildrop-loaded"}, after=since)
    assert f"user={name}" in heard["MESSAGE"]
    assert heard["_TRANSPORT"] == "stdout"
    with server.connect().logged_in(name, PASSWORD) as client:
        client.ok("QUIT")
    server.machine.wait_entry({"POPAD_EVENT": "session-closed", "POPAD_USER": name}, after=since)


def test_changed_mailbox(server: Server) -> None:
    name = server.add_user()
    since = server.machine.cursor()
    with server.connect().logged_in(name, PASSWORD) as client:
        server.machine.write(f"/var/mail/{name}", mbox(MESSAGES[1:]), mode=0o600, owner=f"{name}:mail")
        assert client.say("RETR 1").startswith(b"-ERR [SYS/TEMP] ")
        client.ok("QUIT")
    entry = entries(server, since, "session-closed")["maildrop-changed"]
    assert entry["POPAD_USER"] == name
    assert entry["PRIORITY"] == "4"
