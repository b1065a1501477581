"""Somebody types at a terminal of a machine, and answers each question for a password."""

from __future__ import annotations

from tests.support.machine import Machine

# Runs the first argument in a shell at a terminal, answers each question for a password with the second, and prints
# what the terminal showed.
_SCRIPT = """
import os, pty, re, sys
pid, terminal = pty.fork()
if not pid:
    os.execv("/bin/bash", ["bash", "-ec", sys.argv[1]])
shown = b""
try:
    while block := os.read(terminal, 4096):
        shown += block
        if re.search(rb"(assword.*|Again): ?$", shown):
            os.write(terminal, sys.argv[2].encode() + b"\\n")
except OSError:
    pass  # the terminal of a shell that has ended
print(shown.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def at_a_terminal(machine: Machine, commands: str, password: str, *, check: bool = True) -> str:
    """What the terminal showed while these ran, in a shell that ends with the first that fails (a MachineError)."""
    return machine.python(_SCRIPT, commands, password, check=check)
