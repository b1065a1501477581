"""What the units of popad allow, as systemd has them, for `popad check`: whether the sessions fit into the memory, and
whether they wait for the file systems that they need.
"""

import os
import pwd
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

from popad.settings import Settings

RUNNING = "/run/systemd/system"  # there where systemd is process 1, see sd_booted(3)
FIRST_PERSON = 1000  # uids below are the system's (Debian policy 9.2.2)
MIB = 1 << 20
# Of a session that waits for its login. Measured, with the kernel's part (page tables, stacks): 7.4 and 2.4 MiB.
SOCKET_SESSION = 8 * MIB
DAEMON_SESSION = 5 * MIB // 2
# Octets for one large mailbox where nothing limits it (MemoryMax= of popad@.service, as shipped).
LARGE_SESSION = 256 * MIB
# Of it what a session has of its own, and octets a message while unique-ids are made for the first time. Measured: 233
# MiB with 1,000,000 (tests/hostile/sizes.py).
OWN, MESSAGE = 16 * MIB, 224


def wrong_units(settings: Settings) -> "Iterator[str]":
    """What does not fit together in the units in use. Nothing where systemd does not serve."""
    if not os.path.isdir(RUNNING):
        return
    shapes = {"popad.socket": "popad@check.service", "popad-standalone.service": "popad-standalone.service"}
    shown = {listening: show(listening) for listening in shapes}
    active = [listening for listening in shapes if shown[listening].get("ActiveState") == "active"]
    for listening in active or [name for name in shapes if shown[name].get("UnitFileState") == "enabled"]:
        unit = show(shapes[listening])
        yield from wrong_memory(settings, listening, unit)
        if listening == "popad.socket":
            yield from wrong_messages(settings, unit)
        yield from wrong_mounts(settings, shapes[listening].replace("@check", "@"), unit, mount_points())


def show(unit: str) -> "Mapping[str, str]":
    """The properties of a unit; none where systemd does not answer."""
    try:
        done = subprocess.run(["systemctl", "show", unit], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def octets(limit: str, otherwise: int) -> int:
    """A limit as systemd shows it."""
    return int(limit) if limit.isdigit() and int(limit) < 1 << 63 else otherwise


def fitting(memory: int, session: int, large: int = LARGE_SESSION) -> int:
    """How many sessions of `session` octets fit into `memory` beside one that takes `large`."""
    return max(0, memory - large) // session


def wrong_memory(settings: Settings, listening: str, unit: "Mapping[str, str]") -> "Iterator[str]":
    """All sessions that may be must fit into what their slice may have, with a large one among them."""
    slice_name = unit.get("Slice", "popad.slice")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    memory = min(total, octets(show(slice_name).get("MemoryMax", ""), total))
    if listening == "popad.socket":
        name, session = "MaxConnections=", SOCKET_SESSION
        sessions = int(show(listening).get("MaxConnections", "0"))
        large = octets(unit.get("MemoryMax", ""), LARGE_SESSION)
    else:
        name, session, sessions, large = "POPAD_MAX_SESSIONS=", DAEMON_SESSION, settings.max_sessions, LARGE_SESSION
    if sessions > (fits := fitting(memory, session, large)):
        yield (
            f"{listening}: {sessions} sessions, one of them large, take {(sessions * session + large) // MIB} MB, and "
            f"{slice_name} has {memory // MIB} MB: " + (f"{name}{fits} fits" if fits else "raise its MemoryMax=")
        )


def wrong_messages(settings: Settings, unit: "Mapping[str, str]") -> "Iterator[str]":
    """The largest mailbox must fit into what a session may have, or it is ended without an answer."""
    large = octets(unit.get("MemoryMax", ""), settings.max_messages * MESSAGE + OWN)
    if settings.max_messages > (most := (large - OWN) // MESSAGE):
        yield (
            f"POPAD_MAX_MESSAGES: {settings.max_messages} messages take "
            f"{(settings.max_messages * MESSAGE + OWN) // MIB} MB, and popad@.service has MemoryMax={large // MIB}M: "
            f"raise that, or {most} fit"
        )


def wrong_mounts(
    settings: Settings, serving: str, unit: "Mapping[str, str]", points: "Iterable[str]"
) -> "Iterator[str]":
    """A session must not begin before the file systems are there that it needs, and may write where mail is."""
    needed = [("POPAD_STATE", settings.state), *((("POPAD_CACHE", settings.cache),) if settings.cache else ())]
    needed += [("POPAD_MAILDROP", place) for place in mail_places(settings.maildrop)]
    required = unit.get("RequiresMountsFor", "").split()
    writable = [path.lstrip("-+") for path in unit.get("ReadWritePaths", "").split()]
    for setting, path in needed:
        mounted = max((point for point in points if point != "/" and is_below(path, point)), key=len, default="")
        if mounted and not any(is_below(other, mounted) for other in required):
            yield (
                f"{setting}: {serving} does not wait until {mounted} is mounted, and mailboxes would look empty: "
                f"[Unit] RequiresMountsFor={path}"
            )
        if unit.get("ProtectSystem") == "strict" and not any(is_below(path, other) for other in writable):
            yield f"{setting}: {serving} may not write to {path}: [Service] ReadWritePaths={path}"


def mail_places(maildrop: str) -> "set[str]":
    """The directories that hold mailboxes or, where each user has one, what these stand in."""
    path = maildrop.partition(":")[2]
    if not path.startswith("{home}"):
        return {os.path.dirname(path.partition("{")[0])}
    return {os.path.dirname(entry.pw_dir) for entry in pwd.getpwall() if FIRST_PERSON <= entry.pw_uid < 65534}


def mount_points() -> "set[str]":
    """Where file systems are mounted, or are to be (fstab(5))."""
    points = set()
    for listed, column in (("/proc/self/mountinfo", 4), ("/etc/fstab", 1)):
        try:
            with open(listed, encoding="utf-8", errors="surrogateescape") as lines:
                for line in lines:
                    if len(fields := line.partition("#")[0].split() if column == 1 else line.split()) > column:
                        points.add(fields[column].replace("\\040", " "))
        except OSError:
            pass  # a host without it has nothing to say there
    return points


def is_below(path: str, directory: str) -> bool:
    """Whether a path is a directory or something in it."""
    return f"{path}/".startswith(f"{directory.rstrip('/')}/")
