"""An upgrade while somebody fetches mail; an upgrade from the time when the daemon's unit had another name."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.machine import Machine, needs, tree
from tests.system.conftest import MESSAGES, PASSWORD, Server, mbox


def test_upgrade_with_sessions_open(server: Server, package: Path) -> None:
    """A session that began with the old code ends with it; one that has not logged in yet can still do so."""
    fetching, waiting = server.add_user(), server.add_user()
    with server.connect().logged_in(fetching, PASSWORD) as client, server.connect().greeted() as newcomer:
        client.ok("DELE 1")
        main = server.main_pid(client)
        server.machine.install(package)
        assert server.main_pid(client) == main
        client.ok("RETR 3")
        assert client.body().decode() == MESSAGES[2]
        client.ok("QUIT")
        assert client.closed()
        newcomer.ok(f"USER {waiting}")
        newcomer.ok(f"PASS {PASSWORD}")
        newcomer.ok("QUIT")
    assert (server.machine.root / "var/mail" / fetching).read_text() == mbox(MESSAGES[1:])
    with server.connect().logged_in(fetching, PASSWORD) as client:
        assert client.ok("STAT").startswith(b"2 ")


def test_a_daemon_of_the_old_name_stays_the_shape(package: Path, release: str, tmp_path: Path) -> None:
    """Its unit was popad.service: enabled and running before the upgrade, popad-standalone.service is so after it."""
    if reason := needs():
        pytest.skip(reason)
    before = older(package, tmp_path)
    with Machine(tree(release)) as machine:
        machine.install(before)
        machine.run(["systemctl", "disable", "--now", "popad.socket"])
        machine.run(["systemctl", "enable", "--now", "popad.service"])
        machine.install(package)
        for unit in ("popad-standalone.service", "popad.service"):
            assert machine.show(unit, "ActiveState") == {"ActiveState": "active"}, unit
        assert machine.show("popad.service", "MainPID") == {"MainPID": "0"}
        assert machine.show("popad.socket", "ActiveState", "UnitFileState") == {
            "ActiveState": "inactive",
            "UnitFileState": "disabled",
        }
        with machine.connect() as client:
            assert client.recv(512).startswith(b"+OK")
        assert machine.run(["systemctl", "is-enabled", "popad-standalone.service"]).stdout == "enabled\n"
        machine.run(["dpkg", "--purge", "popad"])
        left = machine.run(["find", "/etc/systemd", "/var/lib/systemd/deb-systemd-helper-enabled", "-name", "*popad*"])
        assert left.stdout == ""


@pytest.fixture(params=["bookworm", "trixie"])
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def older(package: Path, place: Path) -> Path:
    """The package as it was when the daemon's unit was popad.service, under an older version."""
    tree = place / "older"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    (units,) = [path.parent for path in tree.rglob("popad-standalone.service")]
    (units / "popad-standalone.service").rename(units / "popad.service")
    changed = [*units.iterdir(), *(tree / "DEBIAN").glob("p*"), tree / "DEBIAN/control"]
    for path in changed:
        text = path.read_text().replace("popad-standalone.service", "popad.service")
        text = re.sub(r"^(?:Wants|PartOf)=popad\.service\n", "", text, flags=re.M).replace(
            " popad.service\nPartOf=popad.service", ""
        )
        path.write_text(re.sub(r"^Version: .*", "Version: 0.0.1", text, flags=re.M))
    (tree / "DEBIAN/preinst").unlink()
    postinst = (tree / "DEBIAN/postinst").read_text()
    (tree / "DEBIAN/postinst").write_text("#!/bin/sh\nset -e\n" + postinst[postinst.index("# Automatically added") :])
    (tree / "DEBIAN/md5sums").unlink()
    built = place / "popad_0.0.1_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, built], check=True, capture_output=True)
    return built
