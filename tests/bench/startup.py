#!/usr/bin/python3
"""How long a client waits: for the greeting, and for a login with STAT and QUIT, beside the least that Python can do.

All rows run in one booted machine, in rounds that visit them in random order: the unit popad@.service with popad in
it, with one line of Python, with one of C; and the C program in a bare unit. Needs root, mmdebstrap, gcc.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import instances
from tests.support.here import CHECKOUT
from tests.support.instances import HELLO, Variant
from tests.support.machine import Machine, tree

NAME, PASSWORD = "bench", "secret"
MESSAGES = 10
STEPS: dict[str, list[float]] = {}  # milliseconds until the reply, by command
GREETING_LIMIT, SESSION_LIMIT = 1.4, 1.8  # times the line of Python


def log_in(client: socket.socket) -> None:
    """USER PASS STAT QUIT, each after the reply to the one before, as mail programs do."""
    for line in (f"USER {NAME}", f"PASS {PASSWORD}", "STAT", "QUIT"):
        begun = time.perf_counter()
        client.sendall(line.encode() + b"\r\n")
        reply = client.recv(4096)
        STEPS.setdefault(line.split()[0], []).append((time.perf_counter() - begun) * 1000)
        if not reply.startswith(b"+OK"):
            raise RuntimeError(f"{line.split()[0]}: {reply!r}")


def leave(client: socket.socket) -> None:
    """QUIT at once."""
    client.sendall(b"QUIT\r\n")


def rows() -> list[Variant]:
    """What is measured. Type=notify is popad's: a program that says nothing to systemd cannot have it."""
    unit, service = instances.popad_unit()
    print_a_line = "ExecStart=/usr/bin/python3 -I -S -c 'print(\"+OK hello\")'"
    return [
        Variant("C hello world, bare unit", [f"ExecStart={HELLO}"]),
        Variant("C hello world", [f"ExecStart={HELLO}", *service], unit),
        Variant(
            "python3 -I -S, one line",
            [print_a_line, "StandardOutput=socket", *instances.without(service, ["Type", "NotifyAccess"])],
            unit,
        ),
        Variant("popad, greeting and QUIT", ["ExecStart=/usr/sbin/popad", *service], unit, talk=leave),
        Variant("popad, login, STAT and QUIT", ["ExecStart=/usr/sbin/popad", *service], unit, talk=log_in),
    ]


def set_up(machine: Machine, package: Path, variants: list[Variant]) -> None:
    """Install popad, make a user with a cheap hash (the server is measured, not crypt) and a small mailbox."""
    machine.install(package)
    hashed = machine.run(["openssl", "passwd", "-1", PASSWORD]).stdout.strip()
    machine.run(["useradd", "--no-create-home", "--password", hashed, NAME])
    message = "From a@example.org Thu Jan  1 00:00:00 1970\nSubject: test\n\n" + "line of a message\n" * 200 + "\n"
    machine.write(f"/var/mail/{NAME}", message * MESSAGES, mode=0o600, owner=f"{NAME}:mail")
    instances.build_hello(machine)
    instances.lay_out(machine, variants)


def report(variants: list[Variant]) -> str:
    """The table, and the two ratios with their limits."""
    line_of_python, greeting, session = variants[2:]
    lines = [
        [
            row.name,
            *(f"{row.first:.1f}", f"{row.end:.1f}"),
            *(f"{row.first / line_of_python.first:.2f}", f"{row.end / line_of_python.end:.2f}"),
        ]
        for row in variants
    ]
    heads = ["in popad@.service", "first octet, ms", "end of stream, ms", "first, times Python", "end, times Python"]
    return "\n".join(
        [
            instances.table(lines, heads),
            "",
            f"the login by steps, ms: greeting {session.first:.1f}, "
            + ", ".join(f"{command} {statistics.median(samples):.1f}" for command, samples in STEPS.items()),
            "",
            f"greeting: {greeting.first / line_of_python.first:.2f} times the line of Python (limit {GREETING_LIMIT})",
            f"login, STAT, QUIT: {session.end / line_of_python.end:.2f} times (limit {SESSION_LIMIT})",
        ]
    )


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--release", default="bookworm")
    arguments.add_argument("--rounds", type=int, default=100)
    arguments.add_argument("--quick", action="store_true", help="15 rounds: does it run, not how fast")
    arguments.add_argument("--package", type=Path, help="the .deb to measure (default: the one in dist/)")
    arguments.add_argument("--json", type=Path, help="write all samples to this file")
    options = arguments.parse_args()
    rounds = 15 if options.quick else options.rounds
    package = options.package or next(CHECKOUT.glob("dist/popad_*_all.deb"), None)
    if package is None:
        raise SystemExit("no dist/popad_*_all.deb: run packaging/build-deb, or name one with --package")
    variants = rows()
    with Machine(tree(options.release)) as machine:
        set_up(machine, package, variants)
        instances.measure(machine, variants, rounds)
        version = machine.run(["systemctl", "--version"]).stdout.split()[1]
    print(f"{options.release}, systemd {version}, {rounds} rounds, medians\n\n{report(variants)}")
    if options.json:
        samples = {row.name: [[sample.first, sample.end] for sample in row.samples] for row in variants}
        options.json.write_text(json.dumps({"release": options.release, "milliseconds": samples}, indent=1) + "\n")
    _, _, line_of_python, greeting, session = variants
    met = greeting.first <= GREETING_LIMIT * line_of_python.first and session.end <= SESSION_LIMIT * line_of_python.end
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
