"""`popad passwd`: a password in, a line for the credentials file out; or the file changed, listed, or asked."""

import argparse
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

from popad.auth import credentials, verifiers
from popad.auth.identity import Unknown, checked_name
from popad.auth.saslprep import prepared
from popad.auth.verdict import MAX_PASSWORD
from popad.commands import credentials_file
from popad.commands.names import why_not_typed
from popad.configuration import CONFIGURATION, configuration
from popad.errors import SettingWrong
from popad.settings import Settings

INTERRUPTED = 130  # the shells' exit status for SIGINT
NEED_FILE = ("delete", "list", "verify")
MANY = 100  # lines of a list that are hashed between two words about it


def wrong(given: argparse.Namespace) -> str:
    """What is wrong with how it is called; "" for nothing."""
    if given.name is None and not (given.list or given.batch):
        return "the following arguments are required: NAME"
    if alone := [option for option in NEED_FILE if getattr(given, option) and given.file is None]:
        return f"--{alone[0]} needs --file"
    asked = [option for option in ("delete", "list", "verify", "batch") if getattr(given, option)]
    if len(asked) > 1:
        return f"--{asked[0]} and --{asked[1]} do not go together"
    if given.name is not None and (given.list or given.batch):
        return f"--{asked[0]} takes no name"
    least, most, iterations = verifiers.LEAST_ITERATIONS, verifiers.MAX_ITERATIONS, given.iterations
    if not (iterations.isascii() and iterations.isdigit() and len(iterations) <= len(str(most))):
        return f"iterations: {least} to {most}"
    return "" if least <= int(iterations) <= most else f"iterations: {least} to {most}"


def passwd(given: argparse.Namespace) -> int:
    """Do what was asked for. Returns the exit status: 1 where it cannot be done, or a password is not the one."""
    path: str | None = given.file
    try:
        if given.list:
            return print_names(str(path))
        if given.verify:
            return verify(str(path), given.name)
        if given.batch:
            return put(path, lines_of(sys.stdin.buffer.read(), given))
        name = checked(given.name)
        if given.delete:
            return put(path, {name: None})
        return put(path, {name: new_line(name, asked_for(), given)})
    except (Unknown, ValueError, EOFError, credentials.FileWrong) as wrong:
        return complain(str(wrong) or "no password was given")
    except OSError as error:
        return complain(f"{path}: {error.strerror}")
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return INTERRUPTED


def checked(name: str) -> str:
    """A name as it stands in the file. Raises Unknown for one that cannot."""
    text = checked_name(prepared(name.encode("utf-8", "surrogateescape")))
    if text.split() != [text] or text.startswith("#"):
        raise Unknown("a name in the credentials file has no white space and does not begin with #")
    return text


def new_line(name: str, password: bytes, given: argparse.Namespace) -> str:
    """A line of the file. Raises ValueError for what no client can send as a password."""
    if not 0 < len(password) <= MAX_PASSWORD or b"\0" in password:
        raise ValueError(f"a password has 1 to {MAX_PASSWORD} octets, none of them NUL")
    schemes = (verifiers.SCHEME, *([verifiers.OLD_SCHEME] if given.sha1 else []))
    return credentials.line(name, password, int(given.iterations), schemes)


def lines_of(text: bytes, given: argparse.Namespace) -> dict[str, str | None]:
    """Lines for a list of `NAME:PASSWORD`, as chpasswd(8) has it. Raises ValueError that names the line."""
    made: dict[str, str | None] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        name, colon, password = line.partition(b":")
        try:
            if not colon:
                raise ValueError("expected NAME:PASSWORD")
            text_name = checked(name.decode("utf-8", "surrogateescape"))
            if text_name in made:
                raise ValueError(f"{text_name!a} stands here twice")
            made[text_name] = new_line(text_name, password, given)
        except (Unknown, ValueError) as wrong:
            raise ValueError(f"line {number}: {wrong}") from None
        if number % MANY == 0 and sys.stderr.isatty():
            sys.stderr.write(f"\r{number} of {len(lines)}")
    return made


def asked_for() -> bytes:
    """A password: typed twice at a terminal, else the first line of standard input. Raises ValueError, EOFError."""
    if not sys.stdin.isatty():
        return sys.stdin.buffer.readline().rstrip(b"\r\n")
    password = typed("Password: ")
    if typed("Again: ") != password:
        raise ValueError("the two passwords differ")
    return password


def typed(prompt: str) -> bytes:
    """A password typed once. Raises EOFError."""
    import getpass

    return getpass.getpass(prompt).encode("utf-8", "surrogateescape")


def put(path: str | None, lines: dict[str, str | None]) -> int:
    """Print the lines, or put all of them into the file at once, and say what has been done to it."""
    if path is None:
        print(*lines.values(), sep="\n")
        return 0
    status = 0
    for name, what in credentials_file.change(path, lines).items():
        if not what:
            status = complain(f"{path}: there is no {name}")
            continue
        print(f"{os.path.abspath(path)}: {name} {what}")
        if what != credentials_file.DELETED and (reason := why_not_typed_here(name)):
            sys.stderr.write(f"popad passwd: nobody can log in as {name}: {reason}\n")
    return status


def verify(path: str, name: str) -> int:
    """Say whether the password is the one that the file has for this name."""
    password = typed("Password: ") if sys.stdin.isatty() else sys.stdin.buffer.readline().rstrip(b"\r\n")
    credential = credentials.Users(path).find(checked(name))
    if not credential:
        return complain(f"{path}: there is no {name}")
    if wrong := [scheme for scheme, each in credential.by_scheme.items() if not each.matches(password)]:
        return complain(f"{path}: not the password of {name} ({', '.join(wrong)})")
    print(f"{os.path.abspath(path)}: the password of {name}")
    return 0


def print_names(path: str) -> int:
    """The names in the file, and what each line has; lines that cannot be understood on standard error."""
    users, status = credentials.Users(path), 0
    for name in users.places:
        try:
            if credential := users.find(name):
                print(*described(name, credential))
        except credentials.FileWrong as wrong:
            status = complain(str(wrong))
    return status


def described(name: str, credential: credentials.Credential) -> "Sequence[str]":
    """Words about a line: the name, the schemes with their iterations, the maildrop."""
    schemes = ",".join(f"{scheme}({each.iterations})" for scheme, each in credential.by_scheme.items())
    return name, schemes, *([credential.maildrop] if credential.maildrop else [])


def why_not_typed_here(name: str) -> str:
    """What the settings of this host make of the name that keeps a client from giving it; "" for nothing."""
    try:
        return why_not_typed(name, Settings(configuration(CONFIGURATION)))
    except (SettingWrong, OSError, UnicodeDecodeError):
        return ""  # `popad check` tells of that


def complain(wrong: str) -> int:
    """Say what is wrong. Returns the exit status."""
    sys.stderr.write(f"popad passwd: {wrong}\n")
    return 1
