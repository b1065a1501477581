"""journal.py: what an entry looks like in the journal (a socket in its place) and on standard error."""

import ast
import fcntl
import json
import os
import re
import string
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad import journal, sinks
from popad.journal import EVENTS, Event, Value
from popad.sinks import StandardError
from tests.support import private
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE
from tests.support.serving import PYTHON, read_logfmt

# Speaks the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): NAME=value LF, or NAME LF, the size as 64
# bits, the value, LF. Prints the entries that the code under test has sent.
RECEIVER = """
import fcntl, json, os, socket, sys
os.makedirs("/run/systemd/journal")
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind("/run/systemd/journal/socket")
receiver.setblocking(False)
from popad import journal
entries, files = [], []
def receive():
    while True:
        try:
            data, ancillary, _, _ = receiver.recvmsg(1 << 20, socket.CMSG_LEN(4))
        except BlockingIOError:
            break
        for _, _, number in ancillary:
            file = int.from_bytes(number, sys.byteorder)
            data = data or os.pread(file, os.fstat(file).st_size, 0)
            files.append([os.fstat(file).st_size, fcntl.fcntl(file, fcntl.F_GET_SEALS)])
            os.close(file)
        entry = []
        while data:
            line, _, data = data.partition(b"\\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                size = int.from_bytes(data[:8], "little")
                value, data = data[8 : 8 + size], data[9 + size :]
            entry.append([name.decode(), value.decode("latin-1")])
        entries.append(entry)
for name, fields in json.load(sys.stdin):
    event = next(event for event in journal.EVENTS if event.name == name)
    journal.send(event, **{
        key: value.encode("latin-1") if key in ("user", "maildrop") else value for key, value in fields.items()})
    receive()
print(json.dumps([entries, sorted(sys.modules), files]))
"""


def in_a_journal(tmp_path: Path, *entries: tuple[str, dict[str, object]]) -> tuple[list[list[list[str]]], list[str]]:
    """What arrives in the journal, and the modules that sending it has loaded."""
    run = tmp_path / "run"
    run.mkdir()
    answer = private.run(RECEIVER, {"/run": run}, entries)
    assert isinstance(answer, list)
    return answer[0], answer[1]


# Every event twice: as popad sends it, and as systemd-python (sd_journal_sendv(3)) sends the same fields.
BY_BOTH = RECEIVER.replace(
    "from popad import journal\n",
    """
from popad import journal
from systemd.journal import sendv

def by_the_library(event, **fields):
    sendv(*(f"{name}={value}" for name, value in journal.entry_of(event, fields).items()))

""",
).replace(
    "    journal.send(event,",
    """    for send in (journal.send, by_the_library):
      send(event,""",
)
assert "by_the_library):" in BY_BOTH
assert "import sendv" in BY_BOTH


def test_an_entry_is_what_systemds_library_sends(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    fields = {"rhost": "192.0.2.7", "rport": 40000, "user": "al\xefce\n=x", "reason": "é\n\0=\\", "maildrop": ""}
    answer = private.run(BY_BOTH, {"/run": run}, [(event.name, fields) for event in journal.EVENTS])
    assert isinstance(answer, list)
    entries = answer[0]
    assert len(entries) == 2 * len(journal.EVENTS)
    for ours, the_librarys in zip(entries[::2], entries[1::2], strict=True):
        assert ours == the_librarys
        assert ["POPAD_RPORT", "40000"] in ours


def test_an_entry_that_is_too_large_for_a_datagram_is_the_one_that_the_library_sends(tmp_path: Path) -> None:
    """In a sealed file in memory; the library's socket has a larger buffer, and may send it as it is."""
    run = tmp_path / "run"
    run.mkdir()
    large = {"rhost": "192.0.2.7", "reason": "é\n" * 30_000}
    answer = private.run(BY_BOTH, {"/run": run}, [("contract-broken", large)])
    assert isinstance(answer, list)
    (ours, the_librarys), _, files = answer
    assert ours == the_librarys
    assert len(dict(ours)["POPAD_REASON"]) > 100_000
    sealed = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    assert files[0][1] == sealed


def on_stderr(event: Event, monkeypatch: pytest.MonkeyPatch, **fields: Value) -> str:
    reading, writing = os.pipe()
    with monkeypatch.context() as patch:
        patch.setattr(sinks.journald, "path", "/nonexistent")
        patch.setattr(sinks, "standard_error", StandardError(writing))
        journal.send(event, **fields)
        os.close(sinks.standard_error.fd)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        return pipe.read()


def test_entry_in_the_journal(tmp_path: Path) -> None:
    [entry], modules = in_a_journal(
        tmp_path,
        ("login-passed", {"rhost": "192.0.2.7", "rport": 4711, "user": "alice", "maildrop": "mbox:/m", "left": None}),
    )
    assert dict(entry) == {
        "MESSAGE": '192.0.2.7: authentication passed for "alice"',
        "MESSAGE_ID": journal.LOGIN_PASSED.message_id,
        "PRIORITY": "5",
        "SYSLOG_IDENTIFIER": "popad",
        "SYSLOG_FACILITY": "2",
        "POPAD_EVENT": "login-passed",
        "POPAD_RHOST": "192.0.2.7",
        "POPAD_RPORT": "4711",
        "POPAD_USER": "alice",
        "POPAD_MAILDROP": "mbox:/m",
    }
    assert len(entry) == len(dict(entry))
    assert not {"systemd", "systemd._journal", "logging", "syslog"} & set(modules), "they cost each session 1 to 24 ms"


def test_nothing_of_an_attacker_makes_a_field_or_a_line(tmp_path: Path) -> None:
    """The name is what a client typed."""
    evil = 'x\nPRIORITY=0\nMESSAGE=all is well\0\x1b[2J"\\ \xff'
    [entry], _ = in_a_journal(tmp_path, ("login-failed", {"rhost": "192.0.2.7", "user": evil, "reason": "no"}))
    fields = dict(entry)
    assert len(entry) == len(fields)
    assert fields["PRIORITY"] == "5"
    escaped = "x\\x0aPRIORITY=0\\x0aMESSAGE=all is well\\x00\\x1b[2J{}\\x5c \\xff"
    assert fields["POPAD_USER"] == escaped.format('"')
    assert fields["MESSAGE"] == f'192.0.2.7: authentication failed for "{escaped.format(chr(92) + "x22")}": "no"'


# The journal's socket, and that of syslog, at places of a test's own; `line()` is what one of them has received.
PLACES = """
import json, os, socket, sys
from popad import journal, sinks
sinks.journald.path, sinks.syslog.path = sys.argv[1] + "/journal", sys.argv[1] + "/syslog"
def listening(path):
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(path)
    log.setblocking(False)
    return log
def lines(log):
    got = []
    try:
        while True: got.append(log.recv(1 << 20).decode())
    except BlockingIOError: return got
def send(user):
    journal.send(journal.LOGIN_PASSED, rhost="192.0.2.7", user=user)
"""
LOGFMT = (
    'event=login-passed priority=5 message="192.0.2.7: authentication passed for \\"{0}\\"" rhost=192.0.2.7 user={0}\n'
)


def run(code: str, tmp_path: Path, stderr: int = subprocess.PIPE) -> tuple[object, str]:
    """What the code prints, read as JSON, and its standard error."""
    words = [PYTHON, "-c", PLACES + code, str(tmp_path)]
    done = subprocess.run(words, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=stderr, timeout=PATIENCE, text=True)
    return json.loads(done.stdout), done.stderr or ""


def test_a_journal_that_does_not_answer(tmp_path: Path) -> None:
    """The socket is there and nobody listens: standard error has the entry."""
    code = "listening(sinks.journald.path).close(); send('alice'); print(journal.Lost.entries)"
    assert run(code, tmp_path) == (0, LOGFMT.format("alice"))


def test_a_journal_that_stops_in_the_middle_and_comes_back(tmp_path: Path) -> None:
    code = """
log = listening(sinks.journald.path); send("one"); got = lines(log)
log.close(); send("two")
os.unlink(sinks.journald.path); send("three")
log = listening(sinks.journald.path); send("four"); got += lines(log)
print(json.dumps([got, journal.Lost.entries]))
"""
    answer, stderr = run(code, tmp_path)
    assert isinstance(answer, list)
    assert [re.findall("POPAD_USER=(.*)", entry) for entry in answer[0]] == [["one"], ["four"]]
    assert stderr == LOGFMT.format("two") + LOGFMT.format("three")
    assert answer[1] == 0


def test_without_a_journal_and_a_reader_of_standard_error_there_is_syslog(tmp_path: Path) -> None:
    """As from inetd, whose standard error is the client, and in a daemon that has detached."""
    code = "log = listening(sinks.syslog.path); send('a b'); print(json.dumps(lines(log)))"
    answer, _ = run(code, tmp_path, subprocess.DEVNULL)
    assert isinstance(answer, list)
    (line,) = answer
    head, _, text = line.partition("]: ")
    assert re.fullmatch(r"<21>\w{3} [ \d]\d \d\d:\d\d:\d\d popad\[\d+", head)
    assert text == '192.0.2.7: authentication passed for "a b" event=login-passed rhost=192.0.2.7 user="a b"'


def test_a_journal_comes_before_syslog(tmp_path: Path) -> None:
    code = """
log, other = listening(sinks.journald.path), listening(sinks.syslog.path)
send("one"); print(json.dumps([len(lines(log)), len(lines(other))]))
"""
    assert run(code, tmp_path, subprocess.DEVNULL)[0] == [1, 0]


def test_what_was_lost_is_said_when_a_log_works_again(tmp_path: Path) -> None:
    """Before the entry that it takes first, once, with the count and the reason."""
    code = """
for user in ("one", "two", "three"): send(user)
lost = journal.Lost.entries
log = listening(sinks.syslog.path); send("four"); send("five"); print(json.dumps([lost, lines(log)]))
"""
    answer, _ = run(code, tmp_path, subprocess.DEVNULL)
    assert isinstance(answer, list)
    assert answer[0] == 3
    events = [re.findall(r"]: (.*) event=(\S+)", line)[0] for line in answer[1]]
    assert [event for _, event in events] == ["entries-lost", "login-passed", "login-passed"]
    reason = "syslog: [Errno 2] No such file or directory"
    assert events[0][0] == f'3 entries before this one could not be written: "{reason}"'


def test_what_was_lost_is_said_without_another_entry(tmp_path: Path) -> None:
    """Of sessions, too, that have told the daemon when they ended."""
    code = """
send("one"); journal.lost(2); journal.lost(0); journal.say_lost(); lost = journal.Lost.entries
log = listening(sinks.syslog.path); journal.say_lost(); journal.say_lost(); print(json.dumps([lost, lines(log)]))
"""
    answer, _ = run(code, tmp_path, subprocess.DEVNULL)
    assert isinstance(answer, list)
    assert answer[0] == 3
    assert len(answer[1]) == 1
    assert "3 entries before this one" in answer[1][0]


def test_entry_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    line = on_stderr(
        journal.LOGIN_FAILED, monkeypatch, rhost="192.0.2.7", user=b"a b=c", reason="wrong password", left=None
    )
    assert line == (
        "event=login-failed priority=5 "
        'message="192.0.2.7: authentication failed for \\"a b=c\\": \\"wrong password\\"" '
        'rhost=192.0.2.7 user="a b=c" reason="wrong password"\n'
    )


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_every_event_can_be_sent_with_and_without_its_fields(event: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = [name for _, name, _, _ in string.Formatter().parse(event.message) if name]
    full = on_stderr(event, monkeypatch, **dict.fromkeys(fields, "it's"))
    assert full.count('\\"it\'s\\"') == len(set(fields) - {"rhost"})
    assert "unknown" not in full
    bare = on_stderr(event, monkeypatch)
    assert bare.count("\n") == 1
    assert bare.count("unknown") == len(fields)


def test_events_are_distinct() -> None:
    assert len({event.name for event in EVENTS}) == len(EVENTS)
    assert len({event.message_id for event in EVENTS}) == len(EVENTS)
    assert {event.priority for event in EVENTS} <= {3, 4, 5}, "LogLevelMax=notice of popad@.service drops the others"
    for event in EVENTS:
        assert re.fullmatch("[0-9a-f]{32}", event.message_id)
        assert re.fullmatch("[a-z]+(-[a-z]+)*", event.name)


def test_each_event_has_a_name_in_the_module() -> None:
    assert [value for value in vars(journal).values() if isinstance(value, Event)] == EVENTS


def test_an_address_comes_first() -> None:
    """Log readers (fail2ban) look for the address at the start, where no attacker can write another one."""
    for event in EVENTS:
        if "{user}" in event.message:
            assert event.message.startswith("{rhost}: "), event.name


def test_every_event_is_sent_somewhere() -> None:
    sources = [path.read_text() for path in (CHECKOUT / "popad").rglob("*.py") if path.name != "journal.py"]
    named = {
        node.attr
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "journal"
    }
    defined = {name for name, value in vars(journal).items() if isinstance(value, Event)}
    assert defined <= named | {"ENTRIES_LOST"}  # by the journal itself


@given(st.binary())
def test_printable_octets(value: bytes) -> None:
    """What can be read is itself, the rest can be read back: nothing is lost, nothing is ambiguous."""
    plain = journal.printable(value)
    assert plain.isprintable()
    read_back = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), plain.encode())
    assert read_back == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("alice", "alice"),
        (b"Gr\xc3\xbc\xc3\x9fe", "Grüße"),
        ("a b", "a b"),
        (7, "7"),
        (None, "None"),
        ("\u202e", "\\xe2\\x80\\xae"),  # right-to-left override: shows what is not there
        ("\u2028", "\\xe2\\x80\\xa8"),
        (b"\xc3", "\\xc3"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        ("\\x41", "\\x5cx41"),
    ],
)
def test_printable(value: Value, shown: str) -> None:
    assert journal.printable(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (7, "7"),
        (-1, "-1"),
        ("7", '"7"'),
        ("", '""'),
        ("alice", '"alice"'),
        ('a" b', '"a\\x22 b"'),
        ("a\\", '"a\\x5c"'),
    ],
)
def test_quoted(value: Value, shown: str) -> None:
    assert journal.quoted(value) == shown


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::1", "unknown"])
def test_addresses_of_clients_are_not_quoted(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line = on_stderr(journal.SESSION_OPENED, monkeypatch, rhost=address)
    assert f'message="{address}: session"' in line


@pytest.mark.parametrize("name", [b"192.0.2.99", b"2001:db8::bad", b"::1", b"dead", b"1"])
def test_names_are_quoted_even_where_they_look_like_an_address(name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client writes the name: a log reader must not take it for an address, nor a person."""
    line = on_stderr(journal.LOGIN_FAILED, monkeypatch, rhost="192.0.2.7", user=name, reason="no")
    assert f'for \\"{name.decode()}\\"' in line


@given(st.dictionaries(st.sampled_from(["user", "reason", "maildrop", "kept"]), st.binary()))
def test_logfmt_can_be_read_back(fields: dict[str, bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        line = on_stderr(journal.CONTRACT_BROKEN, patch, **fields)
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    read = read_logfmt(line.rstrip("\n"))
    assert read.keys() == {"event", "priority", "message", *fields}
    for name, value in fields.items():
        assert read[name] == journal.printable(value)
