"""What is compared: popad in both shapes, and its peers from Debian's packages, each in a machine of its own.

Limits on the number of sessions are raised where the server lets one, and nothing else is tuned but where the title
says so. What is measured with them is in works.py.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.bench import generator
from tests.bench.dovecot import words_of
from tests.support import certificates
from tests.support.machine import PACKAGES, Machine, tree
from tests.support.patience import wait_until

PORT = 110
START_SECONDS = 20.0
CANNED = "/usr/local/bin/canned"
UNIT = "peer.service"
DOVECOT = "dovecot-pop3d"
# popa3d's are compiled in: 500 slots in all, each taken for 10 s; its 50 a source do not matter, every session comes
# from an address of its own. Fewer than 500, as the clock that it reads has whole seconds.
POPA3D_SLOTS, POPA3D_SLOT_SECONDS = 480, 11.0


@dataclass(frozen=True)
class Server:
    """A row of the tables. `set_up` gets a machine with `packages` in it and leaves it serving on PORT."""

    name: str
    title: str
    store: str  # "mbox", "maildir", or "" where there is no mail
    set_up: Callable[[Machine], None]
    packages: Sequence[str] = ()  # of Debian, besides the machine's own; the first one's version is shown
    slots: int = 0  # sessions that may begin within POPA3D_SLOT_SECONDS; 0: no limit
    unit: str = UNIT
    works: Sequence[str] = ()  # those that it is for; none: all that do not name their servers


@dataclass
class Running:
    """A server in its machine."""

    server: Server
    machine: Machine
    version: str
    begun: deque[float] = field(default_factory=deque)  # when sessions began, where slots are limited

    def make_room(self, sessions: int) -> None:
        """Wait until the server's limits allow so many sessions more; they count as begun."""
        if not self.server.slots:
            return
        if sessions > self.server.slots:
            raise ValueError(f"{self.server.title} has {self.server.slots} slots, not {sessions}")
        while True:
            now = time.monotonic()
            while self.begun and self.begun[0] <= now - POPA3D_SLOT_SECONDS:
                self.begun.popleft()
            if len(self.begun) + sessions <= self.server.slots:
                break
            time.sleep(self.begun[0] + POPA3D_SLOT_SECONDS - now)  # the slots' own time: nothing else ends it
        self.begun.extend([time.monotonic()] * sessions)


def greeting(machine: Machine) -> bytes | None:
    """What a client hears first; None where nobody listens."""
    try:
        with machine.connect("127.0.0.1", PORT) as client:
            return client.recv(100)
    except OSError:
        return None


def start(server: Server, machine: Machine, package: Path) -> Running:
    """Set the server up in the booted machine and wait until it greets. Raises RuntimeError where it does not."""
    # What wakes up now and then would do so in a measurement.
    machine.run(["systemctl", "stop", "*.timer"])
    if server.name.startswith("popad"):
        machine.install(package)
    server.set_up(machine)
    try:
        wait_until(lambda: (greeting(machine) or b"").startswith(b"+OK"), START_SECONDS, pause=0.05)
    except AssertionError as late:
        said = machine.run(["systemctl", "status", server.unit], check=False).stdout
        raise RuntimeError(f"{server.title} does not serve: {said}") from late
    return Running(server, machine, version(server, machine))


def state(running: Running) -> str:
    """What systemd says of the server, to go with a failure."""
    shown = running.machine.show(running.server.unit, "ActiveState", "SubState", "Result", "ExecMainStatus")
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def version(server: Server, machine: Machine) -> str:
    """Of the package, as dpkg has it."""
    name = "popad" if server.name.startswith("popad") else next(iter(server.packages), "")
    return installed(machine, name) if name else ""


def installed(machine: Machine, package: str) -> str:
    """The version of a package, as dpkg has it."""
    return machine.run(["dpkg-query", "-W", "-f", "${Version}", package]).stdout


def tree_of(server: Server, release: str) -> Path:
    """The tree that the server's machine boots."""
    return tree(release, (*PACKAGES, *server.packages))


# -- how each is run --------------------------------------------------------------------------------------------------


POPAD_MAILDIR = "POPAD_MAILDROP=maildir:{home}/Maildir\n"
POPAD_CONF = "POPAD_MAX_SESSIONS=100000\nPOPAD_MAX_SESSIONS_PER_SOURCE=100000\nPOPAD_MIN_DELAY=1\n"


def popad_accept(machine: Machine) -> None:
    """popad.socket with its units as they are installed."""
    limits = "[Socket]\nMaxConnections=100000\nMaxConnectionsPerSource=100000\n"
    machine.write("/etc/systemd/system/popad.socket.d/limits.conf", limits)
    machine.run(["systemctl", "daemon-reload"])
    machine.run(["systemctl", "restart", "popad.socket"])


def popad_daemon(machine: Machine) -> None:
    """popad-standalone.service: `popad -D --foreground` in its unit as it is installed."""
    machine.write("/etc/popad/popad.conf", POPAD_CONF)
    machine.run(["systemctl", "start", "popad-standalone.service"])


def popad_maildir(machine: Machine) -> None:
    """popad -D on Maildir."""
    machine.write("/etc/popad/popad.conf", POPAD_CONF + POPAD_MAILDIR)
    homes = "[Service]\nProtectHome=no\nReadWritePaths=-/home\n"
    machine.write("/etc/systemd/system/popad-standalone.service.d/homes.conf", homes)
    machine.run(["systemctl", "daemon-reload"])
    machine.run(["systemctl", "start", "popad-standalone.service"])


def run_unit(machine: Machine, unit: str, *own: str) -> None:
    """Run this unit in place of what the package starts by itself."""
    if own:
        machine.run(["systemctl", "mask", "--now", *own])
    machine.write(f"/etc/systemd/system/{UNIT}", unit)
    machine.run(["systemctl", "daemon-reload"])
    machine.run(["systemctl", "start", UNIT])


def popa3d(machine: Machine) -> None:
    """`popa3d -D`."""
    run_unit(machine, "[Service]\nType=forking\nExecStart=/usr/sbin/popa3d -D\n", "popa3d.service")


def dovecot(machine: Machine) -> None:
    """Dovecot as it comes, on mbox."""
    words = words_of(installed(machine, DOVECOT))
    run_dovecot(machine, words.common + words.mbox + "ssl = no\n")


def dovecot_tuned(machine: Machine) -> None:
    """Dovecot on Maildir, with login processes that serve many clients."""
    words = words_of(installed(machine, DOVECOT))
    run_dovecot(machine, words.common + words.maildir + "ssl = no\n" + words.login(0))


def run_dovecot(machine: Machine, configuration: str) -> None:
    machine.write("/etc/dovecot/bench.conf", configuration)
    machine.write("/etc/pam.d/dovecot", "auth required pam_unix.so nodelay\naccount required pam_unix.so\n")
    unit = "[Service]\nExecStart=/usr/sbin/dovecot -F -c /etc/dovecot/bench.conf\n"
    run_unit(machine, unit, "dovecot.service", "dovecot.socket")


TLS_PLACE = "/etc/popad/tls"  # of the certificate and its key; Dovecot reads them there, too
POPAD_TLS = f"POPAD_TLS_CERTIFICATE={TLS_PLACE}/tls.pem\nPOPAD_TLS_KEY={TLS_PLACE}/tls.key\nPOPAD_PLAINTEXT=always\n"
TLS_SOCKET = "[Socket]\nListenStream=995\n"


def with_certificate(machine: Machine) -> None:
    """The same kind of certificate for every server, which signs itself."""
    machine.run(["mkdir", "-p", "-m", "700", TLS_PLACE])
    with tempfile.TemporaryDirectory(prefix="popad-bench-") as directory:
        pair = certificates.make(Path(directory))
        machine.copy(pair.chain, f"{TLS_PLACE}/tls.pem")
        machine.copy(pair.key, f"{TLS_PLACE}/tls.key")


def popad_daemon_tls(machine: Machine) -> None:
    """popad -D with a certificate, on 110 and 995."""
    with_certificate(machine)
    machine.write("/etc/systemd/system/popad-standalone.socket.d/tls.conf", TLS_SOCKET)
    machine.run(["systemctl", "daemon-reload"])
    machine.write("/etc/popad/popad.conf", POPAD_CONF + POPAD_TLS)
    machine.run(["systemctl", "start", "popad-standalone.service"])


def popad_accept_tls(machine: Machine) -> None:
    """popad.socket with a certificate, on 110 and 995."""
    with_certificate(machine)
    machine.write("/etc/popad/popad.conf", POPAD_TLS)
    machine.write("/etc/systemd/system/popad.socket.d/tls.conf", TLS_SOCKET)
    popad_accept(machine)


def dovecot_tls(machine: Machine, clients: int = 1) -> None:
    """Dovecot as it comes, on mbox, with TLS. `clients`: how many a login process serves, 0 for any number."""
    with_certificate(machine)
    words = words_of(installed(machine, DOVECOT))
    tls = words.certificate.format(chain=f"{TLS_PLACE}/tls.pem", key=f"{TLS_PLACE}/tls.key")
    run_dovecot(machine, words.common + words.mbox + tls + words.login(clients, "process_limit = 1000"))


def courier(machine: Machine) -> None:
    """Courier's POP3 server on Maildir."""
    machine.run(["sed", "-i", "-E", "s/^(MAXDAEMONS|MAXPERIP)=.*/\\1=400/", "/etc/courier/pop3d"])
    start = ["ExecStart=/usr/sbin/authdaemond start", "ExecStart=/usr/lib/courier/pop3d start"]
    unit = "\n".join(["[Service]", "Type=oneshot", "RemainAfterExit=yes", "RuntimeDirectory=courier", *start, ""])
    run_unit(machine, unit, "courier-pop.service", "courier-authdaemon.service")


def mailutils(machine: Machine) -> None:
    """GNU mailutils' pop3d on mbox."""
    machine.write("/etc/bench-pop3d.conf", "mode daemon;\nmax-children 200;\nserver 0.0.0.0:110 { };\n")
    unit = "[Service]\nExecStart=/usr/sbin/pop3d --config-file=/etc/bench-pop3d.conf --foreground\n"
    run_unit(machine, unit, "mailutils-pop3d.service")


def canned(machine: Machine) -> None:
    """A server that has nothing to do: what the generator itself reaches."""
    machine.copy(generator.built("canned"), CANNED)
    run_unit(machine, f"[Service]\nExecStart={CANNED} {PORT} 10 4096\n")


def answer_with(machine: Machine, messages: int, octets: int) -> None:
    """Make the floor answer as if its mailbox had so many messages of so many octets."""
    machine.write(f"/etc/systemd/system/{UNIT}", f"[Service]\nExecStart={CANNED} {PORT} {messages} {octets}\n")
    machine.run(["systemctl", "daemon-reload"])
    machine.run(["systemctl", "restart", UNIT])
    wait_until(lambda: greeting(machine) is not None, START_SECONDS)


SERVERS = {
    server.name: server
    for server in (
        Server("popad-daemon", "popad -D", "mbox", popad_daemon, unit="popad-standalone.service"),
        Server("popad-accept", "popad, Accept=yes", "mbox", popad_accept, unit="popad.socket"),
        Server("popa3d", "popa3d -D", "mbox", popa3d, ("popa3d",), POPA3D_SLOTS),
        Server("dovecot", "Dovecot, mbox", "mbox", dovecot, (DOVECOT,)),
        Server("dovecot-tuned", "Dovecot, Maildir, tuned", "maildir", dovecot_tuned, (DOVECOT,)),
        # The MTA is what its dependencies ask for: one without a daemon.
        Server("courier", "Courier, Maildir", "maildir", courier, ("courier-pop", "courier-authdaemon", "msmtp-mta")),
        Server("mailutils", "GNU mailutils, mbox", "mbox", mailutils, ("mailutils-pop3d",)),
        Server(
            "popad-maildir",
            "popad -D, Maildir",
            "maildir",
            popad_maildir,
            unit="popad-standalone.service",
            works=["maildir"],
        ),
        Server(
            "popad-daemon-tls",
            "popad -D, TLS",
            "mbox",
            popad_daemon_tls,
            unit="popad-standalone.service",
            works=["tls"],
        ),
        Server(
            "popad-accept-tls", "popad, Accept=yes, TLS", "mbox", popad_accept_tls, unit="popad.socket", works=["tls"]
        ),
        Server("dovecot-tls", "Dovecot, TLS", "mbox", dovecot_tls, (DOVECOT,), works=["tls"]),
        Server(
            "dovecot-tls-shared",
            "Dovecot, TLS, shared login processes",
            "mbox",
            partial(dovecot_tls, clients=0),
            (DOVECOT,),
            works=["tls"],
        ),
        Server("canned", "canned replies (floor)", "", canned),
    )
}
FLOOR = "canned"


def machine_facts() -> dict[str, str]:
    """What the figures depend on besides the servers."""
    model = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "name" in line]
    memory = Path("/proc/meminfo").read_text().split()[1]
    kernel = subprocess.run(["uname", "-r"], capture_output=True, text=True, check=True).stdout.strip()
    return {
        "processor": model[0] if model else "unknown",
        "cores": str(len(model)),
        "memory": f"{int(memory) / 1e6:.0f} GB",
        "kernel": kernel,
    }
