"""packaging/completion: what bash and zsh themselves offer is what popad's own help has."""

import os
import pty
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popad.commands.command import COMMANDS, USAGE
from popad.daemon.command import Options
from popad.errors import NotInvokedRight
from tests.support.here import CHECKOUT
from tests.support.patience import wait_until
from tests.support.serving import POPAD

PROGRAM = CHECKOUT / "packaging/completion"
NEEDED = {"-h", "--help"}  # of each command
WORDS = [*COMMANDS, "help"]
BASH = """
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_popad 2> >(grep -v "not currently executing completion function" >&2)
printf '%s\\n' "${COMPREPLY[@]}"
"""
# A shell whose Ctrl-T writes to a file what Tab would offer, a line each, and then a dot.
ZSH = """
PS1= PS2= RPS1=
fpath=({place} $fpath)
autoload -Uz compinit && compinit -u -D
compadd() {{
    builtin compadd "$@"
    [[ " $* " == *" -"[OAD]" "* ]] && return
    local -a offered
    builtin compadd -O offered "$@"
    (( $#offered )) && print -rl -- $offered >>{place}/offered
}}
offer() {{ _main_complete; print . >>{place}/offered }}
zle -C offer complete-word offer
bindkey '^T' offer
print -n >{place}/ready
"""


def script(shell: str) -> str:
    return subprocess.run([PROGRAM, shell], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bash") / "popad"
    path.write_text(script("bash"))
    return path


def by_bash(path: Path, *words: str) -> set[str]:
    """What is offered for the last of the words."""
    shown = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", path, "popad", *words], capture_output=True, text=True
    )
    assert shown.stderr == ""
    return set(shown.stdout.split())


class Shell:
    """A shell on a terminal of its own, and what it has shown."""

    def __init__(self, *command: str, home: Path) -> None:
        self.shown = b""
        self.pid, self.terminal = pty.fork()
        if not self.pid:
            os.execvpe(command[0], command, {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(home)})
        os.set_blocking(self.terminal, False)

    def say(self, text: str) -> None:
        self.shown = b""
        os.write(self.terminal, text.encode())

    def wait_for(self, holds: Callable[[], bool]) -> None:
        """Read what it shows meanwhile: it would stop where nobody does."""

        def looked() -> bool:
            try:
                self.shown += os.read(self.terminal, 65536)
            except BlockingIOError:
                pass
            return holds()

        wait_until(looked)

    def wait_for_text(self, text: str) -> None:
        """Until it has shown this."""
        self.wait_for(lambda: text.encode() in self.shown)

    def close(self) -> None:
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


class Zsh(Shell):
    """One that can be asked what it offers."""

    def __init__(self, place: Path) -> None:
        super().__init__("zsh", "-f", "-i", home=place)
        self.place = place
        (place / "_popad").write_text(script("zsh"))
        (place / "setup").write_text(ZSH.format(place=place))
        self.say(f"cd {place}; source {place}/setup\n")
        self.wait_for((place / "ready").exists)

    def offers(self, *words: str) -> set[str]:
        """What is offered for the last of the words."""
        offered = self.place / "offered"
        offered.write_text("")
        self.say("\x15" + " ".join(["popad", *words]) + "\x14")
        self.wait_for(lambda: offered.read_text().split()[-1:] == ["."])
        return set(offered.read_text().split()[:-1])


@pytest.fixture(scope="module")
def zsh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zsh]:
    if shutil.which("zsh") is None:
        pytest.skip("not installed: zsh")
    shell = Zsh(tmp_path_factory.mktemp("zsh"))
    yield shell
    shell.close()


def options_of(name: str) -> set[str]:
    """Those in the help that popad itself prints."""
    if name == "help":
        return NEEDED
    shown = subprocess.run([*POPAD, name, "--help"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"(?:^  |, )(--?[a-zA-Z][\w-]*)", shown, re.M))


def options_without_a_command() -> set[str]:
    """Those in popad's usage: of the daemon, and of popad alone."""
    lines = [line for line in USAGE.splitlines() if re.match(r"(usage:)? +popad -", line)]
    return {option for line in lines for option in re.findall(r"(?<![\w-])--?[\w-]+", line.partition("  print")[0])}


def test_bash_offers_the_commands(bash: Path) -> None:
    assert by_bash(bash, "") == set(WORDS)
    assert by_bash(bash, "re") == {"report"}
    assert by_bash(bash, "help", "") == set(COMMANDS)


def test_bash_offers_the_options_of_the_daemon(bash: Path) -> None:
    assert by_bash(bash, "-") == options_without_a_command()
    assert by_bash(bash, "-D", "--listen-") == {"--listen-tls"}
    assert by_bash(bash, "-D", "") == set()


@pytest.mark.parametrize("name", WORDS)
def test_bash_offers_the_options_of_a_command(bash: Path, name: str) -> None:
    assert by_bash(bash, name, "-") == options_of(name) >= NEEDED


def test_bash_offers_files_where_one_is_wanted(bash: Path) -> None:
    assert by_bash(bash, "metrics", "--state", f"{bash.parent}/po") == {str(bash)}
    assert by_bash(bash, "report", "--json", "--directory", str(bash.parent)[:-1]) >= {str(bash.parent)}
    assert by_bash(bash, "report", "--user", f"{bash.parent}/po") == set()


def test_tab_in_bash(bash: Path) -> None:
    """What is begun is finished at a terminal, with nothing beside it."""
    shell = Shell("bash", "--norc", "--noprofile", "-i", home=bash.parent)
    try:
        shell.say(f"PS1=; cd {bash.parent}; source ./popad; echo don''e\n")
        shell.wait_for_text("done")
        for typed, finished in (
            ("met", "metrics "),
            ("metrics --ht", "metrics --http "),
            ("report --html po", "popad "),
        ):
            shell.say(f"popad {typed}\t#")
            shell.wait_for_text(f"{finished}#")
            assert b"compopt" not in shell.shown
            shell.say("\x15")
    finally:
        shell.close()


def test_zsh_offers_the_commands(zsh: Zsh) -> None:
    assert zsh.offers("") == set(WORDS)
    assert zsh.offers("re") == {"report"}
    assert zsh.offers("help", "") == set(COMMANDS)


def test_zsh_offers_the_options_of_the_daemon(zsh: Zsh) -> None:
    assert zsh.offers("-") == options_without_a_command()


@pytest.mark.parametrize("name", WORDS)
def test_zsh_offers_the_options_of_a_command(zsh: Zsh, name: str) -> None:
    assert zsh.offers(name, "-") == options_of(name)


def test_zsh_offers_files_where_one_is_wanted(zsh: Zsh) -> None:
    assert "setup" in zsh.offers("metrics", "--state", "set")
    assert "setup" not in zsh.offers("report", "--user", "set")


def test_the_daemon_takes_what_is_offered_for_it() -> None:
    """Each option with -D, and none that is made up."""
    (usage,) = re.findall(r"popad -D (.*)", USAGE)
    for option, value in re.findall(r"\[(--?[\w-]+)(?: (\w+))?\]", usage):
        Options(["-D", option, *(["x"] if value else [])])
    with pytest.raises(NotInvokedRight):
        Options(["-D", "--made-up"])
