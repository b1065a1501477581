"""Several popad hosts behind HAProxy, with one store of Maildirs and users from an LDAP directory, under load; one of
them is killed, stopped or upgraded. Prints what became of sessions and mail, a column for each trial. As root.

The exit status says whether all was well: no message lost, doubled or damaged, the same unique-ids on all hosts, and no
session ended but those of a host that was killed.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from tests.support.here import CHECKOUT
from tests.support.long_run import begin

from .events import EVENTS
from .hosts import BIND, DAEMON, SOCKET, STORES, package, running
from .trial import Trial, attempt

SHAPES = {"daemon": DAEMON, "socket": SOCKET}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.cluster", description=" ".join(__doc__.split("\n\n")[0].split()))
    parser.add_argument("--hosts", type=int, nargs="+", choices=(2, 3, 4), default=[2, 3], help="how many (2 and 3)")
    parser.add_argument("--events", nargs="+", choices=EVENTS, default=[], metavar="EVENT", help=", ".join(EVENTS))
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["daemon"], help="of popad (%(default)s)")
    parser.add_argument("--store", choices=STORES, default=BIND, help="what the hosts have together (%(default)s)")
    parser.add_argument("--users", type=int, default=50, help="each with a client (%(default)s)")
    parser.add_argument("--rate", type=float, default=20.0, help="deliveries a second (%(default)s)")
    parser.add_argument("--before", type=float, default=15.0, help="seconds until it happens (%(default)s)")
    parser.add_argument("--after", type=float, default=15.0, help="seconds behind it (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    asked = parser.parse_args()
    begin("system", "40 seconds a trial", root=True, measures=True)
    subprocess.run([CHECKOUT / "packaging/build-deb"], check=True, stdout=subprocess.DEVNULL)
    trials: list[Trial] = []
    for shape in asked.shapes:
        for hosts in asked.hosts:
            for event in asked.events or EVENTS:
                kind = {"hosts": hosts, "users": asked.users}
                with running(package(), shape=SHAPES[shape], store=asked.store, **kind) as cluster:
                    trials.append(attempt(cluster, event, rate=asked.rate, before=asked.before, after=asked.after))
                for fault in [*trials[-1].faults, trials[-1].is_slower]:
                    if fault:
                        print(f"{hosts} hosts, {event}: {fault}", flush=True)
    rows = [trial.row() for trial in trials]
    for name in rows[0]:
        print(f"{name:20}", *(f"{row[name]:>17}" for row in rows))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if any(trial.faults or trial.is_slower for trial in trials) else 0


if __name__ == "__main__":
    sys.exit(main())
