"""popad whose authorization child has been taken over: it does to others and for itself what its client says.

Runs in popad's place, as a program of its own (PYTHONPATH names popad). A line of the client is a command, a blank and
the number of another process; the answer is "done", or the name of the error. Everything else of popad is as it is,
but that a session waits less long for a child that does not end.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

from popad import sinks
from popad.__main__ import main
from popad.net.connection import Connection
from popad.privsep import spawn
from popad.session import monitor, preauth

# Of C's headers, which Python does not have.
F_SETSIG, F_SETOWN_EX, F_OWNER_TID, PTRACE_SEIZE = 10, 15, 0, 0x4206
PR_SET_PDEATHSIG, PRIO_PROCESS = 1, 0
SIGNALS = set(range(1, 32)) - {signal.SIGKILL, signal.SIGSTOP}
MANY = 1 << 30  # octets
LIE = b'event=login-passed priority=6 message="192.0.2.7: authentication passed for root"\n'

speak = preauth.speak
libc = ctypes.CDLL(None, use_errno=True)
two_zeros = (ctypes.c_ulong * 2)(0, 0)
piece = ctypes.create_string_buffer(16)
vector = (ctypes.c_void_p * 2)(ctypes.addressof(piece), 16)
processors = (ctypes.c_ulong * 16)(1)


def signal_when_the_client_speaks(victim: int, fd: int) -> int:
    """The kernel sends it, and no filter of system calls sees it. Each step is allowed; what counts is what comes."""
    fcntl.fcntl(fd, F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETOWN, victim)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    return 0


def signal_a_thread_when_the_client_speaks(victim: int, fd: int) -> int:
    signal_when_the_client_speaks(victim, fd)
    owner = (ctypes.c_int * 2)(F_OWNER_TID, victim)
    return int(libc.fcntl(fd, F_SETOWN_EX, owner))


def ignore_everything(victim: int, fd: int) -> int:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    return 0


def loop(victim: int, fd: int) -> int:
    ignore_everything(victim, fd)
    while True:
        pass


def outlive_the_session(victim: int, fd: int) -> int:
    """What the kernel has been asked to do at the session's end can be undone."""
    libc.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
    ignore_everything(victim, fd)
    while True:
        signal.pause()


def lie(victim: int, fd: int) -> int:
    for standard in (1, 2):
        os.write(standard, LIE)
    return 0


def eat(victim: int, fd: int) -> int:
    """Returns how many octets could be had."""
    had: list[mmap.mmap] = []
    try:
        while len(had) << 16 < MANY:
            had.append(mmap.mmap(-1, 1 << 16))
    except (OSError, MemoryError):
        pass
    total = len(had) << 16
    had.clear()
    return total


def crash(victim: int, fd: int) -> int:
    raise RuntimeError("taken over")


AGAINST_OTHERS: dict[str, Callable[[int, int], int]] = {
    "kill": lambda victim, fd: libc.kill(victim, signal.SIGKILL),
    "tgkill": lambda victim, fd: libc.tgkill(victim, victim, signal.SIGKILL),
    "sigqueue": lambda victim, fd: libc.sigqueue(victim, signal.SIGKILL, None),
    "killpg": lambda victim, fd: libc.kill(-victim, signal.SIGKILL),
    "pidfd": lambda victim, fd: libc.pidfd_open(victim, 0),
    "owner": signal_when_the_client_speaks,
    "owner thread": signal_a_thread_when_the_client_speaks,
    "lease": lambda victim, fd: libc.fcntl(0, fcntl.F_SETLEASE, fcntl.F_WRLCK),
    "notify": lambda victim, fd: libc.fcntl(0, fcntl.F_NOTIFY, fcntl.DN_ACCESS),
    "prlimit": lambda victim, fd: libc.prlimit(victim, resource.RLIMIT_CPU, two_zeros, None),
    "proc": lambda victim, fd: libc.open(b"/proc/%d/mem" % victim, os.O_RDWR),
    "ptrace": lambda victim, fd: libc.ptrace(PTRACE_SEIZE, victim, None, None),
    "read memory": lambda victim, fd: libc.process_vm_readv(victim, vector, 1, vector, 1, 0),
    "nice": lambda victim, fd: libc.setpriority(PRIO_PROCESS, victim, 19),
    "affinity": lambda victim, fd: libc.sched_setaffinity(victim, ctypes.sizeof(processors), processors),
}
ENDED_BY_THE_FILTER = (
    "ptrace",
    "read memory",
    "nice",
    "affinity",
)  # of popad@.service; popad-standalone.service's says EPERM
FOR_ITSELF: dict[str, Callable[[int, int], int]] = {
    "ping": lambda victim, fd: 0,
    "lie": lie,
    "eat": eat,
    "crash": crash,
    "loop": loop,
    "outlive": outlive_the_session,
}
COMMANDS = AGAINST_OTHERS | FOR_ITSELF


def taken_over(connection: Connection, *others: Any) -> None:
    """In place of the AUTHORIZATION state, when all doors have been closed: a daemon warms up before it forks."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
        return speak(connection, *others)
    while line := connection.read(60):
        command, _, victim = line.decode().strip().rpartition(" ")
        done = COMMANDS[command](int(victim), connection.fileno())
        answer = errno.errorcode[ctypes.get_errno()] if done < 0 else f"done {done}" if done else "done"
        connection.write(f"{answer}\r\n".encode(), 60)


if __name__ == "__main__":
    vars(preauth)["speak"] = taken_over
    monitor.GRACE = spawn.PATIENCE = 0.5
    if "NO_JOURNAL" in os.environ:
        sinks.journald.path = "/nonexistent"
    sys.exit(main())
