"""The same faults for Debian's popa3d and Dovecot: what they lose, double and damage, and that the harness can see it.

Run as `python3 -m tests.faults.peers SERVER POINTS SEED` in a mount namespace of its own, as root; the answer is JSON.
Sessions go over a socket pair, as inetd would start the server (tests/support/namespace.py); Dovecot's pop3 runs in the
tree of a Debian, logged in already. Unlike popad's, their updates may be half done: only messages are counted.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.faults import judge
from tests.faults.crashes import deaths
from tests.faults.interposer import Call, Mode, build, orders, parse
from tests.faults.judge import Tally
from tests.faults.mailboxes import APPENDED, Case, cases
from tests.support import namespace, peers
from tests.support.here import CHECKOUT
from tests.support.machine import MachineError, tree

SERVERS = ("popa3d", "dovecot")
SIZES = (3, 7, 25)
PATTERNS = ("first", "middle", "last", "alternate", "all", "all but one")
ROOT = namespace.POOL / "root"  # of Dovecot
DOVECOT = """
protocols = pop3
mail_location = mbox:~/mail:INBOX=/var/mail/reader:INDEX=~/index
log_path = /dev/null
ssl = no
import_environment = TZ LD_PRELOAD FAULTS_ROOTS FAULTS_AT FAULTS_MODE FAULTS_ERRNO FAULTS_LOG
"""
# What Dovecot adds to messages, and a mailbox without them is the same mail.
ADDED = re.compile(rb"^(?:X-IMAPbase|X-IMAP|X-UID|X-Keywords|Status|X-Status|Content-Length):.*\r?\n", re.M)


class Server:
    """popa3d."""

    mailbox = namespace.MAILBOX
    login = f"USER {namespace.USER}\r\nPASS {namespace.PASSWORD}\r\n".encode()
    log = namespace.POOL / "log"
    library = namespace.POOL / "interpose.so"
    outside = Path("/")

    def __init__(self) -> None:
        namespace.furnish(str(peers.popa3d()), str(CHECKOUT))
        self.share()

    def share(self) -> None:
        """What the server opens for the interposer."""
        for path in (self.outside / str(self.log)[1:], self.outside / str(self.library)[1:]):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            path.chmod(0o666)
        shutil.copy(build(), path)

    def execute(self, environment: dict[str, str]) -> None:
        os.execve(namespace.POPA3D, [str(namespace.POPA3D)], environment)

    def put(self, content: bytes) -> None:
        namespace.put_mailbox(content, self.mailbox)

    def session(self, commands: bytes, mode: Mode = Mode.COUNT, nth: int = 0) -> tuple[bytes, list[Call]]:
        """A session with a fault; what the client received, and the calls that counted."""
        log = self.outside / str(self.log)[1:]
        log.write_bytes(b"")
        armed = {"LD_PRELOAD": str(self.library)} | orders("/var/mail", mode, nth, log=self.log)
        environment = {"PATH": "/usr/bin:/bin", "USER": namespace.USER, "HOME": "/home/reader", **armed}
        received = namespace.converse(namespace.starter(lambda: self.execute(environment)), [self.login + commands])
        return received, list(parse(log.read_bytes()))

    def tidy(self) -> None:
        """Remove the dotlock of the dead: it would be waited for, and is none of what is tried."""

    def append(self, message: bytes) -> bytes:
        """By another program."""
        with self.mailbox.open("ab") as file:
            end = self.mailbox.read_bytes()[-1:]
            message = message if end in (b"", b"\n") else b"\n\n" + message
            file.write(message)
        return message

    def content(self) -> bytes:
        return self.mailbox.read_bytes() if self.mailbox.exists() else b""


class Dovecot(Server):
    """Dovecot's pop3, for a user who has logged in."""

    mailbox = ROOT / "var/mail" / namespace.USER
    login = b""
    outside = ROOT

    def __init__(self) -> None:
        debian = tree("bookworm", ("dovecot-pop3d",))
        mount = ["mount", "-t", "tmpfs", "tmpfs", str(namespace.POOL)]
        subprocess.run(mount, check=True)
        for name in ("upper", "work", "root"):
            (namespace.POOL / name).mkdir()
        layers = f"lowerdir={debian},upperdir={namespace.POOL}/upper,workdir={namespace.POOL}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", str(ROOT)], check=True)
        subprocess.run(["mount", "-t", "proc", "proc", str(ROOT / "proc")], check=True)
        subprocess.run(["mount", "--rbind", "/dev", str(ROOT / "dev")], check=True)
        for name, kind in (("passwd", ":/home/reader:/bin/false"), ("group", "")):
            with (ROOT / "etc" / name).open("a") as file:
                file.write(f"{namespace.USER}:x:{namespace.UID}:{namespace.UID * (name == 'passwd') or ''}:{kind}\n")
        (ROOT / "etc/dovecot/faults.conf").write_text(DOVECOT)
        (ROOT / "var/mail").chmod(0o1777)
        (ROOT / "mnt").mkdir(exist_ok=True)
        self.share()

    def execute(self, environment: dict[str, str]) -> None:
        os.chroot(ROOT)
        os.chdir("/")
        os.setgroups([])
        os.setresgid(*[namespace.UID] * 3)
        os.setresuid(*[namespace.UID] * 3)
        os.execve("/usr/lib/dovecot/pop3", ["/usr/lib/dovecot/pop3", "-c", "/etc/dovecot/faults.conf"], environment)

    def put(self, content: bytes) -> None:
        super().put(content)
        home = ROOT / "home/reader"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        os.chown(home, namespace.UID, namespace.UID)

    def tidy(self) -> None:
        for left in self.mailbox.parent.iterdir():
            if left != self.mailbox:
                left.unlink()

    def content(self) -> bytes:
        return ADDED.sub(b"", super().content())


def commands(case: Case) -> bytes:
    return b"".join(b"DELE %d\r\n" % (number + 1) for number in sorted(case.gone)) + b"QUIT\r\n"


def check(server: Server, tally: Tally, where: str, case: Case, appended: Sequence[bytes], done: bool | None) -> None:
    """The next session opens the mailbox and leaves; then each message must be there once."""
    server.tidy()
    namespace.age(server.mailbox, namespace.MODIFIED_AGO // 2)
    server.session(b"STAT\r\nQUIT\r\n")
    tally.points += 1
    wanted = [ADDED.sub(b"", text.lstrip(b"\n")) for text in (*case.left, *appended)]
    lost, doubled, damaged = judge.compare(server.content(), wanted, [] if done else case.going)
    if lost or doubled or damaged:
        tally.fail(where, lost, doubled, damaged)


def try_case(server: Server, tally: Tally, case: Case, most: int, chance: random.Random) -> None:
    server.put(case.before)
    received, calls = server.session(commands(case))
    if not received or not received.splitlines()[-1].startswith(b"+OK"):
        raise RuntimeError(f"{case.name}: no session: {received!r} {namespace.STDERR.read_text()}")
    check(server, tally, f"{case.name}: no fault", case, [], done=True)
    for mode, nth in deaths(calls, most, chance)[:: max(len(calls) // most, 1)]:
        for count in (0, 1):
            server.put(case.before)
            server.session(commands(case), mode, nth)
            appended = [server.append(message) for message in APPENDED[:count]]
            where = f"{case.name}: {mode.name} at call {nth} of {len(calls)}, {count} appended"
            check(server, tally, where, case, appended, done=None)


def main() -> None:
    name, points, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    chance = random.Random(f"peers {seed}")
    tally = Tally()
    try:
        server = {"popa3d": Server, "dovecot": Dovecot}[name]()
    except (peers.Unavailable, MachineError, OSError) as reason:
        print(json.dumps({"skipped": str(reason)}))
        return
    every = list(cases(SIZES, PATTERNS, seed, odd=False))
    for number, case in enumerate(every):
        if tally.points >= points:
            break
        try_case(server, tally, case, max((points - tally.points) // (2 * (len(every) - number)), 4), chance)
    print(json.dumps(tally.as_json()))


if __name__ == "__main__":
    main()
