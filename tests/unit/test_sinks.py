"""sinks.py: what a log takes and what it does not, and that nobody waits for it. Sessions: test_lost_entries.py."""

import contextlib
import fcntl
import os
import pty
import socket
import subprocess
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from popad import sinks
from popad.sinks import MOMENT, Datagrams, Sink, StandardError, Words
from tests.support.here import CHECKOUT
from tests.support.marks import needs_root
from tests.support.patience import PATIENCE
from tests.support.pipe import Pipe
from tests.support.serving import PYTHON

NOBODY = 65534
LINE = b"event=x\n"
Used = TypeVar("Used", bound=Sink)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@contextlib.contextmanager
def closing(sink: Used) -> Iterator[Used]:
    """For a sink with a socket of its own."""
    try:
        yield sink
    finally:
        if sink.way:
            sink.way.close()


def timed(sink: Sink, entry: bytes = LINE) -> tuple[bool, float]:
    """What put() says, and the seconds that it took."""
    begun = time.monotonic()
    return sink.put(entry), time.monotonic() - begun


def check_that_it_is_waited_for_once(sink: Sink) -> None:
    """One that takes nothing: a moment, and then no time at all."""
    taken, seconds = timed(sink)
    assert not taken
    assert MOMENT <= seconds < PATIENCE
    assert sink.failure == "it takes nothing"
    for _ in range(100):
        taken, again = timed(sink)
        assert not taken
        seconds += again
    assert seconds < 100 * MOMENT / 2, "each would have waited"


# -- standard error


def test_a_pipe(pipe: Pipe) -> None:
    assert StandardError(pipe.writing).put(LINE)
    assert pipe.read() == LINE
    assert not fcntl.fcntl(pipe.writing, fcntl.F_GETFL) & os.O_NONBLOCK, "whoever shares it has not asked for that"


def test_a_file_keeps_its_position(tmp_path: Path) -> None:
    """Opened once more it would have another one: what others have written would be written over."""
    path = tmp_path / "log"
    with path.open("wb", buffering=0) as file:
        file.write(b"before\n")
        sink = StandardError(file.fileno())
        assert sink.put(LINE)
        file.write(b"between\n")
        assert sink.put(LINE)
    assert path.read_bytes() == b"before\n" + LINE + b"between\n" + LINE


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket(kind: socket.SocketKind) -> None:
    ours, theirs = socket.socketpair(type=kind)
    with ours, theirs, closing(StandardError(theirs.fileno())) as sink:
        assert sink.put(LINE)
        assert ours.recv(100) == LINE
        while sink.put(LINE * 100):
            pass
        assert sink.failure == "it takes nothing"
        while not sink.put(LINE):
            assert ours.recv(1 << 20)


def test_a_terminal() -> None:
    """One that is stopped (Ctrl-S) takes nothing."""
    keyboard, screen = pty.openpty()
    try:
        tty.setraw(screen)
        sink = StandardError(screen)
        assert sink.put(LINE)
        assert os.read(keyboard, 100) == LINE
        import termios

        termios.tcflow(screen, termios.TCOOFF)
        check_that_it_is_waited_for_once(sink)
        termios.tcflow(screen, termios.TCOON)
        assert sink.put(LINE)
    finally:
        os.close(keyboard)
        os.close(screen)


def test_a_full_pipe(pipe: Pipe) -> None:
    """And one that is read again."""
    sink = StandardError(pipe.writing)
    pipe.fill()
    check_that_it_is_waited_for_once(sink)
    pipe.read()
    assert sink.put(LINE)
    assert pipe.read() == LINE
    pipe.fill()
    check_that_it_is_waited_for_once(sink)


@needs_root
def test_a_full_pipe_of_somebody_else(pipe: Pipe) -> None:
    """It may not be opened once more: who has been started by root, and is root no longer, cannot."""
    pipe.fill()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.setresuid(NOBODY, NOBODY, NOBODY)
            sink = StandardError(pipe.writing)
            check_that_it_is_waited_for_once(sink)
            assert sink.some == sink.write_if_ready
            pipe_is_read = os.read(pipe.reading, 1 << 20)
            assert sink.put(LINE * 10_000 if len(pipe_is_read) > 80_000 else LINE)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert pipe.read() == LINE


def test_a_pipe_that_nobody_reads_any_more(pipe: Pipe) -> None:
    """Before the first entry, and after it. The signal would end the process."""
    late = StandardError(pipe.writing)
    assert late.put(LINE)
    os.close(pipe.reading)
    for sink in (late, StandardError(pipe.writing)):
        taken, _ = timed(sink)
        assert not taken
        assert sink.failure


def test_a_full_disk() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        sink = StandardError(full.fileno())
        taken, seconds = timed(sink)
        assert not taken
        assert "No space left" in sink.failure
        assert seconds < MOMENT, "it said so at once"


def test_a_closed_one(pipe: Pipe) -> None:
    os.close(pipe.writing)
    sink = StandardError(pipe.writing)
    assert not sink.is_there()
    assert not sink.put(LINE)


def test_nobody_reads_dev_null() -> None:
    with open(os.devnull, "wb") as null, open("/dev/full", "wb") as full:
        assert not StandardError(null.fileno()).is_there()
        assert StandardError(full.fileno()).is_there()


def test_another_file_under_the_number(pipe: Pipe) -> None:
    """As when a daemon detaches; and as when a process closes all that it has, and gets a client's connection."""
    sink = StandardError(pipe.writing)
    assert sink.put(LINE)
    other = Pipe()
    try:
        os.dup2(other.writing, sink.fd)  # the way that it has made for itself
        assert sink.put(LINE)
        assert (pipe.read(), other.read()) == (LINE * 2, b"")
        os.dup2(other.writing, pipe.writing)  # what it was given
        assert sink.put(LINE)
        assert (pipe.read(), other.read()) == (b"", LINE)
    finally:
        other.close()


def test_a_line_that_was_cut_short_has_no_other_behind_it(pipe: Pipe) -> None:
    sink = StandardError(pipe.writing)
    assert not sink.put(b"x" * 100_000)  # more than the pipe holds
    cut = pipe.read()
    assert set(cut) == {ord("x")}
    assert sink.put(LINE)
    assert sink.put(LINE)
    assert pipe.read() == b"\n" + LINE + LINE


# -- the journal's and syslog's sockets


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def listening(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(path))
    made.setblocking(False)
    return made


def test_a_log_that_starts_late_and_again(path: Path) -> None:
    with closing(Datagrams(str(path))) as sink:
        assert not sink.put(b"nobody")
        assert "No such file" in sink.failure
        for entry in (b"one", b"two"):
            with listening(path) as log:
                assert sink.put(entry)
                assert log.recv(100) == entry
            path.unlink()
            assert not sink.put(b"nobody")


def test_a_log_that_hangs(path: Path) -> None:
    """Its queue is full."""
    with listening(path) as log, closing(Datagrams(str(path))) as sink:
        count = 0
        while sink.put(b"%d" % count):
            count += 1
        sink.patience = MOMENT
        check_that_it_is_waited_for_once(sink)
        assert log.recv(100) == b"0"
        assert sink.put(b"again")
        assert [log.recv(100) for _ in range(count)] == [*(b"%d" % number for number in range(1, count)), b"again"]


def test_no_descriptor_is_left(path: Path) -> None:
    """That has to be in the journal, too."""
    with listening(path) as log:
        code = f"""
import os, resource
from popad.sinks import Datagrams
sink = Datagrams({str(path)!r})
sink.open()
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
os._exit(not sink.put(b"entry"))
"""
        assert subprocess.run([PYTHON, "-c", code], cwd=CHECKOUT, timeout=PATIENCE).returncode == 0
        assert log.recv(100) == b"entry"


def test_another_socket_under_its_number(path: Path) -> None:
    """A process that has closed all that it had: the number may be a client's connection by now."""
    client, connection = socket.socketpair(type=socket.SOCK_DGRAM)
    with listening(path) as log, client, connection, closing(Datagrams(str(path))) as sink:
        assert sink.put(b"one")
        assert sink.way is not None
        number = sink.way.fileno()
        os.dup2(connection.fileno(), number)
        assert sink.put(b"two")
        assert os.fstat(number).st_ino == os.fstat(connection.fileno()).st_ino, "not closed, either"
        os.close(number)
        assert [log.recv(100), log.recv(100)] == [b"one", b"two"]
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(100)


def test_a_line_for_syslog(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facility mail (2), as syslog(3) sends it to its socket: with a date and no host's name."""
    with listening(path) as log, closing(Datagrams(str(path))) as sink:
        monkeypatch.setattr(sinks, "syslog", sink)
        before = time.strftime("%b %e %H:%M:%S")
        assert sinks.to_syslog(sinks.ERROR, "Grüße")
        line = log.recv(100).decode()
        after = time.strftime("%b %e %H:%M:%S")
    assert line in [f"<19>{stamp} popad[{os.getpid()}]: Grüße" for stamp in (before, after)]


# -- other words


def test_words_go_on_line_by_line() -> None:
    said: list[str] = []
    words = Words(said.append)
    print("a", "b", file=words)
    print("c\nd", end="", file=words)
    assert said == ["a b\n", "c\n"]
    words.flush()
    words.flush()
    assert said == ["a b\n", "c\n", "d\n"]


def run_with(stderr: int, code: str) -> "subprocess.CompletedProcess[bytes]":
    words = [PYTHON, "-c", f"import sys; from popad import sinks\n{code}"]
    return subprocess.run(words, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=stderr, timeout=PATIENCE)


CRASH = """
sinks.guard_standard_error()
print("a print", file=sys.stderr, flush=True)
try:
    1 / 0
except ZeroDivisionError:
    sys.excepthook(*sys.exc_info())
print("lives")
"""


def test_tracebacks_and_prints_end_nobody(pipe: Pipe) -> None:
    """On a full disk, into a pipe that is full, or that nobody reads."""
    with open("/dev/full", "wb") as full:
        assert run_with(full.fileno(), CRASH).stdout == b"lives\n"
    assert run_with(pipe.writing, CRASH).stdout == b"lives\n"
    said = pipe.read()
    assert said.startswith(b"a print\nTraceback (most recent call last):\n")
    assert said.endswith(b"ZeroDivisionError: division by zero\n")
    pipe.fill()
    assert run_with(pipe.writing, CRASH).stdout == b"lives\n"
    os.close(pipe.reading)
    assert run_with(pipe.writing, CRASH).stdout == b"lives\n"


def test_tracebacks_that_nobody_could_read_go_to_syslog(path: Path) -> None:
    with listening(path) as log:
        done = run_with(subprocess.DEVNULL, f"sinks.syslog.path = {str(path)!r}\n{CRASH}")
        assert done.stdout == b"lives\n"
        lines = []
        with contextlib.suppress(BlockingIOError):
            while True:
                lines.append(log.recv(1000).decode().partition("]: ")[2])
    assert lines[:2] == ["a print", "Traceback (most recent call last):"]
    assert lines[-1] == "ZeroDivisionError: division by zero"
