"""Authorization children that were taken over, in the units' sandboxes: tests/support/attacker.py in popad's place."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from popad.settings import PREAUTH_UIDS
from tests.support.attacker import AGAINST_OTHERS, ENDED_BY_THE_FILTER
from tests.support.here import CHECKOUT
from tests.support.patience import wait_until
from tests.support.pop3 import Pop3
from tests.system.conftest import Server

PLACE = "/usr/local/lib/attacker.py"
DROP_IN = f"[Service]\nEnvironment=PYTHONPATH=/usr/lib/popad\nExecStart=\nExecStart=/usr/bin/python3 {PLACE}"
SOON = 45.0  # seconds, on a busy machine; systemd's own patience with what ignores SIGTERM is 90 (TimeoutStopSec=)
REFUSED = {b"EPERM", b"EMFILE", b"ESRCH", b"EACCES"}


@contextmanager
def taken_over(server: Server, unit: str) -> Iterator[Server]:
    """Port 110 served by popad@.service or popad-standalone.service, with children that were taken over."""
    server.machine.write(PLACE, (CHECKOUT / "tests/support/attacker.py").read_text())
    if unit == "popad@.service":
        with server.drop_in(unit, DROP_IN):
            yield server
    else:
        with server.drop_in(unit, f"{DROP_IN} -D --foreground"):
            try:
                server.machine.run(["systemctl", "start", unit])
                yield server
            finally:
                server.machine.run(["systemctl", "start", "popad.socket"])


@pytest.fixture
def instances(server: Server) -> Iterator[Server]:
    with taken_over(server, "popad@.service") as served:
        yield served


@pytest.fixture(params=["popad@.service", "popad-standalone.service"])
def attacked(server: Server, request: pytest.FixtureRequest) -> Iterator[Server]:
    with taken_over(server, request.param) as served:
        yield served


class PreauthChild:
    """A client, its session and its authorization child."""

    def __init__(self, server: Server, client: Pop3, before: str) -> None:
        """`before`: the journal's cursor before the client came, as an earlier one may have had its port."""
        self.server = server
        self.client = client
        assert self.does("ping") == b"done"
        opened = {"POPAD_EVENT": "session-opened", "POPAD_RPORT": str(client.port)}
        entry = server.machine.wait_entry(opened, after=before)
        self.unit = str(entry["_SYSTEMD_UNIT"])
        self.session = int(entry["_PID"])
        (self.pid,) = map(int, server.machine.run(["pgrep", "--parent", str(self.session)]).stdout.split())

    def does(self, command: str, victim: int = 0) -> bytes:
        return self.client.say(f"{command} {victim}")

    def starts(self, command: str) -> None:
        self.client.socket.sendall(f"{command} 0\r\n".encode())

    @property
    def gone(self) -> bool:
        return self.server.machine.run(["test", "-e", f"/proc/{self.pid}"], check=False).returncode != 0

    @property
    def ignores_signals(self) -> bool:
        ignored = int(self.server.process_status(str(self.pid))["SigIgn"], 16)
        return bool(ignored >> signal.SIGTERM - 1 & 1)


@contextmanager
def preauth_child(server: Server) -> Iterator[PreauthChild]:
    before = server.machine.cursor()
    with server.connect().greeted() as client:
        yield PreauthChild(server, client, before)


def test_nobody_can_do_anything_to_another(attacked: Server) -> None:
    """Nor to the session."""
    with preauth_child(attacked) as attacker, preauth_child(attacked) as victim:
        for each in (attacker, victim):
            uid = PREAUTH_UIDS[each.pid]
            assert attacked.process_status(str(each.pid))["Uid"] == f"{uid} {uid} {uid} {uid}"
        for target in (victim.pid, attacker.session):
            for attempt in AGAINST_OTHERS:
                if attacker.unit != "popad-standalone.service" and attempt in ENDED_BY_THE_FILTER:
                    continue
                done = attacker.does(attempt, target)
                allowed = {"owner": {b"done"}, "owner thread": {b"done"}, "notify": {b"ENOTDIR"}}
                assert done in allowed.get(attempt, REFUSED), (attempt, done)
                assert attacker.does("ping") == b"done"  # whose octets make the kernel signal an owner
                assert victim.does("ping") == b"done", attempt


@pytest.mark.parametrize("attempt", ENDED_BY_THE_FILTER)
def test_who_tries_what_the_filter_ends(instances: Server, attempt: str) -> None:
    since = instances.machine.cursor()
    with preauth_child(instances) as attacker, preauth_child(instances) as victim:
        attacker.client.socket.sendall(f"{attempt} {victim.pid}\r\n".encode())
        assert attacker.client.closed()
        broken = instances.machine.wait_entry({"POPAD_EVENT": "contract-broken"}, after=since)
        assert f"exit status {-signal.SIGSYS})" in broken["POPAD_REASON"]
        assert victim.does("ping") == b"done"


def test_what_it_says_is_in_no_journal(attacked: Server) -> None:
    since = attacked.machine.cursor()
    with preauth_child(attacked) as liar:
        assert liar.does("lie") == b"done"
        liar.starts("crash")
        assert liar.client.closed()
    attacked.machine.wait_entry({"POPAD_EVENT": "contract-broken"}, after=since)
    said = [str(entry["MESSAGE"]) for entry in attacked.machine.journal("SYSLOG_IDENTIFIER=popad", after=since)]
    assert not [message for message in said if "passed for root" in message or "Traceback" in message]


def test_it_gets_little_memory(attacked: Server) -> None:
    with preauth_child(attacked) as eater:
        assert 0 < int(eater.does("eat").removeprefix(b"done ")) <= 4 << 20


def test_it_is_gone_when_its_session_gives_it_up(attacked: Server) -> None:
    """It ignores all signals. Where the filter refuses kill, the unit's end is its end, and that does not wait."""
    since = attacked.machine.cursor()
    with attacked.settings("POPAD_LOGIN_TIMEOUT=1\n", restart_helper=False):
        if attacked.machine.show("popad-standalone.service", "ActiveState")["ActiveState"] == "active":
            attacked.machine.run(["systemctl", "reload", "popad-standalone.service"])
        with preauth_child(attacked) as stays:
            stays.starts("outlive")
            assert stays.client.closed()
            attacked.machine.wait_entry({"POPAD_EVENT": "contract-broken"}, after=since)
            wait_until(lambda: stays.gone, SOON)


@pytest.mark.parametrize("does", ["loop", "outlive"])
def test_it_is_gone_when_its_session_is_killed(attacked: Server, does: str) -> None:
    """popad-standalone.service ends only its main process when it ends (KillMode=process): the daemon ends this one."""
    with preauth_child(attacked) as stays:
        stays.starts(does)
        wait_until(lambda: stays.ignores_signals)
        attacked.machine.run(["kill", "-KILL", str(stays.session)])
        wait_until(lambda: stays.gone, SOON)
