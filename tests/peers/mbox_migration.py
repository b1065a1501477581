"""Clients that leave mail on the server, before and after a move with mbox files: python3 -m tests.peers.mbox_migration

fetchmail, getmail and mpop poll a mailbox that Dovecot, popa3d or a server with qpopper's X-UIDL serves, then mail
arrives and goes, and popad serves the same mailbox, or a copy, at the same port: after `popad migrate` by the headers
or by asking the old server, or with POPAD_UIDL alone. Nothing may be fetched again, and nothing missed. Twins and exact
copies are among the messages, but for popa3d, which has one id for both. Needs root, Debian's dovecot-pop3d, the
clients, and popa3d, which is fetched and not installed. The exit status is 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from unittest import mock

from popad.auth import credentials
from tests.peers import migration
from tests.peers.migration import PROGRAMS, SETTINGS, Client
from tests.support import dovecot as dovecots
from tests.support import namespace, peers
from tests.support.daemon import daemon, free_ports
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE
from tests.support.serving import NAME, PASSWORD, PYTHON, Server

FIRST, LATER = 20, 26  # messages before the move, and all
TWINS, COPIES = {4: 5}, {6: 7}  # whose headers are those of another one; and the body, too
GONE, SEEN_BY_ONE = 3, 21


class Old:
    """An old server that serves the mailbox `path` at `port`."""

    def __init__(self, path: Path, port: int) -> None:
        self.path = path
        self.port = port


Serve = Callable[[Path], AbstractContextManager[Old]]


def message(number: int, twins: bool) -> str:
    """As an MTA delivers it. A twin has another body, a copy none of its own; they say in the body which they are."""
    same = {**TWINS, **COPIES}.get(number, number) if twins else number
    body = COPIES.get(number, number) if twins else number
    return (
        f"From a@example.org Thu Jan  1 00:00:01 2026\nSubject: about {same}\nDate: {same}\n"
        f"Message-ID: <{same}@example.org>\n\nSubject: message-{body}\n\n"
    )


def append(path: Path, numbers: Sequence[int], twins: bool) -> None:
    with path.open("a") as file:
        file.write("".join(message(number, twins) for number in numbers))


def remove(path: Path, numbers: Sequence[int]) -> None:
    """As a mail reader does: a new file in its place."""
    wanted = [f"Subject: message-{number}\n" for number in numbers]
    texts = path.read_text().split("From a@example.org ")[1:]
    kept = [text for text in texts if not any(each in text for each in wanted)]
    status = path.stat()
    fresh = path.with_name("fresh")
    fresh.write_text("".join("From a@example.org " + text for text in kept))
    fresh.chmod(0o600)
    os.chown(fresh, status.st_uid, status.st_gid)
    fresh.rename(path)


# -- old servers


def dovecot(location: str = "") -> Serve:
    @contextmanager
    def serve(place: Path) -> Iterator[Old]:
        with dovecots.dovecot(place / "dovecot", dovecots.CONFIGURATION + location) as port:
            yield Old(place / "dovecot/inbox", port)

    return serve


@contextmanager
def qpopper(place: Path) -> Iterator[Old]:
    """Played by popad with a state of its own: clients see the X-UIDL that are in the mailbox."""
    (place / "old").mkdir()
    server = Server(place / "old")
    server.deliver(b"")
    with daemon(server, SETTINGS | {"POPAD_UIDL": "qpopper"}) as running:
        yield Old(server.mailbox, running.ports[0])


@contextmanager
def popa3d(_: Path) -> Iterator[Old]:
    """In a mount namespace of its own, as of the tests of what popad does as popa3d does."""
    (port,) = free_ports(socket.AF_INET, "127.0.0.1")
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
        command = peers.in_namespace("listen", "popa3d", str(listening.fileno()))
        process = subprocess.Popen(command, pass_fds=[listening.fileno()], cwd=CHECKOUT, stdout=subprocess.PIPE)
    try:
        assert process.stdout and process.stdout.readline() == b"ready\n"
        path = Path(f"/proc/{process.pid}/root/var/mail/{namespace.USER}")
        path.touch(0o600)
        os.chown(path, namespace.UID, namespace.UID)
        yield Old(path, port)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def with_uidl(path: Path) -> None:
    """What qpopper writes into messages that are new to it: behind the From line, 20 characters of its own. It reads
    all of them anew each time.
    """
    begin = "From a@example.org "
    texts = path.read_text().split(begin)[1:]
    for place, text in enumerate(texts):
        line, _, rest = text.partition("\n")
        if not rest.startswith("X-UIDL: "):
            texts[place] = f"{line}\nX-UIDL: {random_id()}\n{rest}"
    with path.open("w") as file:
        file.write("".join(begin + text for text in texts))
    for known in (path.parents[1] / "state").glob("*.list"):
        known.unlink()


def random_id() -> str:
    """As qpopper makes them."""
    return "".join(secrets.choice("!\"#$%&'()*+,-/0123456789:;<=>?@ABCabc~") for _ in range(20))


# -- the move


class Move:
    """One way from one server to popad."""

    def __init__(
        self,
        name: str,
        serve: Serve,
        source: str = "",
        setting: str = "",
        user: str = NAME,
        in_place: bool = False,
        touch: Callable[[Path], None] = lambda _: None,
    ) -> None:
        """`source` is what --from says, "" for no `popad migrate`; `setting` POPAD_UIDL; `touch` is what the old server
        does with the mailbox before it lists it. `in_place`: popad has the same file, not a copy.
        """
        self.twins = serve is not popa3d
        self.in_place = in_place
        self.name = name
        self.serve = serve
        self.source = source
        self.setting = setting
        self.user = user
        self.touch = touch


MOVES = (
    Move("Dovecot, X-UID, migrate", dovecot(), "dovecot"),
    Move("Dovecot, X-UID, POPAD_UIDL", dovecot(), setting="dovecot"),
    Move(
        "UW ipop3d's form, migrate",
        dovecot("protocol pop3 {{\n  pop3_uidl_format = %08Xv%08Xu\n}}\n"),
        "dovecot:%08Xv%08Xu",
    ),
    Move("Dovecot, asked", dovecot(), "pop3"),
    Move("Dovecot, asked, same file", dovecot(), "pop3", in_place=True),
    Move("X-UIDL, migrate", qpopper, "qpopper", touch=with_uidl),
    Move("X-UIDL, POPAD_UIDL", qpopper, setting="qpopper", touch=with_uidl),
    Move("X-UIDL, asked", qpopper, "pop3", touch=with_uidl),
    Move("popa3d", popa3d, "popa3d", user=namespace.USER),
    Move("popa3d, asked", popa3d, "pop3", user=namespace.USER),
)


def move(text: Path, way: Move) -> int:
    """The whole of it; how many messages were fetched again or missed."""
    new = text / "new"
    new.mkdir()
    server = Server(new)
    server.credentials.write_text(credentials.line(way.user, PASSWORD.encode(), 4096) + "\n")
    server.mailbox = server.mailbox.with_name(way.user)
    report: dict[str, object] = {}
    with way.serve(text) as old, mock.patch.object(migration, "NAME", way.user):
        clients = {name: Client(text / name, old.port) for name in PROGRAMS}
        append(old.path, range(FIRST), way.twins)
        way.touch(old.path)
        for name, client in clients.items():
            PROGRAMS[name](client)
            if client.fetched().total() != FIRST:
                raise RuntimeError(f"{name} has fetched {client.fetched().total()} of {FIRST} from {way.name}")
        append(old.path, range(FIRST, 23), way.twins)
        way.touch(old.path)
        PROGRAMS["mpop"](clients["mpop"])  # one client sees some of them before the move
        remove(old.path, [GONE, SEEN_BY_ONE])
        if way.in_place:
            server.settings["POPAD_MAILDROP"] = f"mbox:{old.path}"
        if way.source == "pop3":  # it goes on to serve, and so mail comes
            report = migrated(server, way, old)
        append(old.path, range(23, LATER), way.twins)
        if not way.in_place:
            server.deliver(old.path.read_bytes())
        port = old.port
    if way.source and way.source != "pop3":
        report = migrated(server, way, None)
    copies = COPIES if way.twins else {}
    there = {f"message-{copies.get(number, number)}" for number in range(LATER) if number not in (GONE, SEEN_BY_ONE)}
    wrong = 0
    settings = SETTINGS | ({"POPAD_UIDL": way.setting} if way.setting else {})
    with (
        mock.patch.object(migration, "NAME", way.user),
        daemon(server, settings, arguments=[f"--listen=127.0.0.1:{port}"], ports=[port]),
    ):
        for name, client in clients.items():
            before = client.fetched()
            for _ in range(2):
                PROGRAMS[name](client)
            fetched = client.fetched()
            often = {f"message-{copied}": 2 for copied in copies.values()}
            again = sorted(subject for subject, count in fetched.items() if count > often.get(subject, 1))
            missed = sorted(there - fetched.keys())
            wrong += len(again) + len(missed)
            sums = {what: report[what] for what in ("stay", "change", "new", "missing") if what in report}
            print(
                f"{way.name:28} {name:10} fetched {before.total()} and {fetched.total() - before.total()},"
                f" again: {len(again)}, missed: {len(missed)} {again or ''} {missed or ''} {sums or ''}",
                flush=True,
            )
    return wrong


def migrated(server: Server, way: Move, old: Old | None) -> dict[str, object]:
    """`popad migrate`, with what it reports."""
    words = [PYTHON, "-m", "popad", "migrate", "--from", way.source, "--user", way.user, "--json"]
    if old:
        if not way.in_place:
            server.deliver(old.path.read_bytes())
        words += ["--server", f"127.0.0.1:{old.port}"]
    environment = {"PATH": os.defpath, **server.settings}
    done = subprocess.run(
        words, cwd=CHECKOUT, env=environment, input=f"*:{PASSWORD}\n", capture_output=True, text=True, timeout=PATIENCE
    )
    report: dict[str, object] = json.loads(done.stdout)
    if report["failed"]:
        raise RuntimeError(done.stdout + done.stderr)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.peers.mbox_migration",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", help="moves whose names begin so")
    given = parser.parse_args()
    for program in ("dovecot", *PROGRAMS):
        if shutil.which(program) is None:
            parser.error(f"needs {program}")
    wrong = 0
    for way in MOVES:
        if not way.name.startswith(given.only):
            continue
        with tempfile.TemporaryDirectory(prefix="popad-test-", dir="/var/tmp") as text:
            os.chmod(text, 0o755)
            wrong += move(Path(text), way)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
