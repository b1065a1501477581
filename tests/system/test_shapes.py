"""From one shape of the package to the other, with the commands of the man page; an upgrade and a removal of either."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.here import CHECKOUT
from tests.support.machine import Machine, needs, tree


@pytest.fixture(params=["bookworm", "trixie"])
def machine(request: pytest.FixtureRequest, package: Path) -> Iterator[Machine]:
    """A machine with the package that nobody has changed."""
    if reason := needs():
        pytest.skip(reason)
    with Machine(tree(request.param)) as booted:
        booted.install(package)
        yield booted


def commands() -> list[list[str]]:
    """What the man page says to type for the standalone daemon."""
    section = (CHECKOUT / "packaging/man/popad.8").read_text().partition(".Sh WHICH SHAPE")[2].partition(".Sh ")[0]
    return [line.split() for line in re.findall(r"^# (systemctl .*)$", section, re.M)]


def active(machine: Machine) -> set[str]:
    listed = machine.run(["systemctl", "list-units", "--plain", "--no-legend", "--state=active", "popad*"]).stdout
    return {line.split()[0] for line in listed.splitlines()}


def greeted(machine: Machine) -> bool:
    with machine.connect() as client:
        return client.recv(512).startswith(b"+OK")


def test_daemon_is_for_who_asks_for_it(machine: Machine) -> None:
    assert machine.run(["systemctl", "is-enabled", "popad-standalone.service"], check=False).stdout == "disabled\n"
    assert not active(machine) & {"popad-standalone.service", "popad-standalone.socket"}


def test_to_the_daemon_and_back(machine: Machine) -> None:
    switch = commands()
    assert [command[1:] for command in switch] == [
        ["disable", "--now", "popad.socket"],
        ["enable", "--now", "popad-standalone.service"],
    ]
    for command in switch:
        machine.run(command)
    assert {"popad-standalone.service", "popad-standalone.socket"} <= active(machine)
    assert "popad.socket" not in active(machine)
    assert greeted(machine)
    back = {"popad.socket": "popad-standalone.service", "popad-standalone.service": "popad.socket"}
    for command in switch:
        machine.run([back.get(word, word) for word in command])
    assert "popad.socket" in active(machine)
    assert not active(machine) & {"popad-standalone.service", "popad-standalone.socket"}
    assert greeted(machine)


def test_upgrade_restarts_the_daemon_and_nothing_else(machine: Machine, package: Path) -> None:
    for command in commands():
        machine.run(command)
    before = machine.show("popad-standalone.service", "MainPID")
    machine.install(package)
    assert machine.show("popad-standalone.service", "MainPID") != before
    assert greeted(machine)
    assert "popad.socket" not in active(machine)


def test_removal_ends_the_daemon(machine: Machine) -> None:
    for command in commands():
        machine.run(command)
    assert greeted(machine)
    machine.run(["dpkg", "--purge", "popad"])
    assert active(machine) == set()
    assert machine.run(["systemctl", "--failed", "--no-legend"]).stdout == ""
    left = machine.run(["find", "/etc/systemd", "/var/lib/systemd/deb-systemd-helper-enabled", "-name", "*popad*"])
    assert left.stdout == ""
