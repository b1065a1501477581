"""What the documents show to be typed or written is tried here, as it stands there."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import socket
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.here import CHECKOUT
from tests.support.machine import SERVER_PACKAGES, Machine, needs, tree
from tests.support.patience import wait_until
from tests.support.pop3 import Pop3
from tests.system.conftest import MESSAGES, PASSWORD, SETTINGS, Server, mbox
from tests.system.recipes import DELIVERIES, Block, blocks
from tests.system.standalone import standalone_on
from tests.system.terminal import at_a_terminal

GUESSER = "127.0.2.9"  # where wrong passwords come from: other tests need not wait for them
UNANSWERED = 1.0  # seconds without an answer to a SYN: it was dropped
CONNECT = "import socket; socket.create_connection(('{}', {}), 20)"


@contextlib.contextmanager
def addresses(machine: Machine, *given: str) -> Iterator[None]:
    """The machine has these addresses, too."""
    for address in given:
        machine.run(["ip", "address", "add", address, "dev", "lo", "nodad"])
    try:
        yield
    finally:
        for address in given:
            machine.run(["ip", "address", "delete", address, "dev", "lo"])


@contextlib.contextmanager
def standalone(server: Server) -> Iterator[None]:
    """popad-standalone.service in place of popad.socket."""
    server.machine.run(["systemctl", "start", "popad-standalone.service"])
    try:
        yield
    finally:
        server.machine.run(["systemctl", "stop", "popad-standalone.service"])
        start(server, "popad.socket")


@contextlib.contextmanager
def restarted(server: Server, unit: str, text: str) -> Iterator[None]:
    """A drop-in for a unit that runs, in force."""
    try:
        with server.drop_in(unit, text):
            start(server, unit, "restart")
            yield
    finally:
        start(server, unit, "restart")


def start(server: Server, unit: str, verb: str = "start") -> None:
    """Start a unit, however often that was done a moment ago (StartLimitBurst=)."""
    server.machine.run(["systemctl", "reset-failed", unit], check=False)
    server.machine.run(["systemctl", verb, unit])


def fetches(client: Pop3, name: str) -> None:
    with client.logged_in(name, PASSWORD):
        client.ok("RETR 1")
        assert client.body().decode() == MESSAGES[0]
        client.ok("QUIT")


def shell(server: Server, command: str) -> str:
    """A command line as somebody types it who is root."""
    return server.machine.run(["bash", "-ec", command]).stdout


# -- popad.socket -----------------------------------------------------------------------------------------------------


def one_address(server: Server, block: Block) -> None:
    """As at a boot: the socket starts before the network is there."""
    with restarted(server, "popad.socket", block.text):
        with addresses(server.machine, "192.0.2.1/32"), Pop3(server.machine.connect("192.0.2.1", 1110)).greeted():
            pass
        with pytest.raises(ConnectionRefusedError):
            server.connect()


def one_network(server: Server, block: Block) -> None:
    with addresses(server.machine, "192.0.2.7/32", "2001:db8::7/128"), restarted(server, "popad.socket", block.text):
        for address in ("192.0.2.7", "2001:db8::7"):
            with server.connect(address, source=address).greeted():
                pass

        def attempt() -> None:
            socket.create_connection(("127.0.0.1", 110), UNANSWERED)

        with pytest.raises(TimeoutError):
            server.machine.inside(attempt)


def large_host(server: Server, block: Block) -> None:
    with restarted(server, "popad.socket", block.text), contextlib.ExitStack() as clients:
        assert server.machine.show("popad.socket", "MaxConnections") == {"MaxConnections": "500"}
        for _ in range(50):
            clients.enter_context(server.connect()).greeted()
        with server.connect() as one_more:
            assert one_more.closed()


def large_mailbox(server: Server, block: Block) -> None:
    with server.drop_in("popad@.service", block.text):
        assert server.machine.show("popad@1.service", "MemoryMax") == {"MemoryMax": str(1 << 30)}
        fetches(server.connect(), server.add_user())


def serve_and_try(server: Server, block: Block) -> None:
    name = server.add_user()
    enable, curl = block.commands
    shell(server, enable)
    assert server.machine.run(["systemctl", "is-enabled", "popad.socket"]).stdout == "enabled\n"
    listed = shell(server, curl.replace("NAME", shlex.quote(f"{name}:{PASSWORD}")))
    assert listed.split()[::2] == ["1", "2", "3"]


def try_it(server: Server, block: Block) -> None:
    name = server.add_user()
    curl, journal = block.commands
    assert shell(server, curl.replace("NAME", shlex.quote(f"{name}:{PASSWORD}"))).split()[::2] == ["1", "2", "3"]
    server.machine.wait_entry({"POPAD_EVENT": "session-closed", "POPAD_USER": name})
    assert f'"{name}"' in shell(server, journal) or name in shell(server, journal)


def who_was_here(server: Server, block: Block) -> None:
    name = server.add_user()
    since = server.machine.cursor()
    fetches(server.connect(), name)
    server.machine.wait_entry({"POPAD_EVENT": "login-passed", "POPAD_USER": name}, after=since)
    (command,) = block.commands
    assert name in shell(server, command)


# -- what units may do ------------------------------------------------------------------------------------------------


def homes(server: Server, block: Block) -> None:
    """By popad-standalone.service where the block is that unit's, else by popad.socket."""
    daemon = block.document == "popad-standalone.service"
    name = server.add_user(mailbox="/home/{name}/mailbox")
    with server.settings("POPAD_MAILDROP=mbox:{home}/mailbox\n"), contextlib.ExitStack() as running:
        running.enter_context(server.drop_in("popad-standalone.service" if daemon else "popad@.service", block.text))
        if daemon:
            running.enter_context(standalone(server))
        with server.connect().logged_in(name, PASSWORD) as client:
            client.ok("DELE 1")
            client.ok("QUIT")
        assert server.machine.run(["popad", "check"]).stdout.endswith("no problem found\n")


def maildirs(server: Server, block: Block) -> None:
    """popad.conf(5)'s setting, with popad(8)'s drop-in for mail in homes."""
    (drop_in,) = (found for found in blocks() if found.document == "popad.8" and "ReadWritePaths=-/home" in found.text)
    name, machine = server.add_user(), server.machine
    place = f"/home/{name}/Maildir"
    machine.run(
        ["install", "-d", "-m", "700", "-o", name, *(f"{place}{part}" for part in ("", "/new", "/cur", "/tmp"))]
    )
    machine.write(f"{place}/new/1600000001.M1P1.host", "Subject: x\n\nx\n", mode=0o600, owner=name)
    with server.settings(f"{block.text}\n"), server.drop_in("popad@.service", drop_in.text):
        assert machine.run(["popad", "check"]).stdout.endswith("no problem found\n")
        with server.connect().logged_in(name, PASSWORD) as client:
            assert client.ok("UIDL 1") == b"1 1600000001.M1P1.host"
            client.ok("DELE 1")
            client.ok("QUIT")
    assert list((machine.root / place.lstrip("/") / "new").iterdir()) == []


def mailboxes_become_maildirs(server: Server, block: Block) -> None:
    """The steps of popad-admin(8), there and back; nobody's deliveries are to be stopped here."""
    steps = [found for found in blocks() if found.document == "popad-admin.8"]
    stop, setting, start, back = (
        next(step.text for step in steps if words in step.text)
        for words in ("stop postfix", "POPAD_MAILDROP=maildir", "start postfix", "--group mail")
    )
    (drop_in,) = (found for found in blocks() if found.document == "popad.8" and "ReadWritePaths=-/home" in found.text)
    name, machine = server.add_user(), server.machine

    def listed() -> list[bytes]:
        with server.connect().logged_in(name, PASSWORD) as client:
            client.ok("UIDL")
            ids = client.body().split()[1::2]
            client.ok("QUIT")
        return ids

    def typed(line: str) -> None:
        machine.run(["sh", "-c", line.removeprefix("# ").replace("postfix ", "")], check="convert" not in line)

    before = listed()
    typed(stop)
    typed(block.text)
    assert len(list((machine.root / f"home/{name}/Maildir/cur").iterdir())) == len(before)
    with server.settings(f"{setting}\n"), server.drop_in("popad@.service", drop_in.text):
        typed(start)
        machine.run(["systemctl", "start", "popad.socket"])
        assert listed() == before
        machine.run(["mv", f"/var/mail/{name}", f"/root/{name}"])
        typed(back)
    assert listed() == before
    machine.run(["find", "/home", "-name", "Maildir", "-prune", "-exec", "rm", "-r", "{}", "+"])


def other_place(server: Server, block: Block) -> None:
    """Mail in /srv/mail, which is a file system of its own."""
    unit = "popad-standalone.service" if block.document == "popad-standalone.service" else "popad@.service"
    server.machine.run(["mkdir", "-p", "/srv/mail"])
    server.machine.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/srv/mail"])
    try:
        name = server.add_user(mailbox="/srv/mail/{name}")
        with contextlib.ExitStack() as on:
            on.enter_context(server.settings("POPAD_MAILDROP=mbox:/srv/mail/{user}\n"))
            on.enter_context(server.drop_in(unit, f"{block.text}\n[Service]\nReadWritePaths=-/srv/mail\n"))
            if unit == "popad-standalone.service":
                on.enter_context(standalone(server))
            assert "srv-mail.mount" in server.machine.show(unit.replace("@", "@1"), "After")["After"].split()
            assert server.machine.run(["popad", "check"]).stdout.endswith("no problem found\n")
            fetches(server.connect(), name)
    finally:
        server.machine.run(["systemctl", "stop", "popad@*.service"])
        server.machine.run(["umount", "/srv/mail"])


def virtual_users(server: Server, block: Block) -> None:
    """popad.conf(5)'s owner, settings and drop-in, and popad-credentials(5)'s way to add a user, together."""
    machine = server.machine
    owner, settings, drop_in, adding, removing = (
        next(found for found in blocks() if fragment in found.text and found.document == document)
        for document, fragment in (
            ("popad.conf.5", "useradd --system"),
            ("popad.conf.5", "POPAD_VIRTUAL_USER=vmail"),
            ("popad.conf.5", "ReadWritePaths=-/srv/mail"),
            ("popad-credentials.5", "--file /etc/popad/credentials jane"),
            ("popad-credentials.5", "--delete jane"),
        )
    )
    assert block in (owner, settings, drop_in, adding, removing)
    if machine.run(["id", "vmail"], check=False).returncode:
        shell(server, "\n".join(owner.commands))
    machine.write("/srv/mail/jane", "From a Thu Jan  1 00:00:00 1970\nSubject: x\n\nx\n\n", mode=0o600, owner="vmail")
    typed = [line for line in adding.commands if not line.endswith(":")]
    try:
        asked = at_a_terminal(machine, "; ".join(typed), PASSWORD)
        assert re.findall(r"\w+:", asked)[:-1] == [line for line in adding.commands if line.endswith(":")]
        with server.drop_in("popad@.service", drop_in.text), server.settings(f"{settings.text}\n"):
            assert machine.run(["popad", "check"]).stdout.endswith("no problem found\n")
            with server.connect().logged_in("jane", PASSWORD) as client:
                client.ok("DELE 1")
                client.ok("QUIT")
        assert (machine.root / "srv/mail/jane").read_bytes() == b""
        machine.run(removing.commands[0].split())
        assert (machine.root / "etc/popad/credentials").read_bytes() == b""
    finally:
        machine.run(["rm", "-f", "/etc/popad/credentials"])


def one_line_of_credentials(server: Server, block: Block) -> None:
    """Unfolded it is a line that popad takes."""
    line = block.text.replace("\\\n", "")
    server.machine.write("/etc/popad/credentials", f"{line}\n", mode=0o600)
    try:
        with server.settings("POPAD_AUTH=file\n"):
            assert server.machine.run(["popad", "check"]).stdout.endswith("no problem found\n")
    finally:
        server.machine.run(["rm", "/etc/popad/credentials"])


def reaches_a_server(server: Server, block: Block) -> None:
    """What runs in the sandbox of the unit reaches the address that the drop-in names, and without it does not."""
    about_names = "192.0.2.53" in block.text or block.document == "popad-standalone.service"
    address, port = ("192.0.2.53", 53) if about_names else ("192.0.2.10", 389)
    units = ["popad@.service", "popad-standalone.service"] if block.document == "popad.8" and about_names else []
    probe = f'[Service]\nExecStartPre=/usr/bin/python3 -c "{CONNECT.format(address, port)}"\n'
    name = server.add_user()
    with addresses(server.machine, f"{address}/32"), server.machine.inside(socket.socket) as listener:
        listener.bind((address, port))
        listener.listen()
        for unit in units or ["popad-standalone.service" if about_names else "popad-auth.service"]:
            text = block.text.replace("ADDRESS", address)
            for drop_in, works in ((f"{text}\n{probe}", True), (probe, False)):
                with server.drop_in(unit, drop_in):
                    served(server, unit, name, works)


def served(server: Server, unit: str, name: str, works: bool) -> None:
    """Start the unit by what starts it; it serves this user or, where its first program fails, nobody."""
    if unit == "popad-standalone.service":
        started = server.machine.run(["systemctl", "start", unit], check=False)
        assert (started.returncode == 0) == works
        if works:
            fetches(server.connect(), name)
        server.machine.run(["systemctl", "stop", unit])
        start(server, "popad.socket")
    elif unit == "popad-auth.service":
        server.machine.run(["systemctl", "stop", unit])
        assert (server.machine.run(["systemctl", "start", unit], check=False).returncode == 0) == works
        if works:
            fetches(server.connect(), name)
        server.machine.run(["systemctl", "stop", unit])
    elif works:
        fetches(server.connect(), name)
    else:
        with server.connect() as client:
            assert client.closed()


# -- the other shapes -------------------------------------------------------------------------------------------------


OTHER = {"popad.socket": "popad-standalone.service", "popad-standalone.service": "popad.socket"}


def change_the_shape(server: Server, block: Block) -> None:
    """To the daemon, and back with the names exchanged."""
    name = server.add_user()
    try:
        for command in block.commands:
            shell(server, command)
        assert server.machine.show("popad-standalone.service", "ActiveState") == {"ActiveState": "active"}
        fetches(server.connect(), name)
    finally:
        for command in block.commands:
            shell(server, re.sub(r"popad[-.]s[a-z.]+", lambda found: OTHER[found[0]], command))
    assert (
        server.machine.run(["systemctl", "is-enabled", "popad-standalone.service"], check=False).stdout == "disabled\n"
    )
    fetches(server.connect(), name)


def two_addresses(server: Server, block: Block) -> None:
    name = server.add_user()
    server.machine.run(["systemctl", "stop", "popad.socket"])
    try:
        with addresses(server.machine, "192.0.2.1/32", "2001:db8::1/128"):
            shell(server, block.text)
            try:
                for address in ("192.0.2.1", "2001:db8::1"):
                    fetches(server.connect(address), name)
                with pytest.raises(ConnectionRefusedError):
                    server.connect()
            finally:
                server.machine.run(["pkill", "-TERM", "--full", "popad -D --listen"])
                running = ["pgrep", "--full", "popad -D --listen"]
                wait_until(lambda: server.machine.run(running, check=False).returncode == 1)
    finally:
        start(server, "popad.socket")


def inetd(server: Server, block: Block) -> None:
    """Each line in inetd.conf(5) alone; the second asks hosts.deny."""
    with Machine(tree(server.release, SERVER_PACKAGES)) as machine:
        machine.install(next(Path(__file__).parents[2].joinpath("dist").glob("popad_*_all.deb")))
        machine.run(["systemctl", "disable", "--now", "popad.socket"])
        other = Server(machine, server.release)
        name = other.add_user()
        for number, line in enumerate(block.text.splitlines()):
            machine.write("/etc/inetd.conf", f"{line}\n")
            machine.run(["systemctl", "restart", "inetd.service"])
            fetches(other.connect(), name)
            machine.write("/etc/hosts.deny", "popad: 127.0.0.1\n")
            with other.connect() as client:
                assert bool(number) == (client.line() == b"")
            machine.run(["rm", "/etc/hosts.deny"])


def install(server: Server, block: Block) -> None:
    """The second line; the first has made what is installed here."""
    (package,) = (server.machine.root / "root").glob("popad_*_all.deb")
    server.machine.copy(Path(__file__).parents[2] / "dist" / package.name, f"/root/dist/{package.name}")
    build, command = block.commands
    assert build == "packaging/build-deb"
    before = (server.machine.root / SETTINGS.lstrip("/")).read_bytes()
    shell(server, f"cd; dpkg --remove popad; {command}")
    assert (server.machine.root / SETTINGS.lstrip("/")).read_bytes() == before
    fetches(server.connect(), server.add_user())


# -- day-to-day administration ----------------------------------------------------------------------------------------


def typed(server: Server, command: str, name: str) -> str:
    """A command of the page about this user, who comes from this machine. What it shows."""
    return server.machine.run(["sh", "-c", command.replace("jane", name).replace("192.0.2.7", "127.0.0.1")]).stdout


def sessions_are_shown(server: Server, block: Block) -> None:
    name = server.add_user()
    with server.connect().logged_in(name, PASSWORD) as client:
        wait_until(lambda: f"{name}: 3 messages" in typed(server, block.commands[0], name))
        client.ok("QUIT")


def who_is_here(server: Server, block: Block) -> None:
    """In both shapes: as text, on a screen, as JSON."""
    screen = f"TERM=xterm timeout --signal=INT 3 script -qec '{block.commands[1]}' /dev/null"
    for shape in ("popad.socket", "popad-standalone.service"):
        with contextlib.ExitStack() as running:
            if shape != "popad.socket":
                running.enter_context(standalone(server))
            name = server.add_user()
            with server.connect().logged_in(name, PASSWORD) as client:
                client.ok("DELE 1")
                for command in (block.commands[0], block.commands[2]):
                    wait_until(lambda command=command, name=name: name in typed(server, command, name))  # type: ignore[misc]  # mypy infers no lambda with defaults
                assert name in server.machine.run(["sh", "-c", screen], check=False).stdout
                client.ok("RSET")
                client.ok("QUIT")


def sessions_are_ended(server: Server, block: Block) -> None:
    """A user's, an address's, a network's, one by its number: nothing is removed, and another user's goes on."""
    others = "\n".join(found.text for found in blocks() if found.document == "popad-admin.8")
    journal = next(line.removeprefix("# ") for line in others.splitlines() if "POPAD_EVENT=session-kicked" in line)
    for shape in ("popad.socket", "popad-standalone.service"):
        with contextlib.ExitStack() as running:
            if shape != "popad.socket":
                running.enter_context(standalone(server))
            for command in block.commands:
                name, other = server.add_user(), server.add_user()
                with (
                    server.connect("::1" if ":" in command else "127.0.0.1").logged_in(name, PASSWORD) as client,
                    server.connect(source="127.0.0.9").logged_in(other, PASSWORD) as another,
                ):
                    client.ok("DELE 1")
                    wait_until(lambda name=name: name in typed(server, "popad who", name))  # type: ignore[misc]  # the same
                    shown = next(line for line in typed(server, "popad who", name).splitlines() if name in line)
                    number = next(word for word in shown.split() if word.isdigit())
                    typed(server, command.replace("4711", number).replace("2001:db8::/32", "::1/128"), name)
                    assert client.closed()
                    another.ok("NOOP")
                    another.ok("QUIT")
                assert (server.machine.root / "var/mail" / name).read_text() == mbox(MESSAGES)
                wait_until(lambda name=name: name in typed(server, journal, name))  # type: ignore[misc]  # the same


TROUBLED: weakref.WeakKeyDictionary[Server, str] = weakref.WeakKeyDictionary()


def troubled(server: Server) -> str:
    """A user who has had a login, a wrong password, a mailbox that cannot be opened and a unit that does not start."""
    if server in TROUBLED:
        return TROUBLED[server]
    name = TROUBLED[server] = server.add_user()
    with server.connect().logged_in(name, PASSWORD) as client:
        client.ok("QUIT")
    with server.connect(source=GUESSER).greeted() as client:
        client.ok(f"USER {name}")
        client.say("PASS wrong")
    mailbox = server.machine.root / "var/mail" / name
    mailbox.unlink()
    mailbox.mkdir()
    with server.connect().greeted() as client:
        client.ok(f"USER {name}")
        assert client.say(f"PASS {PASSWORD}").startswith(b"-ERR [SYS/")
    with (
        server.drop_in("popad@.service", "[Service]\nReadWritePaths=/srv/none\n"),
        server.connect() as client,
    ):
        assert client.closed()
    return name


def entries_are_shown(server: Server, block: Block) -> None:
    name = troubled(server)
    expected = {
        "-x POPAD_USER": f'authentication passed for "{name}"',
        "login-failed": f'authentication failed for "{name}"',
        "popad-auth": "Started popad-auth.service",
        "-p err": "failed or refused to load",
        "popad@*": "226/NAMESPACE",
    }
    (words,) = [words for fragment, words in expected.items() if fragment in block.text]
    command = block.commands[0].replace("192.0.2.7", GUESSER)
    wait_until(lambda: words in typed(server, command, name))


def a_report_is_made(server: Server, block: Block) -> None:
    """Of the user with the trouble, as it is shown to a reader and to a program."""
    name = troubled(server)
    page = "/root/november.html"
    for command in block.commands:
        said = typed(server, re.sub(r"192\.0\.2\.0/24", f"{GUESSER}/32", command), name)
        if "--html" in command:
            assert said == ""
            assert "<h1>popad report</h1>" in server.machine.run(["cat", page]).stdout
        elif "--json" in command:
            assert json.loads(said)["events"]["maildrop-refused"] >= 1
        elif "--until today" in command:
            assert re.match(r"[\d,]+ entries", said)
        else:
            assert "login-failed " in said
            assert name in said


def little_is_logged(server: Server, block: Block) -> None:
    """In both shapes."""
    name = server.add_user()
    for within in (server.settings(block.text), standalone_on(server, block.text)):
        since = server.machine.cursor()
        with within:
            with server.connect().logged_in(name, PASSWORD) as client:
                client.ok("QUIT")
                assert client.closed()
            with server.connect(source=GUESSER).greeted() as client:
                client.ok(f"USER {name}")
                client.say("PASS wrong")
                assert client.closed()
        server.machine.wait_entry({"POPAD_EVENT": "login-failed"}, after=since)
        entries = server.machine.journal("SYSLOG_IDENTIFIER=popad", after=since)
        events = [entry["POPAD_EVENT"] for entry in entries if "POPAD_RHOST" in entry]
        assert events == ["session-closed", "login-failed"]


def the_protocol_is_logged(server: Server, block: Block) -> None:
    """Of the one user, in both shapes; the block behind it reads it."""
    (reads,) = [each for each in blocks() if "POPAD_EVENT=protocol" in each.text]
    name, other = server.add_user(), server.add_user()
    settings = block.text.replace("jane", name)
    for number, within in enumerate((server.settings(settings), standalone_on(server, settings)), 1):
        with within:
            for each in (other, name):
                with server.connect().logged_in(each, PASSWORD) as client:
                    client.ok("STAT")
                    client.ok("QUIT")
                    assert client.closed()
        wait_until(lambda: typed(server, reads.commands[0], name).count('"C: QUIT"') >= number)  # noqa: B023 - called here
        shown = typed(server, reads.commands[0], name)
        assert shown.count('"C: STAT"') == number
        assert typed(server, reads.commands[0], other).count("C: ") == 0


def a_login_is_explained(server: Server, block: Block) -> None:
    """In both shapes, with the right password and a wrong one; and where the sandbox is in the way."""
    name = server.add_user()
    command = shlex.split(block.commands[0].replace("jane", name))
    for within in (contextlib.nullcontext(), standalone_on(server)):
        with within:
            done = server.machine.run(command, stdin=f"{PASSWORD}\n")
            assert f"can be opened: {len(mbox(MESSAGES))} octets" in done.stdout
            assert "STAT:      +OK 3 " in done.stdout
            assert f'authentication passed for "{name}"' in done.stdout
            assert "may write to /var/mail" in done.stdout
            assert PASSWORD not in done.stdout + done.stderr
    with server.settings("POPAD_MAILDROP=mbox:/srv/{user}\n"):
        told = server.machine.run(command, stdin="\n")
        assert "popad@.service may not write to /srv: [Service] ReadWritePaths=-/srv" in told.stdout
        assert told.stdout.endswith("not tried: no password was given\n")
    refused = server.machine.run(command, stdin="wrong\n", check=False)
    assert refused.returncode == 1
    assert f'authentication failed for "{name}"' in refused.stdout
    server.machine.run(["systemctl", "stop", "popad-auth.service"])  # no other test waits for that wrong password


def a_mailbox_is_looked_at(server: Server, block: Block) -> None:
    """What the page shows of it, line by line: the words that do not depend on the mailbox."""
    prose = "Subject: way\n\nDirections:\n\nFrom the station go north.\n"
    name = server.add_user([*MESSAGES, prose, MESSAGES[0], *MESSAGES * 3])
    said = typed(server, block.commands[0], name)
    for line in block.text.splitlines()[1:]:
        expected = line[:18].rstrip() if line.startswith("  ") and line[2].isalpha() else line
        if not line.startswith("   ") and not expected.startswith("  at"):
            assert expected.replace("jane", name) in said, line
    assert "From the station go north.  (it has no date)" in said
    assert "messages that popa3d's id does not tell apart:\n       1 has " in said


def other_maildrops_are_looked_at(server: Server, block: Block) -> None:
    machine, name = server.machine, server.add_user()
    machine.run(["mkdir", "-p", "/srv/restored"])
    machine.run(["cp", "-p", f"/var/mail/{name}", f"/srv/restored/{name}"])
    by_path, by_format = block.commands
    assert "served: a session lists this\n" in typed(server, by_path, name)
    machine.run(["popad", "convert", "--user", name, "maildir:{home}/Maildir"])
    found = json.loads(typed(server, by_format.replace("{home}", "'{home}'"), name))
    assert (found["served"], len(found["messages"])) == (True, 3)
    machine.run(["rm", "-r", "/srv/restored", f"/home/{name}/Maildir"])


def with_its_neighbour(_server: Server, block: Block) -> None:
    """A test of another block of the same section takes this one, too."""
    assert block.commands


def tls_by_the_page(server: Server, block: Block) -> None:
    """The section's blocks in their order, then a fetch by STLS and one on port 995; and the hook of certbot."""
    settings, drop_in = (
        each
        for each in blocks()
        if each.document == "popad.8" and each.text.startswith(("POPAD_TLS", "[Socket]\nListenStream=995"))
    )
    machine = server.machine
    name = server.add_user()
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "90", "-subj", "/CN=localhost"]
    machine.run(["mkdir", "-p", "/root/lineage"])
    lineage = ["-keyout", "/root/lineage/privkey.pem", "-out", "/root/lineage/fullchain.pem"]
    machine.run([*made, "-addext", "subjectAltName=DNS:localhost", *lineage])
    try:
        for command in block.commands:
            machine.run(["sh", "-c", f"cd /root/lineage && {command}"])
        with server.settings(settings.text + "\n"), restarted(server, "popad.socket", drop_in.text):
            said = machine.run(["popad", "check"]).stdout
            assert "note: POPAD_TLS_CERTIFICATE: /etc/popad/tls/fullchain.pem: localhost, " in said
            for url in ("pop3://localhost/1", "pop3s://localhost/1"):
                machine.run(
                    [
                        "curl",
                        "-sf",
                        "--ssl-reqd",
                        "--cacert",
                        "/etc/popad/tls/fullchain.pem",
                        "--user",
                        f"{name}:{PASSWORD}",
                        url,
                    ]
                )
            before = machine.show("popad-tls-helper.service", "MainPID")
            machine.run([*made, "-addext", "subjectAltName=DNS:localhost", *lineage])
            hook = CHECKOUT / "packaging/examples/certbot-deploy-hook"
            machine.write("/root/hook", hook.read_text(), mode=0o755)
            machine.run(["env", "RENEWED_LINEAGE=/root/lineage", "/root/hook"])
            assert machine.show("popad-tls-helper.service", "MainPID") != before
            machine.run(["cmp", "/root/lineage/fullchain.pem", "/etc/popad/tls/fullchain.pem"])
            assert machine.run(["stat", "-c", "%a", "/etc/popad/tls/privkey.pem"]).stdout == "600\n"
            machine.run(
                [
                    "curl",
                    "-sf",
                    "--cacert",
                    "/root/lineage/fullchain.pem",
                    "--user",
                    f"{name}:{PASSWORD}",
                    "pop3s://localhost/1",
                ]
            )
    finally:
        machine.run(["rm", "-rf", "/etc/popad/tls", "/root/lineage"])
        machine.run(["systemctl", "stop", "popad-tls-helper.service"])


def another_password(server: Server, block: Block) -> None:
    """virtual_users() tries the same command of popad-credentials(5)."""
    (other,) = [
        found
        for found in blocks()
        if found.document == "popad-credentials.5" and "--file /etc/popad/credentials jane" in found.text
    ]
    assert block.commands[0] == other.commands[0]


def lists_of_users(server: Server, block: Block) -> None:
    """popad-credentials(5)'s other ways: both verifiers, a look at one, all names, many at once."""
    machine = server.machine
    both, many = (
        next(found for found in blocks() if fragment in found.text and found.document == "popad-credentials.5")
        for fragment in ("--sha1 jane", "--batch < list")
    )
    assert block in (both, many)
    make, look, names = both.commands
    try:
        at_a_terminal(machine, make, PASSWORD)
        assert "the password of jane" in at_a_terminal(machine, look, PASSWORD)
        machine.write("/root/list", f"jane:another\njohn:{PASSWORD}\n", mode=0o600)
        machine.run(["sh", "-c", f"cd /root && {many.commands[0]}"])
        listed = machine.run(names.split()).stdout.splitlines()
        assert [line.split("(")[0] for line in listed] == ["jane SCRAM-SHA-256", "john SCRAM-SHA-256"]
    finally:
        machine.run(["rm", "-f", "/etc/popad/credentials", "/root/list"])


# -- the table --------------------------------------------------------------------------------------------------------

Try = Callable[[Server, Block], None]

# How each block is tried: the document, words that stand in this block of it alone, the test.
TRIED: list[tuple[str, str, Try]] = [
    ("popad.8", "enable --now popad-standalone.service", change_the_shape),
    ("popad.8", "MaxConnections=500", large_host),
    ("popad.8", "MemoryMax=1G", large_mailbox),
    ("popad.8", "IPAddressAllow=192.0.2.53", reaches_a_server),
    ("popad.8", "curl --user NAME", serve_and_try),
    ("popad.8", "journalctl -t popad --since today", who_was_here),
    ("popad.8", "install -d -m 700 /etc/popad/tls", tls_by_the_page),
    ("popad.8", "POPAD_TLS_CERTIFICATE=", with_its_neighbour),
    ("popad.8", "ListenStream=995", with_its_neighbour),
    ("popad.8", "ListenStream=192.0.2.1:1110", one_address),
    ("popad.8", "IPAddressAllow=192.0.2.0/24", one_network),
    ("popad.8", "ReadWritePaths=-/home", homes),
    ("popad.8", "IPAddressAllow=192.0.2.10", reaches_a_server),
    ("popad.8", "popad -D --listen", two_addresses),
    ("popad.8", "pop3 stream tcp", inetd),
    ("popad-admin.8", "status 'popad@*'", sessions_are_shown),
    ("popad-admin.8", "popad who --watch", who_is_here),
    ("popad-admin.8", "popad kick jane", sessions_are_ended),
    ("popad-admin.8", "popad convert --all maildir:", mailboxes_become_maildirs),
    ("popad-admin.8", "-x POPAD_USER=jane", entries_are_shown),
    ("popad-admin.8", "POPAD_EVENT=login-failed", entries_are_shown),
    ("popad-admin.8", "-u popad-auth.service", entries_are_shown),
    ("popad-admin.8", "-p err", entries_are_shown),
    ("popad-admin.8", "-u 'popad@*'", entries_are_shown),
    ("popad-admin.8", "popad report --since yesterday --until today", a_report_is_made),
    ("popad-admin.8", "popad report --since yesterday --user jane", a_report_is_made),
    ("popad-admin.8", "popad report --since -1h --address", a_report_is_made),
    ("popad-admin.8", "credentials jane", another_password),
    ("popad-admin.8", "popad test-login jane", a_login_is_explained),
    ("popad-admin.8", "popad inspect --user jane", a_mailbox_is_looked_at),
    ("popad-admin.8", "popad inspect --format mbox", other_maildrops_are_looked_at),
    ("popad-admin.8", "POPAD_LOG=quiet", little_is_logged),
    ("popad-admin.8", "POPAD_DEBUG_USERS=jane", the_protocol_is_logged),
    ("popad-admin.8", "POPAD_EVENT=protocol", with_its_neighbour),
    ("popad.conf.5", "useradd --system", virtual_users),
    ("popad.conf.5", "POPAD_VIRTUAL_USER=vmail", virtual_users),
    ("popad.conf.5", "ReadWritePaths=-/srv/mail", virtual_users),
    ("popad.conf.5", "maildir:{home}/Maildir", maildirs),
    ("popad-credentials.5", "--file /etc/popad/credentials jane", virtual_users),
    ("popad-credentials.5", "--delete jane", virtual_users),
    ("popad-credentials.5", "--sha1 jane", lists_of_users),
    ("popad-credentials.5", "--batch < list", lists_of_users),
    ("popad-credentials.5", "SCRAM-SHA-256$", one_line_of_credentials),
    ("README.md", "apt install ./dist/", install),
    ("README.md", "curl --user NAME", try_it),
    ("README.md", "enable --now popad-standalone.service", change_the_shape),
    ("popad-auth.service", "IPAddressAllow=ADDRESS", reaches_a_server),
    ("popad-standalone.service", "IPAddressAllow=ADDRESS", reaches_a_server),
    ("popad-standalone.service", "RequiresMountsFor=/srv/mail", other_place),
    ("popad-standalone.service", "ReadWritePaths=-/home", homes),
    ("popad@.service", "RequiresMountsFor=/srv/mail", other_place),
    ("popad@.service", "ReadWritePaths=-/home", homes),
]
# And those that are not tried here, with the reason.
NOT_HERE = [
    ("README.md", "packaging/demo", "test_demo.py runs the first line, and the second runs this"),
    (
        "README.md",
        "podman run",
        "no podman in the machine: tests/container runs the image with these options",
    ),
    ("popad.8", "POPAD_PROXY_FROM=", "no HAProxy in the machine: tests/clients/test_haproxy.py has one"),
    ("popad.8", "send-proxy-v2", "the same test has HAProxy read this block"),
    ("popad.8", "pam_ldap.so", "tests/cluster has a directory of users, and hosts with this block"),
    ("popad.8", "--from popa3d --all", "tests/unit/commands/test_migrate.py types all of these"),
    ("popad.8", "--from dovecot --all", "the same"),
    ("popad.8", "--from courier --all", "the same"),
    ("popad.8", "--from qpopper --all", "the same"),
    ("popad.8", "--from dovecot:%08Xv%08Xu", "the same"),
    ("popad.8", "--server localhost", "the same"),
    ("popad.8", "--login '{user}*master'", "the same"),
    ("popad-admin.8", "POPAD_EVENT=session-kicked", "the recipe of popad kick types it"),
    ("popad-admin.8", "systemctl stop postfix", "the recipe of popad convert --all types it, without Postfix"),
    ("popad-admin.8", "POPAD_MAILDROP=maildir:", "the same"),
    ("popad-admin.8", "systemctl start postfix", "the same"),
    ("popad-admin.8", "--group mail", "the same"),
    ("popad-admin.8", "--user jane --json", "tests/unit/commands/test_convert.py types it"),
    ("popad.8", "popad convert --user jane", "the same"),
    *(("popad-delivery.7", words, "test_delivery.py types it where the programs are") for words in DELIVERIES),
    ("popad-admin.8", "opening a mailbox", "what a report shows, and nothing to type"),
    ("popad-admin.8", "podman logs", "no podman in the machine: unit/commands/report/test_logfmt.py has such lines"),
    ("popad-admin.8", "enable --now popad-metrics.socket", "test_metrics.py types it"),
    ("popad-admin.8", "job_name: popad", "test_metrics.py has Prometheus read it"),
    ("popad-admin.8", "systemctl reload fail2ban", "no fail2ban in this machine: test_bans.py types it"),
    ("popad-admin.8", "systemctl reload crowdsec", "nor CrowdSec: test_bans.py has it read the files"),
    ("popad-admin.8", "cp popad-metrics.service", "no documents in the machine: test_report.py starts the service"),
    ("README.md", "pip install .", "test_wheel.py types it, with another directory than /opt/popad"),
]


def test_every_block_is_tried() -> None:
    """One that is new, or changed beyond recognition, has no row; a row whose block is gone has to go."""
    rows = [(document, words) for document, words, _ in (*TRIED, *NOT_HERE)]
    for block in blocks():
        assert sum(document == block.document and words in block.text for document, words in rows) == 1, block
    for document, words in rows:
        assert sum(document == block.document and words in block.text for block in blocks()) == 1, words


def test_drop_ins_have_no_word_that_systemd_does_not_know(server: Server) -> None:
    """It would only warn, and go on without."""
    drop_ins = [block.text for block in blocks() if block.text.startswith("[")]
    assert len(drop_ins) > 10
    for unit, sections in (("popad.socket", ("[Socket]",)), ("popad@.service", ("[Unit]", "[Service]"))):
        text = "\n".join(text.replace("ADDRESS", "192.0.2.10") for text in drop_ins if text.startswith(sections))
        with server.drop_in(unit, text):
            said = server.machine.run(["systemd-analyze", "verify", "--man=no", unit.replace("@", "@1")])
        assert said.stdout + said.stderr == ""


@pytest.mark.skipif(bool(needs()), reason=needs())
@pytest.mark.parametrize(("document", "words", "attempt"), TRIED, ids=[f"{row[0]}-{row[1]}" for row in TRIED])
def test_recipe(server: Server, document: str, words: str, attempt: Try) -> None:
    (block,) = (block for block in blocks() if block.document == document and words in block.text)
    attempt(server, block)
