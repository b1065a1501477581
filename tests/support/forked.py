"""A process of a test's own: forked to do one thing, waited for, and ended with the test."""

import os
import select
import signal
from collections.abc import Callable

from tests.support.patience import PATIENCE

NOBODY = 65534


class Forked:
    """Exits with 0 when it has done its work, with 1 where that fails."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            try:
                work()
                os._exit(0)
            finally:
                os._exit(1)
        self.fd = os.pidfd_open(self.pid)

    def left(self) -> int:
        """Wait until it has gone; its exit status."""
        assert select.select([self.fd], [], [], PATIENCE)[0], "it does not leave"
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return status

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


def as_nobody(work: Callable[[], str]) -> str:
    """What `work` says with the rights of nobody."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        try:
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with open(reading, encoding="utf-8") as said:
        return said.read()
