"""Real sessions for tests: popad started as inetd or systemd starts it, on a TCP connection over the loopback."""

import atexit
import contextlib
import functools
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from popad.auth import credentials, verifiers
from tests.support.here import CHECKOUT, ROOT
from tests.support.patience import PATIENCE


@functools.cache
def open_checkout() -> Path:
    """Where popad starts that is not root: the checkout or, where others cannot enter it (below /root), a copy."""
    if all(place.stat().st_mode & 0o005 == 0o005 for place in (CHECKOUT, *CHECKOUT.parents)):
        return CHECKOUT
    copy = Path(tempfile.mkdtemp(prefix="popad-test-"))
    atexit.register(shutil.rmtree, copy)
    shutil.copytree(CHECKOUT / "popad", copy / "popad")
    subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
    return copy


PYTHON = "/usr/bin/python3"  # with Debian's python3-pampy and -sdnotify
POPAD = (PYTHON, "-m", "popad")
# The same, with events on standard error on machines that have a journal or a syslog, too.
POPAD_WITHOUT_JOURNAL = (
    PYTHON,
    "-c",
    (
        "from popad import sinks; sinks.journald.path = sinks.syslog.path = '/nonexistent'; "
        "from popad.__main__ import main; main()"
    ),
)

PREAUTH_USER = "daemon"  # a user of every Debian, in place of popad's own
OWNER = "nobody" if ROOT else pwd.getpwuid(os.geteuid()).pw_name
NAME, PASSWORD = "alice", "secret"

# 33, 34 and 35 octets on the wire.
ONE = b"From a\nDate: 1\nSubject: one\n\nbody 1\n\n"
TWO = b"From b\nDate: 2\nSubject: two\n\n.body 2\n\n"
THREE = b"From c\nDate: 3\nSubject: three\n\nbody 3\n\n"
ALL = ONE + TWO + THREE

Entry = dict[str, str]


def read_logfmt(line: str) -> Entry:
    """The fields of a line: name=value, with the value in double quotes where a reader could mistake its end."""
    fields = {}
    while line:
        found = re.match(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^ "=\\]*))(?: |$)', line)
        if not found:
            return {}
        name, quoted, plain = found.groups()
        fields[name] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        line = line[found.end() :]
    return fields


class Client:
    """The client's end of a session: lines are bytes with their line ends."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        self.socket = connection
        self.incoming = connection.makefile("rb")

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def line(self) -> bytes:
        """The next line; empty at the end of the stream."""
        return self.incoming.readline()

    def ask(self, command: str) -> bytes:
        """Send a command; the first line of its answer, without the line end."""
        self.send(command.encode() + b"\r\n")
        line = self.line()
        assert line.endswith(b"\r\n"), line
        return line[:-2]

    def body(self) -> bytes:
        """The rest of a multi-line answer, as it came, up to the line with the dot."""
        lines = []
        while (line := self.line()) != b".\r\n":
            assert line, "the session ended in an answer"
            lines.append(line)
        return b"".join(lines)

    def rest(self) -> bytes:
        """Everything up to the end of the stream."""
        try:
            return self.incoming.read()
        except ConnectionResetError:
            return b""

    def log_in(self) -> bytes:
        """From the greeting to the answer to PASS, which is returned."""
        assert self.line().startswith(b"+OK")
        assert self.ask(f"USER {NAME}").startswith(b"+OK")
        return self.ask(f"PASS {PASSWORD}")

    def close(self) -> None:
        self.incoming.close()
        self.socket.close()


class Server:
    """A place with one virtual user's mailbox, and sessions that serve it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mailbox = path / "mail" / NAME
        self.state = path / "state"
        self.cache = path / "cache"
        self.stderr = path / "stderr"
        self.credentials = path / "credentials"
        self.mailbox.parent.mkdir()
        for shared in (self.state, self.cache):
            shared.mkdir()
            shared.chmod(0o1733)
        self.credentials.touch(0o600)
        self.credentials.write_text(credentials.line(NAME, PASSWORD.encode(), verifiers.LEAST_ITERATIONS) + "\n")
        owner = pwd.getpwnam(OWNER)
        os.chown(self.mailbox.parent, owner.pw_uid, owner.pw_gid)
        self.settings = {
            "POPAD_AUTH": "file",
            "POPAD_CREDENTIALS": str(self.credentials),
            "POPAD_MAILDROP": f"mbox:{path}/mail/{{user}}",
            "POPAD_STATE": str(self.state),
            "POPAD_CACHE": str(self.cache),
            "POPAD_USER": PREAUTH_USER,
            "POPAD_VIRTUAL_USER": OWNER,
        }

    def deliver(self, content: bytes) -> None:
        """Make the mailbox, owned by who it is served as."""
        self.mailbox.write_bytes(content)
        self.mailbox.chmod(0o600)
        owner = pwd.getpwnam(OWNER)
        os.chown(self.mailbox, owner.pw_uid, owner.pw_gid)

    @contextmanager
    def session(
        self,
        settings: Mapping[str, str] = {},
        program: Sequence[str] = POPAD_WITHOUT_JOURNAL,
        environment: Mapping[str, str] = {},
        receive_buffer: int = 0,
        log: int | None = None,
    ) -> "Iterator[tuple[Client, subprocess.Popen[bytes]]]":
        """A session and its process; at the end the connection is closed and the process has ended.

        `log` is its standard error in place of a file; -1 is the connection, as inetd has it.
        A copy of the socket stays open as long, as systemd keeps one: only a shutdown(2) ends the connection.
        """
        ours, theirs = connection(receive_buffer)
        with open(self.stderr, "ab") as stderr:
            process = subprocess.Popen(
                program,
                cwd=open_checkout(),
                env={"PATH": os.defpath, **self.settings, **settings, **environment},
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=stderr if log is None else theirs.fileno() if log < 0 else log,
            )
        client = Client(ours)
        try:
            yield client, process
        finally:
            client.close()
            theirs.close()
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
                process.wait()

    @property
    def log(self) -> list[Entry]:
        """The events so far, as logfmt has them; what is no event (a traceback) fails."""
        entries = []
        for line in self.stderr.read_text().splitlines():
            fields = read_logfmt(line)
            assert "event" in fields, line
            entries.append(fields)
        return entries

    @property
    def events(self) -> list[str]:
        return [entry["event"] for entry in self.log]


def connection(receive_buffer: int = 0) -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection over the loopback: the client's and the server's.

    `receive_buffer`: octets that the client's kernel takes ahead of it, if not as many as usual.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.socket()
        if receive_buffer:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        ours.connect(listening.getsockname())
        while True:
            theirs, client = listening.accept()
            if client == ours.getsockname():
                return ours, theirs
            theirs.close()  # somebody looks for a server that had this port before


def reset(client: socket.socket) -> None:
    """Make the kernel send RST: a client that has crashed, a middlebox that has lost its state."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()


def handed_over(inherited: socket.socket, *program: str) -> list[str]:
    """The command that runs `program` with the socket as systemd hands it over: descriptor 3, LISTEN_FDS=1."""
    shell = f'export LISTEN_FDS=1 LISTEN_PID=$$; exec 3<&{inherited.fileno()}; exec "$@"'
    return ["bash", "-c", shell, "bash", *program]


def ids(name: str) -> tuple[int, int]:
    """uid and gid."""
    entry = pwd.getpwnam(name)
    return entry.pw_uid, entry.pw_gid


def four(number: int) -> str:
    """Real, effective, saved and file system id as /proc shows them."""
    return " ".join([str(number)] * 4)


def status_of(pid: int) -> dict[str, str]:
    """/proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}


def links_of(pid: int) -> set[str]:
    """What the descriptors of a process are that stay open while one looks; nothing where one may not (yet) look."""
    found = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.add(os.readlink(link))
    return found


def sockets_of(pid: int) -> set[str]:
    """The sockets among them, by their numbers in the kernel."""
    return {link for link in links_of(pid) if link.startswith("socket:")}


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
