"""Whether a file that this process has in memory is another one by now: an update has been installed.

A process that stays uses its libraries as they were when it loaded them. PAM's modules stay mapped for as long as a
transaction holds them, and one whose file was replaced has the same name, so nothing ever loads the new one.
"""

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAPS = "/proc/self/maps"
PAUSE = 1.0  # seconds between two looks, and before the first: files that change all the time make no loop of it

Stamp = tuple[int, int, int, int]  # device, inode, size, time of the last change


class Loaded:
    """The files mapped by this process (libpam, the modules, what they need, Python itself), as they were when seen."""

    def __init__(self, clock: "Callable[[], float]" = time.monotonic) -> None:
        self.clock = clock
        self.due = clock() + PAUSE
        self.seen: dict[str, Stamp | None] = {}
        self.look()

    def is_outdated(self) -> bool:
        """Whether one of them has been replaced, changed or removed since. Looks at most once in PAUSE."""
        if (now := self.clock()) < self.due:
            return False
        self.due = now + PAUSE
        if any(stamp_of(path) != stamp for path, stamp in self.seen.items()):
            return True
        self.look()  # a child may have loaded more: NSS does at the first question
        return False

    def look(self) -> None:
        """See what is mapped now. What is gone already (None) was loaded by a parent: to start afresh cures nothing."""
        try:
            with open(MAPS, "rb") as maps:
                lines = maps.read().decode("utf-8", "surrogateescape").splitlines()
        except OSError:
            return  # no /proc here
        for line in lines:
            # Address, permissions, offset, device, inode, path. Code alone: data files (locale) are no security fix.
            fields = line.split(None, 5)
            if len(fields) == 6 and "x" in fields[1] and (path := fields[5]).startswith("/") and path not in self.seen:
                self.seen[path] = stamp_of(path)


def stamp_of(path: str) -> Stamp | None:
    """What changes when a file is replaced or changed; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
