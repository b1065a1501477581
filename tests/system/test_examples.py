"""The example files: they are understood, and do what they say."""

from __future__ import annotations

import re

import pytest

from tests.support.here import CHECKOUT
from tests.system.conftest import Server
from tests.system.recipes import blocks

POLL_LIMIT = CHECKOUT / "packaging/examples/poll-limit.conf"
SYSTEMD_WITH_POLL_LIMIT = 255


def test_poll_limit(server: Server) -> None:
    version = int(server.machine.run(["systemctl", "--version"]).stdout.split()[1])
    if version < SYSTEMD_WITH_POLL_LIMIT:
        pytest.skip(f"systemd {version} has no poll limit")
    with server.drop_in("popad.socket", POLL_LIMIT.read_text()):
        assert server.machine.run(["systemd-analyze", "verify", "--man=no", "popad.socket"]).stderr == ""
        wanted = {"PollLimitIntervalUSec": "500ms", "PollLimitBurst": "75", "MaxConnectionsPerSource": "10"}
        assert server.machine.show("popad.socket", *wanted) == wanted


def test_mail_in_homes_is_as_in_the_manual() -> None:
    (block,) = (each for each in blocks() if each.document == "popad.8" and "ProtectHome=no" in each.text)
    lines = (CHECKOUT / "packaging/examples/homes.conf").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == block.text.splitlines()


def test_package_has_the_documents_that_manuals_name(server: Server) -> None:
    listed = server.machine.run(["dpkg", "--listfiles", "popad"]).stdout.split()
    manuals = "".join(page.read_text() for page in (CHECKOUT / "packaging/man").iterdir())
    named = set(re.findall(r"/usr/share/doc/popad/[\w./-]+\w", manuals))
    assert len(named) > 3
    assert named <= set(listed)


def test_package_has_the_examples(server: Server) -> None:
    listed = server.machine.run(["dpkg", "--listfiles", "popad"]).stdout.split()
    for example in POLL_LIMIT.parent.iterdir():
        assert f"/usr/share/doc/popad/examples/{example.name}" in listed
