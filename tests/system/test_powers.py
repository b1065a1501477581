"""What the comments of the units promise of root's part: tests/system/powers.py in each unit's sandbox."""

from __future__ import annotations

import pytest

from tests.support.here import CHECKOUT
from tests.support.instances import UNITS, directives
from tests.system.conftest import Server
from tests.system.powers import ATTEMPTS

PLACE = "/usr/local/lib/powers.py"
# The sandbox is what is left of [Service] without these.
NOT_THE_SANDBOX = (
    "ExecStart=",
    "ExecReload=",
    "Type=",
    "NotifyAccess=",
    "Sockets=",
    "Restart",
    "WatchdogSec=",
    "Slice=",
    "LoadCredential=",
)
MAY: dict[str, set[str]] = {
    "popad@.service": {"become a user"},
    "popad-standalone.service": {"become a user", "end process 1"},  # CAP_KILL
    "popad-auth.service": set(),
    "popad-tls-helper.service": set(),
    "popad-metrics@.service": set(),
    # Runs /bin/true; ProtectProc= leaves /run open.
    "popad-sandbox.service": {"a core file", "a file in /run", "end process 1"},
}
# Run systemctl, or nft, and end: they have to ask systemd, or the kernel, read nothing of anybody, and nobody talks to
# them.
NOT_TRIED = {"popad.service", "popad-limits.service"}


def test_each_service_is_tried() -> None:
    assert {path.name for path in UNITS.glob("*.service")} == MAY.keys() | NOT_TRIED


@pytest.mark.parametrize("unit", MAY)
def test_what_root_can_do_in_the_sandbox(server: Server, unit: str) -> None:
    """Nothing of what the comments say that it cannot."""
    name = server.add_user()
    server.machine.write(PLACE, (CHECKOUT / "tests/system/powers.py").read_text())
    program = ["/usr/bin/python3", PLACE, f"/var/mail/{name}"]
    service = [line for line in directives(UNITS / unit)["Service"] if not line.startswith(NOT_THE_SANDBOX)]
    lines = ["[Service]", "Type=oneshot", f"ExecStart={' '.join(program)}", *service]
    server.machine.write("/etc/systemd/system/powers.service", "\n".join([*lines, ""]))
    server.machine.run(["systemctl", "daemon-reload"])
    since = server.machine.cursor()
    server.machine.run(["systemctl", "start", "powers.service"])
    server.machine.wait_entry({"MESSAGE": "that is all"}, after=since)
    entries = server.machine.journal("_SYSTEMD_UNIT=powers.service", after=since)
    said = dict(str(entry["MESSAGE"]).partition(": ")[::2] for entry in entries if ": " in str(entry["MESSAGE"]))
    assert said.keys() == ATTEMPTS.keys()
    assert {what for what, outcome in said.items() if outcome == "done"} == MAY[unit], said
