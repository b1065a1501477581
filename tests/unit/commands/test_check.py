"""commands/check.py: `popad check` shows what is in force and complains about what is not safe."""

import json
import os
import pwd
import socket
import subprocess
from pathlib import Path

import pytest

from popad.auth import credentials, verifiers
from popad.commands import check as checking
from popad.commands import effective, pam_service, units
from popad.commands.check import check
from popad.configuration import configuration
from popad.settings import PREAUTH_UIDS, TABLE
from tests.support.here import ROOT
from tests.support.patience import PATIENCE
from tests.support.serving import OWNER, POPAD, open_checkout

NOBODY = 65534


class Place:
    """A setup without a fault, to spoil one thing at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.credentials = path / "credentials"
        self.credentials.touch(0o600)
        self.credentials.write_text(credentials.line("alice", b"secret", verifiers.LEAST_ITERATIONS) + "\n")
        self.mail = path / "mail"
        self.mail.mkdir()
        self.state = path / "state"
        self.cache = path / "cache"
        for shared in (self.state, self.cache):
            shared.mkdir()
            shared.chmod(0o1733)
        self.socket = path / "socket"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.socket))
        self.socket.chmod(0o600)
        self.settings = {
            "POPAD_AUTH": "file",
            "POPAD_AUTH_SOCKET": str(self.socket),
            "POPAD_CREDENTIALS": str(self.credentials),
            "POPAD_MAILDROP": f"mbox:{self.mail}/{{user}}",
            "POPAD_STATE": str(self.state),
            "POPAD_CACHE": str(self.cache),
            "POPAD_USER": "daemon",
            "POPAD_VIRTUAL_USER": OWNER,
        }


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(effective, "CONFIGURATION", str(tmp_path / "popad.conf"))
    monkeypatch.setattr(units, "RUNNING", "/nonexistent")  # the units of this machine have other settings
    return Place(tmp_path)


def checked(place: Place, capsys: pytest.CaptureFixture[str], **values: str) -> tuple[int, dict[str, str], list[str]]:
    """The exit status, the settings shown, and the complaints."""
    status = check(place.settings | {f"POPAD_{name.upper()}": value for name, value in values.items()})
    *lines, summary = capsys.readouterr().out.splitlines()
    complaints = [line.removeprefix("wrong: ") for line in lines if line.startswith("wrong: ")]
    shown = dict(line.split("=", 1) for line in lines if not line.startswith("wrong: "))
    counted = ("no problem found", "1 problem found")
    assert summary == (counted[len(complaints)] if len(complaints) < 2 else f"{len(complaints)} problems found")
    assert status == (1 if complaints else 0)
    return status, shown, complaints


def test_nothing_to_complain_about(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    _, shown, complaints = checked(place, capsys)
    assert complaints == []
    assert list(shown) == list(TABLE)


@pytest.mark.skipif(not ROOT, reason="needs root: without it all roles have one uid")
@pytest.mark.parametrize(("mapped", "said"), [(True, 0), (False, 1)])
def test_a_container_with_few_uids(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mapped: bool, said: int
) -> None:
    """Nothing that is wrong, but good to know. What is asked of the kernel: tests/hostile/test_taken_over.py."""
    assert checking.mapped(PREAUTH_UIDS)
    monkeypatch.setattr(checking, "mapped", lambda uids: mapped)
    assert check(place.settings) == 0
    assert capsys.readouterr().out.count("\nnote: POPAD_USER: ") == said


def test_where_a_value_comes_from(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """The units read popad.conf last; but who sets a variable for this one command means it."""
    (place.path / "popad.conf").write_text("POPAD_TIMEOUT=700\nPOPAD_LOCK_TIMEOUT=5\n")
    _, shown, _ = checked(place, capsys, timeout="800")
    assert shown["POPAD_TIMEOUT"] == "800  # environment, seconds"
    assert shown["POPAD_LOCK_TIMEOUT"] == f"5  # {place.path}/popad.conf, seconds"
    assert shown["POPAD_MAX_MESSAGES"] == "500000  # default, messages"
    assert shown["POPAD_PAM_SERVICE"] == "popad  # default"


def test_every_wrong_setting_is_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """And what hangs on the others is looked at all the same."""
    (place.path / "popad.conf").write_text("POPAD_TIMEOUT=soon\nPOPAD_TIMEOT=600\nMAILDROP=/srv\n")
    place.cache.rmdir()
    file = f"{place.path}/popad.conf"
    assert checked(place, capsys, min_delay="x")[2] == [
        f"{file}:3: 'MAILDROP' is no setting of popad, and does nothing (POPAD_MAILDROP?)",
        f"POPAD_TIMEOT: no such setting (POPAD_TIMEOUT?) ({file}:2)",
        f"POPAD_TIMEOUT: must be a whole number ({file}:1)",
        "POPAD_MIN_DELAY: must be a whole number (environment)",
        f"POPAD_CACHE: [Errno 2] No such file or directory: '{place.cache}' (install -d -m 1733 {place.cache})",
    ]


def test_only_what_is_not_the_default(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.path / "popad.conf").write_text("POPAD_TIMEOUT=700\nPOPAD_LOCK_TIMEOUT=10\n")
    assert check({}, only_changed=True) == 0
    assert capsys.readouterr().out == f"POPAD_TIMEOUT=700  # {place.path}/popad.conf, seconds\n"
    assert check({"POPAD_TIMEOUT": "soon"}, only_changed=True) == 1
    assert capsys.readouterr().out == (
        "POPAD_TIMEOUT=soon  # environment, seconds\n"
        "wrong: POPAD_TIMEOUT: must be a whole number (environment)\n1 problem found\n"
    )


def done_as_said(place: Place, capsys: pytest.CaptureFixture[str], complaint: str) -> None:
    """The command in brackets is typed, and there is nothing left to complain about."""
    command = complaint.rpartition("(")[2].removesuffix(")")
    subprocess.run(command.split(), check=True)
    assert checked(place, capsys)[2] == []


def spoil_mode(place: Place) -> None:
    place.credentials.chmod(0o640)


def spoil_line(place: Place) -> None:
    place.credentials.write_text("# fine\nalice secret\nbob secret\n")


def spoil_missing_credentials(place: Place) -> None:
    place.credentials.unlink()


def spoil_mail(place: Place) -> None:
    place.mail.chmod(0o777)


def spoil_missing_mail(place: Place) -> None:
    place.mail.rmdir()


def spoil_missing_state(place: Place) -> None:
    place.state.rmdir()


def spoil_state_symlink(place: Place) -> None:
    place.state.rename(place.path / "elsewhere")
    place.state.symlink_to(place.path / "elsewhere")


def spoil_state_file(place: Place) -> None:
    place.state.rmdir()
    place.state.touch()


def spoil_missing_cache(place: Place) -> None:
    place.cache.rmdir()


def spoil_socket(place: Place) -> None:
    place.socket.chmod(0o660)


def spoil_missing_socket(place: Place) -> None:
    place.socket.unlink()


def spoil_socket_file(place: Place) -> None:
    place.socket.unlink()
    place.socket.touch(0o600)


@pytest.mark.parametrize(
    ("spoil", "complaints"),
    [
        (spoil_mode, ["POPAD_CREDENTIALS: {}/credentials: mode 0640"]),
        (
            spoil_line,
            [
                "POPAD_CREDENTIALS: {}/credentials:2: expected NAME",
                "POPAD_CREDENTIALS: {}/credentials:3: expected NAME",
            ],
        ),
        (spoil_missing_credentials, ["POPAD_CREDENTIALS: [Errno 2]"]),
        (spoil_mail, ["POPAD_MAILDROP: everybody may rename mailboxes in {}/mail"]),
        (spoil_missing_mail, ["POPAD_MAILDROP: [Errno 2]"]),
        (spoil_missing_state, ["POPAD_STATE: [Errno 2]"]),
        (spoil_state_symlink, ["POPAD_STATE: {}/state is not a directory"]),
        (spoil_state_file, ["POPAD_STATE: {}/state is not a directory"]),
        (spoil_missing_cache, ["POPAD_CACHE: [Errno 2]"]),
        (spoil_socket, ["POPAD_AUTH_SOCKET: {}/socket is not a socket that only root may use"]),
        (spoil_missing_socket, ["POPAD_AUTH_SOCKET: [Errno 2]"]),
        (spoil_socket_file, ["POPAD_AUTH_SOCKET: {}/socket is not a socket that only root may use"]),
    ],
)
def test_complaints(place: Place, capsys: pytest.CaptureFixture[str], spoil: "object", complaints: list[str]) -> None:
    assert callable(spoil)
    spoil(place)
    _, _, found = checked(place, capsys)
    assert len(found) == len(complaints)
    for complaint, start in zip(found, complaints, strict=True):
        assert complaint.startswith(start.format(place.path)), complaint


@pytest.mark.parametrize(
    ("name", "given", "complaint"),
    [
        ("Bob", {"lower_case": "yes"}, "'Bob': POPAD_LOWER_CASE or POPAD_STRIP_DOMAINS makes it 'bob'"),
        ("b@x.org", {"strip_domains": "x.org"}, "'b@x.org': POPAD_LOWER_CASE or POPAD_STRIP_DOMAINS makes it 'b'"),
        ("x" * 41, {"max_argument": "40"}, f"'{'x' * 41}': it is longer than POPAD_MAX_ARGUMENT (40 octets)"),
        ("x" * 250, {}, f"'{'x' * 250}': no user can have such a name"),
        ("alice.lock", {}, "'alice.lock': the name could mean the lock file of another user's mailbox"),
        (".bob", {}, "'.bob': the name could mean another path"),
    ],
)
def test_names_that_cannot_be_typed(
    place: Place, capsys: pytest.CaptureFixture[str], name: str, given: dict[str, str], complaint: str
) -> None:
    with place.credentials.open("a") as file:
        file.write(credentials.line(name, b"secret", verifiers.LEAST_ITERATIONS) + "\n")
    where = f"POPAD_CREDENTIALS: {place.credentials}:2: nobody can log in as "
    assert checked(place, capsys, **given)[2] == [where + complaint]


def test_a_name_that_stands_twice(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.credentials.write_text(place.credentials.read_text() * 2)
    assert checked(place, capsys)[2] == [f"POPAD_CREDENTIALS: {place.credentials}:2: 'alice' stands here twice"]


@pytest.mark.skipif(not ROOT, reason="needs root: what is right for a state directory of root's")
@pytest.mark.parametrize("mode", [0o755, 0o777, 0o733, 0o1777])
def test_mode_of_the_state_directory(place: Place, capsys: pytest.CaptureFixture[str], mode: int) -> None:
    place.state.chmod(mode)
    (found,) = checked(place, capsys)[2]
    assert found == f"POPAD_STATE: {place.state} has mode {mode:04o}, not 1733 (chmod 1733 {place.state})"
    done_as_said(place, capsys, found)


@pytest.mark.skipif(not ROOT, reason="needs root: gives a directory away")
def test_owner_of_the_state_directory(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    os.chown(place.state, 1, 1)
    (found,) = checked(place, capsys)[2]
    assert found == f"POPAD_STATE: {place.state} belongs to uid 1, not to root (chown root:root {place.state})"
    done_as_said(place, capsys, found)


@pytest.mark.skipif(not ROOT, reason="needs root: what is right for a cache directory of root's")
def test_mode_of_the_cache_directory(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.cache.chmod(0o777)
    (found,) = checked(place, capsys)[2]
    assert found.startswith(f"POPAD_CACHE: {place.cache} has mode 0777, not 1733 (chmod ")
    done_as_said(place, capsys, found)


def test_no_cache_directory_is_wanted(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.cache.rmdir()
    assert checked(place, capsys, cache="")[2] == []


@pytest.mark.parametrize("mode", [0o757, 0o707, 0o733])
def test_a_spool_that_is_open_to_everybody(place: Place, capsys: pytest.CaptureFixture[str], mode: int) -> None:
    place.mail.chmod(mode)
    assert len(checked(place, capsys)[2]) == 1


def test_a_spool_where_everybody_may_make_files(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.mail.chmod(0o1777)
    [complaint] = checked(place, capsys)[2]
    assert f"everybody may make files in {place.mail} (chmod o-w)" in complaint
    assert "lock files that other users make do not count" in complaint


@pytest.mark.parametrize("mode", [0o2775, 0o3775, 0o755, 0o711])
def test_a_spool_that_is_of_a_group_or_in_homes(place: Place, capsys: pytest.CaptureFixture[str], mode: int) -> None:
    """Debian's /var/mail is 2775."""
    place.mail.chmod(mode)
    assert checked(place, capsys)[2] == []
    assert checked(place, capsys, maildrop="mbox:{home}/mailbox")[2] == []


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("user", "root", "POPAD_USER: root is root, and has to be another user (adduser --system --group)"),
        ("user", "no-such", "POPAD_USER: there is no user no-such (adduser --system --group no-such)"),
        (
            "virtual_user",
            "root",
            "POPAD_VIRTUAL_USER: root is root, and has to be another user (adduser --system --group)",
        ),
        ("virtual_user", "no-such", "POPAD_VIRTUAL_USER: there is no user no-such (adduser --system --group no-such)"),
    ],
)
def test_users(place: Place, capsys: pytest.CaptureFixture[str], name: str, value: str, complaint: str) -> None:
    if name == "user" and not ROOT:
        pytest.skip("needs root: without it popad becomes nobody, and POPAD_USER is not looked for")
    assert checked(place, capsys, **{name: value})[2] == [complaint]


def test_settings_that_change_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """A mechanism that needs another setting, ids that no server leaves in mbox files."""
    wrong = checked(place, capsys, sasl="EXTERNAL PLAIN", uidl="courier")[2]
    assert wrong == [
        "POPAD_SASL: EXTERNAL is not offered, as it needs POPAD_TLS_CLIENT_CA",
        "POPAD_UIDL: courier leaves ids in Maildirs alone",
    ]
    maildir = f"maildir:{place.path}/{{user}}"
    (wrong_for_maildirs,) = checked(place, capsys, uidl="qpopper", maildrop=maildir)[2]
    assert wrong_for_maildirs == "POPAD_UIDL: qpopper leaves ids in mbox files alone"
    assert checked(place, capsys, uidl="dovecot:%f", maildrop=maildir)[2] == []
    assert checked(place, capsys, uidl="dovecot:%f")[2] == [
        "POPAD_UIDL: %f and %g of a format are parts of a Maildir's files, and POPAD_MAILDROP is mbox files"
    ]
    for value in ("dovecot", "qpopper", "popa3d", "name"):
        assert checked(place, capsys, uidl=value)[2] == []
    assert checked(place, capsys, sasl="SCRAM-SHA-256 PLAIN")[2] == []
    assert checked(place, capsys, sasl="none")[2] == []


def test_a_virtual_user_that_is_popads_own(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Every login of a virtual user would be refused."""
    assert len(checked(place, capsys, virtual_user="daemon")[2]) == 1


def test_a_file_of_another_encoding(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a terminal that has no such letter, whose cursor nothing moves."""
    monkeypatch.setattr(pam_service, "DIRECTORIES", (str(place.path),))
    (place.path / "popad-test").write_bytes(b"auth required pam_\xfc\x1b[2J.so\n")
    (found,) = checked(place, capsys, auth="pam", pam_service="popad-test")[2]
    assert " there is no module pam_\\udcfc\\x1b[2J.so, " in found


def test_a_pam_service(place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pam_service, "DIRECTORIES", (str(place.path),))
    missing = f"POPAD_PAM_SERVICE: no file popad-test in {place.path} (the package's own is popad)"
    assert checked(place, capsys, auth="pam", pam_service="popad-test")[2] == [missing]
    monkeypatch.setattr(pam_service, "MODULES", (str(place.path),))
    (place.path / "pam_x.so").touch()
    (place.path / "popad-test").write_text("auth required pam_x.so\n")
    assert checked(place, capsys, auth="pam", pam_service="popad-test")[2] == []


def test_json(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """The same as the text has."""
    place.state.chmod(0o755)
    given = place.settings | {"POPAD_TIMEOUT": "soon"}
    assert check(given, as_json=True) == 1
    found = json.loads(capsys.readouterr().out)
    wrong = checked(place, capsys, timeout="soon")[2]
    assert [f"{each['about']}: {each['says']}" for each in found["wrong"]] == wrong
    assert len(wrong) == (2 if ROOT else 1)
    assert list(found["settings"]) == list(TABLE)
    assert found["settings"]["POPAD_TIMEOUT"] == {
        "value": "soon",
        "default": TABLE["POPAD_TIMEOUT"].default,
        "source": "environment",
        "unit": "seconds",
    }
    check({"POPAD_TIMEOUT": "700"}, only_changed=True, as_json=True)
    assert list(json.loads(capsys.readouterr().out)["settings"]) == ["POPAD_TIMEOUT"]


@pytest.mark.parametrize(
    ("text", "about"), [("POPAD_STATE: x: y", "POPAD_STATE"), ("/etc/x:1: y", "/etc/x:1"), ("a b: c", ""), ("a", "")]
)
def test_what_it_is_about(text: str, about: str) -> None:
    said = checking.split(text)
    assert said["about"] == about
    assert f"{about}: {said['says']}".removeprefix(": ") == text


def test_a_spool_that_is_made_as_it_says(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.mail.rmdir()
    (found,) = checked(place, capsys)[2]
    done_as_said(place, capsys, found)


def test_configuration_as_systemd_reads_it(tmp_path: Path) -> None:
    """EnvironmentFile= of systemd.exec(5), as far as popad.conf uses it."""
    path = tmp_path / "popad.conf"
    path.write_text(
        "# comment\n; comment\n\n#POPAD_A=1\nPOPAD_B=2\n  POPAD_C = 3 4 \nPOPAD_D=\"quo ted\"\nPOPAD_E='single'\n"
        "POPAD_F=\nno assignment\nPOPAD_G=a=b\nPOPAD_B=5\n"
    )
    assert configuration(str(path)) == {
        "POPAD_B": "5",
        "POPAD_C": "3 4",
        "POPAD_D": "quo ted",
        "POPAD_E": "single",
        "POPAD_F": "",
        "POPAD_G": "a=b",
    }
    assert configuration(str(tmp_path / "missing")) == {}


@pytest.mark.skipif(not ROOT, reason="needs root: runs as somebody who may not read the file")
def test_a_configuration_that_may_not_be_read(public_path: Path) -> None:
    """An administrator without sudo: a complaint, no traceback."""
    path = public_path / "popad.conf"
    path.write_text("POPAD_TIMEOUT=700\n")
    path.chmod(0o600)
    code = (
        "import os; from popad.commands import check, effective\n"
        f"effective.CONFIGURATION = {str(path)!r}; print(check.check(os.environ))"
    )
    done = subprocess.run(
        [POPAD[0], "-c", code],
        cwd=open_checkout(),
        env={"POPAD_STATE": str(public_path)},
        user=pwd.getpwnam("nobody").pw_uid,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert b"Traceback" not in done.stderr
    assert str(path).encode() in done.stdout + done.stderr


@pytest.mark.skipif(not ROOT, reason="needs root: gives a directory away")
@pytest.mark.parametrize(
    ("locks", "owner", "group", "mode", "complaints"),
    [
        ("fcntl,dotlock", 0, 8, 0o2775, 1),  # Debian's /var/mail
        ("fcntl,dotlock", 0, 8, 0o3777, 0),
        ("fcntl,dotlock", NOBODY, 8, 0o755, 0),
        ("fcntl,dotlock", 0, NOBODY, 0o775, 0),
        ("fcntl,dotlock", 0, NOBODY, 0o755, 1),
        ("auto", 0, 8, 0o2775, 0),
        ("fcntl", 0, 8, 0o2775, 0),
    ],
)
def test_lock_files_that_nobody_may_make(
    place: Place, capsys: pytest.CaptureFixture[str], locks: str, owner: int, group: int, mode: int, complaints: int
) -> None:
    os.chown(place.mail, owner, group)
    place.mail.chmod(mode)
    found = [each for each in checked(place, capsys, locks=locks)[2] if each.startswith("POPAD_LOCKS: ")]
    assert len(found) == complaints
    assert all(complaint.startswith("POPAD_LOCKS: no user may make a lock file in") for complaint in found)


def test_lock_files_in_homes(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(place, capsys, locks="fcntl,dotlock", maildrop="mbox:{home}/mailbox")[2] == []
