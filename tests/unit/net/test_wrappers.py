"""net/wrappers.py: hosts.allow and hosts.deny, through the real libwrap, from tables of the test's own."""

import ctypes
import os
import socket
import syslog
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.errors import SettingWrong
from popad.net import wrappers
from popad.net.connection import Connection, without_mapping
from popad.net.wrappers import Rules, has_rules
from tests.support.daemon import daemon
from tests.support.serving import NAME, PASSWORD, POPAD, Server, reset

try:
    LIBWRAP: ctypes.CDLL | None = ctypes.CDLL(wrappers.LIBRARY)
except OSError:
    LIBWRAP = None

needs_libwrap = pytest.mark.skipif(LIBWRAP is None, reason="needs libwrap.so.0 (libwrap0)")
MAIL = b"From a@example.org Thu Jan  1 00:00:00 1970\nSubject: one\n\nbody\n\n"


class Tables:
    """hosts.allow and hosts.deny of a test."""

    def __init__(self, path: Path) -> None:
        self.allow, self.deny = path / "hosts.allow", path / "hosts.deny"

    def write(self, allow: str = "", deny: str = "") -> None:
        self.allow.write_text(allow)
        self.deny.write_text(deny)

    @property
    def names(self) -> tuple[str, str]:
        return str(self.allow), str(self.deny)


@pytest.fixture
def tables(public_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tables]:
    tables = Tables(public_path)
    monkeypatch.setattr(wrappers, "TABLES", tables.names)
    if LIBWRAP is None:
        yield tables
        return
    symbols = ("hosts_allow_table", "hosts_deny_table")
    variables = [ctypes.c_void_p.in_dll(LIBWRAP, symbol) for symbol in symbols]
    before = [variable.value for variable in variables]
    buffers = [ctypes.create_string_buffer(name.encode()) for name in tables.names]
    for variable, buffer in zip(variables, buffers, strict=True):
        variable.value = ctypes.addressof(buffer)
    yield tables
    for variable, value in zip(variables, before, strict=True):
        variable.value = value


def refused(capfd: pytest.CaptureFixture[str], address: str = "127.0.0.1", source: str = "") -> bool:
    """Whether a client of `address` that comes from `source` is refused: closed, and said so."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family, dualstack_ipv6=address == "::") as server:
        target = ("127.0.0.1" if address == "::" else address, server.getsockname()[1])
        with socket.create_connection(target, 20, (source, 0) if source else None) as client:
            accepted, name = server.accept()
            connection = Connection(accepted.detach(), without_mapping(name[0]), name[1])
            verdict = Rules().refuse(connection)
            said = capfd.readouterr().err
            if verdict:
                assert client.recv(100) == b"", "not a word"
                assert "event=access-denied" in said
                assert f"rhost={without_mapping(name[0])}" in said
            else:
                assert said == ""
                connection.hang_up()
            return verdict


@pytest.fixture(autouse=True)
def no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("popad.sinks.journald.path", "/nonexistent")


CASES = [
    ("", "", False),
    ("", "ALL: ALL\n", True),
    ("", "popad: ALL\n", True),
    ("", "sshd: ALL\n", False),
    ("", "popad: 127.0.0.2\n", False),
    ("", "popad: 127.0.0.1\n", True),
    ("", "popad: 127.0.0.0/255.0.0.0\n", True),
    ("", "popad: 127.\n", True),
    ("popad: 127.0.0.1\n", "ALL: ALL\n", False),
    ("popad: ALL EXCEPT 127.0.0.1\n", "ALL: ALL\n", True),
    ("popad: 127.0.0.1: deny\n", "", True),
    ("# a comment\n\npopad: 127.0.0.1: allow\n", "popad: ALL\n", False),
    ("", "  # popad: ALL\n", True),
]


@needs_libwrap
@pytest.mark.parametrize(("allow", "deny", "expected"), CASES)
def test_rules(tables: Tables, capfd: pytest.CaptureFixture[str], allow: str, deny: str, expected: bool) -> None:
    tables.write(allow, deny)
    assert refused(capfd) == expected


@needs_libwrap
def test_rules_know_the_client(tables: Tables, capfd: pytest.CaptureFixture[str]) -> None:
    tables.write(deny="popad: 127.0.0.2\n")
    assert not refused(capfd)
    assert refused(capfd, source="127.0.0.2")


@needs_libwrap
def test_ipv6(tables: Tables, capfd: pytest.CaptureFixture[str]) -> None:
    tables.write(deny="popad: [::1]\n")
    assert refused(capfd, "::1")
    tables.write(deny="popad: [2001:db8::]/32\n")
    assert not refused(capfd, "::1")


@needs_libwrap
def test_ipv4_on_a_dual_stack_socket(tables: Tables, capfd: pytest.CaptureFixture[str]) -> None:
    """A rule about an IPv4 address holds there, too."""
    tables.write(deny="popad: 127.0.0.1\n")
    assert refused(capfd, "::")


@needs_libwrap
def test_rules_are_read_anew(tables: Tables, capfd: pytest.CaptureFixture[str]) -> None:
    tables.write()
    assert not refused(capfd)
    tables.write(deny="popad: ALL\n")
    assert refused(capfd)


@needs_libwrap
def age(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tables be older than it takes to believe that they have not been changed."""
    monkeypatch.setattr(wrappers, "OLD_ENOUGH", -1.0)


class Asked(Exception):
    """libwrap was."""


def is_asked(rules: Rules, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether libwrap is asked about a client."""

    class Library:
        def request_init(self, *arguments: object) -> None:
            assert arguments[-1] == 0  # ends the list of keys and values
            raise Asked

    monkeypatch.setattr(rules, "library", Library())
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        accepted, name = server.accept()
        connection = Connection(accepted.detach(), *name)
        try:
            return rules.refuse(connection)
        except Asked:
            return True
        finally:
            connection.hang_up()


@pytest.mark.parametrize("there", ["both", "none", "comments"])
def test_tables_without_a_rule_are_not_read_again(tables: Tables, monkeypatch: pytest.MonkeyPatch, there: str) -> None:
    if there != "none":
        tables.write("# ALL: ALL\n" if there == "comments" else "", "\n# popad: ALL\n" if there == "comments" else "")
    age(tables, monkeypatch)
    assert not is_asked(Rules(), monkeypatch)


@pytest.mark.parametrize("change", ["a rule", "a rule in place of a comment", "a table", "another file"])
def test_tables_that_have_been_touched_are(tables: Tables, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    tables.write("# nothing\n", "")
    if change == "a table":
        tables.deny.unlink()
    age(tables, monkeypatch)
    rules = Rules()
    before = os.stat(tables.allow)
    if change == "a rule":
        tables.write("# nothing\n", "popad: ALL\n")
    elif change == "a rule in place of a comment":  # as long as the comment, and with its time
        tables.write("ALL: ALL  \n", "")
        os.utime(tables.allow, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "a table":
        tables.deny.write_text("")
    else:
        tables.allow.rename(tables.allow.with_suffix(".old"))
        tables.allow.write_text("# nothing\n")
    assert is_asked(rules, monkeypatch)


def test_tables_with_a_rule_are(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    tables.write("# nothing\n", "sshd: ALL\n")
    age(tables, monkeypatch)
    assert is_asked(Rules(), monkeypatch)


def test_tables_that_were_written_just_now_are(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that is written now could leave the same time."""
    tables.write("# nothing\n", "")
    assert is_asked(Rules(), monkeypatch)


@pytest.mark.parametrize("time_of", [3, 4], ids=["mtime", "ctime"])
def test_when_no_change_can_leave_the_same_times(time_of: int) -> None:
    """More than 2 seconds after the last: FAT's steps. A size is no time."""
    now = time.time_ns()
    for age, old_enough in ((1.5, False), (2.5, True), (-3600, False)):
        table = [1, 1, now, 0, 0]
        table[time_of] = now - int(age * 1e9)
        assert wrappers.is_old_enough((tuple(table), None)) == old_enough


def test_what_libwrap_complains_of_is_in_the_log_of_mail(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[object, ...]] = []
    monkeypatch.setattr(syslog, "openlog", lambda *arguments: opened.append(arguments))
    Rules()
    assert opened == [("popad", 0, syslog.LOG_MAIL)]


def test_a_client_that_has_left(tables: Tables) -> None:
    """Nobody knows who it was: rules for all hold, nothing hangs."""
    tables.write(deny="popad: ALL\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        reset(client)
        assert Rules().refuse(Connection(accepted.detach(), "", None))


@needs_libwrap
def test_a_rule_runs_what_it_says(tables: Tables, capfd: pytest.CaptureFixture[str]) -> None:
    """spawn of hosts_options(5), with the client's address in it."""
    ran = tables.allow.with_name("ran")
    tables.write(deny=f"popad: ALL: spawn (echo %a >{ran})\n")
    assert refused(capfd)
    assert ran.read_text() == "127.0.0.1\n"


# -- without libwrap --------------------------------------------------------------------------------------------------


@pytest.fixture
def no_libwrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrappers, "LIBRARY", "libwrap-that-is-not-here.so.0")


@pytest.mark.usefixtures("no_libwrap")
@pytest.mark.parametrize("which", ["allow", "deny"])
def test_rules_and_no_libwrap(tables: Tables, which: str) -> None:
    tables.write(**{which: "popad: ALL\n"})
    with pytest.raises(SettingWrong, match=f"POPAD_WRAPPERS: .*hosts.{which} cannot be applied: .*libwrap-that"):
        Rules()


@pytest.mark.usefixtures("no_libwrap")
def test_no_rules_and_no_libwrap(tables: Tables) -> None:
    """Served; until somebody writes a rule."""
    rules = Rules()
    ours, theirs = socket.socketpair()
    with ours:
        connection = Connection(theirs.detach(), "192.0.2.1", 1)
        assert not rules.refuse(connection)
        tables.write(allow="# nothing yet\n")
        assert not rules.refuse(connection)
        tables.write(deny="popad: ALL\n")
        with pytest.raises(SettingWrong):
            rules.refuse(connection)
        connection.hang_up()


def test_has_rules(tmp_path: Path) -> None:
    table = tmp_path / "hosts.deny"
    assert not has_rules(str(table))
    for text in ("", "\n\n", "# popad: ALL\n  \n"):
        table.write_text(text)
        assert not has_rules(str(table))
    for text in ("# first\npopad: ALL", "   # popad: ALL\n"):  # to libwrap, the second is about a daemon # and popad
        table.write_text(text)
        assert has_rules(str(table))
    assert has_rules(str(tmp_path))  # cannot be read: it may say something


# -- in sessions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(public_path: Path) -> Server:
    server = Server(public_path)
    server.deliver(MAIL)
    return server


def popad_with(tables: Tables, library: str = "") -> tuple[str, ...]:
    """popad with tables of the test's own (and a libwrap that is not there)."""
    code = (
        "import ctypes; from popad import sinks; from popad.net import wrappers; sinks.journald.path = '/nonexistent'\n"
        f"wrappers.TABLES = {tables.names!r}\n"
        f"wrappers.LIBRARY = {library or wrappers.LIBRARY!r}\n"
    )
    if not library:
        code += (
            "libwrap = ctypes.CDLL(wrappers.LIBRARY)\n"
            f"ctypes.c_char_p.in_dll(libwrap, 'hosts_allow_table').value = {tables.names[0].encode()!r}\n"
            f"ctypes.c_char_p.in_dll(libwrap, 'hosts_deny_table').value = {tables.names[1].encode()!r}\n"
        )
    return POPAD[0], "-c", code + "from popad.__main__ import main; main()"


@needs_libwrap
def test_in_the_daemon(server: Server, tables: Tables) -> None:
    """Asked in the child: no word, no session; another client is served. "never" asks nobody."""
    tables.write(deny="popad: 127.0.0.1\n")
    with daemon(server, program=popad_with(tables)) as running:
        client = running.connect()
        assert client.rest() == b""
        client.close()
        running.entries("access-denied")
        neighbour = running.connect(source="127.0.0.2")
        assert neighbour.log_in().startswith(b"+OK")
        neighbour.close()
        assert len(running.entries("session-opened")) == 1
    with daemon(server, {"POPAD_WRAPPERS": "never"}, program=popad_with(tables)) as running:
        client = running.connect()
        assert client.log_in().startswith(b"+OK")
        client.close()


@needs_libwrap
@pytest.mark.parametrize(("wrappers", "expected"), [("always", b""), ("daemon", b"+OK"), ("never", b"+OK")])
def test_in_an_inherited_session(server: Server, tables: Tables, wrappers: str, expected: bytes) -> None:
    tables.write(deny="popad: 127.0.0.1\n")
    with server.session({"POPAD_WRAPPERS": wrappers}, popad_with(tables)) as (client, process):
        assert client.line()[:3] == expected
        if expected:
            client.ask(f"USER {NAME}")
            assert client.ask(f"PASS {PASSWORD}").startswith(b"+OK")
            client.ask("QUIT")
        assert process.wait(20) == 0
    assert ("access-denied" in server.events) == (not expected)


def test_the_daemon_does_not_start_without_libwrap(server: Server, tables: Tables) -> None:
    tables.write(deny="popad: ALL\n")
    with (
        pytest.raises(AssertionError, match=r"POPAD_WRAPPERS: .*hosts\.deny cannot be applied"),
        daemon(server, program=popad_with(tables, "no-libwrap.so")),
    ):
        pass


def test_the_daemon_without_libwrap_and_rules_since(server: Server, tables: Tables) -> None:
    with daemon(server, program=popad_with(tables, "no-libwrap.so")) as running:
        client = running.connect()
        assert client.log_in().startswith(b"+OK")
        client.close()
        tables.write(deny="popad: 192.0.2.1\n")
        client = running.connect()
        assert client.rest().startswith(b"-ERR [SYS/PERM]")
        client.close()
        running.entries("setting-wrong")


def test_an_inherited_session_without_libwrap(server: Server, tables: Tables) -> None:
    tables.write(deny="popad: ALL\n")
    program = popad_with(tables, "no-libwrap.so")
    with server.session({"POPAD_WRAPPERS": "always"}, program) as (client, process):
        assert client.rest().startswith(b"-ERR [SYS/PERM]")
        assert process.wait(20) == 78
    assert "POPAD_WRAPPERS" in server.stderr.read_text()
