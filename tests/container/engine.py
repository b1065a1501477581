"""podman without a registry, without systemd and without a trace: for the tests of the container image.

    with Engine(Path("/tmp/x")) as engine:
        engine.build(checkout, "popad")          # buildah, on a Debian tree under the name of the base image
        engine.run("podman", "run", "--detach", …, "popad")
        engine.inside(pid, lambda: socket.create_connection(("127.0.0.1", 1110)))

Containers run in namespaces that the engine holds: a process namespace that takes all of them along when it ends, and a
mount namespace with a fresh cgroup2. Images are in the engine's directory and go with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tests.support.here import ROOT
from tests.support.machine import APT_SETTINGS, tree
from tests.support.patience import PATIENCE

RELEASE = "bookworm"
BUILD_SECONDS = 600.0
COMMAND_SECONDS = PATIENCE
# Containers of root without systemd and cgroup controllers, each with a loopback of its own.
RUN_HERE = ("--cgroups=disabled", "--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000")
_CLONE_NEWNET = 0x40000000
# Holds the namespaces for as long as we do not close its standard input. What podman, buildah and crun write outside of
# their directories (/run, a cache), and any systemd of this host, is hidden from them: nothing is left there. What
# holds is the process 1 of all containers' monitors, and lets the kernel bury them.
_HOLD = """
mount -t cgroup2 cgroup2 /sys/fs/cgroup
resolver=$(readlink -f /etc/resolv.conf) servers=$(cat /etc/resolv.conf)
mount -t tmpfs tmpfs /run
[ -e "$resolver" ] || { mkdir -p "${resolver%/*}"; echo "$servers" >"$resolver"; }
mkdir -p /var/lib/containers
mount -t tmpfs tmpfs /var/lib/containers
exec /usr/bin/python3 -ISc '
import signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
sys.stdin.read()
'
"""

_Made = TypeVar("_Made")


def needs() -> str:
    """Why no container can be run here: a reason to skip with, empty when one can."""
    if not ROOT:
        return "running containers this way needs root"
    tools = ("mmdebstrap", "buildah", "podman", "unshare", "nsenter")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return f"not installed: {' '.join(missing)}" if missing else ""


class EngineError(Exception):
    """A command of the engine (not what is tested with it) failed."""


class Engine:
    """Images and containers below `place`; a context manager."""

    def __init__(self, place: Path) -> None:
        self.place = place
        # Copying whole images takes ten times as long, but works on an overlay, too.
        kind = subprocess.run(["stat", "-f", "-c", "%T", str(place)], capture_output=True, text=True, check=True)
        self.driver = "vfs" if kind.stdout.strip() == "overlayfs" else "overlay"
        self.pid = 0  # of the namespaces' first process, in the host's eyes
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> Engine:
        try:
            self._holder = subprocess.Popen(
                # pdeathsig: a test run that is killed takes its containers along.
                [
                    *(
                        "setpriv",
                        "--pdeathsig",
                        "KILL",
                        "unshare",
                        "--mount",
                        "--propagation=private",
                        "--pid",
                        "--net",
                    ),
                    *("--ipc", "--fork", "--kill-child=KILL", "--mount-proc", "sh", "-ec", _HOLD),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._holder.stdout is not None
            if self._holder.stdout.readline() != "ready\n":
                raise EngineError("no namespaces for containers")
            children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
            self.pid = int(children[0])
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process of every container, and remove the images."""
        if self._holder is not None:
            init = -1
            with contextlib.suppress(ProcessLookupError):  # has ended already
                init = os.pidfd_open(self.pid) if self.pid else -1
            self._holder.kill()  # the kernel kills process 1 of the namespace with it, and that takes all others along
            self._holder.wait()
            for pipe in (self._holder.stdin, self._holder.stdout):
                assert pipe is not None
                pipe.close()
            if init >= 0:
                select.select([init], [], [], COMMAND_SECONDS)
                os.close(init)
            self._holder = None
        shutil.rmtree(self.place)

    # -- commands --------------------------------------------------------------------------------------------------

    def storage(self, program: str) -> list[str]:
        """The start of a command line of podman or buildah: everything that it keeps is below `place`."""
        here = self.place
        options = ["--root", f"{here}/storage", "--runroot", f"{here}/run", "--storage-driver", self.driver]
        if program == "podman":
            options += ["--tmpdir", f"{here}/tmp", "--network-config-dir", f"{here}/networks"]
            options += ["--cgroup-manager=cgroupfs", "--events-backend=file"]
        return [program, *options]

    def run(
        self, *command: str, check: bool = True, stdin: str = "", timeout: float = COMMAND_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the engine's namespaces; a failure is an EngineError with its output."""
        program, *arguments = command
        if program in ("podman", "buildah"):
            command = (*self.storage(program), *arguments)
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--ipc", "--"]
        return _run([*enter, "env", f"TMPDIR={self.place}", *command], check, stdin, timeout)

    def build(self, checkout: Path, name: str) -> None:
        """Build the Containerfile of `checkout`. Its base image is a Debian tree under the name that it gives."""
        (base,) = re.findall(r"^FROM (\S+)$", (checkout / "Containerfile").read_text(), re.M)
        archive = self.place / "base.tar"
        apt = self.place / "etc/apt/apt.conf.d"
        apt.mkdir(parents=True)
        configured = _run(["apt-config", "dump", "Acquire"], True, "", COMMAND_SECONDS).stdout
        (apt / "99host").write_text("\n".join(APT_SETTINGS.findall(configured)) + "\n")
        made = tree(RELEASE, ("apt", "ca-certificates"))
        _run(["tar", "-C", str(made), "-cf", str(archive), "."], True, "", COMMAND_SECONDS)
        _run(
            ["tar", "-C", str(self.place), "-rf", str(archive), "./etc/apt/apt.conf.d/99host"],
            True,
            "",
            COMMAND_SECONDS,
        )
        self.run("podman", "import", "--quiet", str(archive), base)
        archive.unlink()
        build = ["build", "--isolation", "chroot", "--network", "host", "--pull-never", "--format", "docker"]
        self.run("buildah", *build, "--tag", name, str(checkout), timeout=BUILD_SECONDS)

    # -- network ---------------------------------------------------------------------------------------------------

    def inside(self, pid: int, make: Callable[[], _Made]) -> _Made:
        """Call `make` in a thread that is in the network of a container's process: a socket that it makes stays there.

        `pid` is the process's number as podman tells it.
        """
        made: list[_Made] = []
        failed: list[BaseException] = []

        def enter() -> None:
            try:
                with open(f"/proc/{self.pid}/root/proc/{pid}/ns/net", "rb") as namespace:
                    libc = ctypes.CDLL(None, use_errno=True)
                    if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                made.append(make())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]


def _run(command: list[str], check: bool, stdin: str, timeout: float) -> subprocess.CompletedProcess[str]:
    # The pipes are ours alone: a container's monitor that stays must not keep them open.
    with contextlib.ExitStack() as opened:
        done = opened.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        try:
            out, err = done.communicate(stdin, timeout)
        except BaseException:
            done.kill()
            raise
    if check and done.returncode != 0:
        raise EngineError(f"{' '.join(command)}: exit {done.returncode}\n{out}{err}")
    return subprocess.CompletedProcess(command, done.returncode, out, err)
