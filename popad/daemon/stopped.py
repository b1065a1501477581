"""Sessions that were stopped (SIGSTOP): a session keeps its time limits itself, but not while its own user, or somebody
who debugs it, has it stand still. It must not hold a slot for ever; under systemd RuntimeMaxSec= ends it.
"""

import os


class Stopped:
    """The children that stand still, and since when. Times are seconds of any clock that only goes forward."""

    def __init__(self) -> None:
        self.since: dict[int, float] = {}

    def wait(self, now: float) -> tuple[int, int]:
        """The next child that has ended, and its status, as waitpid(2) with WNOHANG has them; takes note of those that
        were stopped or go on. Raises ChildProcessError.
        """
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if os.WIFSTOPPED(status):
                self.since.setdefault(pid, now)
                continue
            self.since.pop(pid, None)
            if not os.WIFCONTINUED(status):
                return pid, status

    def overdue(self, now: float, limit: float) -> list[int]:
        """Who has stood still for `limit` seconds. Each is named once."""
        late = [pid for pid, since in self.since.items() if now >= since + limit]
        for pid in late:
            del self.since[pid]
        return late
