"""auth/credentials.py: vectors of RFC 7677 and RFC 4013, and a file that is not believed if others could write it."""

import base64
import hashlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from popad.auth import credentials, verifiers
from popad.auth.credentials import File, FileWrong, parse
from popad.auth.identity import LoginFailed, Unavailable, Unknown
from tests.support.here import ROOT
from tests.support.patience import PATIENCE, wait_until

# RFC 7677 section 3: user "user", password "pencil".
SALT, ITERATIONS = "W22ZaJ0SNY7soEsUEjb6gQ==", 4096
MADE = verifiers.make(b"pencil", "SCRAM-SHA-256", ITERATIONS, base64.b64decode(SALT))
STORED_KEY, SERVER_KEY = MADE.stored_key, MADE.server_key
VERIFIER = (
    f"SCRAM-SHA-256${ITERATIONS}:{SALT}${base64.b64encode(STORED_KEY).decode()}:{base64.b64encode(SERVER_KEY).decode()}"
)


def test_a_line_is_a_verifier_of_its_password() -> None:
    line = credentials.line("alice", "pässword".encode(), 5000)
    assert line.startswith("alice SCRAM-SHA-256$5000:")
    credential = parse(line.split(), "here")
    assert credential.matches("pässword".encode())
    assert credential.matches("pa\u0308ssword".encode())
    assert not credential.matches(b"password")
    assert not credential.matches(b"")
    assert (credential.iterations, len(credential.by_scheme["SCRAM-SHA-256"].salt), credential.maildrop) == (
        5000,
        16,
        "",
    )
    salt = credential.by_scheme["SCRAM-SHA-256"].salt
    server_key = verifiers.make("pässword".encode(), "SCRAM-SHA-256", 5000, salt).server_key
    assert line.endswith(f":{base64.b64encode(server_key).decode()}")
    assert credentials.line("alice", b"x", 4096) != credentials.line("alice", b"x", 4096)


def test_a_verifier_made_elsewhere() -> None:
    credential = parse(["user", VERIFIER, "mbox:/srv/{user}"], "here")
    assert credential.maildrop == "mbox:/srv/{user}"
    assert credential.matches(b"pencil")
    assert not credential.matches(b"Pencil")


B32 = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        "alice secret",
        "alice $6$salt$hash",
        f"alice SCRAM-SHA-1$4096:{SALT}${B32}:{B32}",
        f"alice SCRAM-SHA-256$0:{SALT}${B32}:{B32}",
        f"alice SCRAM-SHA-256$-1:{SALT}${B32}:{B32}",
        f"alice SCRAM-SHA-256$x:{SALT}${B32}:{B32}",
        f"alice SCRAM-SHA-256$+4096:{SALT}${B32}:{B32}",
        f"alice SCRAM-SHA-256$4_096:{SALT}${B32}:{B32}",
        f"alice SCRAM-SHA-256$٤٠٩٦:{SALT}${B32}:{B32}",
        f"alice SCRAM-SHA-256$4096:${B32}:{B32}",
        f"alice SCRAM-SHA-256$4096:c2FsdA==${B32}:{B32}",
        f"alice SCRAM-SHA-256$10000001:{SALT}${B32}:{B32}",
        f"alice SCRAM-SHA-256$4096:{SALT[:-1]}${B32}:{B32}",
        f"alice SCRAM-SHA-256$4096:ä${B32}:{B32}",
        f"alice SCRAM-SHA-256$4096:{SALT[:4]}!{SALT[4:]}${B32}:{B32}",
        f"alice SCRAM-SHA-256$4096:{SALT}${B32[:4]}!{B32[4:]}:{B32}",
        f"alice SCRAM-SHA-256$4096:{SALT}${B32}:{B32[:4]}!{B32[4:]}",
        f"alice SCRAM-SHA-256$4096:{SALT}${B32}:{B32[:-4]}",
        f"alice SCRAM-SHA-256$4096:c2FsdHNhbA==${B32}:{B32}",
        f"alice SCRAM-SHA-256$4096:{SALT}${B32}",
        f"alice SCRAM-SHA-256$4096:{SALT}${B32[:-4]}:{B32}",
        f"alice SCRAM-SHA-256$4096:{SALT}${B32}:{B32}:{B32}",
        f"alice SCRAM-SHA-256$4096:{SALT}${B32}:{B32} Maildir:/srv",
        f"alice SCRAM-SHA-256$4096:{SALT}${B32}:{B32} mbox:srv",
        f"alice SCRAM-SHA-256$4096:{SALT}${B32}:{B32} mbox:/srv/../etc",
        f"alice SCRAM-SHA-256$4096:{SALT}${B32}:{B32} mbox:/srv mbox:/srv",
    ],
)
def test_a_line_that_is_not_understood(line: str) -> None:
    with pytest.raises(FileWrong, match=r"^here:"):
        parse(line.split(), "here")


@pytest.mark.parametrize("iterations", [1, 4096, 10_000_000])
def test_the_least_and_the_most_that_a_line_may_say(iterations: int) -> None:
    credential = parse(["alice", f"SCRAM-SHA-256${iterations}:c2FsdHNhbHQ=${B32}:{B32}"], "here")
    assert (credential.iterations, credential.by_scheme["SCRAM-SHA-256"].salt) == (iterations, b"saltsalt")


def test_new_lines_cost_what_the_rfc_asks_for() -> None:
    """RFC 7677 section 4."""
    assert verifiers.LEAST_ITERATIONS >= 4096


# -- the file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.touch(0o600)
    path.write_text(f"# comment\n\n  \n user\t{VERIFIER}  mbox:/srv/user \n#user {VERIFIER}\nother {VERIFIER}")
    return path


def test_login(path: Path) -> None:
    account = File(str(path)).authenticate("user", b"pencil", "192.0.2.7")
    assert (account.name, account.maildrop) == ("user", "mbox:/srv/user")
    assert File(str(path)).authenticate("other", b"pencil", "").maildrop == ""


@pytest.mark.parametrize("password", [b"Pencil", b"", b"pencil ", b"\xff"])
def test_wrong_password(path: Path, password: bytes) -> None:
    with pytest.raises(LoginFailed) as failed:
        File(str(path)).authenticate("user", password, "")
    assert not isinstance(failed.value, Unknown)


def test_a_refusal_is_given_soon() -> None:
    """Sooner than PAM's, as all that a check takes is known; and not at once."""
    assert 0 < File.refused_soonest <= 1


@pytest.mark.parametrize("name", ["User", "nobody", "#user", "#", "", "user "])
def test_unknown_name(path: Path, name: str) -> None:
    with pytest.raises(Unknown):
        File(str(path)).authenticate(name, b"pencil", "")


def test_an_edit_needs_no_restart(path: Path) -> None:
    file = File(str(path))
    file.authenticate("user", b"pencil", "")
    path.write_text("")
    with pytest.raises(Unknown):
        file.authenticate("user", b"pencil", "")


def test_it_is_read_once_a_change(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login must not cost what 50,000 lines cost. One that has just changed is not believed to stay."""
    reads: list[str] = []
    real = credentials.read

    def read(path: str) -> tuple[str, tuple[int, ...]]:
        reads.append(path)
        return real(path)

    monkeypatch.setattr(credentials, "read", read)
    os.utime(path, (1, 1))
    changed = path.stat().st_ctime_ns
    wait_until(lambda: time.time_ns() - changed > credentials.CLOCK_STEP_NS)
    file = File(str(path))
    assert len(reads) == 1  # for all processes that this one forks
    for name in ("user", "other", "user"):
        file.authenticate(name, b"pencil", "")
    assert len(reads) == 1
    monkeypatch.setattr(credentials, "CLOCK_STEP_NS", int(PATIENCE * 1e9))
    path.write_text(f"user {VERIFIER}\n")
    for _ in range(2):
        file.authenticate("user", b"pencil", "")
    assert len(reads) == 3


def test_a_file_is_recent_by_either_time(path: Path) -> None:
    users, now = credentials.Users(str(path)), time.time_ns()
    for times, recent in (((now, 0), True), ((0, now), True), ((0, 0), False)):
        users.stamp = (*users.stamp[:3], *times)
        assert users.is_recent() == recent


@pytest.mark.parametrize("spoil", [lambda path: path.chmod(0o644), lambda path: path.unlink()])
def test_a_file_that_was_good_is_not_believed_when_it_no_longer_is(path: Path, spoil: Callable[[Path], None]) -> None:
    os.utime(path, (1, 1))
    changed = path.stat().st_ctime_ns
    wait_until(lambda: time.time_ns() - changed > credentials.CLOCK_STEP_NS)
    file = File(str(path))
    file.authenticate("user", b"pencil", "")
    assert file.users is not None
    spoil(path)
    with pytest.raises(Unavailable):
        file.authenticate("user", b"pencil", "")


def test_every_answer_costs_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in iterations: the clock of a busy machine says less."""
    path.write_text(
        "\n".join(f"user{rounds} SCRAM-SHA-256${rounds}:{SALT}${B32}:{B32}" for rounds in (5000, 4096, 4500))
    )
    real = hashlib.pbkdf2_hmac
    spent: list[int] = []

    def pbkdf2_hmac(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
        spent.append(iterations)
        return real(name, password, salt, iterations)

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", pbkdf2_hmac)
    for name in ("user5000", "nobody", "user4096", "user4500"):
        spent.clear()
        with pytest.raises(LoginFailed):
            File(str(path)).authenticate(name, b"x", "")
        assert sum(spent) == 5000, name
    path.write_text("")
    with pytest.raises(Unknown):
        File(str(path)).authenticate("nobody", b"x", "")


def test_what_the_most_expensive_line_costs(path: Path) -> None:
    """One that asks for more than is allowed is refused, and costs others nothing."""
    most = verifiers.MAX_ITERATIONS
    path.write_text("\n".join(f"user{rounds} SCRAM-SHA-256${rounds}:{SALT}${B32}:{B32}" for rounds in (most, most + 1)))
    assert credentials.Users(str(path)).most == most


@pytest.mark.parametrize("password", [b"", b"x", bytes(32)])
def test_nothing_matches_the_stand_in_of_an_unknown_name(password: bytes) -> None:
    assert not any(each.matches(password) for each in verifiers.NOBODYS.values())


def test_a_name_that_stands_twice(path: Path) -> None:
    path.write_text(f"user {VERIFIER}\nuser {VERIFIER}\n")
    with pytest.raises(Unavailable, match=":2: 'user' stands here twice"):
        File(str(path)).authenticate("user", b"pencil", "")


def test_a_wrong_line_is_named_and_of_one_user_only(path: Path) -> None:
    path.write_text(f"\n# comment\nuser {VERIFIER}\nother\n")
    File(str(path)).authenticate("user", b"pencil", "")
    with pytest.raises(Unavailable, match=f"{path}:4: expected"):
        File(str(path)).authenticate("other", b"pencil", "")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o660])
def test_others_may_not_even_read_it(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(Unavailable, match=f"mode {mode:04o}"):
        File(str(path)).authenticate("user", b"pencil", "")


def test_somebody_elses_file(path: Path) -> None:
    if not ROOT:
        pytest.skip("needs root: gives a file away")
    os.chown(path, 1, 1)
    with pytest.raises(Unavailable, match="owned by uid 1"):
        File(str(path)).authenticate("user", b"pencil", "")


def test_the_file_of_the_user_that_popad_runs_as(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That user's, or root's."""
    if not ROOT:
        pytest.skip("needs root: gives a file away")
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    for owner, believed in ((0, True), (1, True), (2, False)):
        os.chown(path, owner, owner)
        if believed:
            assert File(str(path)).authenticate("user", b"pencil", "").name == "user"
        else:
            with pytest.raises(Unavailable, match="owned by uid 2"):
                File(str(path)).authenticate("user", b"pencil", "")


def make_missing(path: Path) -> None:
    path.unlink()


def make_symlink(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def make_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def make_binary(path: Path) -> None:
    path.write_bytes(b"user \xff\n")


@pytest.mark.parametrize("make", [make_missing, make_symlink, make_directory, make_fifo, make_socket, make_binary])
def test_what_is_no_file_of_credentials(path: Path, make: "object") -> None:
    assert callable(make)
    make(path)
    with pytest.raises(Unavailable, match=str(path)):
        File(str(path)).authenticate("user", b"pencil", "")


@pytest.mark.parametrize("make", [make_missing, make_symlink, make_directory, make_fifo, make_socket])
def test_a_file_that_is_swapped_between_the_look_and_the_opening(
    path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    """Nothing else is read, and nobody waits for a FIFO's writer."""

    def give_up(*_: object) -> None:
        raise AssertionError("it waits")

    def lstat(name: str) -> os.stat_result:
        status = real(name)
        make(path)
        return status

    real = os.lstat
    monkeypatch.setattr(os, "lstat", lstat)
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)
    try:
        with pytest.raises((FileWrong, OSError)):
            credentials.read(str(path))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_line_with_both_verifiers(path: Path) -> None:
    """A password is checked with the better one."""
    line = credentials.line("alice", b"secret", 4096, ("SCRAM-SHA-256", "SCRAM-SHA-1"))
    credential = parse(line.split(), "here")
    assert list(credential.by_scheme) == ["SCRAM-SHA-256", "SCRAM-SHA-1"]
    assert all(each.matches(b"secret") and not each.matches(b"x") for each in credential.by_scheme.values())
    path.write_text(line + "\n")
    assert File(str(path)).authenticate("alice", b"secret", "").name == "alice"


@pytest.mark.parametrize("schemes", [["SCRAM-SHA-1"], ["SCRAM-SHA-256", "SCRAM-SHA-256"]])
def test_a_line_needs_one_verifier_of_each_kind_at_most_and_the_better_one(schemes: list[str]) -> None:
    with pytest.raises(FileWrong, match=r"^here:"):
        parse(credentials.line("alice", b"secret", 4096, schemes).split(), "here")


def test_what_a_client_has_to_prove(path: Path) -> None:
    path.write_text(credentials.line("alice", b"secret", 5000) + "\n")
    verifier, account = File(str(path)).for_proof("alice", "SCRAM-SHA-256")
    assert account
    assert (account.name, verifier.iterations, verifier.matches(b"secret")) == ("alice", 5000, True)


def made_up(path: Path, name: str, scheme: str = "SCRAM-SHA-256") -> tuple[int, bytes]:
    verifier, account = File(str(path), str(path.parent)).for_proof(name, scheme)
    assert account is None
    return verifier.iterations, verifier.salt


def test_a_name_that_is_not_there_is_asked_for_what_looks_like_any_others(path: Path) -> None:
    """The same each time, by every process of the host, whatever else changes in the file; as most lines have it."""
    (path.parent / credentials.KEY).write_bytes(b"k" * 32)
    lines = [credentials.line(f"user{n}", b"x", 5000) + "\n" for n in range(3)]
    path.write_text("".join(lines) + credentials.line("other", b"x", 6000) + "\n")
    iterations, salt = made_up(path, "nobody")
    assert (iterations, len(salt)) == (5000, 16)
    assert made_up(path, "nobody") == (iterations, salt)
    assert made_up(path, "nobody2")[1] != salt
    path.write_text("".join(lines[:1]))
    assert made_up(path, "nobody") == (iterations, salt)
    known = made_up(path, "user0", "SCRAM-SHA-1")  # which its line does not have
    assert (known[0], len(known[1])) == (5000, 16)
    (path.parent / credentials.KEY).unlink()
    assert made_up(path, "nobody") != made_up(path, "nobody")  # two processes, and no secret that stays


def test_salts_of_another_length_are_made_up_as_long(path: Path) -> None:
    salt = base64.b64encode(bytes(24)).decode()
    path.write_text(f"user SCRAM-SHA-256$4096:{salt}${B32}:{B32}\n")
    assert len(made_up(path, "nobody")[1]) == 24


def test_a_file_without_lines_is_asked_as_new_lines_would_be(path: Path) -> None:
    path.write_text("# none\n")
    assert made_up(path, "nobody")[0] == verifiers.ITERATIONS


def test_who_is_vouched_for(path: Path) -> None:
    path.write_text(credentials.line("alice", b"secret", 5000) + " mbox:/srv/{user}\n")
    file = File(str(path))
    account = file.vouch("alice", "")
    assert (account.name, account.maildrop) == ("alice", "mbox:/srv/{user}")
    with pytest.raises(Unknown):
        file.vouch("bob", "")
    path.chmod(0o644)
    with pytest.raises(Unavailable):
        file.vouch("alice", "")
    with pytest.raises(Unavailable):
        file.for_proof("alice", "SCRAM-SHA-256")


def test_a_name_is_found_however_it_was_typed_into_the_file(path: Path) -> None:
    path.write_text(credentials.line("u\u0308mit", b"secret", 4096) + "\n")
    assert File(str(path)).authenticate("\u00fcmit", b"secret", "").name == "\u00fcmit"
