"""Programs at a terminal of which the last words are read, too.

A terminal whose programs have all ended may be at its end for its reader before he has all that they wrote (seen once,
on a busy machine). So they run below a shell that says when they have ended, and stays until somebody answers.
"""

import os
from collections.abc import Iterator

END = b"\0"  # what that shell says
# Its arguments are the command; it ends with the status of that. Ctrl-C is for the command alone.
SHELL = ("/bin/sh", "-c", """trap : INT; "$@"; status=$?; printf '\\000'; read -r _; exit $status""", "sh")


def blocks(terminal: int) -> Iterator[bytes]:
    """All that is shown, a part at a time, until the shell has ended."""
    octets = b""
    while not octets.endswith(END):
        octets = os.read(terminal, 4096)
        yield octets.removesuffix(END)
    os.write(terminal, b"\n")
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:
        pass  # EIO: nobody has the other end any more
