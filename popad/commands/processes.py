"""What the kernel says of processes: who, since when, in which control group; and the memory files of the daemon's
sessions. A process that ends meanwhile is None, or has nothing.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

from popad.session.shown import LARGEST, NAME

PROC = "/proc"
PREFIX, SUFFIX = f"/memfd:{NAME} ", " (deleted)"  # around the rest of the name of a memory file, as links show it


class Process:
    """A process. `started` is in clock ticks since the boot: with `pid` it names this process and no later one."""

    def __init__(self, pid: int, started: int, parent: int, uid: int, group: str) -> None:
        self.pid = pid
        self.started = started
        self.parent = parent
        self.uid = uid
        self.group = group


def look(pid: int) -> Process | None:
    """This process, as it is now."""
    try:
        after_name = text(pid, "stat").rpartition(")")[2].split()
        (uid,) = [line.split()[1] for line in text(pid, "status").split("\n") if line.startswith("Uid:")]
        groups = [line.split(":", 2) for line in text(pid, "cgroup").split("\n") if line]
    except OSError:
        return None
    # Where both hierarchies are there, systemd has its groups in one of them.
    own = max((path for _, of, path in groups if of in ("", "name=systemd")), key=len, default="")
    return Process(pid, int(after_name[19]), int(after_name[1]), int(uid), own)


def text(pid: int, name: str) -> str:
    """A file that the kernel makes up. Raises OSError."""
    with open(f"{PROC}/{pid}/{name}", encoding="utf-8", errors="replace", newline="") as file:
        return file.read()


def everybody() -> "Iterator[Process]":
    """All processes that can be seen here."""
    for name in os.listdir(PROC):
        if name.isdigit() and (found := look(int(name))):
            yield found


def arguments(pid: int) -> "Sequence[str]":
    """How it was started, or says that it was."""
    try:
        return text(pid, "cmdline").split("\0")
    except OSError:
        return ()


def shown(pid: int, owner: int) -> tuple[str, str] | None:
    """What a session of the daemon shows, by its memory file: the rest of its name, and the line in it. Raises
    PermissionError for who may not look. Only a file of `owner` counts: a session can make others, and is no root.
    """
    directory = f"{PROC}/{pid}/fd"
    try:
        for name in os.listdir(directory):
            path = f"{directory}/{name}"
            if is_shown(os.readlink(path)) and (found := read(path, owner)):
                return found
    except PermissionError:
        raise
    except OSError:
        pass
    return None


def read(path: str, owner: int) -> tuple[str, str] | None:
    """The session may put another file in the place of the one that was looked at, one that hangs who opens it: so it
    is looked at without being opened first. The name alone tells nothing: in a file system of a user's own a pipe or a
    device can have it, and root's as well. Raises OSError.
    """
    place = os.open(path, os.O_PATH)
    try:
        link = os.readlink(f"{PROC}/self/fd/{place}")
        status = os.fstat(place)
        if not is_shown(link) or status.st_uid != owner or status.st_dev != memory_files():
            return None
        with open(f"{PROC}/self/fd/{place}", "rb") as file:
            line = file.read(LARGEST).partition(b"\n")[0]
    finally:
        os.close(place)
    return link.removeprefix(PREFIX).removesuffix(SUFFIX), line.decode("utf-8", "replace")


def memory_files() -> int:
    """The device of all memory files, which no user can mount."""
    file = os.memfd_create(NAME)
    try:
        return os.fstat(file).st_dev
    finally:
        os.close(file)


def is_shown(link: str) -> bool:
    """Whether a link of /proc/PID/fd is one to such a file."""
    return link.startswith(PREFIX) and link.endswith(SUFFIX)
