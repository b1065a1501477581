"""Clients that leave mail on the server, before and after a move from Dovecot: python3 -m tests.peers.migration

fetchmail, getmail and mpop poll a Maildir that Dovecot serves, then mail arrives and goes, and popad serves the same
Maildir at the same port with POPAD_UIDL=dovecot. Nothing may be fetched again, and nothing missed. The same with
another pop3_uidl_format. Needs root, Debian's dovecot-pop3d and the clients. The exit status is 1 where something is
wrong.
"""

from __future__ import annotations

import argparse
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from popad.auth import credentials
from tests.peers import scram
from tests.support.daemon import daemon
from tests.support.patience import PATIENCE
from tests.support.serving import NAME, OWNER, PASSWORD, Server

FORMATS = ("%08Xu%08Xv", "%v.%u", "%f")
SETTINGS = {"POPAD_GUESS_DELAY": "0", "POPAD_MAX_SESSIONS_PER_SOURCE": "1000", "POPAD_MAX_SESSIONS": "1000"}


class Client:
    """One program with a home of its own, and what it has fetched."""

    def __init__(self, place: Path, port: int) -> None:
        self.place = place
        self.box = place / "mail"
        for part in ("cur", "new", "tmp"):
            (self.box / part).mkdir(parents=True)
        self.port = port

    def write(self, name: str, text: str) -> str:
        path = self.place / name
        path.write_text(text)
        path.chmod(0o700 if text.startswith("#!") else 0o600)
        return str(path)

    def run(self, *words: str, good: tuple[int, ...] = (0,)) -> None:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.place), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(words, env=environment, cwd=self.place, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode not in good:
            raise RuntimeError(done.stdout + done.stderr)

    def fetched(self) -> Counter[str]:
        """How often it has fetched each message."""
        texts = (path.read_text() for path in self.box.rglob("*") if path.is_file())
        return Counter(match for text in texts for match in re.findall(r"^Subject: (message-\d+)$", text, re.M))


def fetchmail(client: Client) -> None:
    deliver = client.write("deliver", f'#!/bin/sh\ncat >"$(mktemp {client.box}/new/XXXXXXXX)"\n')
    poll = f"poll localhost protocol pop3 port {client.port} auth password uidl\n"
    how = f'  user "{NAME}" password "{PASSWORD}" sslproto "" keep mda "{deliver}"\n'
    rc = client.write("fetchmailrc", f"set invisible\n{poll}{how}")
    files = ["--pidfile", f"{client.place}/pid", "--idfile", f"{client.place}/ids"]
    client.run("fetchmail", "--fetchmailrc", rc, *files, "--nosyslog", good=(0, 1))


def getmail(client: Client) -> None:
    rc = client.write(
        "getmailrc",
        f"[retriever]\ntype = SimplePOP3Retriever\nserver = localhost\nport = {client.port}\nusername = {NAME}\n"
        f"password = {PASSWORD}\n[destination]\ntype = Maildir\npath = {client.box}/\nuser = nobody\n"
        "[options]\nread_all = false\ndelete = false\n",
    )
    for directory in (client.box, *client.box.iterdir()):
        shutil.chown(directory, "nobody")
    client.run("getmail", "--getmaildir", str(client.place), "--rcfile", rc)


def mpop(client: Client) -> None:
    rc = client.write(
        "mpoprc",
        f"account default\nhost localhost\nport {client.port}\nauth user\ntls off\nuser {NAME}\npassword {PASSWORD}\n"
        f"keep on\nuidls_file {client.place}/uidls\ndelivery maildir {client.box}\n",
    )
    client.run("mpop", "--file", rc)


PROGRAMS: dict[str, Callable[[Client], None]] = {"fetchmail": fetchmail, "getmail": getmail, "mpop": mpop}


def deliver(place: Path, numbers: range) -> None:
    owner = pwd.getpwnam(OWNER)
    for number in numbers:
        path = place / "new" / f"{1_600_000_000 + number}.M{number}P1.host"
        path.write_text(f"Subject: message-{number}\nMessage-ID: <{number}@example.org>\n\nbody {number}\n")
        os.chown(path, owner.pw_uid, owner.pw_gid)


def move(text: Path, template: str) -> int:
    """The whole of it with one format; how many messages were fetched again or missed."""
    place = text / "maildir"
    for part in ("new", "cur", "tmp"):
        (place / part).mkdir(parents=True)
    owner = pwd.getpwnam(OWNER)
    for path in (place, *place.iterdir()):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    deliver(place, range(20))
    server = Server(text / "server")
    server.credentials.write_text(credentials.line(NAME, PASSWORD.encode(), 4096) + "\n")
    location = scram.CONFIGURATION.replace("mbox:{place}/mail:INBOX={place}/inbox", f"maildir:{place}")
    location += f"protocol pop3 {{{{\n  pop3_uidl_format = {template}\n}}}}\n"
    with scram.dovecot(text / "dovecot", location) as port:
        clients = {name: Client(text / name, port) for name in PROGRAMS}
        for name, client in clients.items():
            PROGRAMS[name](client)
            if client.fetched().total() != 20:
                raise RuntimeError(f"{name} has fetched {client.fetched().total()} of 20 from Dovecot")
        deliver(place, range(20, 23))
        PROGRAMS["mpop"](clients["mpop"])  # one client sees some of them before the move
    deliver(place, range(23, 26))
    for path in place.rglob("*"):
        if "M3P1" in path.name or "M21P1" in path.name:
            path.unlink()
    there = {f"message-{number}" for number in range(26)} - {"message-21"}  # which nobody but mpop has seen
    settings = SETTINGS | {"POPAD_MAILDROP": f"maildir:{place}", "POPAD_UIDL": f"dovecot:{template}"}
    wrong = 0
    with daemon(server, settings, arguments=[f"--listen=127.0.0.1:{port}"], ports=[port]):
        for name, client in clients.items():
            for _ in range(2):
                PROGRAMS[name](client)
            fetched = client.fetched()
            again = sorted(subject for subject, often in fetched.items() if often > 1)
            missed = sorted(there - fetched.keys())
            wrong += len(again) + len(missed)
            print(
                f"{template:12} {name:10} fetched again: {len(again)}, missed: {len(missed)} {again} {missed}",
                flush=True,
            )
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.peers.migration",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    for program in ("dovecot", *PROGRAMS):
        if shutil.which(program) is None:
            parser.error(f"needs {program}")
    wrong = 0
    for template in FORMATS:
        with tempfile.TemporaryDirectory(prefix="popad-test-", dir="/var/tmp") as text:
            os.chmod(text, 0o755)
            Path(text, "server").mkdir()
            wrong += move(Path(text), template)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
