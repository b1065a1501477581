"""commands/migrate.py: `popad migrate` from the command line on: users, reports, exit statuses, who does what."""

from __future__ import annotations

import io
import json
import os
import pwd
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from popad.auth import credentials, verifiers
from popad.commands import as_user, command, effective, migrate, old_server, units
from popad.commands import known_ids as known
from popad.errors import ContractBroken
from popad.privsep.channel import Channel
from tests.support import certificates
from tests.support.daemon import daemon
from tests.support.here import CHECKOUT
from tests.support.maildirs import Mail
from tests.support.marks import needs_root
from tests.support.serving import NAME, OWNER, PASSWORD, Server

FIRST, SECOND = "0123456789abcdef0123", "0123456789abcdef0124"


def message(number: int, *header: str) -> bytes:
    lines = "".join(f"{line}\n" for line in (*header, f"Message-ID: <{number}@x>"))
    return f"From m Thu Jan  1 00:00:01 1970\n{lines}\nbody {number}\n\n".encode()


@pytest.fixture(autouse=True)
def this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The units and the file of this machine do not matter."""
    monkeypatch.setattr(effective, "CONFIGURATION", "/nonexistent")
    monkeypatch.setattr(units, "RUNNING", "/nonexistent")


@pytest.fixture
def run(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command with these words: its exit status, what it prints, what it complains of."""

    def migrate_(*words: str, typed: bytes = b"", **settings: str) -> tuple[int, str, str]:
        for name, value in (server.settings | {f"POPAD_{name}": value for name, value in settings.items()}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed)))
        status = command.main(["migrate", *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return migrate_


def of(server: Server, text: str, *more: tuple[str, bytes]) -> None:
    """Mailboxes: alice's, and those of other users, who get a line each."""
    line = server.credentials.read_text()
    owner = pwd.getpwnam(OWNER)
    server.deliver(text.encode())
    for name, content in more:
        server.credentials.write_text(server.credentials.read_text() + line.replace(NAME, name))
        path = server.mailbox.with_name(name)
        path.write_bytes(content)
        path.chmod(0o600)
        os.chown(path, owner.pw_uid, owner.pw_gid)


# -- how it is called


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ([], "required: --from"),
        (["--from", "qpopper"], "either --user or --all"),
        (["--from", "qpopper", "--user", "a", "--all"], "either --user or --all"),
        (["--from", "cyrus", "--all"], "--from must be"),
        (["--from", "name", "--all"], "--from must be"),
        (["--from", "dovecot:%x", "--all"], "--from must be"),
        (["--from", "qpopper", "--all", "--server", "x"], "--server goes with --from pop3"),
        (["--from", "qpopper", "--all", "--tls"], "--tls goes with --from pop3"),
        (["--from", "pop3", "--all"], "needs --server"),
        (["--from", "pop3", "--all", "--server", "x:0"], "is not HOST"),
        (["--from", "pop3", "--all", "--server", "x", "--tls", "--stls"], "do not go together"),
        (["--from", "pop3", "--all", "--server", "x", "--login", "master"], "must have {user}"),
        (["--from", "pop3", "--all", "--server", "x", "--password", "secret"], "unrecognized arguments"),
    ],
)
def test_what_is_no_call(run: Any, words: list[str], wrong: str) -> None:
    status, said, complaint = run(*words)
    assert (status, said) == (2, "")
    assert wrong in complaint


def test_wrong_settings(run: Any) -> None:
    status, _, complaint = run("--from", "qpopper", "--all", TIMEOUT="soon")
    assert status == 1
    assert "POPAD_TIMEOUT" in complaint


def test_passwords_that_cannot_be_read(run: Any, server: Server) -> None:
    asked = ("--from", "pop3", "--server", "127.0.0.1:1", "--all")
    assert "line 1: expected NAME:PASSWORD" in run(*asked, typed=b"secret\n")[2]
    file = server.path / "passwords"
    file.write_text("alice:secret\n")
    file.chmod(0o644)
    status, _, complaint = run(*asked, "--passwords", str(file))
    assert status == 1
    assert "others may read" in complaint


# -- what it does


def test_all_ids_stay(run: Any, server: Server) -> None:
    server.deliver(message(1, f"X-UIDL: {FIRST}") + message(2, f"X-UIDL: {SECOND}"))
    status, said, complaint = run("--from", "qpopper", "--user", NAME)
    assert (status, complaint) == (0, "")
    assert said.splitlines() == [
        f"{NAME}: mbox:{server.mailbox}: 2 messages, 2 ids stay, 0 change; list: written",
        "1 user: 2 ids stay, 0 change, 0 failed",
    ]


def test_some_change(run: Any, server: Server) -> None:
    server.deliver(b"".join(message(number) for number in range(12)) + message(12, f"X-UIDL: {SECOND}"))
    status, said, _ = run("--from", "qpopper", "--user", NAME, "--dry-run")
    lines = said.splitlines()
    assert status == 1
    assert lines[0].endswith("13 messages, 1 ids stay, 12 change; list: not written")
    assert lines[1:11] == [f"  message {number}: no id is known for it" for number in range(1, 11)]
    assert lines[11:] == ["  and 2 more", "1 user: 1 ids stay, 12 change, 0 failed"]


def test_all_users_of_the_file_and_one_that_fails(run: Any, server: Server) -> None:
    """Another user's trouble stops nobody."""
    of(
        server,
        "no mbox\n",
        ("bob", message(1, f"X-UIDL: {FIRST}")),
        ("carol", message(1, f"X-UIDL: {SECOND}")),
    )
    status, said, _ = run("--from", "qpopper", "--all", "--json")
    whole = json.loads(said)
    assert status == 1
    assert {key: value for key, value in whole.items() if key != "users"} == {
        "from": "qpopper",
        "dry_run": False,
        "messages": 2,
        "stay": 2,
        "change": 0,
        "new": 0,
        "missing": 0,
        "failed": 1,
        "setting": None,
    }
    first, second, third = whole["users"]
    assert (first["user"], first["error"]) == (NAME, "not an mbox: its first line does not begin with `From `")
    assert second == {
        "user": "bob",
        "maildrop": f"mbox:{server.mailbox.with_name('bob')}",
        "messages": 1,
        "stay": 1,
        "change": 0,
        "new": 0,
        "missing": 0,
        "list": "written",
        "changes": [],
        "not_found": [],
        "error": None,
    }
    assert third["stay"] == 1


def test_a_user_that_there_is_not(run: Any) -> None:
    status, said, _ = run("--from", "qpopper", "--user", "dave", "../x", NAME)
    assert status == 1
    assert [line.partition(": ")[0] for line in said.splitlines() if not line.startswith(" ")][:3] == [
        "dave",
        "../x",
        NAME,
    ]
    assert "dave: failed: " in said


@needs_root
def test_nobodys_mail_is_read_as_root(run: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is the list written as root."""
    server.deliver(message(1, f"X-UIDL: {FIRST}"))
    looked = known.look_for_traces

    def tell_who(*rest: Any) -> known.Found:
        found = looked(*rest)
        found.list = f"by {os.getresuid()}"
        return found

    monkeypatch.setattr(known, "look_for_traces", tell_who)
    uid = pwd.getpwnam(OWNER).pw_uid
    said = run("--from", "qpopper", "--user", NAME)[1]
    assert said.splitlines()[0].endswith(f"list: by {(uid, uid, uid)}")
    (written,) = server.state.glob("*.list")
    assert written.stat().st_uid == uid


def test_only_root_can_be_others(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_user, "is_possible", lambda owner: False)
    status, said, _ = run("--from", "qpopper", "--user", NAME)
    assert (status, said.splitlines()[0]) == (1, f"{NAME}: failed: only root can become its user")


def test_a_maildir_needs_a_setting(run: Any, server: Server) -> None:
    mail = Mail(server.path / "mail")
    name = mail.deliver()
    (mail.path / "dovecot-uidlist").write_text(f"3 V9 N9 G1\n4 :{name}\n")
    where = {"MAILDROP": f"maildir:{mail.path}"}
    for part in (mail.path, *mail.path.rglob("*")):
        os.chown(part, *(pwd.getpwnam(OWNER)[2:4]))
    status, said, _ = run("--from", "dovecot", "--user", NAME, **where)
    assert status == 0
    assert said.splitlines()[-1] == "popad.conf needs POPAD_UIDL=dovecot"
    assert said.splitlines()[0].endswith("1 messages, 1 ids stay, 0 change; list: not needed")
    assert (
        json.loads(run("--from", "dovecot:%u", "--user", NAME, "--json", **where)[1])["setting"]
        == "POPAD_UIDL=dovecot:%u"
    )
    for value in ("dovecot", "dovecot:%v.%u"):  # the format of the setting is the one that counts
        whole = json.loads(run("--from", "dovecot", "--user", NAME, "--json", UIDL=value, **where)[1])
        assert (whole["stay"], whole["setting"]) == (1, None)


def test_by_asking_the_old_server(run: Any, server: Server) -> None:
    """Popad is the old server, with X-UIDL for ids; the new one has a state of its own and another copy of the mail."""
    server.deliver(message(1, f"X-UIDL: {FIRST}") + message(2, f"X-UIDL: {SECOND}"))
    new = server.path / "new"
    new.mkdir()
    state = server.path / "state2"
    state.mkdir()
    state.chmod(0o1733)
    mailbox = new / NAME
    mailbox.write_bytes(message(2) + message(1) + message(3))
    for path in (new, mailbox):
        os.chown(path, *(pwd.getpwnam(OWNER)[2:4]))
    where = {"MAILDROP": f"mbox:{new}/{{user}}", "STATE": str(state)}
    with daemon(server, {"POPAD_UIDL": "qpopper", "POPAD_GUESS_DELAY": "0"}) as running:
        asked = ("--from", "pop3", "--server", f"127.0.0.1:{running.ports[0]}", "--user", NAME)
        status, said, _ = run(*asked, typed=f"*:{PASSWORD}\n".encode(), **where)
        assert (status, said.splitlines()[0]) == (
            0,
            f"{NAME}: mbox:{mailbox}: 3 messages, 2 ids stay, 0 change, 1 new; list: written",
        )
        failed = run(*asked, typed=f"{NAME}:wrong\n".encode(), **where)
        assert failed[0] == 1
        assert "PASS: -ERR" in failed[1]
        assert "wrong" not in failed[1] + failed[2]
        nobody = run(*asked, typed=b"bob:x\n", **where)[1]
        assert f"{NAME}: failed: no password for '{NAME}'" in nobody
        other = run(*asked, "--login", "{user}*master", typed=b"*:x\n", **where)
        assert "-ERR" in other[1]
    assert len(list(state.glob("*.list"))) == 1


def test_the_login_of_a_master_user(run: Any, server: Server) -> None:
    """The name that is logged in with is made of the user's."""
    server.credentials.write_text(
        server.credentials.read_text()
        + credentials.line(f"{NAME}*master", b"masters", verifiers.LEAST_ITERATIONS)
        + f" mbox:{server.mailbox}\n"
    )
    with daemon(server, {"POPAD_GUESS_DELAY": "0"}) as running:
        asked = ("--from", "pop3", "--server", f"127.0.0.1:{running.ports[0]}", "--user", NAME)
        status, said, _ = run(*asked, "--login", "{user}*master", typed=b"*:masters\n")
    assert status == 0
    assert "3 ids stay" in said


# -- what a child may say


@pytest.mark.parametrize(
    "messages",
    [
        [(b"other",)],
        [(b"done", b"1")],
        [(b"done", b"x", b"1", b"1", b"1", b"1", b"written")],
        [(b"change", b"1", b"x" * (migrate.ID + 1), b"")],
        [(b"change", b"1", b"id", b"why")] * (migrate.MOST + 1),
        [],
    ],
    ids=["no request", "too few fields", "no number", "too long", "too many", "none"],
)
def test_a_child_that_says_what_it_may_not(
    run: Any, monkeypatch: pytest.MonkeyPatch, messages: list[tuple[bytes, ...]]
) -> None:
    def tell(channel: Channel, _: Any) -> None:
        for fields in messages:
            channel.send(fields)

    monkeypatch.setattr(migrate, "tell", tell)
    status, said, _ = run("--from", "qpopper", "--user", NAME)
    assert status == 1
    assert f"{NAME}: failed: the process that looked at it has failed: " in said


@pytest.mark.parametrize("kind", [b"failed", b"missing", b"change", b"done"])
def test_a_child_that_says_odd_octets(run: Any, monkeypatch: pytest.MonkeyPatch, kind: bytes) -> None:
    """As another server has made them up, in an answer or in an id: they do nothing to a terminal."""
    odd = b"\x1b]0;owned\x07\r"
    fields = {b"failed": (odd,), b"missing": (b"1", odd), b"change": (b"1", odd, odd), b"done": (*[b"1"] * 5, odd)}

    def tell(channel: Channel, _: Any) -> None:
        channel.send((kind, *fields[kind]))
        if kind in (b"missing", b"change"):
            channel.send((b"done", *[b"1"] * 5, b"written"))

    monkeypatch.setattr(migrate, "tell", tell)
    said = run("--from", "qpopper", "--user", NAME)[1]
    assert "\\x1b]0;owned" in said
    assert said.replace("\n", "").isprintable()


def test_a_child_that_dies(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*_: Any) -> known.Found:
        raise ContractBroken("what")

    monkeypatch.setattr(known, "look_for_traces", look)
    assert "has failed" in run("--from", "qpopper", "--user", NAME)[1]


def test_odd_octets_are_shown_as_text(run: Any, server: Server) -> None:
    """What an attacker has put into a mailbox does nothing to the administrator's terminal."""
    server.deliver(message(1, "X-UIDL: \x1b]0;owned\x07\x1b[2J\xe4".encode("latin-1").decode("latin-1")))
    said = run("--from", "qpopper", "--user", NAME)[1]
    assert all(line.isprintable() for line in said.splitlines())
    assert "is not fit for the protocol" in said


def test_a_list_with_very_much_to_say(run: Any, server: Server) -> None:
    server.deliver(b"".join(message(number) for number in range(migrate.MOST + 5)))
    (row,) = json.loads(run("--from", "qpopper", "--all", "--json")[1])["users"]
    assert (row["change"], len(row["changes"])) == (migrate.MOST + 5, migrate.MOST)


def test_a_word_about_how_far_it_is(run: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where it takes long."""
    server.deliver(message(1) + message(2))
    assert run("--from", "qpopper", "--user", NAME)[2] == ""
    monkeypatch.setattr(migrate, "PATIENCE", 0.0)
    monkeypatch.setattr(migrate, "EACH_STEP", -1.0)
    assert f"popad migrate: '{NAME}', 1 of 1: 1 of 2 messages\n" in run("--from", "qpopper", "--user", NAME)[2]


def test_interrupted(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def hear(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(migrate, "hear", hear)
    monkeypatch.setattr(migrate, "tell", lambda channel, _: channel.waits(None))
    assert run("--from", "qpopper", "--user", NAME)[0] == migrate.INTERRUPTED


def test_the_list_counts_for_a_session(run: Any, server: Server) -> None:
    server.deliver(message(1, f"X-UIDL: {FIRST}") + message(2))
    run("--from", "qpopper", "--all")
    with server.session() as (client, _):
        client.log_in()
        assert client.ask("UIDL 1") == f"+OK 1 {FIRST}".encode()
        assert client.ask("QUIT").startswith(b"+OK")


def test_people_of_the_system(run: Any, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """POPAD_AUTH=pam: all who have a maildrop."""
    entry = pwd.struct_passwd((OWNER, "x", 1000, pwd.getpwnam(OWNER).pw_gid, "", str(tmp_path), ""))
    monkeypatch.setattr(pwd, "getpwall", lambda: [entry])
    server.deliver(message(1, f"X-UIDL: {FIRST}"))
    where = {"AUTH": "pam", "MAILDROP": f"mbox:{server.mailbox}"}
    assert "1 ids stay" in run("--from", "qpopper", "--all", **where)[1]
    assert run("--from", "qpopper", "--all", **where | {"MAILDROP": "mbox:/nonexistent/{user}"})[1].startswith(
        "0 users: "
    )


# -- what the manual says


def commands_of_the_manual() -> list[str]:
    """Each `popad migrate` of popad(8), with its options, as it stands there."""
    page = (CHECKOUT / "packaging/man/popad.8").read_text()
    literals = re.findall(r"^\.Bd -literal.*\n((?:.*\n)+?)\.Ed$", page, re.M)
    lines = "".join(literals).replace("\\e\n", "").splitlines()
    return [line.removeprefix("# ") for line in lines if line.startswith("# popad migrate ")]


def test_the_manual_has_a_command_for_each_server() -> None:
    typed = [line.split("--from ")[1].split()[0] for line in commands_of_the_manual()]
    assert typed == ["popa3d", "dovecot", "courier", "qpopper", "dovecot:%08Xv%08Xu", "pop3", "pop3", "pop3"]


TRACES = {
    "popa3d": message(1),
    "dovecot": message(1, "X-IMAPbase: 9 7", "X-UID: 5"),
    "qpopper": message(1, f"X-UIDL: {FIRST}"),
    "dovecot:%08Xv%08Xu": message(1, "X-IMAP: 9 7", "X-UID: 5"),
}


@pytest.mark.parametrize("line", [line for line in commands_of_the_manual() if "pop3 " not in line])
def test_commands_for_what_a_server_has_left(run: Any, server: Server, line: str) -> None:
    words = shlex.split(line)
    where = {}
    if words[3] == "courier":
        mail = Mail(server.path / "mail")
        (mail.path / "courierpop3dsizelist").write_text(f"/2 5 9\n{mail.deliver()} 5 1:9\n")
        for part in (mail.path, *mail.path.rglob("*")):
            os.chown(part, *(pwd.getpwnam(OWNER)[2:4]))
        where["MAILDROP"] = f"maildir:{mail.path}"
    else:
        server.deliver(TRACES[words[3]])
    status, said, complaint = run(*words[2:], **where)
    assert (status, complaint) == (0, "")
    assert "1 messages, 1 ids stay, 0 change" in said


@pytest.mark.parametrize("line", [line for line in commands_of_the_manual() if "pop3 " in line])
def test_commands_that_ask_a_server(run: Any, server: Server, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another name, on another port, with the files in another directory than /root."""
    pair = certificates.make(server.path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(pair.chain))
    login = credentials.line(f"{NAME}*master", b"masters", verifiers.LEAST_ITERATIONS) + f" mbox:{server.mailbox}\n"
    both = server.path / "of-both"
    both.write_text(server.credentials.read_text() + login)
    for name, content in (("passwords", f"{NAME}:{PASSWORD}\n"), ("master", "*:masters\n")):
        (server.path / name).write_text(content)
        (server.path / name).chmod(0o600)
    both.chmod(0o600)
    tls = {"POPAD_TLS_CERTIFICATE": str(pair.chain), "POPAD_TLS_KEY": str(pair.key), "POPAD_TLS_USER": "mail"}
    with daemon(server, {"POPAD_CREDENTIALS": str(both), "POPAD_PLAINTEXT": "always", **tls}) as running:
        monkeypatch.setattr(old_server, "PORT", running.ports[0])
        typed = line.replace("mail.example.org", "localhost").replace("/root/", f"{server.path}/")
        status, said, complaint = run(*shlex.split(typed)[2:])
    assert (status, complaint) == (0, "")
    assert "3 messages, 3 ids stay, 0 change" in said
