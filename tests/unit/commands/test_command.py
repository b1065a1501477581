"""commands/command.py: the table of commands, and each command's own help."""

import subprocess
import sys

import pytest

from popad.commands.command import COMMANDS, USAGE, joined, main
from tests.support.here import CHECKOUT


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_each_command_has_its_help(name: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, option]) == 0
    said = " ".join(capsys.readouterr().out.split())
    command = COMMANDS[name]
    assert said.startswith(f"usage: {' '.join(['popad', name, '[-h]', *command.arguments])} ")
    assert command.does in said
    for argument, meaning in command.arguments.items():
        assert meaning in said
        assert argument.strip("[]") in said


@pytest.mark.parametrize("name", COMMANDS)
def test_the_usage_lists_each_command(name: str) -> None:
    command = COMMANDS[name]
    assert f"\n       {' '.join(['popad', name, *command.arguments])}\n" in USAGE
    assert f" {command.does}\n" in USAGE


# A call of each that is wrong for a reason of its own, not argparse's.
WRONG = {
    "passwd": ["--delete", "jane"],
    "test-login": ["--address", "localhost", "jane"],
    "inspect": ["--format", "mh", "/x"],
    "convert": ["--all", "--user", "jane", "maildir:/{user}"],
    "migrate": ["--from", "cyrus", "--all"],
    "report": ["--address", "x"],
    "who": ["--watch", "--json"],
    "kick": ["--session", "jane"],
}


@pytest.mark.parametrize(
    "arguments", [*([name, *words] for name, words in WRONG.items()), *([name, "--none-of-it"] for name in COMMANDS)]
)
def test_wrong_usage_is_one_kind_of_failure(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"usage: popad {arguments[0]} ")
    assert f"\npopad {arguments[0]}: error: " in said.err


def test_what_is_wrong_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passwd"]) == 2
    assert "required: NAME" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["popad.daemon.supervisor", "popad.daemon.command", "popad.commands.auth_helper"])
def test_what_stays_in_memory_loads_no_command_line(module: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", f"import sys, popad.__main__, {module}; print('argparse' in sys.modules)"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "False\n"


@pytest.mark.parametrize("name", ["inspect", "report", "metrics", "who", "kick"])
def test_a_command_shows_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([name, "--help"])
    assert f"example: {COMMANDS[name].example}" in " ".join(capsys.readouterr().out.split())


def test_a_span_of_time_is_no_option() -> None:
    command = COMMANDS["report"]
    assert [*joined(["report", "--since", "-1h", "--json"], command)] == ["report", "--since=-1h", "--json"]
    assert [*joined(["report", "--since", "--json"], command)] == ["report", "--since", "--json"]
    assert [*joined(["report", "--user", "a", "--since"], command)] == ["report", "--user", "a", "--since"]
