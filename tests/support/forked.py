"""A process of a test's own: forked to do one thing, waited for, and ended with the test."""

import os
import select
import signal
from collections.abc import Callable

from tests.support.patience import PATIENCE


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
