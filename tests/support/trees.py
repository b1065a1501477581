"""A tree of files as it is, for tests of what must not change it."""

import os
import stat
from pathlib import Path

Tree = dict[str, tuple[object, ...]]


def tree(*places: Path) -> Tree:
    """All below these places: kind, owner, size, names, times of change, and content. The times of reading are left
    out: whoever reads changes them.
    """
    found: Tree = {}
    for place in places:
        for path in (place, *sorted(place.rglob("*"))):
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            listed = sorted(os.listdir(path)) if stat.S_ISDIR(status.st_mode) else []
            identity = status.st_mode, status.st_ino, status.st_nlink, status.st_uid, status.st_gid
            found[str(path)] = *identity, status.st_size, status.st_mtime_ns, status.st_ctime_ns, content, listed
    return found
