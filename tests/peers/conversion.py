"""Clients that leave mail on the server, before and after conversions: python3 -m tests.peers.conversion

fetchmail, getmail and mpop poll an mbox, `popad convert` makes a Maildir of it, mail arrives and goes, and they poll
again; then it is made an mbox again. Nothing may be fetched again, and nothing missed. Needs root and the clients. The
exit status is 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.peers.migration import FORMS, PROGRAMS, SETTINGS, Client, deliver
from tests.support.daemon import daemon, free_ports
from tests.support.here import CHECKOUT
from tests.support.serving import NAME, POPAD, Server

FIRST, MORE = 20, 3  # messages at the beginning, and before each later poll


class Host:
    """One user's mail on it, in one format after the other."""

    def __init__(self, place: Path) -> None:
        self.server = Server(place)
        self.maildir = self.server.mailbox.with_name("maildir")
        (self.port,) = free_ports(socket.AF_INET, "127.0.0.1", 1)
        self.clients = {name: Client(place / name, self.port) for name in PROGRAMS}
        self.delivered = 0
        self.is_maildir = False
        self.wrong = 0

    @property
    def maildrop(self) -> str:
        return f"maildir:{self.maildir}" if self.is_maildir else f"mbox:{self.server.mailbox}"

    def deliver(self, count: int) -> None:
        numbers = range(self.delivered, self.delivered + count)
        self.delivered += count
        if self.is_maildir:
            deliver(self.maildir, numbers, FORMS)
            return
        with self.server.mailbox.open("ab") as file:
            for number in numbers:
                text = f"Subject: message-{number}\nMessage-ID: <{number}@example.org>\n\nbody {number}\n"
                file.write(f"From a Thu Jan  1 10:00:00 2015\n{text}\n".encode())
        shutil.chown(self.server.mailbox, "nobody")

    def poll(self, when: str) -> None:
        """All clients, twice."""
        there = {f"message-{number}" for number in range(self.delivered)}
        settings = SETTINGS | {"POPAD_MAILDROP": self.maildrop}
        with daemon(self.server, settings, arguments=[f"--listen=127.0.0.1:{self.port}"], ports=[self.port]):
            for name, client in self.clients.items():
                for _ in range(2):
                    PROGRAMS[name](client)
                fetched = client.fetched()
                again = sorted(subject for subject, often in fetched.items() if often > 1)
                missed = sorted(there - fetched.keys())
                self.wrong += len(again) + len(missed)
                print(f"{when:12} {name:10} {fetched.total()} fetched, again: {again}, missed: {missed}", flush=True)

        (self.server.path / f"notify{self.port}").unlink()  # the next daemon's is of the same port

    def convert(self) -> None:
        target = f"mbox:{self.server.mailbox}" if self.is_maildir else f"maildir:{self.maildir}"
        subprocess.run(
            [*POPAD, "convert", "--user", NAME, "--rename", self.maildrop, target],
            env={"PATH": os.defpath, **self.server.settings},
            cwd=CHECKOUT,
            check=True,
        )
        self.is_maildir = not self.is_maildir


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.peers.conversion",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    for program in PROGRAMS:
        if shutil.which(program) is None:
            parser.error(f"needs {program}")
    with tempfile.TemporaryDirectory(prefix="popad-test-", dir="/var/tmp") as text:
        os.chmod(text, 0o755)
        host = Host(Path(text))
        host.deliver(FIRST)
        host.poll("mbox")
        host.deliver(MORE)
        host.convert()
        host.deliver(MORE)
        min(host.maildir.glob("cur/*")).unlink()  # which all have fetched
        host.poll("Maildir")
        host.deliver(MORE)
        host.convert()
        host.deliver(MORE)
        host.poll("mbox again")
    return int(bool(host.wrong))


if __name__ == "__main__":
    sys.exit(main())
