"""What a session costs with mbox files and with Maildirs, in both shapes.

    python3 -m tests.bench.formats [--rounds N]

Four machines take turns. Eight clients log in and leave, fetch ten messages of 4 kB, or fetch and delete one. Shown is
the processor time of a session, in ms, that of process 1 and journald apart; each figure is a median of the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

from tests.bench import generator, mail, servers, works
from tests.bench.compare import built_package
from tests.bench.generator import Script
from tests.bench.ratios import ACCEPT, DAEMON, MAILDIR
from tests.bench.servers import POPAD_CONF, POPAD_MAILDIR, SERVERS, Running
from tests.support.machine import Machine

SESSIONS = 160  # of each kind, in a round
UNITS = {"popad": "popad.slice", "process 1": "init.scope", "journald": "systemd-journald.service"}


def accept_maildir(machine: Machine) -> None:
    """popad.socket with Maildirs in homes."""
    machine.write("/etc/popad/popad.conf", POPAD_CONF + POPAD_MAILDIR)
    machine.write(
        "/etc/systemd/system/popad@.service.d/homes.conf", "[Service]\nProtectHome=no\nReadWritePaths=-/home\n"
    )
    servers.popad_accept(machine)


SETUPS = (
    SERVERS[DAEMON],
    SERVERS[MAILDIR],
    SERVERS[ACCEPT],
    replace(SERVERS[ACCEPT], title="popad, Accept=yes, Maildir", store="maildir", set_up=accept_maildir),
)


def one_message(name: str) -> Script:
    """The first one, fetched and deleted."""
    script = Script().login(name).add("UIDL", "UIDL", many=True).add("RETR", "RETR 1", many=True)
    return script.add("DELE", "DELE 1").add("QUIT", "QUIT")


def polls(running: Running) -> int:
    """Sessions that fetch nothing; how many."""
    return len(generator.run(running.machine, works.login_session(), clients=8, sessions=SESSIONS).sessions)


def ten_fetched(running: Running) -> int:
    """Sessions that fetch all ten; how many."""
    return len(generator.run(running.machine, works.small_session(), clients=8, sessions=SESSIONS).sessions)


def one_deleted(running: Running) -> int:
    """One session for each mailbox, which fetches the first of its messages and deletes it; how many."""
    return sum(len(generator.run(running.machine, one_message(name)).sessions) for name in works.USERS)


KINDS: tuple[Callable[[Running], int], ...] = (polls, ten_fetched, one_deleted)


def usage(machine: Machine) -> dict[str, float]:
    """Milliseconds of a processor so far."""
    return {name: int(machine.show(unit, "CPUUsageNSec")["CPUUsageNSec"]) / 1e6 for name, unit in UNITS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.formats", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="of all four (%(default)s)")
    rounds = parser.parse_args().rounds
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    package = built_package()
    with contextlib.ExitStack() as opened:
        all_running = []
        for server in SETUPS:
            machine = opened.enter_context(Machine(servers.tree_of(server, "bookworm")))
            all_running.append(servers.start(server, machine, package))
            works.prepare(all_running[-1])
        for _ in range(rounds):
            for running in all_running:
                for name in works.USERS:
                    content = mail.messages(works.SMALL, mail.SMALL_OCTETS)
                    mail.deliver(running.machine, running.server.store, name, content)
                for kind in KINDS:
                    before = usage(running.machine)
                    count = kind(running)
                    after = usage(running.machine)
                    for unit in UNITS:
                        found[running.server.title, kind.__name__][unit].append((after[unit] - before[unit]) / count)
    for (title, kind_name), units in found.items():
        shown = ", ".join(f"{unit} {statistics.median(values):.1f}" for unit, values in units.items())
        print(f"{title:26} {kind_name:12} {shown}")


if __name__ == "__main__":
    main()
