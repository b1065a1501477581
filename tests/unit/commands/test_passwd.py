"""commands/passwd.py: `popad passwd NAME` with its input from a pipe and from a terminal."""

import os
import pty
import subprocess

import pytest

from popad.auth import credentials
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE
from tests.support.serving import POPAD


def passwd(name: bytes, octets: bytes, *more: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*POPAD, "passwd", name, *more], cwd=CHECKOUT, env={}, input=octets, capture_output=True, timeout=PATIENCE
    )


@pytest.mark.parametrize(
    ("octets", "password"),
    [
        (b"secret\n", b"secret"),
        (b"secret\r\n", b"secret"),
        (b"secret", b"secret"),
        (b" two words \nignored\n", b" two words "),
        (b"p\xc3\xa4ss\xff\n", b"p\xc3\xa4ss\xff"),
        (b"x" * 249 + b"\n", b"x" * 249),
    ],
)
def test_from_a_pipe(octets: bytes, password: bytes) -> None:
    done = passwd(b"alice", octets)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\n") == 1
    fields = done.stdout.decode().split()
    assert fields[0] == "alice"
    assert credentials.parse(fields, "stdout").matches(password)


@pytest.mark.parametrize("octets", [b"", b"\n", b"a\0b\n", b"x" * 250 + b"\n"])
def test_what_is_no_password(octets: bytes) -> None:
    done = passwd(b"alice", octets)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"popad passwd: ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "name", [b"", b"a b", b"a/b", b"..", b"#alice", b"a\tb", b"a\nb", b"\xff", b"x" * 250, b".a", b"a.lock"]
)
def test_what_is_no_name_in_the_file(name: bytes) -> None:
    done = passwd(name, b"secret\n")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"popad passwd: ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["alice", "alice@example.org", "Jürgen", "a#b"])
def test_names(name: str) -> None:
    done = passwd(name.encode(), b"secret\n")
    assert done.returncode == 0
    assert done.stdout.decode().split()[0] == name
    assert done.stderr == b""


def test_iterations() -> None:
    done = passwd(b"alice", b"secret\n", "10000")
    assert credentials.parse(done.stdout.decode().split(), "stdout").iterations == 10_000


@pytest.mark.parametrize("iterations", ["4095", "10000001", "x", "-1", ""])
def test_iterations_out_of_bounds(iterations: str) -> None:
    done = passwd(b"alice", b"secret\n", iterations)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"popad passwd: iterations")


def at_a_terminal(*answers: bytes) -> tuple[int, bytes]:
    """Answer each prompt; the exit status and all that the terminal shows."""
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            os.chdir(CHECKOUT)
            os.execve(POPAD[0], [*POPAD, "passwd", "alice"], {"PATH": os.defpath})
        finally:
            os._exit(99)
    shown = b""
    left = list(answers)
    while True:
        try:
            octets = os.read(terminal, 4096)
        except OSError:  # Linux says EIO when the other side has closed
            break
        if not octets:
            break
        shown += octets
        if shown.endswith(b": ") and left:
            os.write(terminal, left.pop(0) + b"\n")
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


def test_a_terminal_is_asked_twice_and_shows_no_password() -> None:
    status, shown = at_a_terminal("pässword".encode(), "pässword".encode())
    assert status == 0
    assert "pässword".encode() not in shown
    first, second, line = shown.decode().strip().splitlines()
    assert (first.strip(), second.strip()) == ("Password:", "Again:")
    assert credentials.parse(line.split(), "terminal").matches("pässword".encode())


def test_two_passwords_that_differ() -> None:
    status, shown = at_a_terminal(b"secret", b"Secret")
    assert status == 1
    assert b"differ" in shown
    assert b"SCRAM" not in shown
