"""auth/helper.py: a request in, a verdict out, over a real channel; the verdict's way there and back."""

import os
import pwd
import signal
import socket
import time
from pathlib import Path

import pytest

from popad.auth import credentials, helper, identity, nss, verifiers
from popad.auth import verdict as verdicts
from popad.auth.credentials import File
from popad.auth.helper import Helper
from popad.auth.identity import Account
from popad.auth.pam import Pam
from popad.auth.sasl.attempt import Client
from popad.auth.sasl.password import NAME_AND_PASSWORD, WHOSE_NAME_AND_PASSWORD, Password
from popad.auth.verdict import BROKEN, FAILED, PASSED, REFUSED, UNAVAILABLE, UNKNOWN, Verdict, unpack_verdict
from popad.errors import ContractBroken
from popad.privsep import spawn
from popad.privsep.channel import Channel, message_pair
from popad.settings import Settings
from popad.values import ARGUMENT_OCTETS, COMMAND_OCTETS
from tests.support.patience import PATIENCE
from tests.support.serving import OWNER

NAMES = ("alice", "root", "daemon", "a{b", OWNER)


@pytest.fixture(scope="module")
def lines() -> str:
    return "".join(credentials.line(name, b"secret", verifiers.LEAST_ITERATIONS) + "\n" for name in NAMES)


@pytest.fixture
def path(tmp_path: Path, lines: str) -> Path:
    path = tmp_path / "credentials"
    path.touch(0o600)
    path.write_text(lines)
    return path


def settings(path: Path, **values: str) -> Settings:
    given = {"auth": "file", "credentials": str(path), "user": "daemon", "virtual_user": OWNER} | values
    return Settings({f"POPAD_{name.upper()}": value for name, value in given.items()})


class Vouches:
    """A source that nobody asks for more than a password."""

    def vouch(self, name: str, rhost: str) -> Account:
        raise AssertionError(name)


def attempt(name: bytes | bytearray, password: bytes | bytearray, made: Helper | None = None) -> Password:
    source = made.source if made else File("/nonexistent")
    return Password([bytearray(b"USER"), bytearray(name), bytearray(password)], source)


def judged(made: Helper, name: bytes | bytearray, password: bytes | bytearray, rhost: str) -> Verdict:
    return made.judge(attempt(name, password, made), rhost)


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
    verdict = judged(Helper(settings(path)), name, password, "192.0.2.7")
    assert verdict.which == which, verdict.reason
    assert bool(verdict.reason) == (which != PASSED)
    assert b"secret".decode() not in verdict.reason


def test_who_has_passed(path: Path) -> None:
    verdict = judged(Helper(settings(path, maildrop="mbox:/srv/{user}")), b"alice", b"secret", "")
    owner = pwd.getpwnam(OWNER)
    assert (verdict.name, verdict.uid, verdict.gid, verdict.maildrop) == (
        "alice",
        owner.pw_uid,
        owner.pw_gid,
        "mbox:/srv/alice",
    )


def test_a_file_that_is_not_believed_is_no_verdict_on_the_password(path: Path) -> None:
    path.chmod(0o644)
    verdict = judged(Helper(settings(path)), b"alice", b"secret", "")
    assert (verdict.which, verdict.known) == (UNAVAILABLE, False)
    assert "mode 0644" in verdict.reason


@pytest.mark.parametrize("name", [b"root", b"daemon"])
def test_a_refused_user_costs_what_an_unknown_one_costs(path: Path, name: bytes) -> None:
    """The password of root is not even tried: another name is asked for, so that the time does not tell."""

    class Source(Vouches):
        refused_soonest = 0.0

        def authenticate(self, name: str, password: bytes, rhost: str) -> Account:
            asked.append(name)
            return Account(name)

    asked: list[str] = []
    made = Helper(settings(path, virtual_user=""))
    made.source = Source()
    assert judged(made, name, b"secret", "").which == REFUSED
    assert asked == [nss.NOBODY]


def test_nobody_has_the_name_that_stands_in() -> None:
    """Not in NSS, and no line of the credentials file can have it: it has white space."""
    assert identity.lookup(nss.NOBODY) is None
    assert len(nss.NOBODY.split()) > 1


# -- over a channel


class Asked:
    """A helper in a process of its own, and both who ask it: the monitor (`child`) and the preauth child."""

    def __init__(self, made: Helper) -> None:
        self.child = spawn.with_channel(made.serve)
        self.credentials, self.theirs = (Channel(end) for end in message_pair())

    def ask(self, *credentials: bytes, rhost: bytes = b"192.0.2.7") -> None:
        self.child.channel.send((rhost, b"", b""), self.theirs.fileno())
        self.theirs.close()
        if credentials:
            self.credentials.send((b"USER", *credentials))
            self.credentials.close()

    def verdict(self) -> Verdict:
        return unpack_verdict(self.child.channel.receive(verdicts.VERDICT_LIMITS, PATIENCE))

    def close(self) -> int:
        self.credentials.close()
        self.theirs.close()
        return self.child.end()


def verdict_of(made: Helper, *credentials: bytes) -> Verdict:
    asked = Asked(made)
    try:
        asked.ask(*credentials)
        return asked.verdict()
    finally:
        asked.close()


def test_a_request_over_a_channel(path: Path) -> None:
    verdict = verdict_of(Helper(settings(path)), b"alice", b"secret")
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
    verdict = verdict_of(Helper(settings(path, guess_delay="0")), name, b"wrong")
    assert (verdict.which in (FAILED, UNKNOWN), verdict.name) == (True, name.decode())
    assert time.monotonic() - begun >= credentials.File.refused_soonest


def test_a_session_that_has_gone_is_no_error(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It was killed while the password was checked: no traceback in the journal."""
    asked = Asked(Helper(settings(path, guess_delay="0")))
    asked.ask(b"alice", b"wrong")
    assert asked.close() == 0
    assert capfd.readouterr().err == ""


def test_a_login_that_passes_does_not_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials.File, "refused_soonest", PATIENCE + 1.0)
    verdict = verdict_of(Helper(settings(path)), b"alice", b"secret")
    assert verdict.which == PASSED


@pytest.mark.parametrize("fields", [(), (b"x" * 65,), (b"192.0.2.7", b"")])
def test_a_request_of_another_shape_is_a_verdict(
    path: Path, fields: tuple[bytes, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    asked = Asked(Helper(settings(path)))
    asked.child.channel.send(fields, asked.theirs.fileno())
    verdict = asked.verdict()
    assert (verdict.which, verdict.known) == (UNAVAILABLE, False)
    assert verdict.reason.startswith("the request: ")
    assert asked.close() == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("what", ["nothing", "a file", "a stream"])
def test_a_request_without_a_channel_is_a_verdict(path: Path, what: str) -> None:
    asked = Asked(Helper(settings(path)))
    with path.open() as file, socket.socket() as stream:
        fd = {"nothing": None, "a file": file.fileno(), "a stream": stream.fileno()}[what]
        asked.child.channel.send((b"192.0.2.7",), *([] if fd is None else [fd]))
    assert asked.verdict().which == UNAVAILABLE
    assert asked.close() == 0


@pytest.mark.parametrize(
    "fields",
    [
        (b"alice",),
        (b"alice", b"secret", b""),
        (b"x" * (verdicts.MAX_NAME + 1), b"x"),
        (b"x", b"x" * (verdicts.MAX_PASSWORD + 1)),
    ],
)
def test_credentials_of_another_shape_break_the_contract(path: Path, fields: tuple[bytes, ...]) -> None:
    verdict = verdict_of(Helper(settings(path)), *fields)
    assert (verdict.which, verdict.known) == (BROKEN, True)
    assert verdict.reason.startswith("the name and the password: ")


def test_credentials_twice_break_the_contract(path: Path) -> None:
    asked = Asked(Helper(settings(path)))
    for _ in range(2):
        asked.credentials.send((b"USER", b"alice", b"secret"))
    asked.ask()
    assert asked.verdict().which == BROKEN
    with pytest.raises(OSError):
        asked.credentials.send((b"USER", b"alice", b"secret"))  # nobody would read it
    asked.close()


def test_credentials_with_a_descriptor_break_the_contract(path: Path) -> None:
    asked = Asked(Helper(settings(path)))
    with path.open() as file:
        asked.credentials.send((b"USER", b"alice", b"secret"), file.fileno())
    asked.ask()
    assert asked.verdict().which == BROKEN
    asked.close()


@pytest.mark.parametrize("leaves", [True, False])
def test_a_preauth_child_that_says_no_password(path: Path, monkeypatch: pytest.MonkeyPatch, leaves: bool) -> None:
    monkeypatch.setattr(helper, "REQUEST_TIMEOUT", 0.05)
    asked = Asked(Helper(settings(path)))
    asked.ask()
    if leaves:
        asked.credentials.close()
    assert asked.verdict().which == BROKEN
    asked.close()


def test_a_session_that_asks_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Gone before it has asked, or slow to: no traceback."""
    monkeypatch.setattr(helper, "REQUEST_TIMEOUT", 0.05)
    gone, slow = (spawn.with_channel(Helper(settings(path)).serve) for _ in range(2))
    assert gone.end() == 0
    with pytest.raises(ContractBroken):
        slow.channel.receive(verdicts.VERDICT_LIMITS, PATIENCE)
    assert slow.end() == 0
    assert capfd.readouterr().err == ""


def test_limits_follow_from_one_another() -> None:
    """Whatever a command line can carry, with either line end, can be asked for."""
    longest = COMMAND_OCTETS - len(b"PASS \n")
    assert longest == ARGUMENT_OCTETS
    assert (longest, longest) == NAME_AND_PASSWORD
    assert (longest, longest, longest) == WHOSE_NAME_AND_PASSWORD


# -- guesses, and what a worker that lives on leaves behind


@pytest.mark.parametrize(
    ("typed", "password", "which", "guesses"),
    [
        (b"alice", b"wrong", FAILED, 1),
        (b"bob", b"secret", UNKNOWN, 1),
        (b"daemon", b"secret", REFUSED, 1),
        (b"alice", b"secret", PASSED, 0),
        (b"x" * (verdicts.MAX_NAME + 1), b"secret", BROKEN, 0),
    ],
)
def test_which_verdicts_are_guesses(
    path: Path, monkeypatch: pytest.MonkeyPatch, typed: bytes, password: bytes, which: bytes, guesses: int
) -> None:
    """The helper's processes share the tables: what a worker has counted is there."""
    monkeypatch.setattr(credentials.File, "refused_soonest", 0.1)
    made = Helper(settings(path, guess_delay="0"))
    assert verdict_of(made, typed, password).which == which
    assert made.guesses.wrong.count(b"source \xc0\x00\x02\x07", 0) == guesses
    assert made.guesses.wrong.count(b"name " + typed, 0) == guesses


def test_an_unavailable_login_is_no_guess_and_does_not_wait(path: Path) -> None:
    made = Helper(settings(path, guess_delay="60"))
    for number in range(9):
        made.guesses.put_off(b"\xc0\x00\x02\x07", b"alice", b"%d" % number, False)
    path.chmod(0o644)
    assert verdict_of(made, b"alice", b"wrong").which == UNAVAILABLE
    assert made.guesses.wrong.count(b"name alice", 0) == 9


@pytest.mark.parametrize(("prefix", "waits"), [(48, 1), (64, 0)])
def test_guesses_of_a_network(path: Path, prefix: int, waits: int) -> None:
    """IPv6 addresses of one network are one source (POPAD_SOURCE_PREFIX)."""
    made = Helper(settings(path, source_prefix=str(prefix)))
    made.due(Verdict(UNKNOWN), attempt(bytearray(b"x"), bytearray(b"wrong")), "2001:db8:0:1::1", 0.0)
    good = Verdict(PASSED, "alice")
    assert made.due(good, attempt(bytearray(b"alice"), bytearray(b"secret")), "2001:db8:0:2::1", 0.0) == waits
    assert good.reason == ("put off for 1 s, after wrong passwords of this source" if waits else "")


def test_the_journal_hears_why_a_verdict_waits(path: Path) -> None:
    """For which of the two, and for as long as it does wait."""
    made = Helper(settings(path, guess_delay="60", auth_timeout="4"))
    for number in range(3):
        wrong = Verdict(FAILED, "alice", reason="wrong password")
        made.due(wrong, attempt(bytearray(b"alice"), bytearray(b"%d" % number)), f"192.0.2.{number}", 0.0)
        seconds = (1, 2, 3.5)[number]
        assert wrong.reason == f"wrong password; put off for {seconds} s, after wrong passwords for this name"


def test_a_verdict_is_put_off_only_for_as_long_as_the_session_waits(path: Path) -> None:
    made = Helper(settings(path, guess_delay="60", auth_timeout="10"))
    for number in range(9):
        made.guesses.put_off(b"\xc0\x00\x02\x07", b"alice", b"%d" % number, False)
    for verdict in (Verdict(PASSED, "alice"), Verdict(FAILED, "alice")):
        assert (
            made.due(verdict, attempt(bytearray(b"alice"), bytearray(b"x")), "192.0.2.7", 2.0)
            == 10 - helper.MARGIN - 2.0
        )
    assert 0 < helper.MARGIN < 1


def test_what_has_been_typed_is_told_but_for_a_good_login(path: Path) -> None:
    made = Helper(settings(path, lower_case="yes", guess_delay="0"))
    assert verdict_of(made, b"ALICE", b"secret").name == "alice"
    assert verdict_of(made, b"ALICE", b"wrong").name == "ALICE"
    assert verdict_of(made, b"\xff", b"wrong").name == "\udcff"


class Heard:
    """The end of a preauth child that has said this."""

    def __init__(self, *fields: bytes) -> None:
        self.fields = [bytearray(field) for field in fields]
        self.closed = False

    def receive_request(self, shapes: object, timeout: object) -> list[bytearray]:
        return [bytearray(b"USER"), *self.fields]

    def shut(self) -> None: ...
    def is_empty(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("password", [b"secret", b"wrong"])
def test_no_password_is_left_in_a_worker_that_lives_on(path: Path, password: bytes) -> None:
    heard = Heard(b"alice", password)
    Helper(settings(path)).hear(heard, Client("192.0.2.7"), time.monotonic())  # type: ignore[arg-type]  # as much as is used
    assert heard.fields == [b"alice", bytes(len(password))]
    assert heard.closed


@pytest.mark.parametrize("error", [TimeoutError(), ContractBroken("so")])
def test_a_broken_contract_does_not_wait(path: Path, error: Exception) -> None:
    class Wrong(Heard):
        def receive_request(self, shapes: object, timeout: object) -> list[bytearray]:
            raise error

    heard = Wrong()
    begun = time.monotonic()
    verdict = Helper(settings(path)).hear(heard, Client("192.0.2.7"), begun)  # type: ignore[arg-type]  # as above
    assert (verdict.which, heard.closed) == (BROKEN, True)
    assert time.monotonic() - begun < 0.4  # a refusal waits for half a second at least


@pytest.mark.parametrize("asks", ["a login", "another shape", "nothing", "nothing, and leaves"])
def test_a_worker_that_lives_on_has_no_time_limit_left(path: Path, monkeypatch: pytest.MonkeyPatch, asks: str) -> None:
    """Else it would be ended while it waits for the next login."""
    real, alarms = signal.alarm, []

    def alarm(seconds: int) -> int:
        alarms.append(seconds)
        return real(seconds)

    monkeypatch.setattr("popad.auth.helper.signal.alarm", alarm)
    monkeypatch.setattr(helper, "REQUEST_TIMEOUT", 0.05)
    ours, theirs = (Channel(end) for end in message_pair())
    credentials, child = (Channel(end) for end in message_pair())
    if asks == "a login":
        ours.send((b"192.0.2.7", b"", b""), child.fileno())
        credentials.send((b"USER", b"alice", b"secret"))
    elif asks == "another shape":
        ours.send(())
    elif asks == "nothing, and leaves":
        ours.close()
    Helper(settings(path)).serve(theirs)
    left = real(0)
    for channel in (ours, theirs, credentials, child):
        channel.close()
    assert alarms[0] == 60 + helper.GRACE  # POPAD_AUTH_TIMEOUT, and the session gives up first
    assert left == 0


# -- names


def test_a_name_as_the_settings_read_it(path: Path) -> None:
    made = Helper(settings(path, lower_case="yes", strip_domains="example.org"))
    assert judged(made, b"Alice@Example.ORG", b"secret", "").name == "alice"
    assert judged(made, b"alice@example.net", b"secret", "").which == UNKNOWN
    assert judged(Helper(settings(path)), b"Alice", b"secret", "").which == UNKNOWN


def test_a_name_that_the_source_maps(path: Path) -> None:
    """PAM may let a name in that NSS does not know, and say who that is."""

    class Source(Vouches):
        refused_soonest = 0.0

        def authenticate(self, name: str, password: bytes, rhost: str) -> Account:
            return Account(OWNER)

    made = Helper(settings(path, auth="pam", virtual_user="", maildrop="mbox:/srv/{user}"))
    made.source = Source()
    verdict = judged(made, b"a.b@example.org", b"secret", "")
    assert (verdict.which, verdict.name, verdict.maildrop) == (PASSED, OWNER, f"mbox:/srv/{OWNER}")


@pytest.mark.parametrize("typed", [b"alice", b"ALICE", b"alice@example.org"])
def test_guesses_count_for_the_name_that_is_meant(path: Path, typed: bytes) -> None:
    """Else each way to type a name would have its own count."""
    made = Helper(settings(path, lower_case="yes", strip_domains="example.org"))
    name, password = bytearray(typed), bytearray(b"wrong")
    made.due(judged(made, typed, b"wrong", "192.0.2.7"), attempt(name, password), "192.0.2.7", 0.0)
    assert made.guesses.wrong.count(b"name alice", 0) == 1


def test_a_trusted_source(path: Path) -> None:
    """Others behind it do not wait for its guesses; its own count is not kept."""
    made = Helper(settings(path, trusted_sources="192.0.2.0/24", guess_delay="15"))
    for number in range(5):
        for client in ("192.0.2.7", "198.51.100.1"):
            password = bytearray(b"wrong %d" % number)
            made.due(Verdict(UNKNOWN, f"user{number}"), attempt(bytearray(b"x"), password), client, 0.0)
    good = Verdict(PASSED, "alice")
    assert made.due(good, attempt(bytearray(b"alice"), bytearray(b"secret")), "192.0.2.7", 0.0) == 0
    assert made.due(good, attempt(bytearray(b"alice"), bytearray(b"secret")), "198.51.100.1", 0.0) == 15


def test_a_virtual_user_that_cannot_be_served_is_refused_like_a_wrong_password(path: Path) -> None:
    """[SYS/TEMP] for the right password alone would tell that it is right."""
    made = Helper(settings(path, virtual_user=""))
    for password in (b"secret", b"wrong"):
        assert judged(made, b"alice", password, "").known
    homeless = Helper(settings(path, maildrop="mbox:{home}/mail"))
    for password in (b"secret", b"wrong"):
        assert judged(homeless, b"alice", password, "").known
    missing = Helper(settings(path, virtual_user="popad-no-such-user"))
    for password in (b"secret", b"wrong"):
        assert judged(missing, b"alice", password, "").which == UNAVAILABLE


def test_a_source_that_hangs_is_ended_by_the_time_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session has given up and told why by then."""

    class Hanging(Vouches):
        refused_soonest = 0.0

        def authenticate(self, name: str, password: bytes, rhost: str) -> Account:
            signal.pause()
            return Account(name)

    monkeypatch.setattr(helper, "GRACE", 0)
    made = Helper(settings(path, auth_timeout="1"))
    made.source = Hanging()
    asked = Asked(made)
    asked.ask(b"alice", b"secret")
    try:
        with pytest.raises(ContractBroken):
            asked.verdict()
    finally:
        status = asked.close()
    assert status == -signal.SIGALRM


def test_a_source_that_crashes_takes_one_request_with_it(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Crashing(Vouches):
        refused_soonest = 0.0

        def authenticate(self, name: str, password: bytes, rhost: str) -> Account:
            os.kill(os.getpid(), signal.SIGKILL)
            return Account(name)

    made = Helper(settings(path))
    made.source = Crashing()
    with pytest.raises(ContractBroken):
        verdict_of(made, b"alice", b"secret")


def test_pam_is_the_default_source(path: Path) -> None:
    made = Helper(Settings({}))
    assert isinstance(made.source, Pam)
    assert made.source.service == "popad"
