"""The Debian package on a machine: what installing starts, what an upgrade leaves alone, what a purge leaves behind."""

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.here import CHECKOUT
from tests.support.machine import Machine, needs, tree

RELEASES = ("bookworm", "trixie")

# What changes with every package, or with the machine's life.
ELSEWHERE: tuple[str, ...] = (
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "root",
    "var/log",
    "var/tmp",
    "var/lib/dpkg",
    "var/cache/apt",
)
ELSEWHERE += ("var/cache/debconf", "var/lib/systemd/timers", "var/lib/systemd/random-seed", "var/lib/private")
# The account stays, locked: a number that was given to somebody else would make old journal entries lie.
ACCOUNTS = {"etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"}


def package() -> Path:
    built = list((CHECKOUT / "dist").glob("popad_*_all.deb"))
    if len(built) != 1:
        pytest.skip("dist/ has no package: run packaging/build-deb")
    return built[0]


@pytest.fixture(params=RELEASES)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine that has never seen popad."""
    if reason := needs():
        pytest.skip(reason)
    with Machine(tree(request.param)) as booted:
        yield booted


@pytest.fixture(params=RELEASES, scope="module")
def installed(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine with the package, as it is after its installation."""
    if reason := needs():
        pytest.skip(reason)
    with Machine(tree(request.param)) as booted:
        booted.install(package())
        yield booted


def files(root: Path) -> dict[str, tuple[object, ...]]:
    """Every file of the machine, with its owner, its mode and what it holds."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, names, others in os.walk(root):
        place = os.path.relpath(directory, root)
        names[:] = [name for name in names if os.path.normpath(f"{place}/{name}") not in ELSEWHERE]
        for name in [*names, *others]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            held: object = ""
            if stat.S_ISLNK(status.st_mode):
                held = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                held = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            found[os.path.normpath(f"{place}/{name}")] = (status.st_mode, status.st_uid, status.st_gid, held)
    return found


def listening(machine: Machine) -> str:
    """The kernel's number of the socket that listens on port 110: another one after a restart of the unit."""
    shown = machine.run(["ss", "--listening", "--tcp", "--extended", "--numeric", "sport = :110"]).stdout
    return next((word for word in shown.split() if word.startswith("ino:")), "")


def test_same_tree_gives_same_bytes(tmp_path: Path) -> None:
    built = package()
    copy = tmp_path / "elsewhere"
    skip = shutil.ignore_patterns(".git", "dist", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(CHECKOUT, copy, symlinks=True, ignore=skip, copy_function=shutil.copy)  # with other dates
    subprocess.run([copy / "packaging/build-deb"], check=True, capture_output=True, umask=0o077)
    assert (copy / "dist" / built.name).read_bytes() == built.read_bytes()


def test_install_serves(installed: Machine) -> None:
    assert installed.run(["systemctl", "is-enabled", "popad.socket"]).stdout == "enabled\n"
    assert installed.run(["systemctl", "is-active", "popad.socket", "popad-auth.socket"]).stdout == "active\n" * 2
    assert installed.run(["systemctl", "--failed", "--no-legend"]).stdout == ""
    account = installed.run(["getent", "passwd", "popad"]).stdout.split(":")
    assert account[6].strip().endswith("/nologin")
    assert installed.run(["getent", "shadow", "popad"]).stdout.split(":")[1].startswith("!")
    for directory in ("/var/lib/popad", "/var/cache/popad"):
        assert installed.run(["stat", "-c", "%a %U %G", directory]).stdout == "1733 root root\n"
    with installed.connect() as client:
        assert client.recv(512).startswith(b"+OK")


def test_install_compiles_the_application(installed: Machine) -> None:
    """The sandbox cannot write byte-code: a session that had to compile would do so each time."""
    sources = set((installed.root / "usr/lib/popad").rglob("*.py"))
    compiled = {
        path.parent.parent / (path.name.partition(".")[0] + ".py")
        for path in (installed.root / "usr/lib/popad").rglob("__pycache__/*.pyc")
    }
    assert sources == compiled
    assert sources


def test_install_has_bash_and_zsh_complete(installed: Machine) -> None:
    """Where their own loaders look; what is offered: unit/test_completion.py."""
    load = "source /usr/share/bash-completion/completions/popad && complete -p popad"
    assert installed.run(["bash", "-c", load]).stdout == "complete -F _popad popad\n"
    assert installed.run(["head", "-1", "/usr/share/zsh/vendor-completions/_popad"]).stdout == "#compdef popad\n"


LOADED = """
import sys
sys.path.append("/usr/lib/popad")
from popad import precompiled
for name, module in ("popad.__main__", "popad.net.arrival"), ("popad.session.monitor", "popad.journal"):
    precompiled.load(name)
    print(module in sys.modules)
"""


def precompiled(machine: Machine) -> list[str]:
    """Whether two modules come from the files that precompiled.py reads."""
    return machine.run(["python3", "-BIS", "-c", LOADED]).stdout.split()


def test_what_sessions_load_is_precompiled(machine: Machine) -> None:
    """By the installation, and again for another Python; a module that somebody has changed counts at once."""
    machine.install(package())
    made = sorted((machine.root / "usr/lib/popad").glob("*.code*"))
    assert len(made) == 5
    assert {(oct(file.stat().st_mode), file.stat().st_uid) for file in made} == {("0o100644", 0)}
    assert precompiled(machine) == ["True", "True"]
    machine.run(["touch", "/usr/lib/popad/popad/net/arrival.py"])
    assert precompiled(machine) == ["False", "True"]
    machine.run(["dpkg-trigger", "--by-package=python3-minimal", "--no-await", "/usr/bin/python3"])
    machine.run(["dpkg", "--triggers-only", "popad"])
    assert precompiled(machine) == ["True", "True"]
    with machine.connect() as client:
        assert client.recv(512).startswith(b"+OK")


def test_units_are_verified(installed: Machine) -> None:
    names = (unit.name for unit in (CHECKOUT / "units").iterdir())
    units = [name.replace("@.", "@1.") for name in names if name != "popad-limits.service"]  # nft is not installed
    said = installed.run(["systemd-analyze", "verify", "--man=no", *units])
    assert said.stdout + said.stderr == ""


def test_journal_explains(installed: Machine) -> None:
    since = installed.cursor()
    with installed.connect() as client:
        assert client.recv(512).startswith(b"+OK")
        client.sendall(b"QUIT\r\n")
        installed.wait_entry({"POPAD_EVENT": "login-not-attempted"}, after=since)
    shown = installed.run(["journalctl", "--catalog", "--no-pager", "POPAD_EVENT=login-not-attempted"]).stdout
    assert "Subject: A POP3 client left without a login" in shown
    assert "127.0.0.1 has connected and gone" in " ".join(shown.replace("░░", "").split())


def test_upgrade_keeps_listening(machine: Machine) -> None:
    machine.install(package())
    machine.write("/etc/popad/popad.conf", "POPAD_TIMEOUT=900\n")
    machine.run(["systemctl", "start", "popad-auth.service"])
    socket, helper = listening(machine), machine.show("popad-auth.service", "MainPID")
    assert socket
    machine.run(["env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-confold", "-i", f"/root/{package().name}"])
    assert listening(machine) == socket
    assert machine.show("popad-auth.service", "MainPID") != helper
    assert machine.show("popad-auth.service", "ActiveState") == {"ActiveState": "active"}
    assert (machine.root / "etc/popad/popad.conf").read_text() == "POPAD_TIMEOUT=900\n"


def test_upgrade_keeps_a_disabled_socket_disabled(machine: Machine) -> None:
    machine.install(package())
    machine.run(["systemctl", "disable", "--now", "popad.socket"])
    machine.install(package())
    assert machine.run(["systemctl", "is-enabled", "popad.socket"], check=False).stdout == "disabled\n"
    assert listening(machine) == ""


def test_the_tls_helper_can_start_before_there_is_a_certificate(installed: Machine) -> None:
    """Its directory is there: without it systemd could not start it, and the journal would have no reason."""
    assert installed.run(["stat", "-c", "%a %U", "/etc/popad/tls"]).stdout == "700 root\n"
    since = installed.cursor()
    installed.run(["systemctl", "start", "popad-tls-helper.service"], check=False)
    installed.wait_entry({"SYSLOG_IDENTIFIER": "popad", "_COMM": "popad"}, after=since)
    installed.run(["systemctl", "stop", "popad-tls-helper.service", "popad-tls-helper.socket"])
    installed.run(["systemctl", "restart", "popad.socket"])


def test_remove_ends_all(machine: Machine) -> None:
    machine.install(package())
    with machine.connect() as client:
        assert client.recv(512).startswith(b"+OK")
        machine.run(["dpkg", "--remove", "popad"])
        assert client.recv(512) == b""
    assert machine.run(["systemctl", "list-units", "--no-legend", "popad*"]).stdout == ""
    assert (machine.root / "etc/popad/popad.conf").exists()


def test_purge_leaves_nothing(machine: Machine) -> None:
    before = files(machine.root)
    machine.install(package())
    machine.write("/etc/popad/credentials", "# mine\n", mode=0o600)
    since = machine.cursor()
    with machine.connect() as client:  # one session, which leaves what sessions leave
        client.sendall(b"USER nobody\r\nPASS wrong\r\n")
        machine.wait_entry({"POPAD_EVENT": "login-failed"}, after=since)
    for name in ("65534-0123.ids", "65534-0123.ids.new", "65534-0123.list"):  # ids that are remembered are no mail
        machine.write(f"/var/lib/popad/{name}", "ids\n", mode=0o600)
    machine.run(["dpkg", "--purge", "popad"])
    after = files(machine.root)
    # useradd's backups of the account files come with the account.
    left = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert left - ACCOUNTS - {f"{path}-" for path in ACCOUNTS} - {"etc/.pwd.lock"} == set()
    assert machine.run(["getent", "shadow", "popad"]).stdout.split(":")[1].startswith("!")


def test_purge_keeps_mail_of_an_interrupted_update(machine: Machine) -> None:
    machine.install(package())
    machine.write("/var/lib/popad/journal", "messages\n", mode=0o600)
    said = machine.run(["dpkg", "--purge", "popad"])
    assert "/var/lib/popad is kept" in said.stdout + said.stderr
    assert (machine.root / "var/lib/popad/journal").read_text() == "messages\n"
