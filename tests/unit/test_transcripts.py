"""Every dialogue of transcripts/ in process in all pieces, and once over TCP with a real session.

Where what POP3 servers are complained about, and what has wounded them, is tested (STLS has tests/unit/tls, SCRAM
test_sasl.py; ENOSPC and power loss with the faults' own tests):

| complaint or wound | where |
|---|---|
| unique-ids that change | uidl.txt, test_uidl.py (vectors, stability) |
| identical unique-ids | uidl-twins.txt, test_uidl.py |
| [IN-USE] for minutes after a dropped line | test_monitor_ends.py: a client that leaves ... blocks nobody |
| limits that hit a whole NAT without a word | the socket unit: tests/system |
| LIST and STAT count deleted messages | list.txt, stat.txt, test_maildrop.py |
| sizes that count LF | stat.txt, test_scan.py: size is what RETR sends |
| dots not stuffed across a buffer's edge | test_replies.py: any blocks; large-message.txt |
| a bare LF or CR at the end of a message | line-ends-in-mail.txt, no-final-line-end.txt |
| TOP n counted wrong | top.txt, test_replies.py |
| mail expunged in mid-session | expunged-elsewhere.txt, test_store.py, test_monitor_ends.py |
| slow opening of large mailboxes | tests/bench |
| no address in the log line | test_journal.py, test_monitor.py: log of a session |
| AUTH without an argument | auth-probe.txt |
| commands behind STLS in the same segment | stls-behind.txt: there is no STLS |
| format strings | wrong-names.txt, octets.txt, test_monitor_logins.py: formats and quotes |
| lines of megabytes | long-lines.txt, test_lines.py: endless line keeps no memory |
| NUL | nul.txt, octets.txt |
| TOP without arguments, extra arguments | top.txt, numbers.txt, noop.txt, test_dialogue.py |
| `..` split across packets | every transcript, at every split |
| a spool that is a symlink, FIFO, hard link, directory, or swapped | test_store.py |
| names `../x`, `a/b`, CR, LF | name-with-a-path.txt, name-with-cr.txt, test_identity.py, test_monitor_logins.py |
| a stuck lock holder | test_locks.py, test_store.py, test_monitor_ends.py |
| append, truncate, rewrite, rename during RETR | mail-arrives.txt, truncated.txt, replaced.txt, test_store.py |
| a client that never reads | test_connection.py, test_monitor_ends.py |
| identical headers 100,000 times | test_uidl.py |
| a header line of gigabytes | test_scan.py, test_uidl.py: memory does not grow with a line |
| the time a known and an unknown name take | test_credentials.py, test_helper.py |
| PASS and QUIT without their line end | unterminated-pass.txt, unterminated-quit.txt, test_monitor_ends.py |
"""

import os
import pwd
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from popad.maildrop.mbox.ids import SUFFIX
from popad.maildrop.private import SharedDirectory
from popad.protocol import authorization, transaction
from popad.settings import Settings
from tests.support import clock, transcript
from tests.support.serving import OWNER, POPAD, Client, Server
from tests.support.transcript import DIRECTORY, Step, Transcript, play, singles, splits

PATHS = sorted(path for path in DIRECTORY.glob("*.txt") if path.name != "messages.txt")
every = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


class Place:
    """Where transcripts are played in process."""

    def __init__(self, path: Path) -> None:
        self.mailbox = path / "mailbox"
        (path / "state").mkdir(parents=True)
        self.state = SharedDirectory(str(path / "state"))

    def check(self, script: Transcript, steps: list[Step]) -> None:
        """Play the steps: the client must receive what the transcript says, and the mailbox be what it says."""
        self.mailbox.unlink(missing_ok=True)
        for remembered in (self.mailbox.parent / "state").glob(f"*{SUFFIX}"):
            remembered.unlink()  # the same messages come again
        if script.before is not None:
            self.mailbox.write_bytes(script.before)
        received = play(steps, self.mailbox, self.state, Settings(script.settings))
        assert script.expected().fullmatch(received), differences(script, received)
        assert (self.mailbox.read_bytes() if self.mailbox.exists() else None) == script.after


def differences(script: Transcript, received: bytes) -> str:
    """The two dialogues side by side, as far as they can be."""
    expected = [text for mark, text in script.lines if mark == "S:"]
    return "\n".join(["expected:", *expected, "received:", *received.decode("latin-1").split("\r\n")])


@pytest.fixture(scope="module")
def place(quick_path: Path) -> Iterator[Place]:
    place = Place(quick_path / "transcripts")
    with clock.not_waited_for():
        # Other programs act only where a transcript says so, and then change the size or the file: no waiting for the
        # clock. That a change within its tick is noticed is tested in test_store.py.
        yield place
    os.close(place.state.fd)
    shutil.rmtree(quick_path / "transcripts")


@every
def test_in_process(path: Path, place: Place) -> None:
    """In one write, octet by octet, and in two pieces at every place."""
    script = Transcript(path)
    steps = script.steps()
    place.check(script, steps)
    place.check(script, singles(steps))
    for pieces in splits(steps):
        place.check(script, pieces)


@every
def test_over_a_connection(path: Path, public_path: Path) -> None:
    """Question and answer, with the processes and identities of a real session."""
    script = Transcript(path)
    server = Server(public_path)
    if script.before is not None:
        server.deliver(script.before)
    with server.session(script.settings, POPAD) as (client, process):
        for number, (mark, text) in enumerate(script.lines):
            step(script, client, server, mark, text, number)
        client.close()
        assert process.wait(20) == 0
    assert (server.mailbox.read_bytes() if server.mailbox.exists() else None) == script.after
    if server.mailbox.exists():
        assert server.mailbox.stat().st_uid == pwd.getpwnam(OWNER).pw_uid
    assert "Traceback" not in server.stderr.read_text()


def step(script: Transcript, client: Client, server: Server, mark: str, text: str, number: int) -> None:
    """One line of a transcript."""
    if mark == "S:":
        line = b"".join(client.line() for _ in range(transcript.octets_of(text).count(b"\n") + 1))
        assert re.fullmatch(transcript.pattern(text), line), f"line {number}: {text!r} expected, {line!r} received"
    elif mark == "END":
        assert client.rest() == b""
    elif mark == "LEAVE":
        client.socket.shutdown(1)
        assert client.rest() == b""
    elif mark == "!":
        script.action(text)(server.mailbox)
    else:
        try:
            client.send(transcript.octets_of(text) + (b"\r\n" if mark == "C:" else b""))
        except (BrokenPipeError, ConnectionResetError):
            assert ("END", "") in script.lines[number:], "the session ended too early"


# -- the transcripts themselves


def test_each_says_what_it_is_about() -> None:
    for path in PATHS:
        head = " ".join(Transcript(path).head)
        assert len(head) > 20, path.name


def test_each_command_is_spoken_well_and_badly() -> None:
    """Every row of both tables has a line that gets +OK, and one with a fault that gets -ERR."""
    good: set[bytes] = set()
    bad: set[bytes] = set()
    for path in PATHS:
        lines = [(mark, text) for mark, text in Transcript(path).lines if mark in ("C:", "S:")]
        for (mark, text), (answer, status) in pairwise(lines):
            if (mark, answer) == ("C:", "S:"):
                (good if status.startswith("+OK") else bad).add(text.split(" ")[0].upper().encode())
    # A transcript has no TLS: tests/unit/tls/test_start.py has STLS.
    assert set(authorization.TABLE) | set(transaction.TABLE) <= good | {b"STLS"}
    assert set(authorization.TABLE) | set(transaction.TABLE) <= bad


def test_response_codes_that_a_login_can_get_are_spoken() -> None:
    spoken = " ".join(text for path in PATHS for mark, text in Transcript(path).lines if mark == "S:")
    assert "[AUTH]" in spoken
    assert "[SYS/PERM]" in spoken


def test_table_at_the_head_names_what_there_is() -> None:
    assert __doc__ is not None
    for name in re.findall(r"[\w-]+\.txt", __doc__):
        assert (DIRECTORY / name).exists(), name
    for name in re.findall(r"test_\w+\.py", __doc__):
        assert list((DIRECTORY.parent / "unit").rglob(name)), name


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("plain", b"plain"),
        (r"\r\n\t\0\\", b"\r\n\t\0\\"),
        (r"\xff\x00", b"\xff\0"),
        (r"a\(x*3)b", b"axxxb"),
        (r"\(\r\n*2)", b"\r\n\r\n"),
        ("ä", b"\xc3\xa4"),
    ],
)
def test_escapes(text: str, octets: bytes) -> None:
    assert transcript.octets_of(text) == octets
