"""`popad passwd NAME`: a password in, a line for the credentials file out; or the file changed in place."""

import os
import sys

from popad.auth import credentials
from popad.auth.helper import MAX_PASSWORD
from popad.auth.identity import Unknown, checked_name
from popad.commands import credentials_file
from popad.commands.check import why_not_typed
from popad.configuration import CONFIGURATION, configuration
from popad.errors import SettingWrong
from popad.settings import Settings

INTERRUPTED = 130  # the shells' exit status for SIGINT


def passwd(name: str, iterations: str, path: str | None, delete: bool) -> int:
    """Read the password (twice from a terminal, else the first line of standard input); print the line, or put it into
    the file at `path`. With `delete` the line is taken out of the file.

    Returns the exit status.
    """
    try:
        if path is None and delete:
            raise ValueError("--delete needs --file")
        line = None if delete else new_line(name, iterations)
        if path is not None:
            return done(path, name, credentials_file.change(path, name, line))
    except (Unknown, ValueError, EOFError, credentials.FileWrong) as wrong:
        return complain(str(wrong) or "no password was given")
    except OSError as error:
        return complain(f"{path}: {error.strerror}")
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return INTERRUPTED
    print(line)
    return 0


def new_line(name: str, iterations: str) -> str:
    """Ask for the password. Raises Unknown for a name that cannot stand in the file, ValueError, EOFError."""
    least, most = credentials.LEAST_ITERATIONS, credentials.MAX_ITERATIONS
    if not (iterations.isascii() and iterations.isdigit()) or not least <= int(iterations) <= most:
        raise ValueError(f"iterations: {least} to {most}")
    if checked_name(name.encode("utf-8", "surrogateescape")).split() != [name] or name.startswith("#"):
        raise Unknown("a name in the credentials file has no white space and does not begin with #")
    password = from_terminal() if sys.stdin.isatty() else sys.stdin.buffer.readline().rstrip(b"\r\n")
    if not 0 < len(password) <= MAX_PASSWORD or b"\0" in password:
        raise ValueError(f"a password has 1 to {MAX_PASSWORD} octets, none of them NUL")
    return credentials.line(name, password, int(iterations))


def from_terminal() -> bytes:
    """A password typed twice. Raises ValueError where the two differ."""
    import getpass

    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise ValueError("the two passwords differ")
    return password.encode("utf-8", "surrogateescape")


def done(path: str, name: str, what: str) -> int:
    """Say what has been done to the file. Returns the exit status: 1 where there was nothing to do."""
    if not what:
        return complain(f"{path}: there is no {name}")
    print(f"{os.path.abspath(path)}: {name} {what}")
    if what != credentials_file.DELETED and (reason := why_not_typed_here(name)):
        sys.stderr.write(f"popad passwd: nobody can log in as {name}: {reason}\n")
    return 0


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
