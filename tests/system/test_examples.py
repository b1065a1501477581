"""The example files: they are understood, and do what they say."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.here import CHECKOUT
from tests.support.machine import Machine, needs, tree
from tests.system.conftest import Server

RULES = CHECKOUT / "packaging/nftables/popad.nft"
POLL_LIMIT = CHECKOUT / "packaging/examples/poll-limit.conf"
OPEN, BURST = 20, 60  # what the rules let a network have at once: open connections, new ones
REFUSED_AFTER = 1.0  # seconds without an answer to a SYN: the rules have dropped it
SYSTEMD_WITH_POLL_LIMIT = 255


def test_poll_limit(server: Server) -> None:
    version = int(server.machine.run(["systemctl", "--version"]).stdout.split()[1])
    if version < SYSTEMD_WITH_POLL_LIMIT:
        pytest.skip(f"systemd {version} has no poll limit")
    with server.drop_in("popad.socket", POLL_LIMIT.read_text()):
        assert server.machine.run(["systemd-analyze", "verify", "--man=no", "popad.socket"]).stderr == ""
        wanted = {"PollLimitIntervalUSec": "500ms", "PollLimitBurst": "75", "MaxConnectionsPerSource": "10"}
        assert server.machine.show("popad.socket", *wanted) == wanted


def test_package_has_the_examples(server: Server) -> None:
    listed = server.machine.run(["dpkg", "--listfiles", "popad"]).stdout.split()
    for example in (RULES, *POLL_LIMIT.parent.iterdir()):
        assert f"/usr/share/doc/popad/examples/{example.name}" in listed


class Rules:
    """The rules in force in a machine's network, with listeners on port 110."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.listeners: dict[str, socket.socket] = {}

    def nft(self, *arguments: str) -> str:
        enter = ["nsenter", "--net", "--target", str(self.machine.pid), "--"]
        return subprocess.run([*enter, "nft", *arguments], capture_output=True, text=True, check=True).stdout

    def connect(self, source: str, many: int) -> list[socket.socket | None]:
        """Connections of one address; None for those that the rules have dropped or refused."""

        def one() -> socket.socket | None:
            try:
                address = "::1" if ":" in source else "127.0.0.1"
                return socket.create_connection((address, 110), REFUSED_AFTER, (source, 0))
            except (TimeoutError, ConnectionRefusedError):
                return None

        return self.machine.inside(lambda: [one() for _ in range(many)])

    def end(self, source: str, connection: socket.socket) -> None:
        """End a connection at both ends: half of it would still be open."""
        connection.close()
        self.listeners["::1" if ":" in source else "127.0.0.1"].accept()[0].close()


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


def test_rules_are_understood(rules: Rules) -> None:
    rules.nft("--check", "-f", str(RULES))


def test_rules_replace_themselves(rules: Rules) -> None:
    before = rules.nft("--stateless", "list", "ruleset")
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
        assert rules.connect(same, 1) == [None]
        (neighbour,) = rules.connect(other, 1)
        assert neighbour
        neighbour.close()
    assert re.search(
        rf"ct count over {OPEN} }} counter packets [1-9]", rules.nft("list", "chain", "inet", "popad", "pop3")
    )


@pytest.mark.parametrize(("source", "other"), [("127.0.0.5", "127.0.0.6"), ("2001:db8:0:1::1", "2001:db8:0:2::1")])
def test_new_connections_of_a_network(rules: Rules, source: str, other: str) -> None:
    """Past the burst they are dropped, however soon each was closed again."""
    made = 0
    for _ in range(4 * BURST):
        (connection,) = rules.connect(source, 1)
        if connection is None:
            break
        rules.end(source, connection)
        made += 1
    assert BURST <= made < 2 * BURST
    (neighbour,) = rules.connect(other, 1)
    assert neighbour
    neighbour.close()
