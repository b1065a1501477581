"""Memory: what a session takes is what the limits are made of, and `popad check` says where they do not fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from popad.commands.deployment import DAEMON_SESSION, MIB, SOCKET_SESSION
from tests.support.machine import Machine
from tests.support.patience import wait_until
from tests.system.conftest import PASSWORD, Server

SESSIONS = 20  # enough that what they share counts little
SETTLED = MIB // 16  # octets between two looks
STATED = 980  # MiB: what popad.slice has on a host with 2 GB


def taken(machine: Machine) -> int:
    """Octets of all processes of popad, shared ones counted once (Pss), without the helper of popad.socket."""
    added = (
        "import contextlib, pathlib, re\n"
        "octets = 0\n"
        "for process in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    with contextlib.suppress(FileNotFoundError, ProcessLookupError):\n"
        "        if 'popad.slice' in (process / 'cgroup').read_text():\n"
        "            pss = re.search(r'^Pss: *(\\d+)', (process / 'smaps_rollup').read_text(), re.M)\n"
        "            octets += int(pss[1]) * 1024\n"
        "print(octets)"
    )
    return int(machine.python(added))


def settled(machine: Machine) -> int:
    """What is taken when that changes no more: the daemon prepares the session of the next client meanwhile."""
    looks = [taken(machine)]

    def is_settled() -> bool:
        looks.append(taken(machine))
        return abs(looks[-1] - looks[-2]) < SETTLED

    wait_until(is_settled, pause=0.2)
    return looks[-1]


def each(server: Server) -> float:
    """Octets that one more client takes which has not logged in."""
    with contextlib.ExitStack() as clients:
        clients.enter_context(server.connect().greeted())
        one = settled(server.machine)
        for number in range(SESSIONS):
            clients.enter_context(server.connect(source=f"127.0.1.{1 + number}").greeted())
        return (settled(server.machine) - one) / SESSIONS


def test_session_of_the_socket(server: Server) -> None:
    assert SOCKET_SESSION / 4 < each(server) < SOCKET_SESSION


def test_session_of_the_daemon(server: Server) -> None:
    server.machine.run(["systemctl", "start", "popad-standalone.service"])
    try:
        assert DAEMON_SESSION / 4 < each(server) < DAEMON_SESSION
    finally:
        server.machine.run(["systemctl", "stop", "popad-standalone.service"])
        server.machine.run(["systemctl", "start", "popad.socket"])


def test_helper_is_outside_of_the_sessions_slice(server: Server) -> None:
    """A flood of sessions that fills popad.slice leaves it its memory."""
    with server.connect().logged_in(server.add_user(), PASSWORD):
        groups = server.machine.show("popad-auth.service", "ControlGroup", "MemoryMax", "TasksMax", "OOMPolicy")
    assert groups["ControlGroup"].endswith("/system.slice/popad-auth.service")
    assert groups["OOMPolicy"] == "continue"
    assert groups["MemoryMax"] != "infinity"
    assert int(server.machine.show("popad@1.service", "MemoryMax")["MemoryMax"]) == 256 * MIB


@pytest.fixture
def small(server: Server) -> Iterator[Server]:
    """A server whose slice is that of a host with 2 GB."""
    with server.drop_in("popad.slice", f"[Slice]\nMemoryMax={STATED}M\n"):
        yield server


def complaints(server: Server) -> list[str]:
    said = server.machine.run(["popad", "check"], check=False).stdout.splitlines()
    return [line.removeprefix("wrong: ") for line in said if line.startswith("wrong: ")]


def test_check_as_shipped(small: Server) -> None:
    assert complaints(small) == []


def test_check_says_how_many_sessions_fit(small: Server) -> None:
    with small.drop_in("popad.socket", "[Socket]\nMaxConnections=500\n"):
        (complaint,) = complaints(small)
    assert complaint == (
        f"popad.socket: 500 sessions, one of them large, take 4256 MB, and popad.slice has {STATED} MB: "
        "MaxConnections=90 fits"
    )
    with small.drop_in("popad.socket", "[Socket]\nMaxConnections=90\n"):
        assert complaints(small) == []


def test_check_of_the_daemon(small: Server) -> None:
    small.machine.run(["systemctl", "start", "popad-standalone.service"])
    try:
        assert complaints(small) == []
        with small.settings("POPAD_MAX_SESSIONS=500\n", restart_helper=False):
            (complaint,) = complaints(small)
        assert complaint.endswith("POPAD_MAX_SESSIONS=241 fits")
    finally:
        small.machine.run(["systemctl", "stop", "popad-standalone.service"])
        small.machine.run(["systemctl", "start", "popad.socket"])


def test_check_says_what_is_not_waited_for(server: Server) -> None:
    """Mail on a file system of its own: each line that the unit lacks is named, and with them all is well."""
    server.machine.run(["mkdir", "-p", "/srv/mail"])
    server.machine.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/srv/mail"])
    try:
        with server.settings("POPAD_MAILDROP=mbox:/srv/mail/{user}\n"):
            named = [complaint.partition("]")[2].strip() for complaint in complaints(server)]
            assert named == ["RequiresMountsFor=/srv/mail", "ReadWritePaths=-/srv/mail"]
            drop_in = f"[Unit]\n{named[0]}\n[Service]\n{named[1]}\n"
            with server.drop_in("popad@.service", drop_in):
                assert complaints(server) == []
    finally:
        server.machine.run(["umount", "/srv/mail"])
