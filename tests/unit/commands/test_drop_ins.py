"""commands/drop_ins.py: what drop-ins take away from units. tests/system/test_check.py tries it."""

from __future__ import annotations

from pathlib import Path

import pytest

from popad.commands import drop_ins
from popad.commands.drop_ins import LEVELS, directives, level, undoes, wrong_drop_ins
from tests.support.here import CHECKOUT

UNITS = ("popad@.service", "popad-auth.service", "popad-standalone.service", "popad.socket")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(drop_ins, "SHIPPED", (str(CHECKOUT / "units"),))
    return tmp_path


def in_force(unit: str, drop_in: Path | None = None, **more: str) -> dict[str, str]:
    """Properties as systemd has them: what the unit says, and a drop-in above it."""
    shown = {"FragmentPath": str(CHECKOUT / "units" / unit)}
    for path in (shown["FragmentPath"], str(drop_in) if drop_in else ""):
        shown |= {name: values[-1] for name, values in directives(path).items() if name in (*LEVELS, "Accept")}
    return shown | ({"DropInPaths": str(drop_in)} if drop_in else {}) | more


@pytest.mark.parametrize("unit", UNITS)
def test_units_as_they_come(place: Path, unit: str) -> None:
    assert list(wrong_drop_ins(unit, in_force(unit), needs_homes=False)) == []


@pytest.mark.parametrize("name", LEVELS)
def test_each_directive_is_one_that_a_unit_has(name: str) -> None:
    assert any(name in directives(str(CHECKOUT / "units" / unit)) for unit in UNITS)


@pytest.mark.parametrize(
    ("unit", "line", "shipped"),
    [
        ("popad@.service", "NoNewPrivileges=no", "NoNewPrivileges=yes"),
        ("popad@.service", "ProtectSystem=full", "ProtectSystem=strict"),
        ("popad@.service", "ProtectHome=no", "ProtectHome=tmpfs"),
        ("popad@.service", "ProtectProc=default", "ProtectProc=invisible"),
        ("popad@.service", "PrivateNetwork=off", "PrivateNetwork=yes"),
        ("popad@.service", "MemoryDenyWriteExecute=false", "MemoryDenyWriteExecute=yes"),
        ("popad@.service", "CapabilityBoundingSet=CAP_DAC_OVERRIDE", "CapabilityBoundingSet=CAP_SETUID CAP_SETGID"),
        ("popad@.service", "AmbientCapabilities=CAP_KILL", "AmbientCapabilities="),
        ("popad@.service", "SystemCallFilter=", "SystemCallFilter=~@clock"),
        ("popad@.service", "SystemCallFilter=@mount", "SystemCallFilter=~@clock"),
        ("popad@.service", "RestrictAddressFamilies=AF_INET", "RestrictAddressFamilies=AF_UNIX"),
        ("popad@.service", "RestrictNamespaces=no", "RestrictNamespaces=yes"),
        ("popad@.service", "IPAddressDeny=", "IPAddressDeny=any"),
        ("popad@.service", "ReadWritePaths=/", "ReadWritePaths=-/var/mail"),
        ("popad-auth.service", "NoNewPrivileges=0", "NoNewPrivileges=yes"),
    ],
)
def test_what_undoes_a_directive(place: Path, unit: str, line: str, shipped: str) -> None:
    drop_in = place / "test.conf"
    drop_in.write_text(f"# {line}\n[Service]\n{line}\n")
    shown = in_force(unit, drop_in)
    (said,) = wrong_drop_ins(unit, shown, needs_homes=False)
    assert said.startswith(f"{unit}: {drop_in} has {line} in place of {shipped}")
    assert said.endswith(": take it out, then systemctl daemon-reload and systemctl restart popad")
    drop_in.write_text("[Service]\n")
    assert list(wrong_drop_ins(unit, in_force(unit, drop_in), needs_homes=False)) == []


@pytest.mark.parametrize(
    "line",
    [
        "ReadWritePaths=-/srv/mail",
        "ProtectHome=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=CAP_SETUID",
        "CapabilityBoundingSet=",
        "SystemCallFilter=~@privileged",
        "RestrictAddressFamilies=AF_UNIX",
        "MemoryMax=512M",
        "Environment=POPAD_TIMEOUT=700",
        "IPAddressAllow=192.0.2.0/24",
    ],
)
def test_what_undoes_nothing(place: Path, line: str) -> None:
    drop_in = place / "test.conf"
    drop_in.write_text(f"[Service]\n{line}\n")
    assert list(wrong_drop_ins("popad@.service", in_force("popad@.service", drop_in), needs_homes=False)) == []


def test_mail_in_homes(place: Path) -> None:
    """popad.conf(5) has this drop-in."""
    drop_in = place / "test.conf"
    drop_in.write_text("[Service]\nProtectHome=no\nReadWritePaths=-/home\n")
    assert list(wrong_drop_ins("popad@.service", in_force("popad@.service", drop_in), needs_homes=True)) == []
    assert len(list(wrong_drop_ins("popad@.service", in_force("popad@.service", drop_in), needs_homes=False))) == 1


def test_a_socket_that_accepts_nothing(place: Path) -> None:
    drop_in = place / "test.conf"
    drop_in.write_text("[Socket]\nAccept=no\n")
    shown = in_force("popad.socket", drop_in)
    (said,) = wrong_drop_ins("popad.socket", shown, needs_homes=False)
    assert said.startswith(f"popad.socket: {drop_in} has Accept=no, and so no session begins: take it out, then")
    assert list(wrong_drop_ins("popad-auth.socket", {"Accept": "no"}, needs_homes=False)) == []


def test_a_unit_in_place_of_the_shipped_one(place: Path) -> None:
    """A copy in /etc/systemd/system, with one line less."""
    text = (CHECKOUT / "units/popad@.service").read_text()
    copy = place / "popad@.service"
    copy.write_text(text.replace("\nNoNewPrivileges=yes", "\nNoNewPrivileges=no"))
    shown = in_force("popad@.service", NoNewPrivileges="no", FragmentPath=str(copy))
    (said,) = wrong_drop_ins("popad@.service", shown, needs_homes=False)
    assert said.startswith(f"popad@.service: {copy} has NoNewPrivileges=no in place of NoNewPrivileges=yes")


def test_files_that_are_not_there() -> None:
    assert directives("/nonexistent") == {}
    assert list(wrong_drop_ins("popad@.service", {}, needs_homes=False)) == []


@pytest.mark.parametrize(
    ("value", "strength"), [("no", 0), ("false", 0), ("", 0), ("read-only", 1), ("yes", 2), ("tmpfs", 2), ("new", 2)]
)
def test_levels(value: str, strength: int) -> None:
    assert level(LEVELS["ProtectHome"], value) == strength


def test_lines_that_go_on() -> None:
    assert undoes("CapabilityBoundingSet", "CAP_SETUID CAP_KILL", {"CapabilityBoundingSet": ["CAP_SETUID"]})
    assert not undoes("ExecStart", "", {"ExecStart": ["/usr/sbin/popad"]})
