"""popad-metrics.socket: asked by curl, by clients that are none, and by a real Prometheus."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import dashboard, prometheus, unpacked
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE, wait_until
from tests.support.prometheus import Prometheus
from tests.system.conftest import PASSWORD, Server
from tests.system.recipes import blocks

parser = pytest.importorskip("prometheus_client.openmetrics.parser")

SOCKET = "popad-metrics.socket"
PORT = 19110
URL = f"http://localhost:{PORT}/metrics"
GUESSER = "127.0.4.1"
# Each of its scrapes starts a process: not so often that it is all that the machine does.
OFTEN = "global: {scrape_interval: 2s, evaluation_interval: 2s}\n"
RULES = f"rule_files: [{CHECKOUT}/packaging/examples/popad-alerts.yml]\n"


@pytest.fixture(scope="module")
def asked(server: Server) -> Iterator[Server]:
    """A machine with a login, a guess, and the socket, enabled as the page says."""
    name = server.add_user()
    since = server.machine.cursor()
    with server.connect().logged_in(name, PASSWORD) as client:
        client.ok("RETR 1")
        client.body()
        client.ok("QUIT")
    with server.connect(source=GUESSER).greeted() as client:
        client.ok("USER nobody-of-ours")
        client.say("PASS wrong")
    server.machine.wait_entry({"POPAD_EVENT": "login-failed"}, after=since)
    server.machine.wait_entry({"POPAD_EVENT": "session-closed"}, after=since)
    (block,) = (found for found in blocks() if found.document == "popad-admin.8" and SOCKET in found.text)
    assert server.machine.run(["systemctl", "is-enabled", SOCKET], check=False).stdout == "disabled\n"
    try:
        for command in block.commands:
            assert server.machine.run(["bash", "-ec", command]).stdout.endswith("\n# EOF\n") is ("curl" in command)
        yield server
    finally:
        server.machine.run(["systemctl", "disable", "--now", SOCKET])


def curl(server: Server, *options: str) -> str:
    return server.machine.run(["curl", "-s", "-w", "%{http_code} %{content_type}\n", *options]).stdout


def instances(server: Server) -> str:
    return server.machine.run(["systemctl", "list-units", "--plain", "--no-legend", "popad-metrics@*"]).stdout


def read(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Samples by name and labels, as Prometheus' own parser for Python has them."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_metrics(asked: Server, host: str) -> None:
    text, _, said = curl(asked, f"http://{host}:{PORT}/metrics").rpartition("# EOF\n")
    assert said == "200 application/openmetrics-text; version=1.0.0; charset=utf-8\n"
    samples = read(f"{text}# EOF\n")
    for event in ("session-closed", "login-passed", "login-failed"):
        in_the_journal = asked.machine.journal(f"POPAD_EVENT={event}", "SYSLOG_IDENTIFIER=popad")
        assert samples["popad_entries_total", (("event", event),)] == len(in_the_journal) > 0
    wait_until(lambda: instances(asked) == "")  # nothing runs between two scrapes


def test_what_users_of_the_host_write_is_not_counted(asked: Server) -> None:
    """Of what root says: whoever has guessed, say."""
    before = read(asked.machine.run(["curl", "-s", URL]).stdout)
    lie = "SYSLOG_IDENTIFIER=popad\nPOPAD_EVENT=login-failed\nPOPAD_RHOST=192.0.2.99\n_UID=0\n"
    asked.machine.run(["runuser", "-u", "nobody", "--", "logger", "--journald"], stdin=lie)
    wait_until(lambda: bool(asked.machine.journal("POPAD_RHOST=192.0.2.99")))
    assert read(asked.machine.run(["curl", "-s", URL]).stdout) == before
    said = asked.machine.run(["popad", "report"]).stdout
    assert "1 entries under popad's name are of users" in said
    assert "192.0.2.99" not in said


def test_a_session_that_has_ended_before_journald_looks_counts(asked: Server) -> None:
    """It is of no unit then."""
    journald = asked.machine.show("systemd-journald.service", "MainPID")["MainPID"]
    name, since = asked.add_user(), asked.machine.cursor()
    event = "popad_entries_total", (("event", "session-closed"),)
    before = read(asked.machine.run(["curl", "-s", URL]).stdout)[event]
    asked.machine.run(["kill", "-STOP", journald])
    try:
        with asked.connect().logged_in(name, PASSWORD) as client:
            client.ok("QUIT")
        wait_until(lambda: not asked.machine.run(["pgrep", "-u", name], check=False).stdout)
    finally:
        asked.machine.run(["kill", "-CONT", journald])
    entry = asked.machine.wait_entry({"POPAD_EVENT": "session-closed"}, after=since)
    assert "_SYSTEMD_UNIT" not in entry
    assert read(asked.machine.run(["curl", "-s", URL]).stdout)[event] == before + 1


def test_other_requests(asked: Server) -> None:
    assert curl(asked, URL.replace("/metrics", "/")).startswith("404 Not Found\n404 text/plain")
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "BREW"):
        assert curl(asked, "-X", method, URL).startswith("405 Method Not Allowed\n405 text/plain")
    assert curl(asked, "--head", URL).startswith("HTTP/1.0 200 OK\n")
    assert "431" in curl(asked, "-H", f"X: {'x' * 10_000}", URL)


def test_only_this_host(asked: Server) -> None:
    listening = asked.machine.run(["ss", "-Hltn", f"sport = :{PORT}"]).stdout
    assert sorted(line.split()[3] for line in listening.splitlines()) == [f"127.0.0.1:{PORT}", f"[::1]:{PORT}"]


def test_host_that_has_ipv6_switched_off(asked: Server) -> None:
    try:
        asked.machine.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6"])
        asked.machine.run(["systemctl", "restart", SOCKET])
        assert " 200 " in " " + curl(asked, "-o", "/dev/null", URL)
    finally:
        asked.machine.run(["sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6"])
        asked.machine.run(["systemctl", "restart", SOCKET])


def test_who_holds_connections_stops_nothing(asked: Server) -> None:
    """More than there may be, and faster than systemd's own limits allow; each is given up after a few seconds."""
    held: list[socket.socket] = []
    try:
        for _ in range(20):
            held.append(asked.machine.connect("127.0.0.1", PORT))
        for _ in range(250):
            asked.machine.connect("127.0.0.1", PORT).close()
        for client in held:
            client.settimeout(PATIENCE)
            assert client.recv(4096)[:12] in (b"", b"HTTP/1.0 408")
    finally:
        for client in held:
            client.close()
    wait_until(lambda: instances(asked) == "")
    assert " 200 " in " " + curl(asked, "-o", "/dev/null", URL)
    assert asked.machine.show(SOCKET, "ActiveState") == {"ActiveState": "active"}


def test_the_sandbox(asked: Server) -> None:
    """What a process of the unit is, has and sees: looked at from one that waits for its request."""
    probe = "import os; print(os.getuid(), [p for p in %r if os.access(p, os.R_OK)], os.listdir('/sys/class/net'))"
    paths = ["/var/mail", "/etc/popad/popad.conf", "/home", "/root", "/run/dbus", "/var/lib/popad", "/etc/shadow"]
    probe %= [*paths, "/etc/machine-id"]
    text = f'[Service]\nExecStart=\nExecStart=/usr/bin/python3 -c "{probe}"\nSyslogIdentifier=popad-probe\n'
    since = asked.machine.cursor()
    with asked.drop_in("popad-metrics@.service", text.replace("%", "%%")):
        asked.machine.connect("127.0.0.1", PORT).close()
        entry = asked.machine.wait_entry({"SYSLOG_IDENTIFIER": "popad-probe"}, after=since)
        wait_until(lambda: instances(asked) == "")
    uid, _, rest = entry["MESSAGE"].partition(" ")
    assert int(uid) > 1000
    assert rest == "['/etc/machine-id'] ['lo']"


def test_it_goes_on_where_it_was(asked: Server) -> None:
    """What the journal has forgotten stays counted."""
    curl(asked, URL)
    path = asked.machine.root / "var/lib/private/popad-metrics-http/state"
    assert path.stat().st_mode & 0o777 == 0o600
    state = json.loads(path.read_text())
    state["events"]["one-identity"] += 7  # nothing here says so
    path.write_text(json.dumps(state))
    assert read(asked.machine.run(["curl", "-s", URL]).stdout)["popad_entries_total", (("event", "one-identity"),)] == 7


# -- Prometheus -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scraped(asked: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus with the page's prometheus.yml, which has scraped twice."""
    (block,) = (found for found in blocks() if found.document == "popad-admin.8" and "job_name: popad" in found.text)
    place = tmp_path_factory.mktemp("prometheus")
    try:
        with prometheus.scraping(asked.machine, OFTEN + RULES + block.text + "\n", place) as running:
            wait_until(lambda: running.value("count_over_time(popad_messages_deleted_total[1m])") >= 2, pause=0.2)
            yield running
    except unpacked.Unavailable as reason:
        pytest.skip(str(reason))


def families(text: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+) ", text, re.M))


# What has nothing to show, as nothing of it has happened.
NOTHING = {"Connections refused, by limit", "Errors, by event", "Warnings, by event"}


def test_each_plot_of_the_dashboard_has_something_to_show(scraped: Prometheus) -> None:
    """With the job and the server that its own variables find."""
    variables = {"job": scraped.ask("label/job/values", **{"match[]": "popad_entries_total"})}
    assert variables == {"job": ["popad"]}
    for panel, expression in dashboard.expressions(job="popad", instance=".+"):
        series = scraped.query(expression)
        assert series or panel in NOTHING, (panel, expression)


def test_no_alert_fires_here(scraped: Prometheus) -> None:
    """With the rules loaded, which are evaluated without an error."""
    (group,) = scraped.ask("rules")["groups"]
    assert {rule["name"] for rule in group["rules"]} == {"PopadMailboxError", "PopadLoginsFail", "PopadLoginsSlow"}
    wait_until(lambda: all(rule["health"] == "ok" for rule in scraped.ask("rules")["groups"][0]["rules"]), pause=0.2)
    assert scraped.ask("alerts")["alerts"] == []


def test_prometheus_scrapes(asked: Server, scraped: Prometheus) -> None:
    (target,) = scraped.ask("targets")["activeTargets"]
    assert (target["health"], target["lastError"], target["scrapeUrl"]) == ("up", "", URL)
    wait_until(lambda: "up" in [each["health"] for each in scraped.ask("targets")["activeTargets"]])
    known: dict[str, list[Any]] = scraped.ask("metadata")
    text = asked.machine.run(["curl", "-s", URL]).stdout
    assert {name for name in known if name.startswith("popad_")} == families(text)
    name = asked.add_user()
    before = scraped.value('popad_entries_total{event="session-closed"}')
    with asked.connect().logged_in(name, PASSWORD) as client:
        client.ok("QUIT")
    wait_until(lambda: scraped.value('popad_entries_total{event="session-closed"}') > before, pause=0.2)
