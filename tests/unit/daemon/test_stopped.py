"""daemon/stopped.py: real children that are stopped, go on and end."""

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from popad.daemon.stopped import Stopped
from tests.support.patience import wait_until


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    reap()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        yield child
        child.kill()


def reap() -> None:
    """Children that tests before have left: each wait() would speak of them."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def noticed(stopped: Stopped, now: float, *, still: bool) -> None:
    """Look until the child is known to stand still, or to go on."""

    def known() -> bool:
        assert stopped.wait(now) == (0, 0)
        return bool(stopped.since) is still

    wait_until(known)


def test_who_stands_still_for_too_long(child: "subprocess.Popen[bytes]") -> None:
    stopped = Stopped()
    assert stopped.wait(100) == (0, 0)
    child.send_signal(signal.SIGSTOP)
    noticed(stopped, 100, still=True)
    assert stopped.overdue(109, 10) == []
    assert stopped.overdue(110, 10) == [child.pid]
    assert stopped.overdue(110, 10) == []


def test_who_goes_on(child: "subprocess.Popen[bytes]") -> None:
    stopped = Stopped()
    for now in (100, 105):
        child.send_signal(signal.SIGSTOP)
        noticed(stopped, now, still=True)
        assert stopped.overdue(now + 9, 10) == []
        child.send_signal(signal.SIGCONT)
        noticed(stopped, now, still=False)
    assert stopped.overdue(1000, 10) == []


def test_who_ends_while_it_stands_still(child: "subprocess.Popen[bytes]") -> None:
    stopped = Stopped()
    child.send_signal(signal.SIGSTOP)
    noticed(stopped, 100, still=True)
    child.kill()
    ended: list[tuple[int, int]] = []

    def has_ended() -> bool:
        ended.append(stopped.wait(101))
        return ended[-1] != (0, 0)

    wait_until(has_ended)
    pid, status = ended[-1]
    assert (pid, os.WTERMSIG(status)) == (child.pid, signal.SIGKILL)
    assert stopped.since == {}
    with pytest.raises(ChildProcessError):
        stopped.wait(101)
    child.returncode = 0  # waited for here
