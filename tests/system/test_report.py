"""Reports and metrics of a real journal, by a user who may read it and nothing else."""

from __future__ import annotations

import json
import pwd
import re
from collections import Counter

import pytest

from tests.support.here import CHECKOUT
from tests.support.machine import MachineError
from tests.system.conftest import PASSWORD, Server

READER = ("runuser", "-u", "reader", "--")
EXAMPLES = CHECKOUT / "packaging/examples"
SESSIONS, GUESSES = 8, 2
GUESSERS = [f"127.0.3.{number}" for number in range(1, 4)]  # nobody else has to wait for wrong passwords of theirs
NOBODY = str(pwd.getpwnam("nobody").pw_uid)
TEXTFILES = "/var/lib/prometheus/node-exporter"


@pytest.fixture(scope="module")
def busy(server: Server) -> Server:
    """A server with sessions and guesses behind it, and an account that is in the journal's group."""
    server.machine.run(["useradd", "--system", "--groups", "systemd-journal", "reader"])
    be_busy(server, GUESSERS[0])
    return server


def be_busy(server: Server, guesser: str) -> None:
    """Sessions that delete a message each, and guesses; until the journal has all of them."""
    since = server.machine.cursor()
    for _ in range(SESSIONS):
        name = server.add_user()
        with server.connect("::1").logged_in(name, PASSWORD) as client:
            client.ok("RETR 1")
            client.body()
            client.ok("DELE 1")
            client.ok("QUIT")
            client.socket.close()
        server.machine.wait_entry({"POPAD_EVENT": "session-closed", "POPAD_USER": name}, after=since)
    for guess in range(GUESSES):
        before = server.machine.cursor()
        with server.connect(source=guesser).greeted() as client:
            client.ok(f"USER {guesser}-{guess}")
            client.say("PASS wrong")
        server.machine.wait_entry({"POPAD_EVENT": "login-failed"}, after=before)


def in_the_journal(server: Server) -> Counter[str]:
    """Entries of popad by event, as journalctl has them, but for those that other tests have user nobody forge."""
    found = server.machine.journal("SYSLOG_IDENTIFIER=popad")
    return Counter(entry["POPAD_EVENT"] for entry in found if "POPAD_EVENT" in entry and entry["_UID"] != NOBODY)


def test_it_has_what_the_journal_has(busy: Server) -> None:
    said = busy.machine.run([*READER, "popad", "report", "--json"])
    found = json.loads(said.stdout)
    assert {name: number for name, number in found["events"].items() if number} == in_the_journal(busy)
    assert found["distributions"]["login"]["number"] >= SESSIONS
    assert found["distributions"]["opening"]["number"] >= SESSIONS
    assert found["sums"]["deleted"] >= SESSIONS
    addresses = {row["name"]: row["logins"] for row in found["rankings"]["failures_by_address"]["rows"]}
    assert addresses[GUESSERS[0]] == GUESSES


def test_text_and_page(busy: Server) -> None:
    """With the catalog that the package has installed."""
    busy.machine.run(["logger", "--journald"], stdin="SYSLOG_IDENTIFIER=popad\nPOPAD_EVENT=update-failed\n")
    text = busy.machine.run([*READER, "popad", "report", "--since", "-1h"]).stdout
    assert "Logins that failed, by address" in text
    assert "Deleted messages could not be removed from a mailbox" in text
    page = busy.machine.run([*READER, "popad", "report", "--until", "now", "--html", "-"]).stdout
    assert page.startswith("<!DOCTYPE html>")
    nothing = busy.machine.run([*READER, "popad", "report", "--until", "2001-01-01"]).stdout
    assert nothing == "0 entries\n"


def test_who_may_not_read_the_journal_is_told(busy: Server) -> None:
    for command in ("report", "metrics"):
        with pytest.raises(MachineError, match="members of the group systemd-journal"):
            busy.machine.run(["runuser", "-u", "nobody", "--", "popad", command])


def test_the_example_of_metrics(busy: Server) -> None:
    machine = busy.machine
    machine.run(["useradd", "--system", "prometheus"])
    machine.run(["install", "-d", "-o", "prometheus", TEXTFILES])
    for name in ("popad-metrics.service", "popad-metrics.timer"):
        machine.copy(EXAMPLES / name, f"/etc/systemd/system/{name}")
    machine.run(["systemctl", "daemon-reload"])
    assert machine.run(["systemd-analyze", "verify", "--man=no", "popad-metrics.timer"]).stderr == ""
    before: Counter[str] = Counter()
    for guesser in GUESSERS[1:]:
        machine.run(["systemctl", "start", "popad-metrics.service"])
        text = (machine.root / TEXTFILES[1:] / "popad.prom").read_text()
        found = re.findall(r'^popad_entries_total\{event="([a-z-]+)"\} (\d+)$', text, re.M)
        counted = Counter({name: int(number) for name, number in found if number != "0"})
        assert counted == in_the_journal(busy)
        assert counted["session-closed"] >= before["session-closed"] + SESSIONS
        before = counted
        be_busy(busy, guesser)
