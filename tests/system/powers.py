"""What somebody who has taken over root's part of a service tries, run in the unit's sandbox: a line for each attempt.

powers.py MAILBOX    (of a user, mode 0600)
"""

import mmap
import os
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import partial

AF_NETLINK_ROUTE = 0
PLACES = ("/etc", "/usr", "/run", "/var/lib", "/sys/fs/cgroup")
KERNEL = ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper")
SOCKETS = ("/run/systemd/private", "/run/dbus/system_bus_socket")
USER = 12345  # a uid that nobody has


def connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)


def disk() -> None:
    """Raises FileNotFoundError unless a device of blocks can be seen."""
    if not any(stat.S_ISBLK(os.lstat(f"/dev/{name}").st_mode) for name in os.listdir("/dev")):
        raise FileNotFoundError


def home() -> None:
    if not os.listdir("/home"):
        raise FileNotFoundError


def become() -> None:
    if not (child := os.fork()):
        try:
            os.setresuid(USER, USER, USER)
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    if status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError(status, "setresuid")


def namespace() -> None:
    if subprocess.run(["unshare", "--user", "true"], capture_output=True).returncode:
        raise PermissionError


def core() -> None:
    if resource.getrlimit(resource.RLIMIT_CORE) == (0, 0):
        raise PermissionError


ATTEMPTS: dict[str, Callable[[], object]] = {
    "a connection to the network": lambda: socket.socket(socket.AF_INET),
    "a socket to the kernel": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, AF_NETLINK_ROUTE),
    "a packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    **{f"a file in {place}": partial(os.open, f"{place}/powers", os.O_CREAT | os.O_EXCL) for place in PLACES},
    **{f"write {path}": partial(os.open, path, os.O_WRONLY) for path in KERNEL},
    **{f"ask {path}": partial(connect, path) for path in SOCKETS},
    "a disk": disk,
    "a user's mail": lambda: os.open(sys.argv[1], os.O_RDONLY),
    "homes": home,
    "a namespace": namespace,
    "code in memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC),
    "a core file": core,
    "end process 1": lambda: os.kill(1, 0),
    "become a user": become,
}

if __name__ == "__main__":
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
        except OSError as error:
            print(f"{name}: {type(error).__name__}")
        else:
            print(f"{name}: done")
    print("that is all")
