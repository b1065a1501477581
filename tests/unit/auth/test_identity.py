"""auth/identity.py: what can be a name, who it is, whom popad refuses to be. With the users of this system."""

import os
import pwd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.auth import identity, nss, verdict
from popad.auth.identity import Refused, Unavailable, Unknown, checked_name, owner, place, user_of
from popad.settings import PREAUTH_UIDS, Settings

DAEMON = pwd.getpwnam("daemon")
NOBODY = pwd.getpwnam("nobody")
VIRTUAL = "alice@example.org"  # no NSS knows such a name


def settings(**values: str) -> Settings:
    return Settings({f"POPAD_{name.upper()}": value for name, value in values.items()})


@pytest.mark.parametrize(
    "name",
    [
        "alice",
        "a",
        "alice@example.org",
        "a.b-c_d+e",
        "Jürgen",
        "日本",
        "%s%n",
        "{user}",
        "two words",
        "block",
        "x" * 249,
    ],
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
        b"x" * 250,
        b" a",
        b"a ",
        b" ",
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


# Files that lie beside the mailbox of alice: popad's own, and what Debian's mail programs make there.
BESIDE = [
    ".popad-0123456789abcdef",  # popad, on the way to a lock file
    "alice.lock",
    "alice.LOCK",  # the same file, where case does not count
    "alice.lock.host.65a1.1f",  # exim4, alpine
    ".lk01234.alice",  # liblockfile
    ".alice.pop",  # qpopper
    ".imap",  # Dovecot
    ".alice.lock",
]


@pytest.mark.parametrize("name", BESIDE)
def test_a_name_that_could_mean_another_file(name: str) -> None:
    """alice's next update would take it for a stale lock file, or wait for it for ever."""
    with pytest.raises(Unknown, match="could mean"):
        checked_name(name.encode())
    with pytest.raises(Unknown, match="could mean"):
        user_of(f"{name}@example.org".encode(), settings(strip_domains="example.org"))


@pytest.mark.parametrize(
    ("given", "typed", "meant"),
    [
        ({}, "Alice@Example.org", "Alice@Example.org"),
        ({"lower_case": "yes"}, "ALICE@Example.org", "alice@example.org"),
        ({"lower_case": "yes"}, "JÜRGEN", "jürgen"),
        ({"strip_domains": "example.org example.net"}, "Alice@EXAMPLE.net", "Alice"),
        ({"strip_domains": "Example.ORG"}, "a@b@example.org", "a@b"),
        ({"strip_domains": "example.org"}, "alice@sub.example.org", "alice@sub.example.org"),
        ({"strip_domains": "example.org"}, "example.org", "example.org"),
        ({"strip_domains": "example.org", "lower_case": "yes"}, "John Doe@example.org", "john doe"),
    ],
)
def test_how_a_typed_name_becomes_a_user(given: dict[str, str], typed: str, meant: str) -> None:
    assert user_of(typed.encode(), settings(**given)) == meant


@pytest.mark.parametrize("typed", ["@example.org", " @example.org", ".a@example.org", "a/b@example.org"])
def test_what_is_left_without_its_domain_is_checked_as_well(typed: str) -> None:
    with pytest.raises(Unknown):
        user_of(typed.encode(), settings(strip_domains="example.org"))


def test_a_system_user() -> None:
    who = owner("daemon", settings())
    assert (who.name, who.uid, who.gid, who.home) == ("daemon", DAEMON.pw_uid, DAEMON.pw_gid, DAEMON.pw_dir)


def test_all_groups_of_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 8, 24, 8])
    assert owner("daemon", settings()).groups == sorted({DAEMON.pw_gid, 8, 24})
    assert owner(VIRTUAL, settings(auth="file", virtual_user="daemon")).groups == sorted({DAEMON.pw_gid, 8, 24})


def test_groups_that_nss_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """No login without them, and no word on the password."""

    def groups(entry: pwd.struct_passwd) -> list[int]:
        raise nss.Unanswered("no answer")

    monkeypatch.setattr(nss, "groups", groups)
    with pytest.raises(Unavailable, match="no answer"):
        owner("daemon", settings())


def test_more_groups_than_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer of them would be another user: one who may read less, or more where a group is kept out."""
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: list(range(1, verdict.MAX_GROUPS + 2)))
    with pytest.raises(Refused, match="1025 groups, more than 1024"):
        owner("daemon", settings())
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: list(range(1, verdict.MAX_GROUPS + 1)))
    assert len(owner("daemon", settings()).groups) == verdict.MAX_GROUPS


def test_a_user_whom_nss_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is not "no such user": the client may try again later."""

    def user(name: str) -> None:
        raise nss.Unanswered("no answer")

    monkeypatch.setattr(nss, "user", user)
    with pytest.raises(Unavailable, match="no answer"):
        owner("daemon", settings())


def test_places() -> None:
    assert place("mbox:{home}/mail/{user}", "daemon", DAEMON.pw_dir) == f"mbox:{DAEMON.pw_dir}/mail/daemon"
    assert place("mbox:/srv/{user}/box", "daemon", "") == "mbox:/srv/daemon/box"


def test_braces_in_a_name_are_not_looked_into() -> None:
    assert place("mbox:/srv/{user}", "{home}", "/home/x") == "mbox:/srv/{home}"


@pytest.mark.parametrize("auth", ["pam", "file"])
def test_root_is_refused(auth: str) -> None:
    with pytest.raises(Refused, match="uid 0"):
        owner("root", settings(auth=auth, virtual_user="nobody"))


def test_another_name_of_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    toor = pwd.struct_passwd(("toor", "x", 0, 8, "", "/root", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: toor)
    with pytest.raises(Refused, match="uid 0"):
        owner("toor", settings())


def test_popads_own_user_is_refused() -> None:
    """Who may become the user that reads what unauthenticated clients send could reach every such process."""
    with pytest.raises(Refused):
        owner("daemon", settings(user="daemon"))


@pytest.mark.parametrize("uid", [DAEMON.pw_uid, PREAUTH_UIDS[0], PREAUTH_UIDS[-1]])
def test_a_users_uid_that_is_one_of_preauth_is_refused(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    real = pwd.getpwnam
    alias = pwd.struct_passwd(("alias", "x", uid, 8, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: alias if name == "alias" else real(name))
    with pytest.raises(Refused):
        owner("alias", settings(user="daemon"))


def test_a_name_that_nss_does_not_know() -> None:
    with pytest.raises(Unknown):
        owner(VIRTUAL, settings())
    with pytest.raises(Unknown, match="POPAD_VIRTUAL_USER"):
        owner(VIRTUAL, settings(auth="file"))
    with pytest.raises(Unknown, match="known to NSS"):  # whom PAM lets in is not therefore a virtual user
        owner(VIRTUAL, settings(auth="pam", virtual_user="nobody"))


def test_a_virtual_user() -> None:
    who = owner(VIRTUAL, settings(auth="file", virtual_user="nobody"))
    assert (who.name, who.uid, who.gid, who.home) == (VIRTUAL, NOBODY.pw_uid, NOBODY.pw_gid, "")


def test_a_system_user_of_the_file_is_who_nss_says() -> None:
    assert owner("daemon", settings(auth="file", virtual_user="nobody")).uid == DAEMON.pw_uid


def test_a_domain_in_the_path() -> None:
    """What stands behind the last @ of the name; none, or one that would be another directory, is refused."""
    assert place("maildir:/srv/{domain}/{user}", "jane@example.org", "") == "maildir:/srv/example.org/jane@example.org"
    assert place("mbox:/srv/{domain}/x", "a@b@example.org", "") == "mbox:/srv/example.org/x"
    assert place("mbox:/srv/{user}", "{domain}@{home}", "/h") == "mbox:/srv/{domain}@{home}"
    for name in ("jane", "jane@", "jane@..", "jane@.x"):
        with pytest.raises(Refused, match="domain"):
            place("mbox:/srv/{domain}/{user}", name, "")


def test_a_virtual_user_has_no_home() -> None:
    """No other answer than to a wrong password: what is not told cannot tell that the password is right."""
    with pytest.raises(Refused, match="home"):
        place("mbox:{home}/mail", VIRTUAL, "")


@pytest.mark.parametrize(
    ("who", "expected"), [("root", Refused), ("popad-no-such-user", Unavailable), ("daemon", Refused)]
)
def test_who_may_not_own_virtual_mail(who: str, expected: type[Exception]) -> None:
    with pytest.raises(expected):
        owner(VIRTUAL, settings(auth="file", virtual_user=who, user="daemon"))


@pytest.mark.parametrize("name", ["popad-no-such-user", "a\0b", ""])
def test_lookup_of_nobody(name: str) -> None:
    assert identity.lookup(name) is None
