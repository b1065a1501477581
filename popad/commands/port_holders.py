"""Who listens on a port of popad's in its place, for `popad check`."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

from popad.commands import processes
from popad.commands.listening import LISTENS, configured
from popad.commands.report.shown import plain

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def wrong_idle(shape: str, socket: str, shown: "Mapping[str, str]") -> "Iterator[str]":
    """Why a shape that is enabled does not listen: nobody has started it, or its port is somebody else's."""
    if shown.get("ActiveState") in ("active", "activating", None):
        return
    ports = sorted({port for _, port in configured(shown.get("Listen", ""))})
    others = [(port, who) for port in ports for who in holders(port)]
    for port, who in others:
        yield f"{socket}: does not listen, as port {port} is {who}; then systemctl start {shape}"
    if not others:
        yield f"{shape}: is enabled and does not run: systemctl start {shape}"


def holders(port: int) -> "Iterator[str]":
    """Who listens on a port, and how that is ended, once each. Only root sees everybody."""
    if not (inodes := listening_inodes(port)):
        return
    pids = [pid for pid in map(int, filter(str.isdigit, os.listdir(processes.PROC))) if holds(pid, inodes)]
    if not pids:
        yield "another program's (as root, ss -ltnp says whose), which is to be ended"
    seen = set()
    for pid in pids:
        found = processes.look(pid)
        unit = unit_of(found.group) if found else ""
        name = comm(pid)
        if (unit or name) in seen:
            continue
        seen.add(unit or name)
        if pid == 1:
            yield "another socket unit's (systemctl list-sockets): systemctl disable --now it"
        else:
            how = f"systemctl disable --now {unit}" if unit else f"kill {pid}"
            yield f"that of {name} ({pid}): {how}, or have it listen elsewhere"


def unit_of(group: str) -> str:
    """The system's unit of a control group; "" where there is none. What is below it has names that its owner gives,
    and below user@.service that is a user: nobody is to type those.
    """
    names = [name for name in group.split("/") if name and not name.endswith(".slice")]
    unit = names[0] if names else ""
    return unit if unit.endswith((".service", ".scope")) and not unit.startswith("user@") else ""


def listening_inodes(port: int) -> set[str]:
    """The sockets that listen on this port for TCP, as /proc names them."""
    found = set()
    for table in TABLES:
        try:
            with open(table, encoding="ascii") as rows:
                fields = [row.split() for row in rows][1:]
        except OSError:
            continue
        found |= {row[9] for row in fields if row[3] == LISTENS and int(row[1].rpartition(":")[2], 16) == port}
    return found


def holds(pid: int, inodes: set[str]) -> bool:
    """Whether a process has one of these sockets open."""
    place = f"{processes.PROC}/{pid}/fd"
    try:
        return any(
            os.readlink(f"{place}/{fd}") in {f"socket:[{inode}]" for inode in inodes} for fd in os.listdir(place)
        )
    except OSError:
        return False  # it has ended, or is not for us to see


def comm(pid: int) -> str:
    """What a process is called, which is for itself to say."""
    try:
        return plain(processes.text(pid, "comm").rstrip())
    except OSError:
        return "a process"
