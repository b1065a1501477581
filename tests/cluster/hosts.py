"""Machines with popad that serve one store, and one in front of them with HAProxy, as packaging/examples has it, and
the users in an LDAP directory. All have eth0 in one network.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cluster import ceph
from tests.support import certificates
from tests.support.here import CHECKOUT
from tests.support.machine import PACKAGES, Machine, tree
from tests.support.patience import wait_until

EXAMPLE = CHECKOUT / "packaging/examples/haproxy.cfg"
IN_THE_EXAMPLE = ("one", "two")  # the names of its servers
ADDRESSES = "192.0.2.{}"
FRONT, FIRST_HOST = 10, 11  # last octets of addresses; the example has those of two hosts
NAMES = (*IN_THE_EXAMPLE, "three", "four")
PASSWORD = "correct horse"
FIRST_UID = 20000
BASE = "dc=example,dc=org"
# What the hosts have together: a directory of this machine, or a file system with a server.
STORES = BIND, CEPHFS = "bind", "cephfs"
SOCKET, DAEMON = "popad.socket", "popad-standalone.service"
DIRECTORY = ("slapd", "nslcd", "libpam-ldapd", "libnss-ldapd")
RELEASE_PACKAGES = (*PACKAGES, "haproxy", *DIRECTORY)

SETTINGS = f"""\
POPAD_MAILDROP=maildir:{{home}}/Maildir
POPAD_PROXY_FROM={ADDRESSES.format(FRONT)}
POPAD_TLS_CERTIFICATE=/etc/popad/tls/tls.pem
POPAD_TLS_KEY=/etc/popad/tls/tls.key
"""
SANDBOX = """\
[Unit]
RequiresMountsFor=/srv
[Service]
ReadWritePaths=-/srv/mail -/srv/state -/srv/cache
"""
ALL_OF_ONE_ADDRESS = "[Socket]\nMaxConnectionsPerSource=80\n"
SLAPD = f"""\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix "{BASE}"
directory /var/lib/ldap/popad
index uid,uidNumber eq
access to attrs=userPassword by anonymous auth
access to * by * read
"""
NSLCD = f"uid nslcd\ngid nslcd\nuri ldap://{ADDRESSES.format(FRONT)}/\nbase {BASE}\n"


def package() -> Path:
    """The one that packaging/build-deb has made. Raises FileNotFoundError."""
    built = sorted((CHECKOUT / "dist").glob("popad_*_all.deb"))
    if len(built) != 1:
        raise FileNotFoundError("dist/ has no package: run packaging/build-deb")
    return built[0]


def pam() -> str:
    """The PAM service of a host whose users are all in LDAP, as popad(8) has it."""
    page = (CHECKOUT / "packaging/man/popad.8").read_text()
    return "".join(re.findall(r"^(?:auth|account) required pam_ldap\.so.*\n", page, re.M))


class Store:
    """What the hosts have together, as a directory of this machine: mail/NAME/Maildir; POPAD_STATE and POPAD_CACHE."""

    def __init__(self, path: Path, users: int) -> None:
        self.path = path
        self.users = {f"user{number}": FIRST_UID + number for number in range(users)}
        path.chmod(0o755)
        (path / "mail").mkdir()
        for place in ("state", "cache"):
            (path / place).mkdir()
            (path / place).chmod(0o1733)
        for name, uid in self.users.items():
            for part in ("", "Maildir", "Maildir/new", "Maildir/cur", "Maildir/tmp"):
                (path / "mail" / name / part).mkdir(mode=0o700)
                os.chown(path / "mail" / name / part, uid, uid)

    def empty(self) -> None:
        """Remove all mail."""
        for user in self.users:
            for part in ("new", "cur"):
                for file in (self.maildir(user) / part).iterdir():
                    file.unlink()

    def maildir(self, user: str) -> Path:
        return self.path / "mail" / user / "Maildir"


class Host:
    """One machine that serves."""

    def __init__(self, number: int, machine: Machine, shape: str) -> None:
        self.name = NAMES[number]
        self.address = ADDRESSES.format(FIRST_HOST + number)
        self.machine = machine
        self.shape = shape

    def set_up(self, package: Path, pair: certificates.Pair) -> None:
        """popad as its manual says for this store, with users of the directory."""
        machine = self.machine
        machine.run(["sh", "-c", f"hostname {self.name}; systemctl stop haproxy slapd"])
        machine.write("/etc/nslcd.conf", NSLCD, mode=0o600)
        names = "".join(f"{kind}: files ldap\n" for kind in ("passwd", "group", "shadow"))
        machine.write("/etc/nsswitch.conf", f"{names}hosts: files dns\n")
        machine.run(["systemctl", "restart", "nslcd"])
        for unit in ("popad@.service", DAEMON):
            machine.write(f"/etc/systemd/system/{unit}.d/store.conf", SANDBOX)
        for unit in (SOCKET, "popad-standalone.socket"):
            machine.copy(CHECKOUT / "packaging/examples/pop3s.conf", f"/etc/systemd/system/{unit}.d/pop3s.conf")
        machine.write(f"/etc/systemd/system/{SOCKET}.d/proxy.conf", ALL_OF_ONE_ADDRESS)
        for file in (pair.chain, pair.key):
            machine.write(f"/etc/popad/tls/{file.name}", file.read_bytes(), mode=0o600)
        machine.run(["chmod", "700", "/etc/popad/tls"])
        machine.install(package)
        machine.write("/etc/pam.d/popad", pam())
        with (machine.root / "etc/popad/popad.conf").open("a") as settings:
            settings.write(SETTINGS)
        if self.shape == DAEMON:
            machine.run(["systemctl", "disable", "--now", SOCKET])
            machine.run(["systemctl", "enable", "--now", DAEMON])
        else:
            machine.run(["systemctl", "restart", SOCKET])

    @contextlib.contextmanager
    def settings(self, more: str) -> Iterator[None]:
        """The daemon has these settings, too."""
        path = self.machine.root / "etc/popad/popad.conf"
        before = path.read_bytes()
        try:
            path.write_bytes(before + more.encode())
            self.machine.run(["systemctl", "reload", DAEMON])
            yield
        finally:
            path.write_bytes(before)
            self.machine.run(["systemctl", "reload", DAEMON])

    def kill_popad(self) -> None:
        """All processes of popad's at once."""
        group = self.machine.show("popad.slice", "ControlGroup")["ControlGroup"]
        self.machine.run(["sh", "-c", f"echo 1 >/sys/fs/cgroup{group}/cgroup.kill"])


class Cluster:
    """All of it; made by running()."""

    store: Store  # made when it is mounted

    def __init__(self, front: Machine, hosts: Sequence[Host], package: Path, pair: certificates.Pair) -> None:
        self.front = front
        self.hosts = list(hosts)
        self.package = package
        self.pair = pair
        self.address = ADDRESSES.format(FRONT)

    def wire(self) -> None:
        """One network of all of them."""
        enter = ["nsenter", f"--net=/proc/{self.front.pid}/ns/net", "ip"]
        subprocess.run([*enter, "link", "add", "eth0", "type", "bridge"], check=True)
        self.addressed(self.front, self.address)
        for host in self.hosts:
            self.front.wire(host.machine, host.name)
            subprocess.run([*enter, "link", "set", host.name, "master", "eth0", "up"], check=True)
            self.addressed(host.machine, host.address)

    @staticmethod
    def addressed(machine: Machine, address: str) -> None:
        """Give eth0 its address."""
        machine.run(["ip", "address", "add", f"{address}/24", "dev", "eth0"])
        machine.run(["ip", "link", "set", "eth0", "up"])

    def set_up_front(self) -> None:
        """The directory, and HAProxy with the example's configuration for these hosts."""
        front = self.front
        front.run(["sh", "-c", "hostname front; systemctl stop nslcd slapd; mkdir /var/lib/ldap/popad"])
        front.write("/etc/ldap/popad.conf", SLAPD)
        front.write("/root/users.ldif", "\n".join(self.entries()))
        front.run(["slapadd", "-q", "-f", "/etc/ldap/popad.conf", "-l", "/root/users.ldif"])
        front.run(
            ["systemd-run", "--unit=directory", "slapd", "-d", "0", "-h", "ldap:///", "-f", "/etc/ldap/popad.conf"]
        )
        front.write("/etc/haproxy/haproxy.cfg", self.configuration())

    def entries(self) -> Iterator[str]:
        """The directory, as LDIF."""
        yield f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: example\n"
        hashed = self.front.run(["slappasswd", "-s", PASSWORD]).stdout.strip()
        for name, uid in self.store.users.items():
            classes = ("account", "posixAccount", "shadowAccount")
            yield f"dn: uid={name},{BASE}"
            yield from (f"objectClass: {each}" for each in classes)
            yield f"uid: {name}\ncn: {name}\nuidNumber: {uid}\ngidNumber: {uid}\nhomeDirectory: /srv/mail/{name}"
            yield f"userPassword: {hashed}\n"

    def configuration(self) -> str:
        """The example, whose servers are these hosts."""
        lines = EXAMPLE.read_text().splitlines()
        kept = [line for line in lines if not line.split()[:2] or line.split()[0] != "server"]
        return "\n".join([*kept, *(f"    server {host.name} {host.address}" for host in self.hosts), ""])

    def log(self) -> list[str]:
        """What HAProxy has logged."""
        return [str(entry.get("MESSAGE", "")) for entry in self.front.journal("SYSLOG_IDENTIFIER=haproxy")]

    def served_by(self) -> set[str]:
        """The hosts that HAProxy gives sessions to."""
        rows = csv.DictReader(self.front.python(SHOW_STAT).splitlines())
        return {row["svname"] for row in rows if row["# pxname"] == "popad" and row["status"].startswith("UP")} - {
            "BACKEND"
        }


SHOW_STAT = """
import socket
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect("/run/haproxy/admin.sock")
    asking.sendall(b"show stat\\n")
    print(b"".join(iter(lambda: asking.recv(65536), b"")).decode())
"""


@contextlib.contextmanager
def running(package: Path, *, hosts: int, shape: str, users: int, store: str = BIND) -> Iterator[Cluster]:
    """All up: each host has answered HAProxy's check. `store`: one of STORES."""
    more = ceph.PACKAGES if store == CEPHFS else ()
    made = tree("bookworm", (*RELEASE_PACKAGES, *more))
    with contextlib.ExitStack() as opened:
        place = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="popad-cluster-")))
        (place / "store").mkdir()
        share = place / "store" if store == BIND else None
        pair = certificates.make(place)
        front = opened.enter_context(Machine(made))
        machines = [opened.enter_context(Machine(made, share=share)) for _ in range(hosts)]
        cluster = Cluster(front, [Host(number, each, shape) for number, each in enumerate(machines)], package, pair)
        cluster.wire()
        if store == CEPHFS:
            ceph.serve(front, cluster.address)
            for machine in (front, *machines):
                ceph.mount(machine, cluster.address)
        cluster.store = Store(share or front.root / "srv", users)
        cluster.set_up_front()
        at_once([functools.partial(host.set_up, package, pair) for host in cluster.hosts])
        front.run(["systemctl", "restart", "haproxy"])
        wait_until(lambda: cluster.served_by() == {host.name for host in cluster.hosts}, pause=0.2)
        yield cluster


def at_once(jobs: Sequence[Callable[[], None]]) -> None:
    """Do all of them beside one another. Raises what one of them raises."""
    with ThreadPoolExecutor(len(jobs)) as workers:
        for done in [workers.submit(job) for job in jobs]:
            done.result()
