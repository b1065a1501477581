"""Floods: what the socket unit lets through, what it says about the rest, and that it is there afterwards."""

from __future__ import annotations

import contextlib
import re
import socket
import time

import pytest

from tests.support.here import CHECKOUT
from tests.support.patience import wait_until
from tests.support.pop3 import Pop3
from tests.system.conftest import PASSWORD, Server

PER_SOURCE = int(re.findall(r"^MaxConnectionsPerSource=(\d+)$", (CHECKOUT / "units/popad.socket").read_text(), re.M)[0])
# More than the 200 in 2 s with which systemd would stop a socket that has TriggerLimitIntervalSec= at its default.
FLOOD, FLOOD_SECONDS = 1000, 10.0


@pytest.fixture(autouse=True)
def nobody_connected(server: Server) -> None:
    """Slots are freed when systemd has seen the instances end, after the clients have."""
    wait_until(lambda: server.machine.show("popad.socket", "NConnections")["NConnections"] == "0")


def test_per_source(server: Server) -> None:
    """One connection of an address too many is closed without a word and counted; another address is served."""

    def refused() -> int:
        return int(server.machine.show("popad.socket", "NRefused")["NRefused"])

    before, since = refused(), server.machine.cursor()
    warning = {"MESSAGE": "from source 127.0.0.1, dropping connection"}
    with contextlib.ExitStack() as clients:
        for _ in range(PER_SOURCE):
            clients.enter_context(server.connect()).greeted()
        with server.connect() as one_more:
            assert one_more.closed()
        assert refused() == before + 1
        assert server.machine.journal("UNIT=popad.socket", after=since) == []  # a flood must not fill the journal
        with server.drop_in("popad.socket", "[Socket]\nLogLevelMax=warning\n"):
            with server.connect() as one_more:
                assert one_more.closed()
            entry = server.machine.wait_entry(warning, after=since)
        assert (entry["_PID"], entry["UNIT"], entry["PRIORITY"]) == ("1", "popad.socket", "4")
        with server.connect(source="127.0.0.2") as neighbour:
            neighbour.greeted()
        with server.connect("::1") as other:
            other.greeted()


def test_a_slot_is_free_again(server: Server) -> None:
    with contextlib.ExitStack() as clients:
        for _ in range(PER_SOURCE):
            clients.enter_context(server.connect()).greeted()
    wait_until(lambda: server.machine.show("popad.socket", "NConnections")["NConnections"] == "0")
    with server.connect() as client:
        client.greeted()


def test_flood(server: Server) -> None:
    """1,000 connections of one address at once: the socket lives and the next client is served."""

    def flood() -> tuple[list[socket.socket], float]:
        begun = time.monotonic()
        return [socket.create_connection(("127.0.0.1", 110), 20) for _ in range(FLOOD)], time.monotonic() - begun

    connections, took = server.machine.inside(flood)
    try:
        assert took < FLOOD_SECONDS
        with server.connect(source="127.0.0.2") as neighbour:
            neighbour.greeted()
    finally:
        for connection in connections:
            connection.close()
    assert server.machine.show("popad.socket", "ActiveState", "Result") == {
        "ActiveState": "active",
        "Result": "success",
    }
    wait_until(lambda: server.machine.show("popad.socket", "NConnections")["NConnections"] == "0")
    with server.connect() as client:
        client.greeted()
    assert server.machine.run(["systemctl", "--failed", "--no-legend"]).stdout == ""


SCANS = 30


def test_an_address_that_only_connects_and_leaves(server: Server) -> None:
    """A port scanner: instances whose client has left before the greeting end without a trace of failure."""

    def scan() -> None:
        for _ in range(SCANS):
            socket.create_connection(("127.0.0.1", 110), 20).close()

    def counted() -> tuple[int, int]:
        """Connections that were taken or refused, and those that there are."""
        shown = server.machine.show("popad.socket", "NAccepted", "NRefused", "NConnections")
        return int(shown["NAccepted"]) + int(shown["NRefused"]), int(shown["NConnections"])

    since, (before, _) = server.machine.cursor(), counted()
    server.machine.inside(scan)
    wait_until(lambda: counted() == (before + SCANS, 0))
    with Pop3(server.machine.connect()) as client:
        client.greeted()
    assert server.machine.run(["systemctl", "--failed", "--no-legend"]).stdout == ""
    errors = [entry["MESSAGE"] for entry in server.machine.journal("PRIORITY=3", after=since)]
    assert errors == []


def test_a_failed_instance_frees_its_slot(server: Server) -> None:
    with server.connect().greeted() as client:
        unit = server.instance(client)
        server.machine.run(["systemctl", "kill", "--signal=KILL", unit])
        assert client.closed()
        wait_until(lambda: server.machine.show("popad.socket", "NConnections")["NConnections"] == "0")
    assert unit not in server.machine.run(["systemctl", "list-units", "--all", "--plain", "popad@*"]).stdout


def test_a_slow_login_is_ended_by_popad(server: Server) -> None:
    """It has the time that the settings give it, whatever RuntimeMaxSec= says; and the journal knows why it ended."""
    since = server.machine.cursor()
    with (
        server.drop_in("popad@.service", "[Service]\nRuntimeMaxSec=1\n"),
        server.settings("POPAD_LOGIN_TIMEOUT=3\n"),
        server.connect().greeted() as newcomer,
    ):
        unit = server.instance(newcomer)
        assert newcomer.closed()
        server.machine.wait_entry({"POPAD_EVENT": "login-not-attempted", "_SYSTEMD_UNIT": unit}, after=since)
    assert server.machine.journal(f"UNIT={unit}", "UNIT_RESULT=timeout", after=since) == []


@pytest.mark.parametrize("server", ["bookworm"], indirect=True)  # half a minute: on one release
def test_systemd_ends_a_session_that_hangs(server: Server) -> None:
    """One that has stopped asking for time; its neighbour goes on."""
    name = server.add_user()
    since = server.machine.cursor()
    with (
        server.drop_in("popad@.service", "[Service]\nRuntimeMaxSec=1\n"),
        server.connect().logged_in(name, PASSWORD) as client,
        server.settings("POPAD_LOGIN_TIMEOUT=5\nPOPAD_AUTH_TIMEOUT=5\n"),
        server.connect().greeted() as newcomer,
    ):
        unit = server.instance(newcomer)
        # Until it has said that it is ready (after the greeting), another limit holds: that of a start.
        wait_until(lambda: server.machine.show(unit, "ActiveState")["ActiveState"] == "active")
        server.machine.run(["systemctl", "kill", "--signal=STOP", unit])
        entry = server.machine.wait_entry({"UNIT": unit, "UNIT_RESULT": "timeout"}, after=since)
        assert entry["_PID"] == "1"
        assert newcomer.closed()
        client.ok("NOOP")


@pytest.mark.parametrize("server", ["bookworm"], indirect=True)  # half a minute: on one release
def test_a_slow_reader_outlives_the_limits(server: Server) -> None:
    """One answer, all of it in the kernel's buffers soon, for longer than systemd lets a session live without a word
    (20 seconds beyond its time limits) and than a client may do nothing.
    """
    line = "x" * 79 + "\n"
    name = server.add_user([f"Subject: large\n\n{line * 11000}"])
    since = server.machine.cursor()
    with (
        server.drop_in("popad@.service", "[Service]\nRuntimeMaxSec=1\n"),
        server.settings("POPAD_TIMEOUT=5\nPOPAD_LOGIN_TIMEOUT=4\nPOPAD_AUTH_TIMEOUT=4\n"),
        server.connect().logged_in(name, PASSWORD) as client,
    ):
        unit = server.instance(client)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.ok("RETR 1")
        begun, received = time.monotonic(), client.unread
        while not received.endswith(b"\r\n.\r\n"):
            time.sleep(0.1)  # a slow line
            received += client.socket.recv(2400)
        assert time.monotonic() - begun > 30
        client.unread = b""
        client.ok("DELE 1")
        client.ok("QUIT")
        server.machine.wait_entry({"POPAD_EVENT": "maildrop-updated", "_SYSTEMD_UNIT": unit}, after=since)
