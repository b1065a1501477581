"""`popad passwd NAME`: a password in, a line for the credentials file out."""

import sys

from popad.auth import credentials
from popad.auth.helper import MAX_PASSWORD
from popad.auth.identity import Unknown, checked_name


def passwd(name: str, iterations: str = str(credentials.ITERATIONS)) -> int:
    """Read the password (twice from a terminal, else the first line of standard input), print the line.

    Returns the exit status.
    """
    try:
        if not iterations.isdigit() or not credentials.ITERATIONS <= int(iterations) <= credentials.MAX_ITERATIONS:
            raise ValueError(f"iterations: {credentials.ITERATIONS} to {credentials.MAX_ITERATIONS}")
        if checked_name(name.encode("utf-8", "surrogateescape")).split() != [name] or name.startswith("#"):
            raise Unknown("a name in the credentials file has no white space and does not begin with #")
        password = from_terminal() if sys.stdin.isatty() else sys.stdin.buffer.readline().rstrip(b"\r\n")
        if not 0 < len(password) <= MAX_PASSWORD or b"\0" in password:
            raise ValueError(f"a password has 1 to {MAX_PASSWORD} octets, none of them NUL")
    except (Unknown, ValueError) as wrong:
        sys.stderr.write(f"popad passwd: {wrong}\n")
        return 1
    print(credentials.line(name, password, int(iterations)))
    return 0


def from_terminal() -> bytes:
    """A password typed twice. Raises ValueError where the two differ."""
    import getpass

    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise ValueError("the two passwords differ")
    return password.encode("utf-8", "surrogateescape")
