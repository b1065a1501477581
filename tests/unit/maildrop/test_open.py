"""maildrop/open.py: each scheme that a setting may name opens its store."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.errors import MaildropUnavailable
from popad.maildrop import open as opening
from popad.maildrop.maildir.store import Maildir
from popad.maildrop.maildrop import Store
from popad.maildrop.mbox.store import Mbox
from popad.maildrop.private import SharedDirectory
from popad.settings import Settings
from popad.values import DOVECOTS_FORMAT, STORES
from tests.support.maildirs import Mail

MAIL = b"From a Thu Jan  1 00:00:00 1970\nSubject: one\n\nbody\n\n"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[SharedDirectory]:
    (tmp_path / "state").mkdir()
    state = SharedDirectory(str(tmp_path / "state"))
    yield state
    state.close()


def opened(path: Path, state: SharedDirectory, **settings: str) -> Store:
    made = Settings({f"POPAD_{name.upper()}": value for name, value in settings.items()})
    return opening.open_store(f"mbox:{path}/mail", made, state, None)


def test_settings_and_the_table_know_the_same_stores() -> None:
    assert set(STORES) == set(opening.STORES)


def test_an_mbox(tmp_path: Path, state: SharedDirectory) -> None:
    (tmp_path / "mail").write_bytes(MAIL)
    store = opened(tmp_path, state)
    assert isinstance(store, Mbox)
    assert len(store.sizes) == 1
    assert store.recovery is None
    assert all(re.fullmatch("[!-~]{1,70}", store.unique_ids()[index]) for index in range(len(store.unique_ids())))


def test_which_server_counts_for_which_store() -> None:
    """Nothing is read of one that leaves nothing there."""
    of_stores = {
        "dovecot:%u": (("dovecot", "%u"), ("dovecot", "%u")),
        "courier": (None, ("courier", DOVECOTS_FORMAT)),
        "qpopper": (("qpopper", DOVECOTS_FORMAT), None),
        "popa3d": (None, None),
        "name": (None, None),
        "": (None, None),
    }
    for value, wanted in of_stores.items():
        made = Settings({"POPAD_UIDL": value})
        assert tuple(opening.former_server(store, made) for store in ("mbox", "maildir")) == wanted


def test_ids_of_a_former_server(tmp_path: Path, state: SharedDirectory) -> None:
    (tmp_path / "mail").write_bytes(MAIL.replace(b"Subject:", b"X-UIDL: 0123456789abcdef\nSubject:"))
    assert opened(tmp_path, state).unique_ids()[0] != "0123456789abcdef"
    assert opened(tmp_path, state, uidl="qpopper").unique_ids()[0] == "0123456789abcdef"


def test_a_maildir(tmp_path: Path, state: SharedDirectory) -> None:
    mail = Mail(tmp_path)
    name = mail.deliver(b"x\n")
    for seen, there in (("no", {"new": [name], "cur": []}), ("yes", {"new": [], "cur": [f"{name}:2,S"]})):
        made = Settings({"POPAD_MAILDIR_SEEN": seen})
        store = opening.open_store(f"maildir:{mail.path}", made, state, None)
        assert isinstance(store, Maildir)
        assert (list(store.sizes), b"".join(store.content(0))) == ([3], b"x\n")
        store.finish(wait=False)
        assert mail.there() == there
        store.directories.close()
    for missing, is_served in (("empty", True), ("refused", False)):
        made = Settings({"POPAD_MAILDIR_MISSING": missing})
        try:
            store = opening.open_store(f"maildir:{tmp_path}/none", made, state, None)
        except MaildropUnavailable:
            assert not is_served
        else:
            assert is_served
            assert list(store.sizes) == []


@pytest.mark.parametrize("limits", [{"max_octets": "10"}, {"max_messages": "1"}])
def test_the_limits_of_the_settings_count(tmp_path: Path, state: SharedDirectory, limits: dict[str, str]) -> None:
    (tmp_path / "mail").write_bytes(MAIL * 2)
    with pytest.raises(MaildropUnavailable):
        opened(tmp_path, state, **limits)
