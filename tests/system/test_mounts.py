"""A spool that is mounted late, or not at all: no client is ever told that its mailbox is empty."""

from __future__ import annotations

import itertools
import select
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.patience import wait_until
from tests.support.pop3 import Pop3
from tests.system.conftest import MESSAGES, PASSWORD, Server

SPOOL, UNIT, REMOTE = "/var/mail", "var-mail.mount", "/srv/remote"
# mount(8) calls it for the type "slow": it waits until the test says how the mount ends.
HELPER = f"""#!/bin/sh
read -r word </run/slow-mount
[ "$word" = succeed ] || exit 32
exec mount --bind {REMOTE} "$2"
"""
# As network file systems are: in their time, without holding up the boot, or when somebody looks.
OPTIONS = ["_netdev", "_netdev,nofail", "noauto"]


class SlowSpool:
    """/var/mail is a mount of the fstab that has not been made yet, with one user's mail on it."""

    def __init__(self, server: Server) -> None:
        self.machine = server.machine
        self.server = server
        self.user = server.add_user(MESSAGES, mailbox=f"{REMOTE}/{{name}}")

    def waits(self, client: Pop3) -> bool:
        """Whether the mount has begun, and the client's session is a job that waits for it."""
        jobs = self.machine.run(["systemctl", "list-jobs", "--no-legend"]).stdout.splitlines()
        states = {unit: state for _, unit, _, state in map(str.split, jobs)}
        sessions = [state for unit, state in states.items() if unit.endswith(f":{client.port}.service")]
        return sessions == ["waiting"] and states.get(UNIT) == "running"

    def heard(self, client: Pop3) -> bool:
        return bool(select.select([client.socket], [], [], 0)[0])

    def end(self, word: str) -> None:
        """Have the mount succeed or fail."""
        self.machine.run(["sh", "-c", 'echo "$1" >/run/slow-mount', "sh", word])


@contextmanager
def slow_spool(server: Server, options: str) -> Iterator[SlowSpool]:
    machine = server.machine
    fstab = (machine.root / "etc/fstab").read_bytes() if (machine.root / "etc/fstab").exists() else b""
    machine.run(["mkdir", "-p", REMOTE])
    machine.run(["chown", "--reference", SPOOL, REMOTE])
    machine.run(["chmod", "--reference", SPOOL, REMOTE])
    machine.write("/sbin/mount.slow", HELPER, mode=0o755)
    machine.run(["mkfifo", "/run/slow-mount"])
    machine.write("/etc/fstab", f"nowhere {SPOOL} slow {options} 0 0\n")
    try:
        machine.run(["systemctl", "daemon-reload"])
        if "automount" in options:
            machine.run(["systemctl", "start", "var-mail.automount"])
        yield SlowSpool(server)
    finally:
        machine.run(["systemctl", "stop", "var-mail.automount"], check=False)
        machine.run(["systemctl", "stop", "popad@*.service", UNIT], check=False)
        machine.write("/etc/fstab", fstab)
        machine.run(["rm", "/run/slow-mount", "/sbin/mount.slow"])
        machine.run(["systemctl", "daemon-reload"])
        machine.run(["systemctl", "reset-failed"])


@pytest.mark.parametrize("options", OPTIONS)
def test_clients_wait_for_the_spool(server: Server, options: str) -> None:
    """However it is mounted: a client that came too early is answered when its mail is there."""
    with slow_spool(server, options) as spool, server.connect() as early:
        wait_until(lambda: spool.waits(early) or spool.heard(early))
        assert not spool.heard(early)
        with server.connect() as second:
            wait_until(lambda: spool.waits(second) or spool.heard(second))
            spool.end("succeed")
            for client in (early, second):
                with client.logged_in(spool.user, PASSWORD):
                    assert client.ok("STAT").split()[0] == b"3"
                    client.ok("QUIT")


def test_a_spool_that_is_not_to_be_had(server: Server) -> None:
    """Connections are closed without a word while it fails, and served as soon as it does not."""
    with slow_spool(server, "_netdev,nofail") as spool:
        for _ in range(2):
            with server.connect() as client:
                wait_until(lambda client=client: spool.waits(client) or spool.heard(client))  # type: ignore[misc]  # mypy infers no lambda with defaults
                assert not spool.heard(client)
                spool.end("fail")
                assert client.closed()
        assert server.machine.show("popad.socket", "ActiveState", "Result") == {
            "ActiveState": "active",
            "Result": "success",
        }
        with server.connect() as client:
            wait_until(lambda: spool.waits(client))
            spool.end("succeed")
            with client.logged_in(spool.user, PASSWORD):
                assert client.ok("STAT").split()[0] == b"3"


def test_the_daemon_waits_for_the_spool(server: Server) -> None:
    """popad-standalone.service: its port is open, and nobody is answered before the mail is there."""
    with slow_spool(server, "_netdev,nofail") as spool:
        server.machine.run(["systemctl", "stop", "popad.socket"])
        try:
            server.machine.run(["systemctl", "start", "--no-block", "popad-standalone.service"])
            wait_until(lambda: server.machine.show(UNIT, "SubState")["SubState"] == "mounting")
            assert server.machine.show("popad-standalone.service", "ActiveState")["ActiveState"] == "inactive"
            spool.end("succeed")
            wait_until(
                lambda: server.machine.show("popad-standalone.service", "ActiveState")["ActiveState"] == "active"
            )
            with server.connect().logged_in(spool.user, PASSWORD) as client:
                assert client.ok("STAT").split()[0] == b"3"
        finally:
            server.machine.run(["systemctl", "stop", "popad-standalone.service"])
            server.machine.run(["systemctl", "start", "popad.socket"])


def test_no_order_that_cannot_be(server: Server) -> None:
    """A boot with network mounts, which come after basic.target, and popad.socket, which is before it."""
    paths = itertools.product(("/var/mail", "/var/lib/popad", "/var/cache/popad", "/srv/mail"), ("_netdev",))
    fstab = "".join(f"server:{path} {path} nfs {options} 0 0\n" for path, options in paths)
    machine = server.machine
    before = (machine.root / "etc/fstab").read_bytes() if (machine.root / "etc/fstab").exists() else b""
    machine.write("/etc/fstab", fstab)
    drop_in = "[Unit]\nRequiresMountsFor=/srv/mail\n"
    try:
        with server.drop_in("popad@.service", drop_in):
            said = machine.run(
                ["systemd-analyze", "verify", "--man=no", "default.target", "popad.socket", "popad@1.service"],
                check=False,
            )
    finally:
        machine.write("/etc/fstab", before)
        machine.run(["systemctl", "daemon-reload"])
    assert "cycle" not in said.stdout + said.stderr
    assert machine.show("popad@1.service", "After")["After"].split().count("remote-fs.target") == 1
    for unit in ("popad-auth.service", "popad-standalone.service", "popad@1.service"):
        assert "nss-user-lookup.target" in machine.show(unit, "After")["After"].split()
