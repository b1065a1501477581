"""Clients that leave mail on the server, before and after a move to popad: python3 -m tests.peers.migration

fetchmail, getmail and mpop poll a Maildir that Dovecot or Courier serves, then mail arrives and goes, and popad serves
the same Maildir at the same port with POPAD_UIDL. Nothing may be fetched again, and nothing missed. The same with other
formats of Dovecot's ids, and with each version of Courier's list. Needs root and the clients; Dovecot and Courier
are not installed. The exit status is 1 where something is wrong.
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
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from popad.auth import credentials
from tests.support import courier, unpacked
from tests.support import dovecot as dovecots
from tests.support.daemon import daemon
from tests.support.patience import PATIENCE
from tests.support.serving import NAME, OWNER, PASSWORD, Server

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


def deliver(place: Path, numbers: range, forms: tuple[str, ...]) -> None:
    owner = pwd.getpwnam(OWNER)
    for number in numbers:
        text = f"Subject: message-{number}\nMessage-ID: <{number}@example.org>\n\nbody {number}\n"
        form = forms[number % len(forms)]
        path = place / "new" / form.format(number=number, time=1_600_000_000 + number, size=len(text))
        path.write_text(text)
        os.chown(path, owner.pw_uid, owner.pw_gid)


def remove(place: Path, numbers: Iterable[int]) -> None:
    subjects = [f"Subject: message-{number}" for number in numbers]
    for path in (*(place / "new").iterdir(), *(place / "cur").iterdir()):
        if path.read_text().splitlines()[0] in subjects:
            path.unlink()


# As several programs name files, and with what a list of names may stumble over.
FORMS = (
    "{time}.M{number}P1.host",
    "{time}.M{number}P1.host,S={size}",
    "{time}.{number} 7:9 x.host",
    "{time}.{number}'\"+\\072.host",
    "{time}.{number}\u00e4\u20ac.host",
    "msg {number}",
)
# What a list of versions before the present one may have: no number yet (the name is the id), no validity.
OLD_LIST = """/2 9 1234
1600000000.M0P1.host:2, 60 0:0
1600000001.M1P1.host,S=55:2, 60 7:1200
1600000009.9'"+\\072.host:2, 60 0:0
msg 5:2, 60 8:0
"""


@dataclass(frozen=True)
class Former:
    """Who served the Maildir before popad."""

    name: str
    uidl: str  # POPAD_UIDL
    serve: Callable[[Path], AbstractContextManager[int]]  # the home, which has Maildir/; its port
    prepare: Callable[[Path], None] = lambda _: None  # the Maildir before it
    leave: Callable[[Path], None] = lambda _: None  # the Maildir behind it
    forms: tuple[str, ...] = FORMS


def dovecot(template: str) -> Former:
    @contextmanager
    def serve(home: Path) -> Iterator[int]:
        location = dovecots.CONFIGURATION.replace("mbox:{place}/mail:INBOX={place}/inbox", f"maildir:{home}/Maildir")
        location += f"protocol pop3 {{{{\n  pop3_uidl_format = {template}\n}}}}\n"
        with dovecots.dovecot(home / "dovecot", location) as port:
            yield port

    # As its own ids, Dovecot sends names that no client takes for one: with blanks, or more than ASCII.
    forms = FORMS[:2] if template == "%f" else FORMS
    return Former(f"Dovecot {template}", f"dovecot:{template}", serve, forms=forms)


def with_old_list(place: Path) -> None:
    (place / courier.LIST).write_text(OLD_LIST)
    shutil.chown(place / courier.LIST, OWNER)


def as_second_version(place: Path) -> None:
    """The list as the version before wrote it: without the last number of each line."""
    path = place / courier.LIST
    head, *lines = path.read_text(errors="surrogateescape").splitlines()
    assert head.startswith("/3 ")
    old = [head.replace("/3", "/2", 1), *(line.rpartition(":")[0] for line in lines)]
    path.write_text("\n".join(old) + "\n", errors="surrogateescape")


SERVERS = (
    *(dovecot(template) for template in ("%08Xu%08Xv", "%v.%u", "%f")),
    Former("Courier", "courier", courier.courier),
    Former("Courier, old list", "courier", courier.courier, with_old_list, as_second_version),
)


def move(text: Path, before: Former, programs: Iterable[str] = PROGRAMS) -> int:
    """The whole of it with one server; how many messages were fetched again or missed."""
    place = text / "Maildir"
    for part in ("new", "cur", "tmp"):
        (place / part).mkdir(parents=True)
    owner = pwd.getpwnam(OWNER)
    for path in (place, *place.iterdir()):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    deliver(place, range(20), before.forms)
    before.prepare(place)
    (text / "server").mkdir()
    server = Server(text / "server")
    server.credentials.write_text(credentials.line(NAME, PASSWORD.encode(), 4096) + "\n")
    clients = {}
    with before.serve(text) as port:
        clients = {name: Client(text / name, port) for name in programs}
        for name, client in clients.items():
            PROGRAMS[name](client)
            if client.fetched().total() != 20:
                raise RuntimeError(f"{name} has fetched {client.fetched().total()} of 20 from {before.name}")
        deliver(place, range(20, 23), before.forms)
        PROGRAMS["mpop"](clients["mpop"])  # one client sees some of them before the move
    deliver(place, range(23, 26), before.forms)
    remove(place, (3, 21))
    before.leave(place)
    there = {f"message-{number}" for number in range(26)} - {"message-21"}  # which nobody but mpop has seen
    settings = SETTINGS | {"POPAD_MAILDROP": f"maildir:{place}", "POPAD_UIDL": before.uidl}
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
                f"{before.name:20} {name:10} fetched again: {len(again)}, missed: {len(missed)} {again} {missed}",
                flush=True,
            )
    return wrong


def require() -> None:
    """Raises unpacked.Unavailable where a server or a client cannot be had."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise unpacked.Unavailable(f"not installed: {' '.join(missing)}")
    dovecots.require()
    courier.require()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.peers.migration",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    try:
        require()
    except unpacked.Unavailable as reason:
        parser.error(str(reason))
    wrong = 0
    for before in SERVERS:
        with home() as place:
            wrong += move(place, before)
    return int(bool(wrong))


@contextmanager
def home() -> Iterator[Path]:
    """Of the user whose mail it is: where others can enter it."""
    with tempfile.TemporaryDirectory(prefix="popad-test-", dir="/var/tmp") as text:
        os.chmod(text, 0o755)
        yield Path(text)


if __name__ == "__main__":
    sys.exit(main())
