"""tls/identity.py: who the helper becomes where systemd has not chosen."""

from __future__ import annotations

import os
import pwd

import pytest

from popad.errors import SettingWrong
from popad.settings import Settings
from popad.tls.identity import tls_identity


def test_without_root_all_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert tls_identity(Settings({})) is None


def test_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    entry = pwd.getpwnam("games")
    assert tls_identity(Settings({"POPAD_TLS_USER": "games"})) == (entry.pw_uid, entry.pw_gid)


@pytest.mark.parametrize("name", ["root", "nobody-here", "daemon"])
def test_who_it_is_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`daemon` is the preauth user here: who reads what clients send must not be able to signal the keys' helper."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SettingWrong) as wrong:
        tls_identity(Settings({"POPAD_TLS_USER": name, "POPAD_USER": "daemon"}))
    assert wrong.value.name == "POPAD_TLS_USER"
