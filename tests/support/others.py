"""Other programs at a mailbox, for tests: real processes that hold its lock, or change it."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.here import CACHE


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


UNREADABLE = """
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <stdlib.h>

ssize_t pread64(int fd, void *data, size_t length, off_t offset)
{
	if (access(getenv("UNREADABLE_WHILE"), F_OK) == 0) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_pread64, fd, data, length, offset);
}

ssize_t pread(int fd, void *data, size_t length, off_t offset)
{
	return pread64(fd, data, length, offset);
}
"""


def unreadable_while(trigger: Path) -> dict[str, str]:
    """What the environment of a program needs for which no mailbox can be read (EIO) while `trigger` is there."""
    made = CACHE / f"unreadable-{hashlib.sha256(UNREADABLE.encode()).hexdigest()[:12]}.so"
    if not made.exists():
        if not shutil.which("gcc"):
            pytest.skip("needs gcc")
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = made.with_suffix(f".{os.getpid()}")
        command = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-xc", "-o", str(unfinished), "-"]
        subprocess.run(command, input=UNREADABLE.encode(), check=True)
        unfinished.rename(made)
    return {"LD_PRELOAD": str(made), "UNREADABLE_WHILE": str(trigger)}


def dead_pid() -> int:
    """The number of a process that has ended and been waited for."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid
