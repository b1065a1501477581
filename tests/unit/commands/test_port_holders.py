"""commands/port_holders.py: who has a port of popad's. On real sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from popad.commands import port_holders, processes
from popad.commands.port_holders import holders, listening_inodes, wrong_idle
from popad.commands.units import SOCKET


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_who_listens(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        port = listener.getsockname()[1]
        assert list(holders(port)) == []
        listener.listen()
        (who,) = holders(port)
        name = Path("/proc/self/comm").read_text().rstrip()
        assert who.startswith(f"that of {name} ({os.getpid()}): ")
        assert who.endswith(", or have it listen elsewhere")
    assert listening_inodes(port) == set()


def test_whom_one_may_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(port_holders, "holds", lambda pid, inodes: False)
        (who,) = holders(listener.getsockname()[1])
    assert who == "another program's (as root, ss -ltnp says whose), which is to be ended"


@pytest.mark.parametrize(
    ("group", "how"),
    [
        ("/system.slice/dovecot.service", "systemctl disable --now dovecot.service"),
        ("/user.slice/session-1.scope", "systemctl disable --now session-1.scope"),
        ("/", f"kill {os.getpid()}"),
        ("/system.slice/docker.service/x.service", "systemctl disable --now docker.service"),
        ("/user.slice/user-7.slice/user@7.service/app.slice/ssh.service", f"kill {os.getpid()}"),
        ("/user.slice/user-7.slice/user@7.service/app.slice/$(id).service", f"kill {os.getpid()}"),
    ],
)
def test_how_it_is_ended(monkeypatch: pytest.MonkeyPatch, group: str, how: str) -> None:
    monkeypatch.setattr(processes, "look", lambda pid: processes.Process(pid, 0, 1, 0, group))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (who,) = holders(listener.getsockname()[1])
    assert f": {how}, or " in who


def test_what_a_process_calls_itself() -> None:
    """A user's may listen on a port above 1023, and move no terminal's cursor, nor write a line of its own."""
    name = Path("/proc/self/comm").read_text().rstrip()
    try:
        Path("/proc/self/comm").write_text("\x1b[2J\nwrong: x")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            (who,) = holders(listener.getsockname()[1])
    finally:
        Path("/proc/self/comm").write_text(name)
    assert who.startswith("that of \\x1b[2J\\nwrong: x (")


def test_a_shape_that_does_not_run() -> None:
    """Because of another server; or nobody has started it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        shown = {"ActiveState": "failed", "Listen": f"127.0.0.1:{port} (Stream)"}
        (said,) = wrong_idle(SOCKET, SOCKET, shown)
        assert said.startswith(f"popad.socket: does not listen, as port {port} is that of ")
        assert said.endswith("; then systemctl start popad.socket")
        assert list(wrong_idle(SOCKET, SOCKET, shown | {"ActiveState": "active"})) == []
    (said,) = wrong_idle(SOCKET, SOCKET, shown)
    assert said == "popad.socket: is enabled and does not run: systemctl start popad.socket"
    assert list(wrong_idle(SOCKET, SOCKET, {})) == []
