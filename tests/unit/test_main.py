"""__main__.py: the command line as processes: what is printed where, and the exit status."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

import popad
from tests.support.here import CHECKOUT, ROOT
from tests.support.patience import PATIENCE
from tests.support.serving import OWNER, POPAD, POPAD_WITHOUT_JOURNAL, Client, Server, connection, handed_over


def run(
    *arguments: str | bytes, environment: Mapping[str, str] = {}, stdin: int = subprocess.DEVNULL
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*POPAD, *arguments],
        cwd=CHECKOUT,
        env={"PATH": os.defpath, **environment},
        stdin=stdin,
        capture_output=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version(option: str) -> None:
    done = run(option)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"popad version {popad.__version__}\n".encode(), b"")


@pytest.mark.parametrize(
    "options", [["-h"], ["--help"], ["help"], ["-D", "-h"], ["-D", "--foreground", "--help"]], ids=str
)
def test_help(options: list[str]) -> None:
    done = run(*options)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"usage: popad")
    for word in (
        "check",
        "passwd [--file FILE] [--delete] [--list] [--verify] [--batch] [--sha1] [--iterations N] [NAME]",
        "test-login [--address ADDRESS] NAME",
        "auth-helper",
        "-V",
        "--version",
        "-h",
        "--help",
        "LISTEN_FDS",
    ):
        assert word.encode() in done.stdout


@pytest.mark.parametrize("arguments", [["help", "passwd"], ["passwd", "-h"], ["passwd", "--help"]], ids=str)
def test_help_of_a_command(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"usage: popad passwd")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-x"], "popad: option -x not recognized"),
        (["-4"], "popad: -4 is an option of the standalone daemon: -D is missing"),
        (["-V", "-4"], "popad: option -V not recognized"),
        (["serve"], "popad: there is no command 'serve'"),
        (["serve", "--help"], "popad: there is no command 'serve'"),
        (["help", "serve"], "popad: there is no command 'serve'"),
        ([""], "popad: there is no command ''"),
        (["check", "x"], "popad check: error: unrecognized arguments: x"),
        (["check", "--all"], "popad check: error: unrecognized arguments: --all"),
        (["passwd"], "popad passwd: error: the following arguments are required: NAME"),
        (["passwd", "a", "x"], "popad passwd: error: unrecognized arguments: x"),
        (["passwd", "--file"], "popad passwd: error: argument --file: expected one argument"),
        (["auth-helper", "x"], "popad auth-helper: error: unrecognized arguments: x"),
    ],
)
def test_unknown_arguments(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert re.search(said, done.stderr.decode())
    assert b"usage: popad" in done.stderr


def test_arguments_that_are_not_utf_8() -> None:
    done = run(b"\xff")
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_nothing_to_serve() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"standard input is not a socket" in done.stderr
    assert b"usage: popad" in done.stderr


def test_nothing_to_serve_comes_before_what_is_wrong_with_the_settings() -> None:
    assert run(environment={"POPAD_TIMEOUT": "x"}).returncode == 2


@pytest.mark.parametrize("environment", [{"LISTEN_FDS": "2"}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}])
def test_sockets_that_are_not_for_us(environment: dict[str, str]) -> None:
    done = run(environment=environment)
    assert done.returncode == 2
    assert b"LISTEN_FDS" in done.stderr


# -- settings that are wrong: the client is told that, and no more; the administrator is told which


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("POPAD_TIMEOUT", "soon", "must be a whole number"),
        ("POPAD_TIME", "1", "no such setting"),
        ("POPAD_USER", "popad-no-such-user", "there is no user 'popad-no-such-user'"),
        ("POPAD_USER", "root", "must not be root"),
    ],
)
def test_a_wrong_setting(public_path: Path, name: str, value: str, reason: str) -> None:
    if name == "POPAD_USER" and not ROOT:
        pytest.skip("needs root: without it POPAD_USER is not looked for")
    server = Server(public_path)
    with server.session({name: value}) as (client, process):
        assert client.rest() == b"-ERR [SYS/PERM] the server is not set up to serve this\r\n"
        assert process.wait(PATIENCE) == 78
    first, entry = server.stderr.read_text().splitlines()
    assert first == f"popad: {name}: {reason}"
    assert entry.startswith("event=setting-wrong priority=3 ")
    assert f"{name}: {reason}" in entry


def test_a_wrong_setting_of_a_command() -> None:
    """`popad check` tells of it with all others: commands/test_check.py."""
    done = run("auth-helper", environment={"POPAD_TIMEOUT": "soon"})
    assert (done.returncode, done.stdout) == (78, b"")
    assert done.stderr == b"popad: POPAD_TIMEOUT: must be a whole number\n"


def test_check(public_path: Path) -> None:
    server = Server(public_path)
    done = run("check", environment=server.settings)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"no problem found\n")


def test_output_that_nobody_takes() -> None:
    """A full disk must not look like success."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*POPAD, "-V"], cwd=CHECKOUT, env={}, stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE
        )
    assert done.returncode != 0


# -- the installed program


def test_the_launcher_serves(public_path: Path) -> None:
    """packaging/popad: without site, with the caller's Python settings ignored, from a tree like the installed one."""
    server = Server(public_path)
    server.deliver(b"From a\nDate: 1\n\nbody\n\n")
    (public_path / "lib").symlink_to(CHECKOUT / "popad")
    launcher = public_path / "launcher"
    source = (CHECKOUT / "packaging/popad").read_text()
    assert source.startswith("#!/usr/bin/python3 -IS\n")
    assert '"/usr/lib/popad"' in source
    launcher.write_text(source.replace('"/usr/lib/popad"', repr(str(CHECKOUT))))
    launcher.chmod(0o755)
    with server.session(program=[str(launcher)], environment={"PYTHONPATH": "/nonexistent", "PYTHONSTARTUP": "/x"}) as (
        client,
        _,
    ):
        assert client.log_in() == b"+OK 1 messages (17 octets)"
        assert client.ask("QUIT").startswith(b"+OK")


def test_systemd_hands_over_the_connection(public_path: Path) -> None:
    """LISTEN_FDS=1 with the connection as descriptor 3."""
    server = Server(public_path)
    ours, theirs = connection()
    with theirs:
        process = subprocess.Popen(
            handed_over(theirs, *POPAD_WITHOUT_JOURNAL),
            cwd=CHECKOUT,
            env={"PATH": os.defpath, "REMOTE_ADDR": "192.0.2.7", "REMOTE_PORT": "7", **server.settings},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    client = Client(ours)
    assert client.log_in() == b"+OK 0 messages (0 octets)"
    assert client.ask("QUIT").startswith(b"+OK")
    assert client.rest() == b""
    client.close()
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (0, b"")
    assert b"event=session-closed" in stderr
    assert OWNER.encode() not in stdout
