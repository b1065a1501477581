"""`popad check` against broken configurations in the machine: what it says, what a client sees, and the journal.

The table is in the output (pytest -rP).
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.machine import Machine, needs, tree
from tests.support.patience import wait_until
from tests.system.conftest import PASSWORD, SETTINGS, Server

VIRTUAL = "POPAD_AUTH=file\nPOPAD_VIRTUAL_USER=mail\n"
GREETED, REFUSED, CLOSED = b"+OK popad ready", b"-ERR [SYS/PERM] the server is not set up to serve this", b""
UNHEARD = None  # nobody takes the connection
BRIEF = 2.0  # seconds for what does not come


@dataclass(frozen=True)
class Broken:
    """One configuration: what is done to a machine without a fault, and what comes of it."""

    name: str
    says: str | Sequence[str]
    settings: str = ""
    commands: Sequence[str] = ()
    drop_ins: dict[str, str] = field(default_factory=dict)
    credentials: str | None = None
    mode: int = 0o600
    greeting: bytes | None = GREETED
    more: int = 0  # problems that follow from it
    undo: Sequence[str] = ()
    mend: Sequence[str] = ()  # what it says is to be done: then there is no problem
    reload: bool = True
    status: int = 1


def verifier(name: str) -> str:
    """A line of the file that is right."""
    zeros = "A" * 43 + "="
    return f"{name} SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==${zeros}:{zeros}\n"


TAKEN_OUT = (
    "rm /etc/systemd/system/popad@.service.d/test.conf",
    "systemctl daemon-reload",
    "systemctl restart popad",
)
CONFIGURATIONS = [
    Broken("a word for a number", "POPAD_TIMEOUT: must be a whole number", "POPAD_TIMEOUT=soon\n", greeting=REFUSED),
    Broken("a number out of bounds", "POPAD_TIMEOUT: must be between 1 and", "POPAD_TIMEOUT=0\n", greeting=REFUSED),
    Broken("a name misspelled", "no such setting (POPAD_TIMEOUT?)", "POPAD_TIMEOT=600\n", greeting=REFUSED),
    Broken(
        "three at once",
        ["POPAD_TIMEOUT: must", "POPAD_LOCK_TIMEOUT: must", "POPAD_XYZ: no such setting"],
        "POPAD_TIMEOUT=soon\nPOPAD_LOCK_TIMEOUT=x\nPOPAD_XYZ=1\n",
        greeting=REFUSED,
        more=2,
    ),
    Broken("a name in lower case", "'popad_timeout' is no setting of popad", "popad_timeout=600\n"),
    Broken("a name without POPAD_", "'MAILDROP' is no setting of popad", "MAILDROP=mbox:/srv/{user}\n"),
    Broken("no assignment", "'turn it up' is no assignment", "turn it up\n"),
    Broken("a name twice", "POPAD_TIMEOUT stands in line 1 as well", "POPAD_TIMEOUT=600\nPOPAD_TIMEOUT=700\n"),
    Broken("a line continued", "a backslash cannot be used", "POPAD_TIMEOUT=600 \\\n", greeting=REFUSED),
    Broken("a quote within", "a quote that does not stand around", "POPAD_PAM_SERVICE=po'pa'd\n"),
    Broken("no name", "no name before the equals sign", "=600\n"),
    Broken("no store", "POPAD_MAILDROP: must start with", "POPAD_MAILDROP=/var/mail/{user}\n", greeting=REFUSED),
    Broken(
        "a relative path", "POPAD_MAILDROP: must name an abs", "POPAD_MAILDROP=mbox:mail/{user}\n", greeting=REFUSED
    ),
    Broken(
        "an unknown word in a path", "POPAD_MAILDROP: knows", "POPAD_MAILDROP=mbox:/var/mail/{usr}\n", greeting=REFUSED
    ),
    Broken(
        "mail that is nowhere",
        ["[Errno 2] No such file or directory: '/srv/none'", "may not write to /srv/none"],
        "POPAD_MAILDROP=mbox:/srv/none/{user}\n",
        more=1,
    ),
    Broken(
        "a spool for everybody",
        "everybody may rename mailboxes",
        commands=["chmod 777 /var/mail"],
        undo=["chmod 2775 /var/mail"],
    ),
    Broken(
        "a spool with the sticky bit",
        "everybody may make files",
        commands=["chmod 1777 /var/mail"],
        undo=["chmod 2775 /var/mail"],
    ),
    Broken("no such preauth user", "POPAD_USER: there is no user", "POPAD_USER=popd\n", greeting=REFUSED),
    Broken("root as the preauth user", "POPAD_USER: root is root", "POPAD_USER=root\n", greeting=REFUSED),
    Broken("no such virtual user", "POPAD_VIRTUAL_USER: there is no user", "POPAD_VIRTUAL_USER=vmial\n"),
    Broken("one user for both", "must not own mail", "POPAD_VIRTUAL_USER=popad\n"),
    Broken("a way of authentication", "POPAD_AUTH: must be pam or file", "POPAD_AUTH=ldap\n", greeting=REFUSED),
    Broken("a PAM service that is not there", "POPAD_PAM_SERVICE: no file", "POPAD_PAM_SERVICE=popadd\n"),
    Broken("no credentials file", "POPAD_CREDENTIALS: [Errno 2]", VIRTUAL),
    Broken("others may read the verifiers", "mode 0644, others may", VIRTUAL, credentials=verifier("jane"), mode=0o644),
    Broken("a name twice in the file", "stands here twice", VIRTUAL, credentials=verifier("jane") * 2),
    Broken("a password for a verifier", "expected NAME SCRAM", VIRTUAL, credentials="jane secret\n"),
    Broken(
        "a name that nobody can type",
        "nobody can log in as 'Jane'",
        f"{VIRTUAL}POPAD_LOWER_CASE=yes\n",
        credentials=verifier("Jane"),
    ),
    Broken(
        "verifiers that the helper does not see",
        "popad-auth.service does not see /root/credentials",
        f"{VIRTUAL}POPAD_CREDENTIALS=/root/credentials\n",
        commands=["touch /root/credentials", "chmod 600 /root/credentials"],
        undo=["rm /root/credentials"],
    ),
    Broken(
        "no state directory",
        "POPAD_STATE: [Errno 2]",
        commands=["mv /var/lib/popad /var/lib/popad.away"],
        undo=["mv /var/lib/popad.away /var/lib/popad"],
    ),
    Broken(
        "its mode",
        "/var/lib/popad has mode 0755",
        commands=["chmod 755 /var/lib/popad"],
        undo=["chmod 1733 /var/lib/popad"],
        mend=["chmod 1733 /var/lib/popad"],
    ),
    Broken("a cache outside of the sandbox", "may not write to /srv", "POPAD_CACHE=/srv\n", more=1),
    Broken("no helper's socket", "POPAD_AUTH_SOCKET: [Errno 2]", "POPAD_AUTH_SOCKET=/run/popad/none.sock\n"),
    Broken(
        "a helper's socket out of sight",
        "does not see /run/other.sock (TemporaryFileSystem=/run:ro)",
        "POPAD_AUTH_SOCKET=/run/other.sock\n",
        more=1,
    ),
    Broken(
        "mail outside of the sandbox",
        "popad@.service may not write to /srv: [Service] ReadWritePaths=-/srv",
        "POPAD_MAILDROP=mbox:/srv/{user}\n",
    ),
    Broken(
        "mail in homes, which are hidden",
        "popad@.service does not see /home (ProtectHome=tmpfs): [Service] ProtectHome=no",
        "POPAD_MAILDROP=mbox:{home}/mailbox\n",
    ),
    Broken(
        "a directory that the sandbox needs",
        "there is no /srv/none, and so it does not start (226/NAMESPACE)",
        drop_ins={"popad@.service": "[Service]\nReadWritePaths=/srv/none\n"},
        greeting=CLOSED,
    ),
    Broken(
        "a setting that popad.conf overrules",
        "popad@.service: Environment=POPAD_TIMEOUT=300 does not count",
        "POPAD_TIMEOUT=700\n",
        drop_ins={"popad@.service": "[Service]\nEnvironment=POPAD_TIMEOUT=300\n"},
        more=0,
    ),
    Broken(
        "a setting for one of two",
        "settings for both belong into popad.conf",
        drop_ins={"popad@.service": "[Service]\nEnvironment=POPAD_LOWER_CASE=yes\n"},
    ),
    Broken(
        "a wrong setting in a drop-in",
        ["popad-auth.service: Environment=: POPAD_TYPO: no such setting", "is not in popad@.service"],
        drop_ins={"popad-auth.service": "[Service]\nEnvironment=POPAD_TYPO=1\n"},
        more=1,
    ),
    Broken(
        "a port without a restart",
        "popad.socket: is to listen on 127.0.0.1:1110 and does not: systemctl restart popad.socket",
        drop_ins={"popad.socket": "[Socket]\nListenStream=127.0.0.1:1110\n"},
    ),
    Broken(
        "a drop-in without daemon-reload",
        "popad.socket: its file or a drop-in has changed since systemd read it: systemctl daemon-reload",
        drop_ins={"popad.socket": "[Socket]\nMaxConnections=70\n"},
        reload=False,
    ),
    Broken(
        "more sessions than memory",
        "MaxConnections=",
        drop_ins={"popad.socket": "[Socket]\nMaxConnections=100000\n"},
        more=1,
    ),
    Broken("more messages than memory", "POPAD_MAX_MESSAGES: 2097152", "POPAD_MAX_MESSAGES=2097152\n"),
    Broken(
        "a drop-in that lets go of a directive",
        "popad@.service: /etc/systemd/system/popad@.service.d/test.conf has MemoryDenyWriteExecute=no in place of",
        drop_ins={"popad@.service": "[Service]\nMemoryDenyWriteExecute=no\n"},
        mend=[*TAKEN_OUT],
    ),
    Broken(
        "a drop-in that lets calls in",
        "popad@.service: /etc/systemd/system/popad@.service.d/test.conf has SystemCallFilter= in place of",
        drop_ins={"popad@.service": "[Service]\nSystemCallFilter=\n"},
        mend=[*TAKEN_OUT],
    ),
    Broken(
        "homes for mail that is not there",
        "/etc/systemd/system/popad@.service.d/test.conf has ProtectHome=no in place of ProtectHome=tmpfs: take it out",
        drop_ins={"popad@.service": "[Service]\nProtectHome=no\n"},
        mend=[*TAKEN_OUT],
    ),
    Broken(
        "a capability for the helper",
        "popad-auth.service: /etc/systemd/system/popad-auth.service.d/test.conf has CapabilityBoundingSet=CAP_KILL in",
        drop_ins={"popad-auth.service": "[Service]\nCapabilityBoundingSet=CAP_KILL\n"},
        mend=["rm /etc/systemd/system/popad-auth.service.d/test.conf", *TAKEN_OUT[1:]],
    ),
    Broken(
        "a socket that does not accept",
        "popad.socket: /etc/systemd/system/popad.socket.d/test.conf has Accept=no, and so no session begins",
        drop_ins={"popad.socket": "[Socket]\nAccept=no\n"},
        greeting=UNHEARD,
        mend=["rm /etc/systemd/system/popad.socket.d/test.conf", *TAKEN_OUT[1:]],
    ),
    Broken(
        "a file that PAM does not find",
        "POPAD_PAM_SERVICE: /etc/pam.d/popad:4: there is no common-none to include, so nobody can log in",
        commands=["sed -i s/common-auth/common-none/ /etc/pam.d/popad"],
        more=1,
        undo=["sed -i s/common-none/common-auth/ /etc/pam.d/popad"],
        mend=["sed -i s/common-none/common-auth/ /etc/pam.d/popad"],
    ),
    Broken(
        "a user whose name nobody can type",
        "nobody can log in as 'Jane': POPAD_LOWER_CASE or POPAD_STRIP_DOMAINS makes it another name",
        "POPAD_LOWER_CASE=yes\n",
        commands=["sed -i $aJane:x:1999:1999::/home/jane:/bin/sh /etc/passwd", "touch /var/mail/Jane"],
        undo=["sed -i /:1999:/d /etc/passwd", "rm -f /var/mail/Jane /var/mail/jane"],
        mend=["usermod --login jane Jane"],
    ),
    Broken(
        "both shapes",
        "popad.socket and popad-standalone.service are both enabled",
        commands=["systemctl --quiet enable popad-standalone.service"],
        undo=["systemctl --quiet disable popad-standalone.service"],
    ),
]


@pytest.fixture(scope="module")
def server(package: Path) -> Iterator[Server]:
    """One release: what is tried is popad's own reading of what `systemctl show` says, which is the same in both."""
    if reason := needs():
        pytest.skip(reason)
    with Machine(tree("bookworm")) as machine:
        machine.install(package)
        yield Server(machine, "bookworm")


@contextlib.contextmanager
def configured(server: Server, broken: Broken) -> Iterator[None]:
    """The machine with this fault."""
    machine = server.machine
    path = machine.root / SETTINGS.lstrip("/")
    before = path.read_bytes()
    made = [f"/etc/systemd/system/{unit}.d" for unit in broken.drop_ins]
    try:
        path.write_text(broken.settings)
        if broken.credentials is not None:
            machine.write("/etc/popad/credentials", broken.credentials, mode=broken.mode)
        for command in broken.commands:
            machine.run(command.split())
        for unit, text in broken.drop_ins.items():
            machine.write(f"/etc/systemd/system/{unit}.d/test.conf", text)
        if broken.drop_ins and broken.reload:
            machine.run(["systemctl", "daemon-reload"])
        yield
    finally:
        path.write_bytes(before)
        machine.run(["rm", "-rf", "/etc/popad/credentials", *made])
        for command in broken.undo:
            machine.run(command.split())
        machine.run(["systemctl", "daemon-reload"])


def test_there_are_forty() -> None:
    assert len(CONFIGURATIONS) >= 40
    assert len({broken.name for broken in CONFIGURATIONS}) == len(CONFIGURATIONS)


def test_as_installed(server: Server) -> None:
    checked = server.machine.run(["popad", "check"])
    assert checked.stdout.endswith("no problem found\n")
    assert "POPAD_AUTH_SOCKET=/run/popad/auth.sock  # popad@.service\n" in checked.stdout
    assert server.machine.run(["popad", "check", "--changed"]).stdout.splitlines() == [
        "POPAD_AUTH_SOCKET=/run/popad/auth.sock  # popad@.service",
        "POPAD_TLS_SOCKET=/run/popad/tls.sock  # popad@.service",
    ]


@pytest.mark.parametrize("broken", CONFIGURATIONS, ids=lambda broken: broken.name)
def test_broken(server: Server, broken: Broken) -> None:
    since = server.machine.cursor()
    with configured(server, broken):
        done = server.machine.run(["popad", "check"], check=False)
        with server.connect() as client:
            if broken.greeting is UNHEARD:
                client.socket.settimeout(BRIEF)
            greeting: bytes | None
            try:
                greeting = client.line()
            except TimeoutError:
                greeting = UNHEARD
            except (OSError, EOFError):
                greeting = CLOSED
        if greeting == REFUSED:
            server.machine.wait_entry({"POPAD_EVENT": "setting-wrong"}, after=since)
        mended = [server.machine.run(command.split()) for command in broken.mend]
        if mended:
            assert server.machine.run(["popad", "check"]).stdout.endswith("no problem found\n")
        events = sorted(
            {
                str(entry["POPAD_EVENT"])
                for entry in server.machine.journal("SYSLOG_IDENTIFIER=popad", after=since)
                if "POPAD_EVENT" in entry
            }
        )
    said = [line.removeprefix("wrong: ") for line in done.stdout.splitlines() if line.startswith("wrong: ")]
    print(f"{broken.name} | {'; '.join(said)} | {(greeting or b'').decode() or 'without a word'} | {', '.join(events)}")
    assert (done.returncode, done.stderr) == (1, "")
    for expected in [broken.says] if isinstance(broken.says, str) else broken.says:
        assert any(expected in line for line in said), said
    assert len(said) == 1 + broken.more, said
    count = "1 problem" if len(said) == 1 else f"{len(said)} problems"
    assert done.stdout.endswith(f"{count} found\n")
    assert greeting == broken.greeting


def test_the_daemon_with_a_drop_in_for_its_socket(server: Server) -> None:
    """What is to be done is what helps."""
    machine = server.machine
    machine.run(["systemctl", "start", "popad-standalone.service"])
    try:
        with server.drop_in("popad-standalone.socket", "[Socket]\nListenStream=127.0.0.1:1110\n"):
            done = machine.run(["popad", "check"], check=False)
            assert (
                "is to listen on 127.0.0.1:1110 and does not: systemctl stop popad, then systemctl start popad"
                in done.stdout
            )
            machine.run(["systemctl", "disable", "popad.socket"])
            machine.run(["systemctl", "enable", "popad-standalone.service"])
            machine.run(["systemctl", "stop", "popad"])
            machine.run(["systemctl", "start", "popad"])
            assert machine.run(["popad", "check"]).stdout.endswith("no problem found\n")
            name = server.add_user()
            with server.connect().logged_in(name, PASSWORD):
                pass
    finally:
        machine.run(["systemctl", "disable", "popad-standalone.service"])
        machine.run(["systemctl", "enable", "--now", "popad.socket"])


def test_another_server_has_the_port(server: Server) -> None:
    """Who it is, and what has to be typed; each command, in turn, and popad serves."""
    machine = server.machine
    machine.run(["systemctl", "stop", "popad.socket"])
    machine.run(["systemd-run", "--quiet", "--unit=other", "python3", "-m", "http.server", "110"])
    wait_until(lambda: ":110 " in machine.run(["ss", "-Hltn"]).stdout)
    try:
        done = machine.run(["popad", "check"], check=False)
        said = [line for line in done.stdout.splitlines() if line.startswith("wrong: ")][-1]
        assert said.startswith("wrong: popad.socket: does not listen, as port 110 is that of python3 (")
        assert said.endswith(
            "): systemctl disable --now other.service, or have it listen elsewhere; then systemctl start popad.socket"
        )
        as_nobody = machine.run(
            ["setpriv", "--reuid=nobody", "--clear-groups", "/usr/sbin/popad", "check"], check=False
        )
        assert "port 110 is another program's (as root, ss -ltnp says whose)" in as_nobody.stdout
    finally:
        machine.run(["systemctl", "stop", "other.service"])
    done = machine.run(["popad", "check"], check=False)
    assert "wrong: popad.socket: is enabled and does not run: systemctl start popad.socket\n" in done.stdout
    machine.run(["systemctl", "start", "popad.socket"])
    assert machine.run(["popad", "check"]).stdout.endswith("no problem found\n")


def test_no_shape_is_enabled(server: Server) -> None:
    """Nothing wrong: inetd may serve."""
    machine = server.machine
    machine.run(["systemctl", "disable", "--now", "popad.socket"])
    note = (
        "note: popad.socket and popad-standalone.service: none of them is enabled: systemctl enable --now popad.socket"
    )
    try:
        assert note in machine.run(["popad", "check"]).stdout.splitlines()
    finally:
        machine.run(["systemctl", "enable", "--now", "popad.socket"])
    assert note not in machine.run(["popad", "check"]).stdout


def test_opensmtpd_with_mbox_files(server: Server) -> None:
    machine = server.machine
    try:
        machine.write("/etc/smtpd.conf", 'action "local" mbox alias <aliases>\n')
        done = machine.run(["popad", "check"], check=False)
        assert "wrong: /etc/smtpd.conf:1: OpenSMTPD takes no lock that popad sees" in done.stdout
        machine.write("/etc/smtpd.conf", 'action "local" maildir alias <aliases>\n')
        assert "note: /etc/smtpd.conf:1: OpenSMTPD delivers to Maildirs" in machine.run(["popad", "check"]).stdout
    finally:
        machine.run(["rm", "-f", "/etc/smtpd.conf"])


def test_for_a_program(server: Server) -> None:
    found = json.loads(server.machine.run(["popad", "check", "--json"]).stdout)
    assert found["wrong"] == []
    assert found["settings"]["POPAD_AUTH_SOCKET"]["source"] == "popad@.service"
    assert {note["about"] for note in found["notes"]} <= {"", "popad-limits.service"}


def test_it_is_quick(server: Server) -> None:
    """And an ordinary user may run it."""
    began = time.monotonic()
    done = server.machine.run(["setpriv", "--reuid=nobody", "--clear-groups", "/usr/sbin/popad", "check"], check=False)
    assert time.monotonic() - began < 5
    assert done.stderr == ""
    assert "Traceback" not in done.stdout
