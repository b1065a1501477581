"""What a run that takes minutes does first. Nothing of it needs more than Python: what is missing is installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
BUSY = 0.5  # processes a processor that want to run, on average of the last minute


def begin(part: str, takes: str, *, root: bool = False, measures: bool = False) -> None:
    """Say how long it takes, and install what tests/install names for `part`; with `root` become root first.

    Not for `--help`, which needs nothing. With `measures` a machine that is busy is told.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        return
    if root and os.geteuid() != 0:
        if shutil.which("sudo") is None:
            sys.exit(f"{sys.argv[0]}: needs root, and there is no sudo")
        os.execvp("sudo", ["sudo", "--preserve-env=POPAD_TEST_CACHE", str(Path(sys.argv[0]).resolve()), *sys.argv[1:]])
    print(f"takes {takes}", file=sys.stderr, flush=True)
    if measures and (busy := load()) > BUSY:
        print(f"warning: the machine is busy ({busy:.1f} processes a processor): figures are not what it can do")
    if subprocess.run([TESTS / "install", part], check=False).returncode != 0:
        sys.exit(f"{sys.argv[0]}: what it needs could not be installed")


def load() -> float:
    return os.getloadavg()[0] / len(os.sched_getaffinity(0))
