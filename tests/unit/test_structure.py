"""What the house promises of its files: what a session has loaded when the client hears it, who logs, who is tested."""

import ast
import os
import re
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.auth import credentials, verifiers
from tests.support.here import CHECKOUT, ROOT
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import NAME, POPAD, PYTHON, Server, children_of, handed_over

SOURCES = sorted((CHECKOUT / "popad").rglob("*.py"))
names = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))

# What the greeting needs, besides what `python3 -I -S` has loaded itself. Each further module delays every greeting.
AT_THE_GREETING = {
    "_collections_abc",  # of os
    "_socket",
    "_stat",
    "errno",
    "fcntl",
    "gc",
    "genericpath",
    "os",
    "os.path",
    "popad",
    "popad.__main__",
    "popad.errors",
    "popad.net",
    "popad.net.activation",
    "popad.net.arrival",
    "popad.net.connection",
    "popad.precompiled",
    "popad.settings",
    "popad.values",
    "posixpath",
    "pwd",  # to know as root that POPAD_USER exists
    "select",
    "stat",
}
# Too dear for a session (3 to 36 ms each), or none of its business.
NEVER_IN_A_SESSION = {
    "argparse",
    "collections",  # arrays.py
    "ctypes",  # loaded where the unit has not set no-new-privs, not here
    "dataclasses",
    "email",
    "enum",
    "functools",
    "hashlib",
    "inspect",
    "logging",
    "pam",
    "pathlib",
    "popad.auth.credentials",
    "popad.auth.pam",
    "popad.commands",
    "popad.daemon",
    "popad.maildrop.id_list",  # where there is no list, and POPAD_UIDL names no server
    "popad.maildrop.mbox.header_ids",
    "re",
    "sdnotify",  # notify.py
    "shutil",
    "signal",
    "six",
    "socket",
    "ssl",
    "string",
    "subprocess",
    "syslog",
    "systemd",
    "tempfile",
    "threading",
    "traceback",
    "typing",
    "unicodedata",
    "uuid",
}

# As the unit does. Where nobody has done it, a session loads ctypes to do it.
NO_NEW_PRIVILEGES = ("setpriv", "--no-new-privs")
# packaging/popad, and a look at sys.modules when a function returns: no import of ours, and none by the look.
LAUNCHER = """
import posix, sys
pid = posix.getpid()
bare = set(sys.modules)
sys.path += {checkout!r}, "/usr/lib/python3/dist-packages"
from popad import precompiled
precompiled.load("popad.__main__")
from popad.__main__ import main
def look(frame, event, argument):
    if event == "return" and frame.f_code.co_qualname in {moments!r} and posix.getpid() == pid:
        loaded.append([frame.f_code.co_qualname, frame.f_code.co_filename, sorted(set(sys.modules) - bare)])
        with open({path!r}, "w") as file:
            file.write(repr(loaded))
loaded = []
sys.setprofile(look)
main()
"""


def loaded_at(server: Server, *moments: str) -> Iterator[tuple[str, set[str]]]:
    """The moments of a session (functions of popad that return), and what was loaded then."""
    path = server.path / "loaded"
    path.touch()
    path.chmod(0o666)
    launcher = server.path / "launcher"
    launcher.write_text(LAUNCHER.format(checkout=str(CHECKOUT), moments=moments, path=str(path)))
    socket_path, notify_path = str(server.path / "auth.sock"), str(server.path / "notify")
    with ServingHelper(server, socket_path) as helper, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(notify_path)
        program = [*NO_NEW_PRIVILEGES, PYTHON, "-I", "-S", str(launcher)]
        settings, environment = {"POPAD_AUTH_SOCKET": socket_path}, {"NOTIFY_SOCKET": notify_path}
        with server.session(settings, program, environment) as (client, process):
            assert client.log_in().startswith(b"+OK")
            for command in ("UIDL", "RETR 1"):
                client.ask(command)
                client.body()
            client.ask("DELE 1")
            client.ask("QUIT")
            assert process.wait(PATIENCE) == 0
            assert systemd.recv(100).startswith(b"READY=1\n")
        helper.terminate()
    for moment, file, modules in ast.literal_eval(path.read_text()):
        if "/popad/" in file:
            yield moment, set(modules)


class ServingHelper:
    """`popad auth-helper` on a socket."""

    def __init__(self, server: Server, path: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(path)
            listening.listen()
            self.process = subprocess.Popen(
                handed_over(listening, *POPAD, "auth-helper"),
                cwd=CHECKOUT,
                env={"PATH": os.defpath, **server.settings},
                pass_fds=[listening.fileno()],
            )

    def __enter__(self) -> "subprocess.Popen[bytes]":
        return self.process

    def __exit__(self, *failure: object) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(public_path: Path) -> Server:
    server = Server(public_path)
    server.deliver(b"From a\nDate: 1\n\nbody\n\nFrom b\nDate: 2\n\nbody\n\n")
    return server


def test_what_is_loaded_at_the_greeting(server: Server) -> None:
    moment, modules = next(loaded_at(server, "Connection.write"))
    assert moment == "Connection.write"
    expected = AT_THE_GREETING if ROOT else AT_THE_GREETING - {"pwd"}
    assert modules == expected


def test_what_is_loaded_in_a_session(server: Server) -> None:
    """With the auth helper, to the end: login, listing, a message, an update."""
    *_, (moment, modules) = loaded_at(server, "postauth_role")
    assert moment == "postauth_role"
    assert modules & NEVER_IN_A_SESSION == set()


# -- what the sources say


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules that are imported when the program runs, wherever in the file."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for other in node.orelse:
                yield from imports(ast.Module([other], []))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


@names
def test_typing_is_for_type_checkers(path: Path) -> None:
    found = {name.partition(".")[0] for name in imports(ast.parse(path.read_text()))}
    assert found & {"typing", "collections", "__future__"} == set()


def test_protocol_opens_nothing_and_knows_no_system() -> None:
    found = {
        name for path in (CHECKOUT / "popad/protocol").glob("*.py") for name in imports(ast.parse(path.read_text()))
    }
    assert {name for name in found if not name.startswith("popad.")} <= {
        *("popad", "itertools", "itertools.islice"),
        "binascii",  # base64, without the module around it
    }
    assert {name.split(".")[1] for name in found if name.startswith("popad.")} <= {
        *("__version__", "errors", "protocol"),
        "values",  # for two limits, that others are made of
    }
    limits = {"popad.values.ARGUMENT_OCTETS", "popad.values.COMMAND_OCTETS"}
    assert {name for name in found if name.startswith("popad.values.")} == limits


def calls_of(tree: ast.AST, module: str, function: str) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == function
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == module
    ]


def test_who_logs() -> None:
    """A session by its context; the daemon for its limits and its life; net/, privsep/proxied.py and
    tls/start.py for a client that gets no session; the TLS helper for its certificates; `popad kick` for who called it.
    """
    logging = set()
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        if calls_of(tree, "journal", "send") or "popad.journal.send" in imports(tree):
            logging.add(path.name)
    assert logging == {
        "arrival.py",
        "context.py",
        "helper.py",
        "helper_process.py",
        "kick.py",
        "proxied.py",
        "refusing.py",
        "start.py",
        "supervisor.py",
        "wrappers.py",
    }


def test_only_the_journal_writes_to_logs() -> None:
    """And nobody waits for one: what would (syslog) is loaded to give PAM and libwrap popad's name; systemd.journal by
    a command that reads it.
    """
    found: dict[str, set[str]] = {"popad.sinks": set(), "syslog": set(), "systemd.journal": set()}
    for path in SOURCES:
        for name in imports(ast.parse(path.read_text())):
            if name in found:
                found[name].add(path.name)
    assert found == {
        "popad.sinks": {
            "journal.py",
            "monitor.py",
            "command.py",
            "__main__.py",
            "auth_helper.py",
            "tls_helper.py",
            "helper_service.py",
        },
        "syslog": {"wrappers.py", "pam.py"},
        "systemd.journal": {"login_trial.py", "journald.py"},
    }


def test_identities_change_in_one_place() -> None:
    """A look at two files is a look at all of them."""
    changing = {"setuid", "setgid", "setresuid", "setresgid", "setgroups", "seteuid", "setegid", "initgroups", "chroot"}
    found = {
        path.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in changing
    }
    assert found == {"identity.py", "spawn.py"}


def test_one_way_to_fork() -> None:
    """spawn.py says why the other two are none of its business."""
    found = {
        str(path.relative_to(CHECKOUT / "popad"))
        for path in SOURCES
        if calls_of(ast.parse(path.read_text()), "os", "fork")
    }
    assert found == {"privsep/spawn.py", "daemon/command.py", "maildrop/mbox/second.py"}


# What runs in the daemon's parent: of spare.py its end of the handoff.
OF_THE_PARENT = ("supervisor", "refusing", "helper_process", "limits", "stopped", "listeners", "exit_status", "spare")
READING = {"read", "readv", "pread", "recv", "recv_into", "recvfrom", "recvmsg", "recvmsg_into", "makefile"}
READING |= {"receive_descriptor", "receive", "receive_request", "receive_message", "receive_with_channel", "Channel"}


def test_the_daemons_parent_reads_nothing_from_the_network() -> None:
    """It accepts, counts and forks. What it reads is the pipe of its own signals."""
    found = set()
    for name in OF_THE_PARENT:
        tree = ast.parse((CHECKOUT / f"popad/daemon/{name}.py").read_text())
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.FunctionDef) and node.name == "client_from")
        ]
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if ast.unparse(call.func).rpartition(".")[2] in READING:
                found.add(f"{ast.unparse(call.func)}({ast.unparse(call.args[0]) if call.args else ''})")
    assert found == {"os.read(wake_up)", "self.read()"}  # the second reads the settings


def test_each_claim_of_the_design_has_its_test() -> None:
    """DESIGN.md names tests as `file::test`, below tests/. Each is there, and each service has its rows."""
    text = (CHECKOUT / "packaging/doc/DESIGN.md").read_text().partition("\n## What proves it\n")[2]
    rows = [row for row in text.partition("\n## ")[0].splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 40
    for row in rows:
        named = re.findall(r"`([a-z_/]+\.py)::(?:Test\w+::)?(test_\w+)`", row.rpartition("|")[0].rpartition("|")[2])
        assert named, row
        for file, name in named:
            tree = ast.parse((CHECKOUT / "tests" / file).read_text())
            functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert name in functions, f"{file}::{name}"
    for unit in (CHECKOUT / "units").glob("*.service"):
        assert any(row.startswith(f"| {unit.name}: ") for row in rows), unit.name


@names
def test_each_module_has_its_tests(path: Path) -> None:
    """popad/room/module.py has tests/unit/room/test_module.py."""
    place = path.relative_to(CHECKOUT / "popad")
    if place.name != "__init__.py":
        assert (Path(__file__).parent / place.with_name(f"test_{place.stem.strip('_')}.py")).is_file()


def test_each_test_file_names_its_module() -> None:
    """Where it begins with a name: that of the module which its own name begins with, and the module is there."""
    for path in Path(__file__).parent.rglob("test_*.py"):
        if named := re.match(r'"""([a-z_/]+)\.py\b', path.read_text()):
            expected = path.relative_to(Path(__file__).parent).with_name(path.stem.removeprefix("test_"))
            assert str(expected).startswith(named[1].strip("_")), path
            assert (CHECKOUT / "popad" / f"{named[1]}.py").is_file(), path


@names
def test_each_file_says_its_role(path: Path) -> None:
    first = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0]
    assert 1 <= len(first.splitlines()) <= 4


# -- the password


@pytest.mark.skipif(not ROOT, reason="needs root: reads the memory of the session")
def test_no_password_passes_the_monitor(server: Server) -> None:
    """It never has it, neither while it is checked nor after the login: the child says it to the helper."""
    password = secrets.token_hex(32)
    server.credentials.write_text(credentials.line(NAME, password.encode(), verifiers.MAX_ITERATIONS) + "\n")
    socket_path = str(server.path / "auth.sock")
    with (
        ServingHelper(server, socket_path) as helper,
        server.session({"POPAD_AUTH_SOCKET": socket_path}) as (client, process),
    ):
        client.line()
        client.ask(f"USER {NAME}")
        wait_until(lambda: len(children_of(process.pid)) == 1)
        client.send(f"PASS {password}\r\n".encode())
        wait_until(lambda: any(password.encode() in memory_of(pid) for pid in children_of(helper.pid)))
        assert password.encode() not in memory_of(process.pid)
        assert client.line().startswith(b"+OK")
        memory = memory_of(process.pid)
        assert NAME.encode() in memory  # what is looked at is the right memory
        assert password.encode() not in memory
        client.ask("QUIT")


def memory_of(pid: int) -> bytes:
    """All that the process can write to."""
    octets = b""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, mode, *_ = line.split()
            if mode.startswith("rw"):
                begin, end = (int(number, 16) for number in place.split("-"))
                memory.seek(begin)
                octets += memory.read(end - begin)
    return octets
