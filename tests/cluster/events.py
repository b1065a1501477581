"""What happens to a host while it serves."""

from __future__ import annotations

from collections.abc import Callable

from .hosts import Cluster, Host


def nothing(_cluster: Cluster, _host: Host) -> None:
    """Nothing at all: what the figures of the others are to be compared with."""


def kill_machine(_cluster: Cluster, host: Host) -> None:
    """The machine is gone at once, with its network: nobody hears of it, and it does not come back."""
    host.machine.close()


def kill_popad(_cluster: Cluster, host: Host) -> None:
    """SIGKILL to all processes of popad's at once; systemd starts it again."""
    host.kill_popad()


def drain(_cluster: Cluster, host: Host) -> None:
    """systemctl stop popad, which waits for the sessions; then it is started again."""
    host.machine.run(["systemctl", "stop", "popad"])
    host.machine.run(["systemctl", "start", host.shape])


def upgrade(cluster: Cluster, host: Host) -> None:
    """The package is installed anew."""
    host.machine.install(cluster.package)


def stop_and_upgrade(cluster: Cluster, host: Host) -> None:
    """As popad(8) has it: the package is installed while popad is stopped."""
    host.machine.run(["systemctl", "stop", "popad"])
    host.machine.install(cluster.package)
    host.machine.run(["systemctl", "start", host.shape])


EVENTS: dict[str, Callable[[Cluster, Host], None]] = {
    "nothing": nothing,
    "machine-killed": kill_machine,
    "popad-killed": kill_popad,
    "drained": drain,
    "upgraded": upgrade,
    "stopped-upgraded": stop_and_upgrade,
}
ENDS_SESSIONS = ("machine-killed", "popad-killed")  # of its own host; the others end none
