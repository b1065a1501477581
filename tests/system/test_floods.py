"""Floods on both shapes, small enough for a test run: tests/system/flood.py has the figures of large ones."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.patience import wait_until
from tests.system import flood
from tests.system.conftest import Server
from tests.system.flood import GoodClient, Result, attempts_from, login, slow_clients
from tests.system.standalone import SERVICE, main_pid, processes, standalone_on

ATTEMPTS = 1500
ATTEMPTS_OF_UNITS = 400  # where each costs the start of a unit
IN_TIME = 10.0  # seconds: the good client is not locked out. How long it waits is a figure of the benchmark
QUEUE = 30.0  # the same, behind a flood of connections that systemd itself accepts
SETTINGS = "POPAD_MIN_DELAY=2\nPOPAD_STOP_TIMEOUT=2\n"
SOURCES = 300


# On one release: floods take minutes, and it is the kernel and popad that answer them.
pytestmark = pytest.mark.parametrize("server", ["bookworm"], indirect=True)


@pytest.fixture
def user(server: Server) -> None:
    if server.machine.run(["id", flood.NAME], check=False).returncode != 0:
        flood.add_user(server.machine)


def nobody_left(server: Server, shape: str) -> bool:
    if shape == SERVICE:
        # The daemon, its helper and a worker, the spare session and its authorization child.
        return len(processes(server)) <= 5 and server.machine.show(SERVICE, "StatusText")["StatusText"].startswith("0 ")
    return server.machine.show("popad.socket", "NConnections")["NConnections"] == "0"


@pytest.fixture(params=["popad.socket", SERVICE])
def shape(request: pytest.FixtureRequest, server: Server, user: None) -> Iterator[str]:
    """What serves port 110, with nothing left of the test before."""
    with contextlib.ExitStack() as stack:
        if request.param == SERVICE:
            stack.enter_context(standalone_on(server, SETTINGS))
        wait_until(lambda: nobody_left(server, request.param), 60)
        server.machine.inside(login)
        wait_until(lambda: nobody_left(server, request.param), 60)
        yield request.param


def one_source(result: Result) -> None:
    attempts_from(["127.0.0.9"], result, 2)


def many_sources(result: Result) -> None:
    attempts_from([f"127.1.{1 + number // 250}.{1 + number % 250}" for number in range(SOURCES)], result, 2)


def slow(result: Result) -> None:
    slow_clients(result, 3)


@pytest.mark.parametrize("load", [one_source, many_sources, slow])
def test_a_good_client_beside(server: Server, shape: str, load: Callable[[Result], None]) -> None:
    """In within its time, the unit stays up, nothing is left, the journal is not flooded."""
    machine = server.machine
    before = flood.state(machine, shape)
    since = machine.cursor()
    result = Result(shape, load.__name__, ATTEMPTS if shape == SERVICE else ATTEMPTS_OF_UNITS)
    with GoodClient(result, machine.inside):
        machine.inside(lambda: load(result))
    # PID 1 takes and refuses 300 to 1,200 connections a second, and everybody waits in its queue; popad -D 10,000.
    assert result.logins and max(result.logins) < (QUEUE if shape != SERVICE and load is not slow else IN_TIME)
    wait_until(lambda: nobody_left(server, shape), 60)
    after = flood.state(machine, shape)
    assert after.processes <= before.processes
    assert after.descriptors <= before.descriptors + 8  # PID 1 has some for a while; a leak would be hundreds
    assert after.memory <= before.memory + 8192
    assert machine.show(shape, "ActiveState", "Result") == {"ActiveState": "active", "Result": "success"}
    assert machine.run(["systemctl", "--failed", "--no-legend"]).stdout == ""
    if shape == SERVICE:
        entries = machine.journal("_SYSTEMD_UNIT=popad-standalone.service", after=since)
        sessions = [entry for entry in entries if entry.get("POPAD_EVENT") == "session-opened"]
        limits = [entry for entry in entries if entry.get("POPAD_EVENT") == "limit-reached"]
        assert 0 < result.greeted <= len(sessions)
        assert len(limits) < 10, "one every POPAD_MIN_DELAY"
        assert limits or load is many_sources  # whether the limit of all is reached depends on the speed
        # Each session has at most five entries, which is what bounds all of them.
        assert len(entries) <= 6 * len(sessions) + len(limits)


@pytest.mark.parametrize("how", ["reload", "restart", "kill"])
def test_the_daemon_changes_under_load(server: Server, user: None, how: str) -> None:
    """A session that runs is unharmed, the good client keeps coming in, no zombie."""
    with standalone_on(server, SETTINGS):
        machine = server.machine
        wait_until(lambda: nobody_left(server, SERVICE), 60)
        result = Result(SERVICE, how, ATTEMPTS)
        with server.connect(source="127.0.0.77").logged_in(flood.NAME, flood.PASSWORD) as client:
            flooding = threading.Thread(target=lambda: machine.inside(lambda: attempts_from(["127.0.0.9"], result, 4)))
            with GoodClient(result, machine.inside):
                flooding.start()
                wait_until(lambda: result.greeted > 0)
                before = main_pid(server)
                changing = threading.Thread(target=machine.run, args=(["systemctl", "restart", SERVICE],))
                if how == "kill":
                    machine.run(["kill", "-KILL", str(before)])
                elif how == "reload":
                    machine.run(["systemctl", "reload", SERVICE])
                else:
                    changing.start()
                    wait_until(lambda: server.machine.show(SERVICE, "ActiveState")["ActiveState"] == "deactivating")
                client.ok("STAT")
                client.ok("QUIT")
                if how == "restart":
                    changing.join()
                flooding.join()
        assert (main_pid(server) == before) == (how == "reload")
        # A stop waits POPAD_STOP_TIMEOUT for sessions, a restart after a crash RestartSec=1: clients wait with it.
        assert result.logins and max(result.logins) < IN_TIME + 3
        wait_until(lambda: nobody_left(server, SERVICE), 60)
        states = machine.run(["ps", "-eo", "stat="]).stdout.split()
        assert not [state for state in states if state.startswith("Z")]
