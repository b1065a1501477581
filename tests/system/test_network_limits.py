"""popad-limits.service and its rules: what a network may have, who passes, and that they come and go with popad."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.here import CHECKOUT
from tests.support.machine import PACKAGES, Machine, needs, tree
from tests.support.patience import PATIENCE, wait_until

RULES = CHECKOUT / "packaging/limits.nft"
OPEN, BURST = 20, 60  # what the rules let a network have at once: open connections, new ones
STRANGERS, OPEN_OF_STRANGERS = 40, 60  # the same for all together that come from where nobody has been
CONVERSATION = 8  # packets
REFUSED_AFTER = 1.0  # seconds without an answer to a SYN: the rules have dropped it
AGAIN = 6.0  # seconds in which a client that is dropped tries twice by itself
SERVICE = "popad-limits.service"


class Rules:
    """The rules in force in a machine's network, with listeners on port 110."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.listeners: dict[str, socket.socket] = {}

    def nft(self, *arguments: str) -> str:
        enter = ["nsenter", "--net", "--target", str(self.machine.pid), "--"]
        return subprocess.run([*enter, "nft", *arguments], capture_output=True, text=True, check=True).stdout

    def connect(self, source: str, many: int = 1, wait: float = REFUSED_AFTER) -> list[socket.socket | None]:
        """Connections of one address; None for those that the rules have dropped or refused."""

        def one() -> socket.socket | None:
            try:
                return socket.create_connection((self.listener(source), 110), wait, (source, 0))
            except (TimeoutError, ConnectionRefusedError):
                return None

        return self.machine.inside(lambda: [one() for _ in range(many)])

    @staticmethod
    def listener(source: str) -> str:
        return "::1" if ":" in source else "127.0.0.1"

    def end(self, source: str, connection: socket.socket) -> None:
        """End a connection at both ends: half of it would still be open."""
        connection.close()
        self.listeners[self.listener(source)].accept()[0].close()

    def talk(self, source: str) -> None:
        """Hold a conversation, as a client that logs in does."""
        (client,) = self.connect(source)
        assert client
        server, _ = self.listeners[self.listener(source)].accept()
        with client, server:
            for _ in range(CONVERSATION):
                client.sendall(b"x")
                server.sendall(server.recv(1))
                client.recv(1)


@pytest.fixture
def rules() -> Iterator[Rules]:
    if reason := needs() or ("" if shutil.which("nft") else "not installed: nft"):
        pytest.skip(reason)
    with Machine(tree("bookworm")) as machine, contextlib.ExitStack() as opened:
        for address in ("2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:2::1"):
            machine.run(["ip", "address", "add", f"{address}/128", "dev", "lo", "nodad"])
        running = Rules(machine)
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            listener = machine.inside(lambda family=family: socket.socket(family))  # type: ignore[misc]  # mypy infers no lambda with defaults
            opened.enter_context(listener)
            listener.bind((address, 110))
            listener.listen(1024)
            running.listeners[address] = listener
        running.nft("-f", str(RULES))
        yield running


def test_rules_are_understood_and_replace_themselves(rules: Rules) -> None:
    rules.nft("--check", "-f", str(RULES))
    before = rules.nft("--stateless", "list", "ruleset")
    rules.nft("add", "element", "inet", "popad", "trusted4", "{ 192.0.2.7 }")
    rules.nft("-f", str(RULES))
    assert rules.nft("--stateless", "list", "ruleset") == before


@pytest.mark.parametrize(
    ("source", "same", "other"),
    [
        ("127.0.0.5", "127.0.0.5", "127.0.0.6"),
        ("2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:2::1"),
    ],
)
def test_open_connections_of_a_network(rules: Rules, source: str, same: str, other: str) -> None:
    with contextlib.ExitStack() as opened:
        for connection in rules.connect(source, OPEN):
            assert connection
            opened.enter_context(connection)
        assert rules.connect(same) == [None]
        (neighbour,) = rules.connect(other)
        assert neighbour
        neighbour.close()
    assert re.search(
        rf"ct count over {OPEN} }} counter packets [1-9]", rules.nft("list", "chain", "inet", "popad", "arrives")
    )


@pytest.mark.parametrize(("source", "other"), [("127.0.0.5", "127.0.0.6"), ("2001:db8:0:1::1", "2001:db8:0:2::1")])
def test_new_connections_of_a_network(rules: Rules, source: str, other: str) -> None:
    """Past the burst they are dropped, however soon each was closed again."""
    rules.talk(source)
    made = 1
    for _ in range(4 * BURST):
        (connection,) = rules.connect(source)
        if connection is None:
            break
        rules.end(source, connection)
        made += 1
    assert BURST <= made < 2 * BURST
    (neighbour,) = rules.connect(other)
    assert neighbour
    neighbour.close()


def test_strangers_share_what_is_left(rules: Rules) -> None:
    """Connections that say nothing, from many networks: who has talked before passes, and so does who is near."""
    rules.talk("127.77.77.77")
    with contextlib.ExitStack() as opened:
        strangers = [
            connection for number in range(3 * STRANGERS) for connection in rules.connect(f"127.1.{number}.5", 1, 0.05)
        ]
        let_in = [opened.enter_context(connection) for connection in strangers if connection]
        assert STRANGERS <= len(let_in) < 2 * STRANGERS
        (known,) = rules.connect("127.77.77.3")
        assert known
        known.close()


def test_strangers_leave_connections_for_those_who_are_known(rules: Rules) -> None:
    rules.talk("127.77.77.77")
    with contextlib.ExitStack() as opened:
        for number in range(OPEN_OF_STRANGERS):
            (connection,) = rules.connect(f"127.1.{number}.5", 1, AGAIN)
            assert connection
            opened.enter_context(connection)
        wait_until(lambda: rules.connect("127.2.0.5", 1, AGAIN) == [None])
        (known,) = rules.connect("127.77.77.77")
        assert known
        known.close()


def test_a_greeting_is_no_conversation(rules: Rules) -> None:
    (client,) = rules.connect("127.1.1.5")
    assert client
    server, _ = rules.listeners["127.0.0.1"].accept()
    server.sendall(b"+OK\r\n")
    client.recv(5)
    client.sendall(b"QUIT\r\n")
    server.recv(6)
    client.close()
    server.close()
    assert "127.1.1.0" not in rules.nft("list", "set", "inet", "popad", "known4")
    rules.talk("127.1.1.5")
    assert "127.1.1.0" in rules.nft("list", "set", "inet", "popad", "known4")


def test_who_is_trusted_is_not_limited(rules: Rules) -> None:
    rules.nft("add", "element", "inet", "popad", "trusted4", "{ 127.1.1.0/24 }")
    for _ in range(2 * BURST):
        (connection,) = rules.connect("127.1.1.5")
        assert connection
        rules.end("127.1.1.5", connection)


# -- the unit ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machine(package: Path) -> Iterator[Machine]:
    if reason := needs():
        pytest.skip(reason)
    with Machine(tree("bookworm", (*PACKAGES, "nftables"))) as machine:
        machine.install(package)
        yield machine


def table(machine: Machine) -> str:
    return machine.run(["nft", "list", "table", "inet", "popad"], check=False).stdout


def test_the_unit_is_verified(machine: Machine) -> None:
    said = machine.run(["systemd-analyze", "verify", "--man=no", SERVICE])
    assert said.stdout + said.stderr == ""


def test_it_is_off_until_it_is_enabled(machine: Machine) -> None:
    machine.run(["systemctl", "restart", "popad.socket"])
    assert machine.show(SERVICE, "ActiveState", "UnitFileState") == {
        "ActiveState": "inactive",
        "UnitFileState": "disabled",
    }
    assert table(machine) == ""
    assert "note: popad-limits.service: off" in machine.run(["popad", "check"], check=False).stdout


def test_it_comes_and_goes_with_popad(machine: Machine) -> None:
    machine.run(["systemctl", "enable", "--now", SERVICE])
    try:
        assert "chain arrives" in table(machine)
        assert "note: popad-limits.service: on" in machine.run(["popad", "check"], check=False).stdout
        with machine.connect() as client:
            assert client.recv(100).startswith(b"+OK")
        for shape, other in (
            ("popad.socket", "popad-standalone.service"),
            ("popad-standalone.service", "popad.socket"),
        ):
            machine.run(["systemctl", "stop", shape])
            wait_until(lambda: table(machine) == "", PATIENCE)
            machine.run(["systemctl", "start", other])
            assert "chain arrives" in table(machine)
        machine.run(["systemctl", "stop", "popad.service"])
        wait_until(lambda: table(machine) == "", PATIENCE)
        machine.run(["systemctl", "start", "popad.socket"])
    finally:
        machine.run(["systemctl", "disable", "--now", SERVICE])
    assert table(machine) == ""


def test_a_firewall_that_flushes_all_rules(machine: Machine) -> None:
    """Debian's nftables.conf begins so: what it takes away is back when it is done."""
    machine.run(["systemctl", "start", "nftables.service"])
    machine.run(["systemctl", "enable", "--now", SERVICE])
    try:
        for change in ("reload", "restart"):
            machine.run(["systemctl", change, "nftables.service"])
            wait_until(lambda: "chain arrives" in table(machine), PATIENCE)
        machine.run(["nft", "flush", "ruleset"])
        said = machine.run(["popad", "check"], check=False).stdout
        assert "wrong: popad-limits.service is active, and its rules are gone: systemctl restart popad-limits" in said
    finally:
        machine.run(["systemctl", "disable", "--now", SERVICE])


def test_rules_that_are_wrong(machine: Machine) -> None:
    """The unit fails with nft's reason; popad serves."""
    text = (machine.root / "etc/popad/limits.nft").read_text()
    machine.write("/etc/popad/limits.nft", text.replace("20/second", "20/moment"))
    since = machine.cursor()
    try:
        assert machine.run(["systemctl", "enable", "--now", SERVICE], check=False).returncode != 0
        assert any(
            "20/moment" in str(entry["MESSAGE"]) for entry in machine.journal("SYSLOG_IDENTIFIER=popad", after=since)
        )
        machine.run(["systemctl", "restart", "popad.socket"])
        with machine.connect() as client:
            assert client.recv(100).startswith(b"+OK")
    finally:
        machine.write("/etc/popad/limits.nft", text)
        machine.run(["systemctl", "disable", "--now", SERVICE])
        machine.run(["systemctl", "reset-failed", SERVICE])
