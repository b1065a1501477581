"""commands/effective.py: which of the places that a setting can stand in counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from popad.commands import effective, units
from popad.commands.effective import Effective


def test_the_environment_is_above_the_file_and_the_file_above_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "popad.conf"
    path.write_text("POPAD_TIMEOUT=601\nPOPAD_LOGIN_TIMEOUT=61\n")
    own = {"POPAD_TIMEOUT": "602", "POPAD_LOGIN_TIMEOUT": "62", "POPAD_LOCK_TIMEOUT": "12"}
    monkeypatch.setattr(effective, "CONFIGURATION", str(path))
    monkeypatch.setattr(units, "settings_in_use", lambda: ("popad@.service", own))
    found = Effective({"POPAD_TIMEOUT": "600", "PATH": "/bin"})
    settings = found.settings
    assert (settings.timeout, settings.login_timeout, settings.lock_timeout, settings.auth) == (600, 61, 12, "pam")
    assert [found.source(f"POPAD_{name}") for name in ("TIMEOUT", "LOGIN_TIMEOUT", "LOCK_TIMEOUT", "AUTH")] == [
        "environment",
        str(path),
        "popad@.service",
        "default",
    ]
    assert found.unusable == []


def test_what_is_wrong_has_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effective, "CONFIGURATION", "/nonexistent")
    monkeypatch.setattr(units, "settings_in_use", lambda: ("", {}))
    found = Effective({"POPAD_TIMEOUT": "soon"})
    assert found.settings.timeout == 600
    assert [wrong.name for wrong in found.unusable] == ["POPAD_TIMEOUT"]
