"""commands/passwd.py: `popad passwd NAME` with its input from a pipe and from a terminal."""

import os
import pty
import select
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from popad.auth import credentials
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE
from tests.support.serving import POPAD
from tests.support.terminal import SHELL, blocks

CTRL_C = b"\x03"
AGAIN = 1.0  # seconds after which somebody presses it once more


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
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.endswith(b"popad passwd: error: iterations: 4096 to 10000000\n")


def at_a_terminal(*answers: bytes, more: Sequence[str] = ()) -> tuple[int, bytes]:
    """Answer each prompt; the exit status and all that the terminal shows."""
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            os.chdir(CHECKOUT)
            os.execve(SHELL[0], [*SHELL, *POPAD, "passwd", *more, "alice"], {"PATH": os.defpath})
        finally:
            os._exit(99)
    shown = answer = b""
    left, reading = list(answers), blocks(terminal)
    while True:
        if answer == CTRL_C and not select.select([terminal], [], [], AGAIN)[0]:
            os.write(terminal, CTRL_C)  # Python does not see one that comes just before it begins to read
            continue
        if (octets := next(reading, None)) is None:
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
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.endswith(b"popad passwd: error: --delete needs --file\n")


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


def run(octets: bytes, *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    command = [*POPAD, "passwd", *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, env={}, input=octets, capture_output=True, timeout=PATIENCE)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


LIST = "jane:first\n\njohn: two words:\nj\u00fcrgen:p\u00e4ss\n".encode()


def test_a_whole_list(file: Path) -> None:
    """As chpasswd(8) has it: the password is what is behind the first colon."""
    change(file, "jane", "old")
    status, said, wrong = run(LIST, "--file", str(file), "--batch", "--iterations=4096")
    assert (status, wrong) == (0, "")
    assert said == f"{file}: jane replaced\n{file}: john added\n{file}: j\u00fcrgen added\n"
    users = credentials.Users(str(file))
    for name, password in (("jane", b"first"), ("john", b" two words:"), ("j\u00fcrgen", "p\u00e4ss".encode())):
        credential = users.find(name)
        assert credential
        assert credential.matches(password)


def test_a_list_without_a_file() -> None:
    status, said, _ = run(LIST, "--batch", "--iterations=4096")
    assert (status, [line.split()[0] for line in said.splitlines()]) == (0, ["jane", "john", "j\u00fcrgen"])


@pytest.mark.parametrize("line", ["nobody", "a b:x", ":x", "../x:y", "jane:", f"x:{'y' * 250}", "jane:again", "#x:y"])
def test_a_list_with_a_wrong_line_changes_nothing(file: Path, line: str) -> None:
    status, said, wrong = run(f"jane:first\n{line}\n".encode(), "--file", str(file), "--batch", "--iterations=4096")
    assert (status, said) == (1, "")
    assert wrong.startswith("popad passwd: line 2: ")
    assert not file.exists()


def test_both_schemes(file: Path) -> None:
    done = change(file, "jane", "secret", "--sha1")
    assert done.returncode == 0
    (line,) = file.read_text().splitlines()
    by_scheme = credentials.parse(line.split(), "file").by_scheme
    assert list(by_scheme) == ["SCRAM-SHA-256", "SCRAM-SHA-1"]
    assert all(each.matches(b"secret") for each in by_scheme.values())


def test_a_name_typed_in_two_ways_is_one(file: Path) -> None:
    """RFC 4013; in a file that was written by hand, too."""
    file.touch(0o600)
    file.write_text(credentials.line("ju\u0308rgen", b"old", 4096) + "\n")
    assert change(file, "j\u00fcrgen", "new").stdout.decode() == f"{file}: j\u00fcrgen replaced\n"
    assert change(file, "ju\u0308rgen", "newer").stdout.decode() == f"{file}: j\u00fcrgen replaced\n"
    (line,) = file.read_text().splitlines()
    assert line.startswith("j\u00fcrgen ")


@pytest.mark.parametrize("schemes", [[], ["--sha1"]])
def test_verify(file: Path, schemes: list[str]) -> None:
    change(file, "jane", "secret", *schemes)
    before = file.read_bytes()
    assert run(b"secret\n", "--file", str(file), "--verify", "jane") == (0, f"{file}: the password of jane\n", "")
    status, said, wrong = run(b"Secret\n", "--file", str(file), "--verify", "jane")
    assert (status, said) == (1, "")
    assert wrong.startswith(f"popad passwd: {file}: not the password of jane (SCRAM-SHA-256")
    assert run(b"x\n", "--file", str(file), "--verify", "john")[2] == f"popad passwd: {file}: there is no john\n"
    assert file.read_bytes() == before


def test_list(file: Path) -> None:
    change(file, "jane", "secret", "--sha1")
    with file.open("a") as lines:
        lines.write(credentials.line("john", b"x", 5000) + " mbox:/srv/{user}\n# comment\njoe wrong\n")
    status, said, wrong = run(b"", "--file", str(file), "--list")
    assert said == "jane SCRAM-SHA-256(4096),SCRAM-SHA-1(4096)\njohn SCRAM-SHA-256(5000) mbox:/srv/{user}\n"
    assert (status, wrong.count("\n")) == (1, 1)
    assert wrong.startswith(f"popad passwd: {file}:4: expected NAME ")


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--list"], "--list needs --file"),
        (["--verify", "jane"], "--verify needs --file"),
        (["--file", "x", "--list", "--delete", "jane"], "--delete and --list do not go together"),
        (["--file", "x", "--batch", "--verify"], "--verify and --batch do not go together"),
        (["--file", "x", "--list", "jane"], "--list takes no name"),
        (["--batch", "jane"], "--batch takes no name"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, arguments: list[str], wrong: str) -> None:
    arguments = [str(tmp_path / "x") if word == "x" else word for word in arguments]
    status, said, complaint = run(b"secret\n", *arguments)
    assert (status, said) == (2, "")
    assert complaint.endswith(f"popad passwd: error: {wrong}\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [[], ["--file", "x"], ["--file", "x", "--delete"], ["--file", "x", "--verify"]])
def test_a_name_is_needed(arguments: list[str]) -> None:
    status, said, wrong = run(b"secret\n", *arguments)
    assert (status, said) == (2, "")
    assert wrong.endswith("popad passwd: error: the following arguments are required: NAME\n")
