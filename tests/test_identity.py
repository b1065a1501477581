"""auth/identity.py: what can be a name, who it is, whom popad refuses to be. With the users of this system."""

import os
import pwd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.auth import identity
from popad.auth.identity import Account, Refused, Unavailable, Unknown, checked_name, identify
from popad.settings import UIDS_OF_STRANGERS, Settings

DAEMON = pwd.getpwnam("daemon")
NOBODY = pwd.getpwnam("nobody")
VIRTUAL = "alice@example.org"  # no NSS knows such a name


def settings(**values: str) -> Settings:
    return Settings({f"POPAD_{name.upper()}": value for name, value in values.items()})


@pytest.mark.parametrize(
    "name", ["alice", "a", "alice@example.org", "a.b-c_d+e", "Jürgen", "日本", "%s%n", "{user}", "x" * 248]
)
def test_names(name: str) -> None:
    assert checked_name(name.encode()) == name


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b".",
        b"..",
        b"../x",
        b".hidden",
        b"a/b",
        b"/etc/passwd",
        b"a\0b",
        b"a\nb",
        b"a\rb",
        b"a\tb",
        b"\x1b[2J",
        b"a\x7f",
        b"\xff",
        b"\xed\xa0\x80",  # a surrogate
        b"\xc0\xaf",  # an overlong slash
        "a\u2028b".encode(),
        "a\u202eb".encode(),
        "a\u00a0b".encode(),
        b"x" * 249,
    ],
)
def test_what_is_no_name(name: bytes) -> None:
    with pytest.raises(Unknown):
        checked_name(name)


@given(st.binary(max_size=300))
def test_any_name_is_safe_in_a_path_and_a_line(name: bytes) -> None:
    try:
        text = checked_name(name)
    except Unknown:
        return
    assert "/" not in text
    assert text not in ("", ".", "..")
    assert text.isprintable()
    assert os.path.normpath(f"/var/mail/{text}") == f"/var/mail/{text}"


def test_a_system_user() -> None:
    who = identify(Account("daemon"), settings())
    assert (who.name, who.uid, who.gid, who.maildrop) == (
        "daemon",
        DAEMON.pw_uid,
        DAEMON.pw_gid,
        "mbox:/var/mail/daemon",
    )


def test_a_maildrop_in_the_home() -> None:
    who = identify(Account("daemon"), settings(maildrop="mbox:{home}/mail/{user}"))
    assert who.maildrop == f"mbox:{DAEMON.pw_dir}/mail/daemon"


def test_a_maildrop_of_its_own() -> None:
    who = identify(Account("daemon", "mbox:/srv/{user}/box"), settings())
    assert who.maildrop == "mbox:/srv/daemon/box"


def test_braces_in_a_name_are_not_looked_into() -> None:
    assert identity.place("mbox:/srv/{user}", "{home}", "/home/x") == "mbox:/srv/{home}"


@pytest.mark.parametrize("auth", ["pam", "file"])
def test_root_is_refused(auth: str) -> None:
    with pytest.raises(Refused, match="uid 0"):
        identify(Account("root"), settings(auth=auth, virtual_user="nobody"))


def test_another_name_of_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    toor = pwd.struct_passwd(("toor", "x", 0, 8, "", "/root", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: toor)
    with pytest.raises(Refused, match="uid 0"):
        identify(Account("toor"), settings())


def test_popads_own_user_is_refused() -> None:
    """Who may become the user that reads what strangers send could reach every stranger's process."""
    with pytest.raises(Refused):
        identify(Account("daemon"), settings(user="daemon"))


@pytest.mark.parametrize("uid", [DAEMON.pw_uid, UIDS_OF_STRANGERS[0], UIDS_OF_STRANGERS[-1]])
def test_a_users_uid_that_strangers_have_is_refused(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    real = pwd.getpwnam
    alias = pwd.struct_passwd(("alias", "x", uid, 8, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: alias if name == "alias" else real(name))
    with pytest.raises(Refused):
        identify(Account("alias"), settings(user="daemon"))


def test_a_name_that_nss_does_not_know() -> None:
    with pytest.raises(Unknown):
        identify(Account(VIRTUAL), settings())
    with pytest.raises(Unavailable, match="POPAD_VIRTUAL_USER"):
        identify(Account(VIRTUAL), settings(auth="file"))


def test_a_virtual_user() -> None:
    who = identify(Account(VIRTUAL), settings(auth="file", virtual_user="nobody"))
    assert (who.name, who.uid, who.gid) == (VIRTUAL, NOBODY.pw_uid, NOBODY.pw_gid)
    assert who.maildrop == f"mbox:/var/mail/{VIRTUAL}"


def test_a_system_user_of_the_file_is_who_nss_says() -> None:
    assert identify(Account("daemon"), settings(auth="file", virtual_user="nobody")).uid == DAEMON.pw_uid


def test_a_virtual_user_has_no_home() -> None:
    with pytest.raises(Unavailable, match="home"):
        identify(Account(VIRTUAL), settings(auth="file", virtual_user="nobody", maildrop="mbox:{home}/mail"))


@pytest.mark.parametrize(
    ("owner", "expected"), [("root", Refused), ("popad-no-such-user", Unavailable), ("daemon", Refused)]
)
def test_who_may_not_own_virtual_mail(owner: str, expected: type[Exception]) -> None:
    with pytest.raises(expected):
        identify(Account(VIRTUAL), settings(auth="file", virtual_user=owner, user="daemon"))


@pytest.mark.parametrize("name", ["popad-no-such-user", "a\0b", ""])
def test_lookup_of_nobody(name: str) -> None:
    assert identity.lookup(name) is None
