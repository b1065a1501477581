"""auth/helper.py: a request in, a verdict out, over a real channel; the verdict's way there and back."""

import os
import pwd
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.auth import credentials, helper, identity, nss
from popad.auth.helper import FAILED, PASSED, REFUSED, UNAVAILABLE, UNKNOWN, Helper, Verdict, unpack_verdict
from popad.auth.identity import Account
from popad.auth.pam import Pam
from popad.errors import ContractBroken
from popad.privsep import spawn
from popad.session.preauth import HAND_OVER_LIMITS
from popad.settings import ARGUMENT_OCTETS, COMMAND_OCTETS, Settings
from tests.support.patience import PATIENCE
from tests.support.serving import OWNER

NAMES = ("alice", "root", "daemon", "a{b", OWNER)


@pytest.fixture(scope="module")
def lines() -> str:
    return "".join(credentials.line(name, b"secret", credentials.ITERATIONS) + "\n" for name in NAMES)


@pytest.fixture
def path(tmp_path: Path, lines: str) -> Path:
    path = tmp_path / "credentials"
    path.touch(0o600)
    path.write_text(lines)
    return path


def settings(path: Path, **values: str) -> Settings:
    given = {"auth": "file", "credentials": str(path), "user": "daemon", "virtual_user": OWNER} | values
    return Settings({f"POPAD_{name.upper()}": value for name, value in given.items()})


@pytest.mark.parametrize(
    ("name", "password", "which"),
    [
        (b"alice", b"secret", PASSED),
        (b"alice", b"wrong", FAILED),
        (b"alice", b"", UNKNOWN),
        (b"bob", b"secret", UNKNOWN),
        (b"../alice", b"secret", UNKNOWN),
        (b"a/b", b"secret", UNKNOWN),
        (b"a\nb", b"secret", UNKNOWN),
        (b"a\rb", b"secret", UNKNOWN),
        (b"\xff", b"secret", UNKNOWN),
        (b"", b"secret", UNKNOWN),
        (b"root", b"secret", REFUSED),
        (b"root", b"wrong", REFUSED),
        (b"daemon", b"secret", REFUSED),
    ],
)
def test_verdicts(path: Path, name: bytes, password: bytes, which: bytes) -> None:
    verdict = Helper(settings(path)).judge(name, password, "192.0.2.7")
    assert verdict.which == which, verdict.reason
    assert bool(verdict.reason) == (which != PASSED)
    assert b"secret".decode() not in verdict.reason


def test_who_has_passed(path: Path) -> None:
    verdict = Helper(settings(path, maildrop="mbox:/srv/{user}")).judge(b"alice", b"secret", "")
    owner = pwd.getpwnam(OWNER)
    assert (verdict.name, verdict.uid, verdict.gid, verdict.maildrop) == (
        "alice",
        owner.pw_uid,
        owner.pw_gid,
        "mbox:/srv/alice",
    )


def test_a_file_that_is_not_believed_is_no_verdict_on_the_password(path: Path) -> None:
    path.chmod(0o644)
    verdict = Helper(settings(path)).judge(b"alice", b"secret", "")
    assert (verdict.which, verdict.known) == (UNAVAILABLE, False)
    assert "mode 0644" in verdict.reason


@pytest.mark.parametrize("name", [b"root", b"daemon"])
def test_a_refused_user_costs_what_an_unknown_one_costs(path: Path, name: bytes) -> None:
    """The password of root is not even tried: another name is asked for, so that the time does not tell."""

    class Source:
        refused_soonest = 0.0

        def authenticate(self, name: str, password: bytes, rhost: str) -> Account:
            asked.append(name)
            return Account(name)

    asked: list[str] = []
    made = Helper(settings(path, virtual_user=""))
    made.source = Source()
    assert made.judge(name, b"secret", "").which == REFUSED
    assert asked == [nss.NOBODY]


def test_nobody_has_the_name_that_stands_in() -> None:
    """Not in NSS, and no line of the credentials file can have it: it has white space."""
    assert identity.lookup(nss.NOBODY) is None
    assert len(nss.NOBODY.split()) > 1


# -- over a channel


def served(made: Helper, *fields: bytes) -> list[bytearray]:
    child = spawn.fork(made.serve)
    try:
        child.channel.send(fields)
        return child.channel.receive(helper.VERDICT_LIMITS, PATIENCE)
    finally:
        child.end()


def test_a_request_over_a_channel(path: Path) -> None:
    verdict = unpack_verdict(served(Helper(settings(path)), b"alice", b"secret", b"192.0.2.7"))
    assert (verdict.which, verdict.name) == (PASSED, "alice")


@pytest.mark.parametrize(
    ("took", "of_a_file", "of_pam"),
    [
        (0.0, 0.5, 4.0),
        (0.06, 0.5, 4.0),
        (0.499, 0.5, 4.0),
        (0.5, 4.0, 4.0),
        (3.0, 4.0, 4.0),
        (4.0, 8.0, 8.0),
        (9.5, 12.0, 12.0),
    ],
)
def test_when_a_refusal_is_given(took: float, of_a_file: float, of_pam: float) -> None:
    """What PAM takes for a known name and for an unknown one gives the same."""
    assert helper.refused_after(took, credentials.File.refused_soonest) == of_a_file
    assert helper.refused_after(took, Pam.refused_soonest) == of_pam


@pytest.mark.parametrize("name", [b"alice", b"nobody-here"])
def test_a_refusal_does_not_tell_what_its_check_took(path: Path, name: bytes) -> None:
    begun = time.monotonic()
    verdict = unpack_verdict(served(Helper(settings(path, guess_delay="0")), name, b"wrong", b""))
    assert verdict.which in (FAILED, UNKNOWN)
    assert time.monotonic() - begun >= credentials.File.refused_soonest


def test_a_session_that_has_gone_is_no_error(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It was killed while the password was checked: no traceback in the journal."""
    child = spawn.fork(Helper(settings(path, guess_delay="0")).serve)
    child.channel.send((b"alice", b"wrong", b""))
    assert child.end() == 0
    assert capfd.readouterr().err == ""


def test_a_login_that_passes_does_not_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials.File, "refused_soonest", PATIENCE + 1.0)
    verdict = unpack_verdict(served(Helper(settings(path)), b"alice", b"secret", b""))
    assert verdict.which == PASSED


@pytest.mark.parametrize(
    "fields", [(), (b"alice",), (b"alice", b"secret", b"", b""), (b"x" * 250, b"x", b""), (b"x", b"x" * 250, b"")]
)
def test_a_request_of_another_shape_is_a_verdict(
    path: Path, fields: tuple[bytes, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    verdict = unpack_verdict(served(Helper(settings(path)), *fields))
    assert (verdict.which, verdict.known) == (UNAVAILABLE, False)
    assert verdict.reason.startswith("the request: ")
    assert capfd.readouterr().err == ""


def test_a_session_that_asks_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Gone before it has asked, or slow to: no traceback."""
    monkeypatch.setattr(helper, "REQUEST_TIMEOUT", 0.05)
    gone, slow = (spawn.fork(Helper(settings(path)).serve) for _ in range(2))
    assert gone.end() == 0
    with pytest.raises(ContractBroken):
        slow.channel.receive(helper.VERDICT_LIMITS, PATIENCE)
    assert slow.end() == 0
    assert capfd.readouterr().err == ""


def test_limits_follow_from_one_another() -> None:
    """Whatever a command line can carry, with either line end, can be handed over and asked for."""
    longest = COMMAND_OCTETS - len(b"PASS \n")
    assert longest == ARGUMENT_OCTETS == helper.REQUEST_LIMITS[0] == helper.REQUEST_LIMITS[1]
    assert tuple(HAND_OVER_LIMITS[1:3]) == helper.REQUEST_LIMITS[:2]


# -- names


def test_a_name_as_the_settings_read_it(path: Path) -> None:
    made = Helper(settings(path, lower_case="yes", strip_domains="example.org"))
    assert made.judge(b"Alice@Example.ORG", b"secret", "").name == "alice"
    assert made.judge(b"alice@example.net", b"secret", "").which == UNKNOWN
    assert Helper(settings(path)).judge(b"Alice", b"secret", "").which == UNKNOWN


@pytest.mark.parametrize("typed", [b"alice", b"ALICE", b"alice@example.org"])
def test_guesses_count_for_the_name_that_is_meant(path: Path, typed: bytes) -> None:
    """Else each way to type a name would have its own count."""
    made = Helper(settings(path, lower_case="yes", strip_domains="example.org"))
    name, password = bytearray(typed), bytearray(b"wrong")
    made.due(made.judge(typed, b"wrong", "192.0.2.7"), name, password, "192.0.2.7", 0.0)
    assert made.guesses.wrong.count(b"name alice", 0) == 1


def test_a_trusted_source(path: Path) -> None:
    """Others behind it do not wait for its guesses; its own count is not kept."""
    made = Helper(settings(path, trusted_sources="192.0.2.0/24", guess_delay="15"))
    for number in range(5):
        for client in ("192.0.2.7", "198.51.100.1"):
            password = bytearray(b"wrong %d" % number)
            made.due(Verdict(UNKNOWN, f"user{number}"), bytearray(b"x"), password, client, 0.0)
    good = Verdict(PASSED, "alice")
    assert made.due(good, bytearray(b"alice"), bytearray(b"secret"), "192.0.2.7", 0.0) == 0
    assert made.due(good, bytearray(b"alice"), bytearray(b"secret"), "198.51.100.1", 0.0) == 15


def test_a_virtual_user_that_cannot_be_served_is_refused_like_a_wrong_password(path: Path) -> None:
    """[SYS/TEMP] for the right password alone would tell that it is right."""
    made = Helper(settings(path, virtual_user=""))
    for password in (b"secret", b"wrong"):
        assert made.judge(b"alice", password, "").known
    homeless = Helper(settings(path, maildrop="mbox:{home}/mail"))
    for password in (b"secret", b"wrong"):
        assert homeless.judge(b"alice", password, "").known
    missing = Helper(settings(path, virtual_user="popad-no-such-user"))
    for password in (b"secret", b"wrong"):
        assert missing.judge(b"alice", password, "").which == UNAVAILABLE


def test_a_source_that_hangs_is_ended_by_the_time_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session has given up and told why by then."""

    class Hanging:
        refused_soonest = 0.0

        def authenticate(self, name: str, password: bytes, rhost: str) -> Account:
            signal.pause()
            return Account(name)

    monkeypatch.setattr(helper, "GRACE", 0)
    made = Helper(settings(path, auth_timeout="1"))
    made.source = Hanging()
    child = spawn.fork(made.serve)
    child.channel.send([b"alice", b"secret", b""])
    try:
        with pytest.raises(ContractBroken):
            child.channel.receive(helper.VERDICT_LIMITS, PATIENCE)
    finally:
        status = child.end()
    assert status == -signal.SIGALRM


def test_a_source_that_crashes_takes_one_request_with_it(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Crashing:
        refused_soonest = 0.0

        def authenticate(self, name: str, password: bytes, rhost: str) -> Account:
            os.kill(os.getpid(), signal.SIGKILL)
            return Account(name)

    made = Helper(settings(path))
    made.source = Crashing()
    with pytest.raises(ContractBroken):
        served(made, b"alice", b"secret", b"")


names = st.text(st.characters(blacklist_categories=["Cs"]), max_size=60)
verdicts = st.builds(
    Verdict,
    st.sampled_from(helper.VERDICTS),
    names,
    st.integers(0, 2**32 - 2),
    st.integers(0, 2**32 - 2),
    names,
    st.text(max_size=2000),
    st.lists(st.integers(0, 2**32 - 2), max_size=nss.MAX_GROUPS),
)


@given(verdicts)
def test_verdict_there_and_back(verdict: Verdict) -> None:
    fields = [bytearray(field) for field in verdict.pack()]
    assert all(len(field) <= limit for field, limit in zip(fields, helper.VERDICT_LIMITS, strict=True))
    read = unpack_verdict(fields)
    assert {**vars(read), "reason": ""} == {**vars(verdict), "reason": ""}
    assert read.reason[:100].encode("utf-8", "replace") == fields[5][:400].decode("utf-8", "replace")[:100].encode()


@pytest.mark.parametrize(
    "fields",
    [
        [b"passed!", b"a", b"1", b"1", b"", b"", b""],
        [b"", b"a", b"1", b"1", b"", b"", b""],
        [b"passed", b"a", b"-1", b"1", b"", b"", b""],
        [b"passed", b"a", b"1", b"", b"", b"", b""],
        [b"passed", b"a", b"4294967295", b"1", b"", b"", b""],  # (uid_t)-1
        [b"passed", b"a", b"1", b"9999999999", b"", b"", b""],
        [b"passed", b"a", b"1x", b"1", b"", b"", b""],
        [b"passed", b"\xff", b"1", b"1", b"", b"", b""],
        [b"passed", b"a", b"1", b"1", b"\xff", b"", b""],
        [b"passed", b"a", b"1"],
        [b"passed", b"a", b"1", b"1", b"", b"", b"8,"],
        [b"passed", b"a", b"1", b"1", b"", b"", b"8,-1"],
        [b"passed", b"a", b"1", b"1", b"", b"", b"8,4294967295"],  # (gid_t)-1
        [b"passed", b"a", b"1", b"1", b"", b"", b"00000000008"],
        [b"passed", b"a", b"1", b"1", b"", b"", b",".join([b"8"] * (nss.MAX_GROUPS + 1))],
    ],
)
def test_what_is_no_verdict(fields: list[bytes]) -> None:
    with pytest.raises(ValueError):
        unpack_verdict([bytearray(field) for field in fields])


def test_pam_is_the_default_source(path: Path) -> None:
    made = Helper(Settings({}))
    assert isinstance(made.source, Pam)
    assert made.source.service == "popad"
