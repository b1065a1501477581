#!/usr/bin/python3
"""The price of popad@.service's sandbox: a C hello world in the unit, then less each directive, plus those left out.

Prints the table of packaging/doc/SANDBOX.md. Needs root, mmdebstrap and gcc; the machine is tests/support/machine.py's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import instances
from tests.support.instances import HELLO, Variant
from tests.support.machine import Machine, tree

# Directives that are one measure: taken out together.
TOGETHER: Sequence[tuple[str, ...]] = (
    ("CapabilityBoundingSet", "NoNewPrivileges"),
    ("SystemCallFilter",),
    ("SystemCallArchitectures",),
    ("RestrictNamespaces",),
    ("RestrictSUIDSGID",),
    ("RestrictRealtime",),
    ("LockPersonality",),
    ("MemoryDenyWriteExecute",),
    ("RestrictAddressFamilies",),
    ("PrivateNetwork",),
    ("IPAddressDeny",),
    ("ReadWritePaths",),
    ("ProtectSystem", "ReadWritePaths"),
    ("ProtectHome",),
    ("PrivateTmp",),
    ("PrivateMounts",),
    ("ProtectProc", "ProcSubset"),
    ("TemporaryFileSystem", "BindReadOnlyPaths"),
    ("ReadOnlyPaths",),
    ("PrivateDevices",),
    ("LimitCORE", "LimitNOFILE", "TasksMax", "UMask"),
    ("Type", "NotifyAccess"),
)
LEFT_OUT = (
    "ProtectKernelTunables=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectKernelModules=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "PrivateIPC=yes",
)


def variants() -> list[Variant]:
    """The bare unit, the whole unit, then everything that differs from it in one thing."""
    unit, service = instances.popad_unit()
    start = f"ExecStart={HELLO}"
    all_of_it = [start, *service]
    made = [
        Variant("bare", [start]),
        Variant("popad@.service", all_of_it, unit),
        Variant(
            "without RequiresMountsFor=, After=", all_of_it, instances.without(unit, ["RequiresMountsFor", "After"])
        ),
        Variant("without JoinsNamespaceOf=", all_of_it, instances.without(unit, ["JoinsNamespaceOf"])),
    ]
    for names in TOGETHER:
        less = instances.without(all_of_it, names)
        if len(less) == len(all_of_it):
            raise SystemExit(f"popad@.service has no {' '.join(names)}: this table is out of date")
        made.append(Variant(f"without {', '.join(f'{name}=' for name in names)}", less, unit))
    made += [Variant(f"with {directive}", [*all_of_it, directive], unit) for directive in LEFT_OUT]
    made.append(Variant("with ProtectHome=yes", instances.named(all_of_it, {"ProtectHome": "yes"}), unit))
    made.append(
        Variant(
            "with DevicePolicy=closed for PrivateDevices=",
            [*instances.without(all_of_it, ["PrivateDevices"]), "DevicePolicy=closed"],
            unit,
        )
    )
    made.append(
        Variant(
            "with SystemCallFilter=@system-service",
            [*instances.without(all_of_it, ["SystemCallFilter"]), "SystemCallFilter=@system-service"],
            unit,
        )
    )
    return made


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--release", default="bookworm")
    arguments.add_argument("--rounds", type=int, default=60)
    options = arguments.parse_args()
    measured = variants()
    with Machine(tree(options.release)) as machine:
        for unit in instances.UNITS.glob("popad*"):
            machine.copy(unit, f"/usr/lib/systemd/system/{unit.name}")
        machine.run(["mkdir", "-p", "/var/lib/popad", "/var/cache/popad", "/etc/popad"])
        instances.build_hello(machine)
        instances.lay_out(machine, measured)
        # It pulls in popad-sandbox.service, which leaves when nobody needs it.
        machine.run(["systemctl", "start", "popad.socket"])
        instances.measure(machine, measured, options.rounds)
        bare, whole = measured[:2]
        rows = []
        for number, variant in enumerate(measured):
            score = instances.exposure(machine, f"/etc/systemd/system/bench{number}@.service")
            difference = "" if variant in (bare, whole) else f"{variant.dearer_than(whole):+.1f}"
            rows.append(
                [
                    variant.name,
                    f"{variant.first:.1f}",
                    f"{variant.end:.1f}",
                    f"{variant.end / bare.end:.2f}",
                    difference,
                ]
            )
            rows[-1].append(f"{score:.1f}")
        version = machine.run(["systemctl", "--version"]).stdout.split()[1]
    print(f"systemd {version}, {options.rounds} rounds, medians in ms\n")
    heads = ["unit", "first octet", "end of stream", "times bare", "to popad@.service", "exposure"]
    print(instances.table(rows, heads))


if __name__ == "__main__":
    main()
