"""Runs the load generator (load.c) in a machine's network and reads what its clients saw."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.here import CACHE
from tests.support.machine import Machine

HERE = Path(__file__).parent
PATIENCE = 240.0  # seconds without an octet from the server: a first login to 200,000 messages takes some a minute
PASSWORD = "secret"
# 127.NET.x.y are the clients' addresses; the next run has another NET, so that no server has seen them lately.
_NETS = itertools.cycle(range(16, 256))


class ServerFailed(Exception):
    """A session did not come to its end: what the server said or did."""


def built(name: str) -> Path:
    """The program of NAME.c, compiled into the cache when it is new. Static: machines have other C libraries."""
    source = HERE / f"{name}.c"
    key = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    directory = CACHE / "bench"
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / f"{name}-{key}"
    with (directory / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            unfinished = program.with_suffix(".unfinished")
            subprocess.run(["gcc", "-O2", "-Wall", "-static", "-o", str(unfinished), str(source)], check=True)
            unfinished.rename(program)
    return program


@dataclass(frozen=True)
class Step:
    """Commands of one label in one session."""

    commands: int
    seconds: float
    octets: int


@dataclass(frozen=True)
class Session:
    """What a client saw. Seconds of one clock. `cut`: it was left before its script was over, as asked."""

    begun: float
    ended: float
    cut: bool
    steps: dict[str, Step]

    @property
    def seconds(self) -> float:
        """From connect to the reply to the last command."""
        return sum(step.seconds for label, step in self.steps.items() if label != "end")

    def until(self, label: str) -> float:
        """Seconds from connect to the last reply of this label. Labels are in the script's order."""
        order = ["greeting", *(name for name in self.steps if name not in ("greeting", "end"))]
        return sum(self.steps[name].seconds for name in order[: order.index(label) + 1])


@dataclass(frozen=True)
class Run:
    """The sessions of one run of the generator, and the processor time that the clients took."""

    sessions: list[Session]
    cpu_seconds: float

    @property
    def elapsed(self) -> float:
        """Seconds from the first session's begin to the last one's end."""
        return max(session.ended for session in self.sessions) - min(session.begun for session in self.sessions)

    @property
    def rate(self) -> float:
        """Sessions a second."""
        return len(self.sessions) / self.elapsed

    @property
    def load(self) -> float:
        """What the clients took of this host's processors, in percent."""
        return 100 * self.cpu_seconds / (self.elapsed * (os.cpu_count() or 1))


@dataclass
class Script:
    """A session's commands. `add` in the order of the session; %c in a command is the client's number."""

    lines: list[str] = field(default_factory=list)

    def add(self, label: str, *commands: str, many: bool = False) -> Script:
        """Commands whose times are summed up under `label`; `many`: their replies have many lines."""
        self.lines += [f"{label} {':' if many else '.'} {command}" for command in commands]
        return self

    def login(self, name: str) -> Script:
        """USER and PASS."""
        return self.add("USER", f"USER {name}").add("PASS", f"PASS {PASSWORD}")


def run(
    machine: Machine,
    script: Script,
    *,
    clients: int = 1,
    sessions: int = 1,
    seconds: float = 600.0,
    limit: float = 0.0,
    patience: float = PATIENCE,
    port: int = 110,
) -> Run:
    """Run the script: at most `sessions`, none begun after `seconds`, each cut after `limit` seconds (0: never).

    Raises ServerFailed with what the first client that failed has met.
    """
    words = [clients, sessions, seconds, limit, patience, next(_NETS)]
    command = ["nsenter", f"--net=/proc/{machine.pid}/ns/net", str(built("load")), str(port), *map(str, words)]
    text = "\n".join(script.lines) + "\n"
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds + limit + 600)
    if done.returncode != 0:
        raise RuntimeError(f"load: exit {done.returncode}: {done.stderr}")
    return parsed(done.stdout.splitlines())


def parsed(lines: Sequence[str]) -> Run:
    """The generator's output. Raises ServerFailed."""
    *rows, last = map(json.loads, lines)
    for row in rows:
        if row["error"]:
            raise ServerFailed(row["error"])
    if not rows:
        raise ServerFailed("no session")
    sessions = [
        Session(
            row["begun"] / 1e9,
            row["ended"] / 1e9,
            row["cut"],
            {label: Step(commands, ns / 1e9, octets) for label, (commands, ns, octets) in row["steps"].items()},
        )
        for row in rows
    ]
    return Run(sessions, last["cpu"])
