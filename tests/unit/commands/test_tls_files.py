"""commands/tls_files.py: what `popad check` says of certificates and keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from popad.commands import tls_files
from popad.commands.tls_files import described, wrong_tls
from popad.commands.units import SOCKET
from popad.settings import Settings
from tests.support.certificates import HOST, end, make, settings
from tests.support.marks import needs_root


@needs_root
def test_nothing_is_wrong(tmp_path: Path) -> None:
    pair = make(tmp_path)
    there = Settings(settings(pair))
    assert list(wrong_tls(there, [])) == []
    (said,) = described(there)
    assert said.startswith(f"{pair.chain}: {HOST}, ") and said.endswith(" days left")
    assert list(described(Settings({}))) == list(wrong_tls(Settings({}), [SOCKET])) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"POPAD_TLS_KEY": "/x"}, "POPAD_TLS_KEY: names keys, and POPAD_TLS_CERTIFICATE no certificate"),
        (
            {"POPAD_PLAINTEXT": "tls"},
            "POPAD_PLAINTEXT: nobody can log in: there is no TLS without POPAD_TLS_CERTIFICATE",
        ),
    ],
)
def test_settings_that_need_a_certificate(given: dict[str, str], said: str) -> None:
    assert list(wrong_tls(Settings(given), [])) == [said]


@needs_root
def test_a_key_that_others_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make(tmp_path)
    pair.key.chmod(0o644)
    monkeypatch.setattr(tls_files, "is_hidden", lambda path: False)
    assert list(wrong_tls(Settings(settings(pair)), [])) == [f"POPAD_TLS_KEY: others may read {pair.key} (chmod go=)"]
    monkeypatch.undo()
    tmp_path.chmod(0o700)
    assert list(wrong_tls(Settings(settings(pair)), [])) == []


@needs_root
def test_where_the_helper_does_not_see_it(tmp_path: Path) -> None:
    pair = make(tmp_path)
    said = list(wrong_tls(Settings(settings(pair)), [SOCKET]))
    assert said == [
        f"POPAD_TLS_CERTIFICATE: popad-tls-helper.service has what is in /etc/popad/tls alone: move {path} there"
        for path in (pair.chain, pair.key)
    ]


@needs_root
def test_certificates_that_are_none_and_that_have_ended(tmp_path: Path) -> None:
    pair = end(make(tmp_path))
    assert list(wrong_tls(Settings(settings(pair)), [])) == [
        f"POPAD_TLS_CERTIFICATE: {pair.chain}: certificate has expired: renew it, then systemctl reload popad"
    ]
    (said,) = described(Settings(settings(pair)))
    assert said == f"{pair.chain}: no name, ended"
    pair.chain.unlink()
    assert list(wrong_tls(Settings(settings(pair)), [])) == [
        f"POPAD_TLS_CERTIFICATE: {pair.chain}: No such file or directory"
    ]
    assert list(described(Settings(settings(pair)))) == []
    pair.key.unlink()
    first, _ = wrong_tls(Settings(settings(pair)), [])
    assert first == f"POPAD_TLS_KEY: [Errno 2] No such file or directory: '{pair.key}'"
