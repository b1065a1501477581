"""Paths that the settings name, for the commands."""

import os
import pwd

FIRST_PERSON = 1000  # uids below are the system's (Debian policy 9.2.2)
NOBODY = 65534


def mail_places(maildrop: str) -> "set[str]":
    """The directories that hold mailboxes or, where each user has one, what these stand in."""
    path = maildrop.partition(":")[2]
    if not path.startswith("{home}"):
        return {os.path.dirname(path.partition("{")[0])}
    return {os.path.dirname(entry.pw_dir) for entry in pwd.getpwall() if FIRST_PERSON <= entry.pw_uid < NOBODY} or {
        "/home"  # where the first person's will be
    }


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
