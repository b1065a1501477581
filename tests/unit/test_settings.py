"""settings.py: every POPAD_* name, good and bad values of it, and a table that agrees with the class."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad import settings, values
from popad.errors import SettingWrong
from popad.settings import PREFIX, TABLE, Settings

READ_NUMBERS = (
    values.count,
    values.at_least_one,
    values.seconds,
    values.argument_octets,
    values.prefix,
)
NUMBERS = [name for name, row in TABLE.items() if row.read in READ_NUMBERS]


def attribute(name: str) -> str:
    return name[len(PREFIX) :].lower()


def test_table_and_class_agree() -> None:
    assert set(Settings.__annotations__) == {attribute(name) for name in TABLE}


def test_values_have_the_types_that_the_class_declares() -> None:
    made = Settings({})
    declared = {name: kind if isinstance(kind, type) else tuple for name, kind in Settings.__annotations__.items()}
    assert {name: type(value) for name, value in vars(made).items()} == declared


def test_each_row_has_a_reason_and_numbers_have_a_unit() -> None:
    for name, row in TABLE.items():
        assert re.fullmatch("POPAD_[A-Z_]+", name)
        assert len(row.why) > 20, name
        assert bool(row.unit) == (name in NUMBERS), name


def test_defaults() -> None:
    made = Settings({})
    assert (made.maildrop, made.auth, made.user, made.virtual_user) == ("mbox:/var/mail/{user}", "pam", "popad", "")
    assert (made.timeout, made.max_messages, made.max_octets, made.max_argument) == (600, 500000, 0, 255)
    assert (made.log_unknown, made.auth_socket) == (False, "")


def test_other_variables_are_not_ours() -> None:
    Settings({"PATH": "/bin", "popad_timeout": "x", "XPOPAD_TIMEOUT": "x", "POPA": "x"})


@pytest.mark.parametrize("name", ["POPAD_", "POPAD_TIMEOUTS", "POPAD_timeout", "POPAD_LOCK_TIME_OUT"])
def test_an_unknown_name_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(SettingWrong) as wrong:
        Settings({name: "1"})
    assert wrong.value.name == name
    assert name in str(wrong.value)


GOOD: dict[str, list[tuple[str, object]]] = {
    "POPAD_MAILDROP": [("mbox:/srv/mail/{user}/box",) * 2, ("mbox:{home}/mailbox",) * 2, ("mbox:/one",) * 2],
    "POPAD_AUTH": [("pam", "pam"), ("file", "file")],
    "POPAD_CREDENTIALS": [("/srv/credentials",) * 2],
    "POPAD_PAM_SERVICE": [("login",) * 2],
    "POPAD_AUTH_SOCKET": [("", ""), ("/run/x",) * 2],
    "POPAD_AUTH_TIMEOUT": [("1", 1), ("86400", 86400)],
    "POPAD_AUTH_IDLE": [("007", 7)],
    "POPAD_VIRTUAL_USER": [("", ""), ("vmail",) * 2],
    "POPAD_USER": [("preauth",) * 2],
    "POPAD_TIMEOUT": [("600", 600)],
    "POPAD_LOGIN_TIMEOUT": [("60", 60)],
    "POPAD_LOCK_TIMEOUT": [("1", 1)],
    "POPAD_LOCKS": [("auto",) * 2, ("fcntl",) * 2, ("fcntl,dotlock",) * 2],
    "POPAD_MAX_MESSAGES": [("1", 1)],
    "POPAD_MAX_OCTETS": [("0", 0), ("999999999999999999", 10**18 - 1)],
    "POPAD_MAX_ARGUMENT": [("40", 40), ("255", 255)],
    "POPAD_LOWER_CASE": [("yes", True), ("no", False)],
    "POPAD_STRIP_DOMAINS": [("", ()), ("Example.org  b.example", ("example.org", "b.example"))],
    "POPAD_MAX_SESSIONS": [("1", 1)],
    "POPAD_MAX_SESSIONS_PER_SOURCE": [("1", 1)],
    "POPAD_MIN_DELAY": [("1", 1)],
    "POPAD_SOURCE_PREFIX": [("1", 1), ("128", 128)],
    "POPAD_WRAPPERS": [("daemon",) * 2, ("always",) * 2, ("never",) * 2],
    "POPAD_TLS_CERTIFICATE": [("", ()), ("/a.pem  /b.pem", ("/a.pem", "/b.pem"))],
    "POPAD_TLS_KEY": [("", ()), ("/a.key", ("/a.key",))],
    "POPAD_TLS_MIN": [("1.2",) * 2, ("1.3",) * 2],
    "POPAD_TLS_CIPHERS": [("", ""), ("HIGH",) * 2],
    "POPAD_TLS_UNKNOWN_NAME": [("first",) * 2, ("refuse",) * 2],
    "POPAD_TLS_PORTS": [("", ()), ("995 1995", (995, 1995))],
    "POPAD_TLS_TIMEOUT": [("1", 1)],
    "POPAD_TLS_SOCKET": [("/run/x.sock",) * 2, ("", "")],
    "POPAD_TLS_USER": [("keys",) * 2],
    "POPAD_PLAINTEXT": [("", ""), ("always",) * 2, ("local",) * 2, ("tls",) * 2],
    "POPAD_STOP_TIMEOUT": [("1", 1)],
    "POPAD_GUESS_DELAY": [("0", 0), ("15", 15)],
    "POPAD_GUESS_MEMORY": [("1", 1)],
    "POPAD_UIDL": [
        ("", ()),
        ("dovecot", ("dovecot", "%08Xu%08Xv")),
        ("dovecot:%v.%u", ("dovecot", "%v.%u")),
        ("dovecot:%08Xu%08Xv%%", ("dovecot", "%08Xu%08Xv%%")),
        ("courier", ("courier", "%08Xu%08Xv")),
        ("qpopper", ("qpopper", "%08Xu%08Xv")),
        ("popa3d", ()),
        ("name", ()),
    ],
    "POPAD_MAILDIR_SEEN": [("yes", True), ("no", False)],
    "POPAD_MAILDIR_MISSING": [("empty",) * 2, ("refused",) * 2],
    "POPAD_SASL": [
        ("", ()),
        ("plain  LOGIN", ("PLAIN", "LOGIN")),
        ("none", ("NONE",)),
        ("EXTERNAL SCRAM-SHA-256 SCRAM-SHA-1", ("EXTERNAL", "SCRAM-SHA-256", "SCRAM-SHA-1")),
    ],
    "POPAD_TLS_CLIENT_CA": [("",) * 2, ("/etc/ssl/ca.pem",) * 2],
    "POPAD_TLS_CLIENT_NAME": [("email",) * 2, ("common-name",) * 2],
    "POPAD_PROXY_FROM": [("", ()), ("192.0.2.7", ((bytes([192, 0, 2, 7]), 32),))],
    "POPAD_TRUSTED_SOURCES": [
        ("", ()),
        ("192.0.2.7  2001:db8::/32", ((bytes([192, 0, 2, 7]), 32), (b" \x01\r\xb8" + bytes(12), 32))),
    ],
    "POPAD_STATE": [("/srv/state",) * 2],
    "POPAD_CACHE": [("/srv/cache",) * 2, ("", "")],
    "POPAD_LOG": [("quiet",) * 2, ("normal",) * 2, ("debug",) * 2],
    "POPAD_DEBUG_USERS": [("", ()), ("jane  bob", ("jane", "bob"))],
    "POPAD_LOG_UNKNOWN": [("yes", True), ("no", False)],
}
RELATIVE: list[str] = ["", "x", "./x", "/x/../y", "/.."]
NO_NUMBER = ["", "-1", "+1", " 1", "1 ", "1s", "0x1", "1_0", "1.5", "²", "\u0661", "9" * 19, "infinity"]
BAD: dict[str, list[str]] = {
    "POPAD_MAILDROP": [
        "",
        "/var/mail/{user}",
        "mh:/x",
        "mbox:",
        "mbox:x",
        "mbox:/x/../y",
        "mbox:/x\0y",  # from the credentials file: no system call takes it
        "mbox:/{name}",
        "mbox:/{",
        "mbox:/{{user}}",
        "mbox:{user}/x",
        "mbox:/var/mail/{user}.lock",
    ],
    "POPAD_AUTH": ["", "PAM", "none"],
    "POPAD_CREDENTIALS": RELATIVE,
    "POPAD_PAM_SERVICE": ["", "a b", "../x", "a/b", " a"],
    "POPAD_AUTH_SOCKET": ["x", "/x/../y"],
    "POPAD_AUTH_TIMEOUT": [*NO_NUMBER, "0", "86401"],
    "POPAD_AUTH_IDLE": [*NO_NUMBER, "0", "86401"],
    "POPAD_VIRTUAL_USER": [],  # any text: a name that there is not is found out when it is looked for
    "POPAD_USER": ["", "a b", "a/b"],
    "POPAD_TIMEOUT": [*NO_NUMBER, "0", "86401"],
    "POPAD_LOGIN_TIMEOUT": [*NO_NUMBER, "0", "86401"],
    "POPAD_LOCK_TIMEOUT": [*NO_NUMBER, "0", "86401"],
    "POPAD_LOCKS": ["", "dotlock", "dotlock,fcntl", "fcntl, dotlock", "Auto", "none"],
    "POPAD_MAX_MESSAGES": [*NO_NUMBER, "0"],
    "POPAD_MAX_OCTETS": NO_NUMBER,
    "POPAD_MAX_ARGUMENT": [*NO_NUMBER, "39", "256"],
    "POPAD_LOWER_CASE": ["", "Yes", "1", "true"],
    "POPAD_STRIP_DOMAINS": ["@example.org", "a@example.org", "a/b", "a.example,b.example", "a.example; b.example"],
    "POPAD_MAX_SESSIONS": NO_NUMBER,
    "POPAD_MAX_SESSIONS_PER_SOURCE": NO_NUMBER,
    "POPAD_MIN_DELAY": [*NO_NUMBER, "0", "86401"],
    "POPAD_SOURCE_PREFIX": [*NO_NUMBER, "0", "129"],
    "POPAD_WRAPPERS": ["", "yes", "Always"],
    "POPAD_TLS_TIMEOUT": [*NO_NUMBER, "0", "86401"],
    "POPAD_STOP_TIMEOUT": [*NO_NUMBER, "0", "86401"],
    "POPAD_GUESS_DELAY": NO_NUMBER,
    "POPAD_GUESS_MEMORY": [*NO_NUMBER, "0", "86401"],
    "POPAD_UIDL": [
        "cyrus",
        "courier:%u",
        "qpopper:%u",
        "popa3d:%u",
        "Name",
        "dovecot:",
        "dovecot:%v",
        "dovecot:x",
        "dovecot:guff",
        "dovecot:%v-msg",
        "dovecot:%Mf",
        "dovecot:%u%",
        "dovecot:%123u",
        "dovecot:%XXu",
        "dovecot:%%u",
        "dovecot:%{uid | hex(8)}%{uidvalidity | hex(8)}",
    ],
    "POPAD_MAILDIR_SEEN": ["", "true"],
    "POPAD_MAILDIR_MISSING": ["", "made"],
    "POPAD_SASL": ["CRAM-MD5", "PLAIN,LOGIN", "none PLAIN", "SCRAM-SHA-256-PLUS"],
    "POPAD_TLS_CLIENT_CA": ["ca.pem", "/etc/../ca"],
    "POPAD_TLS_CLIENT_NAME": ["", "dns"],
    "POPAD_PROXY_FROM": ["x", "192.0.2.7/24"],
    "POPAD_TRUSTED_SOURCES": [
        "x",
        "192.0.2",
        "192.0.2.7/24",
        "192.0.2.0/33",
        "192.0.2.7,192.0.2.8",
        "::1/x",
        "::1/",
        "/8",
    ],
    "POPAD_TLS_CERTIFICATE": ["x", "/a b", "/a /../b"],
    "POPAD_TLS_KEY": ["x"],
    "POPAD_TLS_MIN": ["", "1.1", "3", "TLSv1.2"],
    "POPAD_TLS_CIPHERS": [],
    "POPAD_TLS_UNKNOWN_NAME": ["", "last"],
    "POPAD_TLS_PORTS": ["0", "65536", "pop3s", "995,996", "-1"],
    "POPAD_TLS_SOCKET": ["x", "/../x"],
    "POPAD_TLS_USER": ["", "a b", "a/b"],
    "POPAD_PLAINTEXT": ["no", "Always", " "],
    "POPAD_STATE": RELATIVE,
    "POPAD_CACHE": [value for value in RELATIVE if value],
    "POPAD_LOG": ["", "Quiet", "info", "debug "],
    "POPAD_DEBUG_USERS": [],
    "POPAD_LOG_UNKNOWN": ["", "Yes", "1", "true"],
}


def test_each_setting_has_examples() -> None:
    assert GOOD.keys() == BAD.keys() == TABLE.keys()


@pytest.mark.parametrize(("name", "text", "value"), [(name, *pair) for name, pairs in GOOD.items() for pair in pairs])
def test_good_values(name: str, text: str, value: object) -> None:
    assert getattr(Settings({name: text}), attribute(name)) == value


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_a_bad_value_is_an_error_that_names_it(name: str, text: str) -> None:
    with pytest.raises(SettingWrong) as wrong:
        Settings({name: text})
    assert wrong.value.name == name
    assert wrong.value.reason


@given(st.sampled_from(sorted(TABLE)), st.text(max_size=30))
def test_any_text_is_a_value_or_named_as_wrong(name: str, text: str) -> None:
    try:
        value = getattr(Settings({name: text}), attribute(name))
    except SettingWrong as wrong:
        assert wrong.name == name
    else:
        assert isinstance(value, str | int | tuple)


@pytest.mark.parametrize(
    ("given", "mechanisms"),
    [
        ({}, "PLAIN LOGIN"),
        ({"AUTH": "file"}, "SCRAM-SHA-256 PLAIN LOGIN"),
        ({"AUTH": "file", "SASL": "LOGIN SCRAM-SHA-1"}, "SCRAM-SHA-1 LOGIN"),
        ({"AUTH": "pam", "SASL": "SCRAM-SHA-256 LOGIN"}, "LOGIN"),
        ({"TLS_CLIENT_CA": "/ca"}, "EXTERNAL PLAIN LOGIN"),
        ({"SASL": "EXTERNAL"}, ""),
        ({"AUTH": "file", "SASL": "none"}, ""),
    ],
)
def test_which_mechanisms_are_offered(given: dict[str, str], mechanisms: str) -> None:
    """Those that there can be, of those that are wanted; the better first."""
    made = Settings({f"POPAD_{name}": value for name, value in given.items()})
    assert " ".join(settings.sasl_mechanisms(made)) == mechanisms
