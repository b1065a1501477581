"""The mail clients: how each is configured, run, and where it stores what it has fetched."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE

from .server import Server

HERE = Path(__file__).parent
# Who reads the mail: some clients refuse to run as root.
READER, GROUP = "nobody", "nogroup"


class Program:
    """A client with its own state and mail folder. Subclasses say how to run it."""

    name = ""
    # With deletion on, some clients also delete what they fetched in an earlier run.
    deletes_seen = False

    def __init__(self, server: Server, home: Path) -> None:
        self.server = server
        self.home = home
        self.folder = home / "mail"
        self.folder.mkdir()
        for directory in (home, self.folder):
            shutil.chown(directory, READER)
        self.known: set[Path] = set()

    @classmethod
    def missing(cls) -> str:
        """Why it cannot run here; empty if it can."""
        return "" if shutil.which(cls.name) else f"{cls.name} is not installed"

    def run(self, *words: str | Path, good: Sequence[int] = (0,)) -> str:
        """Run one command to its end; returns its output."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            words,
            env=environment,
            cwd=self.home,
            capture_output=True,
            timeout=PATIENCE,
            user=READER,
            group=GROUP,
            extra_groups=[],
        )
        output = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode in good, f"{self.name}: exit {done.returncode}\n{output}"
        return output

    def write(self, name: str, text: str) -> Path:
        """A configuration file, private as some clients insist on."""
        path = self.home / name
        path.write_text(text)
        path.chmod(0o600)
        shutil.chown(path, READER)
        return path

    def make_maildir(self) -> None:
        for part in ("cur", "new", "tmp"):
            (self.folder / part).mkdir(exist_ok=True)
            shutil.chown(self.folder / part, READER)

    def go(self, delete: bool) -> None:
        """Fetch what is new; leave it on the server, or delete it there."""
        raise NotImplementedError

    def fetch(self, delete: bool) -> list[bytes]:
        """The messages this run has stored, sorted, with LF line ends."""
        self.go(delete)
        # The folder may be a Maildir.
        stored = {path for path in self.folder.rglob("*") if path.is_file()} - self.known
        self.known |= stored
        return sorted(path.read_bytes().replace(b"\r\n", b"\n") for path in stored)


class Curl(Program):
    """curl keeps no state: the unique-ids are compared here, as a script around it would do."""

    name = "curl"

    def go(self, delete: bool) -> None:
        url = f"pop3://127.0.0.1:{self.server.port}/"
        user = f'user = "{self.server.user}:{self.server.password}"'
        login = self.write("curlrc", f"{user}\nsilent\nshow-error\nfail\nmax-time = 20\n")
        seen = self.home / "seen"
        known = seen.read_text().split() if seen.exists() else []
        lines = self.run("curl", "-K", login, "-X", "UIDL", url).splitlines()
        listed = [line.split() for line in lines if line]
        new = [(number, unique_id) for number, unique_id in listed if unique_id not in known]
        if new:
            fetch = [word for number, unique_id in new for word in (url + number, "-o", str(self.folder / unique_id))]
            self.run("curl", "-K", login, *fetch)
        if new and delete:
            # Each transfer of one command, over one connection; from the last on, whatever the connection does.
            words: list[str | Path] = []
            for number, _ in reversed(new):
                words += ["--next"] * bool(words) + ["-K", login, "-l", "-X", "DELE", url + number]
            self.run("curl", *words)
        seen.write_text("\n".join(unique_id for _, unique_id in listed))


class Fetchmail(Program):
    """Delivers to a command that writes its standard input to a file of its own."""

    name = "fetchmail"

    def go(self, delete: bool) -> None:
        deliver = self.write("deliver", f'#!/bin/sh\ncat >"$(mktemp {self.folder}/XXXXXXXX)"\n')
        deliver.chmod(0o700)
        rc = self.write(
            "fetchmailrc",
            f"set invisible\nset no bouncemail\n"
            f"poll 127.0.0.1 protocol pop3 port {self.server.port} auth password uidl\n"
            f'  user "{self.server.user}" password "{self.server.password}" sslproto "" no rewrite\n'
            f'  {"nokeep" if delete else "keep"} mda "{deliver}"\n',
        )
        # 1 is: no new mail.
        state: list[str | Path] = ["--idfile", self.home / "ids", "--pidfile", self.home / "pid"]
        self.run("fetchmail", "--verbose", "--nosyslog", "--fetchmailrc", rc, *state, good=(0, 1))


class Getmail(Program):
    name = "getmail"
    deletes_seen = True

    def go(self, delete: bool) -> None:
        self.make_maildir()
        rc = self.write(
            "getmailrc",
            "[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\n"
            f"port = {self.server.port}\nusername = {self.server.user}\npassword = {self.server.password}\n"
            f"timeout = 60\n"
            f"[destination]\ntype = Maildir\npath = {self.folder}/\n"
            f"[options]\nread_all = false\ndelete = {str(delete).lower()}\ndelivered_to = false\nreceived = false\n",
        )
        output = self.run("getmail", "--getmaildir", self.home, "--rcfile", rc, good=(0, 127))
        # getmail 6 sets its SIGCHLD handler after the fork; for a delivery that ends sooner it waits in vain.
        if re.search(r"waiting child pid \d+ timed out", output):
            pytest.skip("getmail has missed the end of its own delivery process")
        assert "error" not in output.lower(), output


class Mpop(Program):
    name = "mpop"
    deletes_seen = True

    def go(self, delete: bool) -> None:
        self.make_maildir()
        rc = self.write(
            "mpoprc",
            f"account default\nhost 127.0.0.1\nport {self.server.port}\nauth user\ntls off\n"
            f"user {self.server.user}\npassword {self.server.password}\nkeep {'off' if delete else 'on'}\n"
            f"delivery maildir {self.folder}\nuidls_file {self.home}/uidls\nreceived_header off\n",
        )
        self.run("mpop", "--file", rc)


class Poplib(Program):
    name = "poplib"

    @classmethod
    def missing(cls) -> str:
        return ""

    def go(self, delete: bool) -> None:
        self.run("/usr/bin/python3", *script("fetch_poplib.py", self, delete))


class NetPop3(Program):
    name = "Net::POP3"

    @classmethod
    def missing(cls) -> str:
        if not shutil.which("perl") or subprocess.run(["perl", "-MNet::POP3", "-e1"], capture_output=True).returncode:
            return "perl with Net::POP3 is not installed"
        return ""

    def go(self, delete: bool) -> None:
        self.run("perl", *script("fetch_net_pop3.pl", self, delete))


def script(name: str, program: Program, delete: bool) -> list[str | Path]:
    """A script on a library, where the reader can read it, and its arguments."""
    server = program.server
    wish = "delete" if delete else "keep"
    copy = program.write(name, (HERE / name).read_text())
    return [copy, str(server.port), server.user, server.password, program.folder, program.home / "seen", wish]


PROGRAMS = (Curl, Fetchmail, Getmail, Mpop, Poplib, NetPop3)
