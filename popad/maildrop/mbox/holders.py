"""Who has a mailbox locked, without a lock of one's own: the fcntl(2) lock as the kernel tells of it, the lock file."""

import fcntl
import os
import stat
import struct
import time

from popad.maildrop.mbox.dotlock import LARGEST, SAME_FILE, Dotlock, pid_in

FLOCK = "hhqqi"  # struct flock of fcntl(2): type, whence, start, length, PID
PROCESS = "/proc/{}/comm"
FCNTL, DOTLOCK = "fcntl", "lock file"
UNKNOWN = "a process that cannot be seen from here"


class Holder:
    """A lock: its kind, what it is for a session that waits for it, who has it (0: nobody says), and what there is to
    say. `bars`: a session waits for it.
    """

    def __init__(self, kind: str, what: str, pid: int, says: str, *, bars: bool) -> None:
        self.kind = kind
        self.what = what
        self.pid = pid
        self.says = says
        self.bars = bars


def holders(fd: int, dotlock: Dotlock | None) -> list[Holder]:
    """The locks of the mailbox `fd` that others have now. Raises OSError."""
    found = []
    for wanted, bars in ((fcntl.F_RDLCK, True), (fcntl.F_WRLCK, False)):  # against a reader; against a writer
        asked = struct.pack(FLOCK, wanted, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        if kind != fcntl.F_UNLCK:
            for_whom = "for itself" if kind == fcntl.F_WRLCK else "for reading"
            found.append(Holder(FCNTL, "the lock", max(pid, 0), f"{name_of(pid)} has it {for_whom}", bars=bars))
            break
    if dotlock:
        found += of_lock_file(fd, dotlock)
    return found


def of_lock_file(mailbox: int, dotlock: Dotlock) -> list[Holder]:
    """The lock file, if there is something of its name. Raises OSError."""
    try:
        if not dotlock.in_the_way():
            return []
        status = os.lstat(dotlock.path)
        kind = dotlock.judge(mailbox)
        bars = dotlock.in_the_way()
    except FileNotFoundError:
        return []  # a moment ago
    finally:
        dotlock.forget_void()
    content = content_of(dotlock.path) if stat.S_ISREG(status.st_mode) else b""
    pid = pid_in(content)
    says = f"{kind}, {max(int(time.time() - status.st_mtime), 0)} seconds old, of uid {status.st_uid}"
    says += f", with {content.decode('ascii', 'backslashreplace')[:60]!a} in it" if content else ", empty"
    return [Holder(DOTLOCK, kind, pid, f"{says}: {name_of(pid)}" if pid else says, bars=bars)]


def content_of(path: str) -> bytes:
    """What a lock file says; nothing where it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | SAME_FILE)
    except OSError:
        return b""
    try:
        return os.read(fd, LARGEST)
    except OSError:
        return b""
    finally:
        os.close(fd)


def name_of(pid: int) -> str:
    """What a process is called, if it can be seen."""
    try:
        with open(PROCESS.format(pid), encoding="utf-8", errors="replace") as file:
            return f"{file.read().rstrip()} ({pid})"
    except OSError:
        return f"{UNKNOWN} ({pid})" if pid > 0 else UNKNOWN
