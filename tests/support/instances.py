"""What starting an instance of a unit costs a client: variants of popad@.service side by side in one booted machine.

Each variant is a socket of its own. Rounds visit all variants in random order, so that what else the host does hits
all of them alike, and each connection waits until nothing of the one before is left.
"""

from __future__ import annotations

import random
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.here import CHECKOUT
from tests.support.machine import Machine
from tests.support.patience import wait_until

UNITS = CHECKOUT / "units"
HELLO = "/usr/local/bin/hello"
FIRST_PORT = 3000
WARM_UP = 3  # rounds that are not counted: page cache, the first start of a helper
GONE_SECONDS = 20.0


Directives = Sequence[str]


@dataclass
class Sample:
    """Milliseconds from connect(2) to the first octet, and to the end of the stream."""

    first: float
    end: float


@dataclass
class Variant:
    """One way to answer a connection. `unit` holds [Unit] directives, `service` [Service] ones, ExecStart= included."""

    name: str
    service: Directives
    unit: Directives = ()
    # What the client does with the connection: None for reading to the end.
    talk: Callable[[socket.socket], None] | None = None
    samples: list[Sample] = field(default_factory=list)
    port: int = 0

    @property
    def first(self) -> float:
        return statistics.median(sample.first for sample in self.samples)

    @property
    def end(self) -> float:
        return statistics.median(sample.end for sample in self.samples)

    def dearer_than(self, other: Variant) -> float:
        """Milliseconds that a whole connection takes more, as the median of the rounds' differences."""
        pairs = zip(self.samples, other.samples, strict=True)
        return statistics.median(mine.end - theirs.end for mine, theirs in pairs)


def directives(unit: Path) -> dict[str, list[str]]:
    """The lines of a unit file by section, comments left out."""
    sections: dict[str, list[str]] = {}
    section = ""
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            sections.setdefault(section, []).append(line)
    return sections


def popad_unit() -> tuple[list[str], list[str]]:
    """The [Unit] and [Service] directives of popad@.service, without ExecStart=."""
    sections = directives(UNITS / "popad@.service")
    return sections["Unit"], [line for line in sections["Service"] if not line.startswith("ExecStart=")]


def build_hello(machine: Machine) -> None:
    """Put the C program into the machine, linked statically: the host's C library is not the machine's."""
    with tempfile.TemporaryDirectory() as directory:
        built = Path(directory) / "hello"
        source = Path(__file__).with_name("hello.c")
        subprocess.run(["gcc", "-O2", "-Wall", "-static", "-o", str(built), str(source)], check=True)
        machine.copy(built, HELLO)


def lay_out(machine: Machine, variants: Sequence[Variant]) -> None:
    """Write a socket and a template for each variant and start the sockets."""
    listening = [
        line
        for line in directives(UNITS / "popad.socket")["Socket"]
        if not line.startswith(("ListenStream=", "BindIPv6"))
    ]
    for number, variant in enumerate(variants):
        variant.port = FIRST_PORT + number
        here = [f"ListenStream=127.0.0.1:{variant.port}", *listening]
        machine.write(f"/etc/systemd/system/bench{number}.socket", "\n".join(["[Socket]", *here, ""]))
        machine.write(f"/etc/systemd/system/bench{number}@.service", template(variant))
    machine.run(["systemctl", "daemon-reload"])
    machine.run(["systemctl", "start", *(f"bench{number}.socket" for number in range(len(variants)))])


def template(variant: Variant) -> str:
    """The text of a variant's unit file."""
    return "\n".join(["[Unit]", *variant.unit, "[Service]", *variant.service, ""])


def measure(machine: Machine, variants: Sequence[Variant], rounds: int) -> None:
    """Add `rounds` samples to each variant."""

    def connect_all() -> None:
        for count in range(WARM_UP + rounds):
            for variant in random.sample(variants, len(variants)):
                sample = connect(variant)
                wait_until_gone(machine)
                if count >= WARM_UP:
                    variant.samples.append(sample)

    machine.inside(connect_all)


def connect(variant: Variant) -> Sample:
    """One connection up to the end of its stream. Plain blocking reads: the client costs next to nothing."""
    begun = time.perf_counter()
    with socket.create_connection(("127.0.0.1", variant.port), GONE_SECONDS) as client:
        if not client.recv(4096):
            raise RuntimeError(f"{variant.name}: no greeting")
        first = time.perf_counter()
        if variant.talk:
            variant.talk(client)
        while client.recv(4096):
            pass
        end = time.perf_counter()
    return Sample((first - begun) * 1000, (end - begun) * 1000)


def wait_until_gone(machine: Machine) -> None:
    """Wait until systemd has removed the control groups of all instances: its work must not slow down the next one."""
    groups = machine.root / "sys/fs/cgroup"
    places = ("*.slice/*@*", "system.slice/*.slice/*@*")
    wait_until(lambda: not any(any(groups.glob(place)) for place in places), GONE_SECONDS, pause=0.0005)


def exposure(machine: Machine, unit: str) -> float:
    """What `systemd-analyze security` makes of a unit file of the machine: 0 (closed) to 10 (open)."""
    said = machine.run(["systemd-analyze", "security", "--offline=yes", "--no-pager", unit], check=False).stdout
    return float(said.rpartition("Overall exposure level for ")[2].split(": ")[1].split()[0])


def table(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def without(lines: Directives, names: Sequence[str]) -> list[str]:
    """The directives but those with these names (NAME=)."""
    return [line for line in lines if line.split("=")[0] not in names]


def named(lines: Directives, names: Mapping[str, str]) -> list[str]:
    """The directives with other values for some names, in place."""
    return [f"{name}={names[name]}" if (name := line.split("=")[0]) in names else line for line in lines]
