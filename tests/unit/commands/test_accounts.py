"""commands/accounts.py: who the users are."""

import pwd
from pathlib import Path

import pytest

from popad.auth import identity
from popad.commands import accounts
from popad.commands.accounts import Accounts
from popad.settings import Settings
from tests.support.serving import NAME, OWNER, Server


def accounts_of(**settings: str) -> Accounts:
    return Accounts(Settings({f"POPAD_{name}": value for name, value in settings.items()}))


def test_users_of_the_file(server: Server) -> None:
    line = server.credentials.read_text()
    server.credentials.write_text(
        line + line.replace(NAME, "bob").replace("\n", " mbox:/srv/{user}/box\n") + "carol x\n"
    )
    known = Accounts(Settings(server.settings))
    assert list(known.all()) == [NAME, "bob", "carol"]
    name, owner, maildrop = known.find(NAME)
    assert (name, owner.uid, maildrop) == (NAME, pwd.getpwnam(OWNER).pw_uid, f"mbox:{server.mailbox}")
    assert known.find("bob")[2] == "mbox:/srv/bob/box"
    with pytest.raises(identity.Unknown, match="no line for 'dave'"):
        known.find("dave")
    with pytest.raises(identity.Unavailable, match="expected NAME"):
        known.find("carol")
    with pytest.raises(identity.Unknown):
        known.find("../x")


def test_a_name_as_a_client_gives_it(server: Server) -> None:
    known = Accounts(Settings(server.settings | {"POPAD_STRIP_DOMAINS": "example.org", "POPAD_LOWER_CASE": "yes"}))
    assert known.find(f"{NAME.upper()}@example.org")[0] == NAME


def test_a_file_that_cannot_be_believed(server: Server) -> None:
    server.credentials.chmod(0o644)
    with pytest.raises(identity.Unavailable, match="others may read"):
        Accounts(Settings(server.settings))


def test_people_who_have_a_maildrop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the system's own users, not those who have no mail."""
    users = [("root", 0), ("daemon", 999), ("ann", 1000), ("bob", 1500), ("carol", 2000), ("dave", 2001)]
    entries = [pwd.struct_passwd((name, "x", uid, uid, "", f"{tmp_path}/{name}", "")) for name, uid in users]
    monkeypatch.setattr(pwd, "getpwall", lambda: entries)
    definitions = tmp_path / "login.defs"
    monkeypatch.setattr(accounts, "LOGIN_DEFS", str(definitions))
    for name in ("root", "daemon", "ann", "carol", "dave"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mbox").touch()
    known = accounts_of(MAILDROP="mbox:{home}/mbox")
    assert list(known.all()) == ["ann", "carol", "dave"]
    definitions.write_text("# UID_MIN 1\nUID_MIN\t\t 1001\nUID_MAX 2000\nUMASK 022\n")
    assert list(known.all()) == ["carol"]
    assert list(accounts_of(MAILDROP="mbox:/var/mail/{domain}/{user}").all()) == []


def test_a_home_that_root_cannot_look_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has it is not left out without a word: that of an NFS server, which takes root for nobody; here a loop."""
    (tmp_path / "ann").symlink_to("ann")
    entry = pwd.struct_passwd(("ann", "x", 1000, 1000, "", f"{tmp_path}/ann", ""))
    monkeypatch.setattr(pwd, "getpwall", lambda: [entry])
    assert list(accounts_of(MAILDROP="mbox:{home}/mbox").all()) == ["ann"]
