"""A display that nobody sees."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def screen(size: str = "1000x700") -> Iterator[str]:
    """What DISPLAY is to be for a program with windows."""
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", f"{size}x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL) as process:
        os.close(writing)
        try:
            with open(reading, encoding="ascii") as numbers:
                yield f":{numbers.readline().strip()}"
        finally:
            process.terminate()
