"""popad-standalone.service and its socket in a machine: port 110 served by it, and what runs there."""

import contextlib
from collections.abc import Iterator

from tests.system.conftest import SETTINGS, Server

SERVICE = "popad-standalone.service"
QUICK = "POPAD_MIN_DELAY=1\nPOPAD_STOP_TIMEOUT=2\nPOPAD_GUESS_DELAY=0\n"


def main_pid(server: Server) -> int:
    return int(server.machine.show(SERVICE, "MainPID")["MainPID"])


def processes(server: Server) -> list[str]:
    """What runs in the unit's control group, which is gone when nothing does."""
    if not (group := server.machine.show(SERVICE, "ControlGroup")["ControlGroup"]):
        return []
    return server.machine.run(["sh", "-c", f"cat /sys/fs/cgroup{group}/cgroup.procs || :"]).stdout.split()


@contextlib.contextmanager
def standalone_on(server: Server, settings: str = QUICK) -> Iterator[Server]:
    """Port 110 served by popad-standalone.service; afterwards by popad.socket again."""
    path = server.machine.root / SETTINGS.lstrip("/")
    before = path.read_bytes()
    try:
        path.write_text(settings)
        server.machine.run(["systemctl", "start", SERVICE])
        yield server
    finally:
        path.write_bytes(before)
        server.machine.run(["systemctl", "start", "popad.socket"])
        server.machine.run(["systemctl", "reset-failed"])
