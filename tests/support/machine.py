"""A Debian machine with a real systemd as PID 1, booted in namespaces of its own: for tests, demo and benchmarks.

    with Machine(tree("bookworm")) as machine:              # root only; < 1 s once the tree is in the cache
        machine.install(Path("dist/popad_0.1.0_all.deb"))
        machine.run(["systemctl", "is-active", "popad.socket"])     # .stdout; raises when the command fails
        machine.write("/etc/popad/popad.conf", "POPAD_TIMEOUT=60")
        client = machine.connect("127.0.0.1", 110)          # a socket in the machine's network, used from here
        machine.python("import pwd; print(pwd.getpwnam('popad'))")
        machine.journal("SYSLOG_IDENTIFIER=popad")          # list of entries, fields as journald has them
        machine.wait_entry({"POPAD_EVENT": "session-opened"})         # blocks until it is there
        machine.root / "var/mail"                           # the machine's files, as paths of this host

The tree is built by mmdebstrap from the mirrors that this host's apt is set to, once for a list of packages, into
$POPAD_TEST_CACHE (default /var/cache/popad-tests). A machine writes to an overlay in memory: the tree stays clean,
and nothing of the machine (process, mount, cgroup, network) outlives the `with` or the process that opened it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tests.support.here import CACHE, ROOT
from tests.support.patience import PATIENCE

# How this host's apt reaches its mirrors: proxies, and what it believes of their dates.
APT_SETTINGS = re.compile(r"^Acquire::(?:http|https|Retries|Check-Date|Check-Valid-Until)\b.*;$", re.M)
BOOT = Path(__file__).with_name("boot.sh")

# What popad depends on, and what the tests use inside. PAM's modules and login's tools are what a server has.
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "libpam-modules", "libpam-runtime", "passwd", "adduser"),
    *("python3", "python3-systemd", "python3-pampy", "python3-six", "python3-sdnotify", "init-system-helpers"),
    *("iproute2", "procps", "curl", "openssl"),
)
# With what starts popad where systemd does not, and the library of the TCP wrappers.
SERVER_PACKAGES = (*PACKAGES, "tcpd", "openbsd-inetd", "netbase")

# Seconds until a machine that has not come up, or an entry that has not been written, is a failure.
BOOT_SECONDS = PATIENCE

_CLONE_NEWNET = 0x40000000
_PREFIX = "popad-machine-"
_RECIPE = "1"  # raise it when the way a tree is built changes: part of the cache's key

_Made = TypeVar("_Made")


class MachineError(Exception):
    """The machine (not what is tested on it) failed: no tree, no boot, a command that failed."""


def needs() -> str:
    """Why no machine can be booted here: a reason to skip with, empty when one can."""
    if not ROOT:
        return "booting a machine needs root"
    missing = [tool for tool in ("mmdebstrap", "unshare", "nsenter", "setpriv") if shutil.which(tool) is None]
    return f"not installed: {' '.join(missing)}" if missing else ""


def tree(release: str, packages: Sequence[str] = PACKAGES) -> Path:
    """The directory of a Debian release (its code name) with these packages, built when the cache has none."""
    key = hashlib.sha256("\0".join([_RECIPE, release, *sorted(packages)]).encode()).hexdigest()[:12]
    trees = CACHE / "trees"
    trees.mkdir(parents=True, exist_ok=True)
    made = trees / f"{release}-{key}"
    with (trees / f"{release}-{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            _build(release, packages, made)
    return made


def _build(release: str, packages: Sequence[str], made: Path) -> None:
    unfinished = made.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = ["mmdebstrap", "--variant=minbase", "--mode=root", f"--include={','.join(packages)}"]
    # Without documentation (but for what dpkg itself wants) and without the cache of apt: half the size.
    command += ["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*"]
    result = subprocess.run(
        [*command, release, str(unfinished), "-"], input="\n".join(sources(release)), capture_output=True, text=True
    )
    if result.returncode != 0:
        raise MachineError(f"mmdebstrap {release} failed:\n{result.stderr}")
    # With a machine id there is no first boot: presets are applied by packages only, as on a host in use.
    (unfinished / "etc/machine-id").write_text(os.urandom(16).hex() + "\n")
    (unfinished / "etc/hostname").write_text("machine\n")
    (unfinished / "etc/hosts").write_text("127.0.0.1 localhost machine\n::1 localhost\n")
    (unfinished / "etc/resolv.conf").write_text("")
    # They would compete with what is measured, or wait for hardware.
    for unit in ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "getty@tty1.service"):
        (unfinished / "etc/systemd/system" / unit).symlink_to("/dev/null")
    unfinished.rename(made)


def sources(release: str) -> list[str]:
    """The lines of a sources.list for a release, at the mirrors that this host's apt has for its own."""
    host = _index_targets()
    if not host:
        subprocess.run(["apt-get", "update"], check=True, stdout=subprocess.DEVNULL)
        host = _index_targets()
    sources = []
    for site, codename, label in host:
        _, _, pocket = codename.partition("-")
        if label in ("Debian", "Debian-Security") and pocket in ("", "updates", "security"):
            sources.append(f"deb {site} {release}{'-' + pocket if pocket else ''} main")
    if not sources:
        raise MachineError("this host's apt has no mirror of Debian")
    return sources


def _index_targets() -> list[list[str]]:
    form = "$(REPO_URI)\t$(CODENAME)\t$(LABEL)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages", "Origin: Debian", "Component: main"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split("\t") for line in listed.stdout.splitlines()]


class Machine:
    """One boot of a tree; a context manager. `network`: "private" (loopback only) or "host" (to reach a mirror).
    `share`: a directory of this host that is the machine's /srv, for several machines with one store.
    """

    def __init__(self, tree: Path, *, network: str = "private", share: Path | None = None) -> None:
        self.tree = tree
        self.network = network
        self.share = share
        self.pid = 0  # of the machine's PID 1, in the host's eyes
        self._boot: subprocess.Popen[bytes] | None = None
        self._scratch: Path | None = None
        self._lock = -1
        self._name = ""

    def __enter__(self) -> Machine:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- life ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._scratch, self._lock = _scratch()
        self._name = self._scratch.name
        with contextlib.ExitStack() as opened:
            notify = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            notify.bind(str(self._scratch / "notify"))
            console = opened.enter_context((self._scratch / "console").open("w+b"))
            self._boot = subprocess.Popen(
                # pdeathsig: a test run that is killed takes its machine along.
                [
                    *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation=private", "sh", str(BOOT)),
                    *("outside", str(self.tree), str(self._scratch), self._name, self.network),
                    str(self.share or ""),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
            boot = opened.enter_context(_pidfd(self._boot.pid))
            deadline = time.monotonic() + BOOT_SECONDS
            while True:
                ready, _, _ = select.select([notify.fileno(), boot], [], [], max(0.0, deadline - time.monotonic()))
                if notify.fileno() in ready and b"READY=1" in notify.recv(4096).split(b"\n"):
                    break
                if boot in ready or not ready:
                    why = "the boot ended" if ready else f"not up after {BOOT_SECONDS:.0f} s"
                    raise MachineError(f"{self.tree.name}: {why}\n{(self._scratch / 'console').read_text()}")
        children = Path(f"/proc/{self._boot.pid}/task/{self._boot.pid}/children").read_text().split()
        self.pid = int(children[0])
        state = self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
        if state not in ("running", "degraded"):
            raise MachineError(f"{self.tree.name}: the machine is {state}")
        if self.network == "host":
            self.write("/etc/resolv.conf", Path("/etc/resolv.conf").read_text())

    def close(self) -> None:
        """End the machine: its PID 1 dies with the process that holds it, and the kernel kills the rest."""
        if self._boot is not None:
            with contextlib.ExitStack() as opened:
                init = opened.enter_context(_pidfd(self.pid)) if self.pid else None
                self._boot.kill()
                self._boot.wait()
                if init is not None:
                    select.select([init], [], [], BOOT_SECONDS)
            self._boot = None
        if self._scratch is not None:
            _remove(self._scratch)
            os.close(self._lock)
            self._scratch = None

    @property
    def root(self) -> Path:
        """The machine's root directory. Beware of absolute symbolic links: they would lead to the host's files."""
        return Path(f"/proc/{self.pid}/root")

    # -- commands and files ----------------------------------------------------------------------------------------

    def entered(self, command: Sequence[str]) -> list[str]:
        """The command line that runs `command` in the machine: for subprocess.Popen."""
        environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root", "TERM=dumb"]
        return ["nsenter", "--all", "--target", str(self.pid), "--", *environment, *command]

    def run(
        self, command: Sequence[str], *, stdin: str = "", check: bool = True, timeout: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine as root and return what it did; a failure is a MachineError with its output."""
        done = subprocess.run(self.entered(command), input=stdin, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise MachineError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def python(self, script: str, *arguments: str, check: bool = True, timeout: float = PATIENCE) -> str:
        """What a Python script printed that ran in the machine with the machine's Python."""
        return self.run(["/usr/bin/python3", "-I", "-", *arguments], stdin=script, check=check, timeout=timeout).stdout

    def write(self, path: str, text: str | bytes, *, mode: int = 0o644, owner: str = "") -> None:
        """Write a file of the machine (directories included); owner as for chown(1)."""
        if path.startswith(("/proc/", "/sys/")):
            # Opened from here, a kernel file is the host's (/proc/sys/net above all).
            raise MachineError(f"{path}: write it with run()")
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
        target.chmod(mode)
        if owner:
            self.run(["chown", owner, path])

    def copy(self, source: Path, path: str) -> None:
        """Copy a file or a directory of this host to a path of the machine."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)

    def install(self, package: Path) -> str:
        """Install a .deb whose dependencies the tree has; what dpkg said."""
        self.copy(package, f"/root/{package.name}")
        said = self.run(["env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "-i", f"/root/{package.name}"])
        return said.stdout + said.stderr

    # -- network ---------------------------------------------------------------------------------------------------

    def inside(self, make: Callable[[], _Made]) -> _Made:
        """Call `make` in a thread that is in the machine's network: a socket that it makes stays there."""
        made: list[_Made] = []
        failed: list[BaseException] = []

        def enter() -> None:
            try:
                self.enter_network()
                made.append(make())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]

    def enter_network(self) -> None:
        """Have this thread in the machine's network, for good. Raises OSError."""
        with open(f"/proc/{self.pid}/ns/net", "rb") as namespace:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def connect(self, address: str = "127.0.0.1", port: int = 110, *, source: str = "") -> socket.socket:
        """A TCP connection from inside the machine, with a time limit on every read; from address `source`."""
        origin = (source, 0) if source else None
        return self.inside(lambda: socket.create_connection((address, port), PATIENCE, origin))

    def wire(self, other: Machine, name: str) -> None:
        """A cable to another machine: its end there is eth0, its end here has this name. Neither has an address."""
        here = f"/proc/{self.pid}/ns/net"
        ends = ["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(other.pid)]
        subprocess.run(["nsenter", f"--net={here}", *ends], check=True)

    # -- systemd ---------------------------------------------------------------------------------------------------

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit as `systemctl show` has them."""
        listed = self.run(["systemctl", "show", unit, *(f"--property={name}" for name in properties)]).stdout
        return dict(line.split("=", 1) for line in listed.splitlines() if "=" in line)

    def cursor(self) -> str:
        """The end of the journal as it is now: `after=` of journal() and wait_entry()."""
        self.run(["journalctl", "--sync"])
        said = self.run(["journalctl", "-n1", "--show-cursor", "-q", "-o", "cat"]).stdout
        return said.rpartition("-- cursor: ")[2].strip()

    def journal(self, *matches: str, after: str = "") -> list[dict[str, Any]]:
        """The journal's entries that match (FIELD=value), all fields, oldest first."""
        self.run(["journalctl", "--sync"])
        # Matches are applied here: with them, journalctl of systemd 252 skips one entry too many after a cursor.
        since = [f"--after-cursor={after}"] if after else []
        listed = self.run(["journalctl", "-q", "-a", "-o", "json", "--no-pager", *since]).stdout
        wanted = [match.split("=", 1) for match in matches]
        entries: list[dict[str, Any]] = [json.loads(line) for line in listed.splitlines()]
        return [entry for entry in entries if all(entry.get(name) == value for name, value in wanted)]

    def wait_entry(self, fields: Mapping[str, str], *, after: str = "", timeout: float = PATIENCE) -> dict[str, Any]:
        """The first entry with these fields (a MESSAGE: a part of it), waiting for journald to have it."""
        for entry in self._follow(after, timeout):
            if all(
                value in str(entry.get(name, "")) if name == "MESSAGE" else entry.get(name) == value
                for name, value in fields.items()
            ):
                return entry
        raise MachineError(f"no entry in {timeout:.0f} s: {dict(fields)}")

    def _follow(self, after: str, timeout: float) -> Iterator[dict[str, Any]]:
        since = [f"--after-cursor={after}"] if after else []
        command = ["journalctl", "-q", "-a", "-f", "--no-tail", "-o", "json", *since]
        with subprocess.Popen(
            self.entered(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        ) as follower:
            assert follower.stdout is not None
            try:
                deadline = time.monotonic() + timeout
                read = b""
                while select.select([follower.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    block = os.read(follower.stdout.fileno(), 1 << 16)
                    if not block:
                        return
                    *lines, read = (read + block).split(b"\n")
                    for line in lines:
                        yield json.loads(line)
            finally:
                # nsenter waits for the journalctl that it forked: both are in the session made above.
                os.killpg(follower.pid, signal.SIGKILL)


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def _scratch() -> tuple[Path, int]:
    """A directory for one machine and the lock that says it is in use; removes those whose owner was killed."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "machines.lock").open("w") as creating:
        fcntl.flock(creating, fcntl.LOCK_EX)
        for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(left)
            os.close(lock)
        scratch = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    for directory in ("root", "upper", "cgroup", "sys"):
        (scratch / directory).mkdir()
    return scratch, lock


def _remove(scratch: Path) -> None:
    """Remove what a machine that has ended leaves: its empty cgroups and its scratch directory."""
    # In a mount namespace of its own again: the host may have no cgroup2 mounted anywhere.
    remove = (
        'mount -t cgroup2 cgroup2 "$1"; cd "$1"; if [ -d "$2" ]; then find "$2" -depth -type d -exec rmdir {} +; fi'
    )
    command = ["unshare", "--mount", "--propagation=private", "sh", "-ec", remove, "sh"]
    if (scratch / "cgroup").is_dir():
        subprocess.run([*command, str(scratch / "cgroup"), scratch.name], check=True)
    shutil.rmtree(scratch)
