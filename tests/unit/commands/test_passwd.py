"""commands/passwd.py: `popad passwd NAME` with its input from a pipe and from a terminal."""

import os
import pty
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from popad.auth import credentials
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE
from tests.support.serving import POPAD

CTRL_C = b"\x03"


def passwd(name: bytes, octets: bytes, *more: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*POPAD, "passwd", *more, name], cwd=CHECKOUT, env={}, input=octets, capture_output=True, timeout=PATIENCE
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
    done = passwd(b"alice", b"secret\n", "--iterations=10000")
    assert credentials.parse(done.stdout.decode().split(), "stdout").iterations == 10_000


@pytest.mark.parametrize("iterations", ["4095", "10000001", "x", "-1", ""])
def test_iterations_out_of_bounds(iterations: str) -> None:
    done = passwd(b"alice", b"secret\n", f"--iterations={iterations}")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"popad passwd: iterations")


def at_a_terminal(*answers: bytes, more: Sequence[str] = ()) -> tuple[int, bytes]:
    """Answer each prompt; the exit status and all that the terminal shows."""
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            os.chdir(CHECKOUT)
            os.execve(POPAD[0], [*POPAD, "passwd", *more, "alice"], {"PATH": os.defpath})
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
            answer = left.pop(0)
            os.write(terminal, answer + b"\n" * (answer != CTRL_C))
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


@pytest.mark.parametrize("answers", [[CTRL_C], [b"secret", CTRL_C]])
def test_who_interrupts_it_sees_no_traceback(answers: list[bytes], tmp_path: Path) -> None:
    status, shown = at_a_terminal(*answers, more=["--file", str(tmp_path / "credentials")])
    assert status == 130
    assert b"Traceback" not in shown
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_a_terminal_is_no_password() -> None:
    status, shown = at_a_terminal(b"\x04")
    assert status == 1
    assert b"no password was given" in shown


# -- the file changed in place: commands/credentials_file.py has its own tests


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "credentials"


def change(file: Path, name: str, password: str = "", *more: str) -> "subprocess.CompletedProcess[bytes]":
    """`popad passwd --file FILE …`, with few iterations where a line is made."""
    few = [] if "--delete" in more else ["--iterations=4096"]
    return passwd(name.encode(), f"{password}\n".encode(), "--file", str(file), *few, *more)


def test_a_second_time_is_another_password(file: Path) -> None:
    """With >> it was the end of her logins: a name may stand in the file once."""
    for password, what in (("first", "added"), ("second", "replaced")):
        done = change(file, "jane", password)
        assert (done.returncode, done.stdout.decode(), done.stderr) == (0, f"{file}: jane {what}\n", b"")
        (line,) = file.read_text().splitlines()
        assert credentials.parse(line.split(), "file").matches(password.encode())
    assert file.stat().st_mode & 0o777 == 0o600


def test_delete(file: Path) -> None:
    for name in ("jane", "john"):
        change(file, name, "secret")
    done = change(file, "jane", "", "--delete")
    assert (done.returncode, done.stdout.decode()) == (0, f"{file}: jane deleted\n")
    assert file.read_text().startswith("john ")
    done = change(file, "jane", "", "--delete")
    assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", f"popad passwd: {file}: there is no jane\n")


def test_to_delete_needs_a_file() -> None:
    done = passwd(b"jane", b"", "--delete")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"popad passwd: --delete needs --file\n")


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    done = change(tmp_path / "none/credentials", "jane", "secret")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == f"popad passwd: {tmp_path}/none/credentials: No such file or directory\n"


def test_many_at_once(file: Path) -> None:
    """Each waits for the one before: nobody's line is lost."""
    names = [f"user{number}" for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        assert {done.returncode for done in pool.map(lambda name: change(file, name, "secret"), names)} == {0}
    assert sorted(line.split()[0] for line in file.read_text().splitlines()) == sorted(names)
    assert list(file.parent.iterdir()) == [file]
