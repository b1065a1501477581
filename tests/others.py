"""Other programs at a mailbox, for tests: real processes that hold its lock, or change it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock_held(path: Path, kind: int = fcntl.LOCK_EX, then: bytes = b"") -> Iterator[int]:
    """Another process holds the lock of `path` (fcntl.LOCK_EX or LOCK_SH).

    Gives a descriptor: what is written to it makes that process append `then` and let go of the lock.
    """
    told_read, told_write = os.pipe()
    ready_read, ready_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(told_write)
            fd = os.open(path, os.O_RDWR | os.O_APPEND)
            fcntl.lockf(fd, kind)
            os.write(ready_write, b"x")
            if os.read(told_read, 1):
                os.write(fd, then)
        finally:
            os._exit(0)
    os.close(told_read)
    os.close(ready_write)
    try:
        assert os.read(ready_read, 1) == b"x"
        yield told_write
    finally:
        os.close(told_write)
        os.close(ready_read)
        os.waitpid(pid, 0)


def may_lock(path: Path, kind: int) -> bool:
    """Whether another process gets the lock at once."""
    pid = os.fork()
    if pid == 0:
        try:
            fcntl.lockf(os.open(path, os.O_RDWR), kind | fcntl.LOCK_NB)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def dead_pid() -> int:
    """The number of a process that has ended and been waited for."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid
