"""commands/deliverers.py: OpenSMTPD beside mbox files."""

from __future__ import annotations

from pathlib import Path

import pytest

from popad.commands import deliverers
from popad.commands.deliverers import MAILDIR, described, wrong_delivery

MBOX, MAILDIRS = "mbox:/var/mail/{user}", "maildir:{home}/Maildir"


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(deliverers, "OPENSMTPD", str(tmp_path / "smtpd.conf"))
    return tmp_path / "smtpd.conf"


def test_where_it_is_not_installed(conf: Path) -> None:
    assert list(wrong_delivery(MBOX)) == list(described(MBOX)) == []


def test_mbox(conf: Path) -> None:
    """And what is said to be done helps."""
    conf.write_text(
        'listen on lo\n# action "x" mbox\naction "local" mbox alias <aliases>\nmatch for local action "local"\n'
    )
    (said,) = wrong_delivery(MBOX)
    assert said.startswith(f"{conf}:3: OpenSMTPD takes no lock that popad sees")
    assert f"write `{MAILDIR}` there, and POPAD_MAILDROP={MAILDIRS} into popad.conf" in said
    assert list(wrong_delivery(MAILDIRS)) == list(described(MAILDIRS)) == []
    conf.write_text(f"{MAILDIR}\n")
    assert list(wrong_delivery(MBOX)) == []
    assert list(described(MBOX)) == [f"{conf}:1: OpenSMTPD delivers to Maildirs, and POPAD_MAILDROP is mbox files"]
    assert list(described(MAILDIRS)) == []


def test_a_name_that_is_mbox(conf: Path) -> None:
    conf.write_text('action "mbox" relay\naction mbox maildir\n')
    assert list(wrong_delivery(MBOX)) == []


def test_what_the_manual_page_says() -> None:
    from tests.support.here import CHECKOUT

    assert f"\n{MAILDIR}\n" in (CHECKOUT / "packaging/man/popad-delivery.7").read_text()
