"""Somebody types at a terminal of a machine, and answers each question for a password."""

from __future__ import annotations

import inspect

from tests.support import terminal
from tests.support.machine import Machine

# Runs the arguments behind the first at a terminal, answers each question for a password with the first, and prints
# what the terminal showed.
_SCRIPT = f"""
{inspect.getsource(terminal)}
import pty, re, sys
pid, terminal = pty.fork()
if not pid:
    os.execv(sys.argv[2], sys.argv[2:])
shown = b""
for block in blocks(terminal):
    shown += block
    if re.search(rb"(assword.*|Again): ?$", shown):
        os.write(terminal, sys.argv[1].encode() + b"\\n")
print(shown.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def at_a_terminal(machine: Machine, commands: str, password: str, *, check: bool = True) -> str:
    """What the terminal showed while these ran, in a shell that ends with the first that fails (a MachineError)."""
    return machine.python(_SCRIPT, password, *terminal.SHELL, "/bin/bash", "-ec", commands, check=check)
