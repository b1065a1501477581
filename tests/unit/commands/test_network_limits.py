"""commands/network_limits.py: what is said of popad-limits.service. In a booted machine: tests/system."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

import pytest

from popad.commands import network_limits, units
from tests.support.marks import needs_root

ON = {"LoadState": "loaded", "ActiveState": "active"}


def systemd(monkeypatch: pytest.MonkeyPatch, shown: Mapping[str, str], command: str = "true") -> None:
    monkeypatch.setattr(units, "are_there", lambda: True)
    monkeypatch.setattr(units, "show", lambda _: shown)
    monkeypatch.setattr(network_limits, "TABLE", (command,))


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (ON, ["popad-limits.service: on"]),
        (
            {"LoadState": "loaded", "ActiveState": "inactive"},
            ["popad-limits.service: off: nothing limits connections before systemd or popad takes them"],
        ),
        ({"LoadState": "not-found", "ActiveState": "inactive"}, []),
    ],
)
def test_whether_it_is_on(monkeypatch: pytest.MonkeyPatch, shown: Mapping[str, str], said: list[str]) -> None:
    systemd(monkeypatch, shown)
    assert list(network_limits.described()) == said
    monkeypatch.setattr(units, "are_there", lambda: False)
    assert list(network_limits.described()) == []


@needs_root
def test_rules_that_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    systemd(monkeypatch, ON)
    assert list(network_limits.wrong()) == []
    systemd(monkeypatch, ON, "false")
    assert [said.partition(": ")[2] for said in network_limits.wrong()] == ["systemctl restart popad-limits"]
    systemd(monkeypatch, ON, "/nonexistent/nft")
    assert list(network_limits.wrong()) == []


@needs_root
def test_an_nft_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    systemd(monkeypatch, ON)

    def hangs(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("nft", 30)

    monkeypatch.setattr(subprocess, "run", hangs)
    assert list(network_limits.wrong()) == []
