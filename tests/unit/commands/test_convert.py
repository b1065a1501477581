"""commands/convert.py: `popad convert` as an administrator calls it: as root for users, and as a user."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from popad.commands import command, convert, effective, units
from popad.errors import ContractBroken
from popad.maildrop.conversion.building import NotConverted
from popad.privsep.channel import Channel, message_pair
from tests.support.conversions import Mails
from tests.support.here import CHECKOUT, ROOT
from tests.support.marks import needs_root
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import ALL, NAME, OWNER, POPAD, Server, open_checkout


@pytest.fixture(autouse=True)
def this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The units and the file of this machine do not matter."""
    monkeypatch.setattr(effective, "CONFIGURATION", "/nonexistent")
    monkeypatch.setattr(units, "RUNNING", "/nonexistent")


@pytest.fixture
def called(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    for name, value in server.settings.items():
        monkeypatch.setenv(name, value)
    os.chown(server.path, pwd.getpwnam(OWNER).pw_uid, -1)
    return server


def shown(server: Server, maildrop: str) -> list[tuple[bytes, bytes]]:
    """What a session lists and gives, whose maildrop is that: ids and messages."""
    with server.session({"POPAD_MAILDROP": maildrop}) as (client, _):
        assert client.log_in().startswith(b"+OK")
        client.ask("UIDL")
        ids = [line.split()[1] for line in client.body().splitlines()]
        messages = []
        for number in range(1, len(ids) + 1):
            client.ask(f"RETR {number}")
            messages.append(client.body())
        client.ask("QUIT")
    return list(zip(ids, messages, strict=True))


@needs_root
def test_there_and_back(called: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Clients find what they knew, over real sessions; the user owns all of it."""
    uid = pwd.getpwnam(OWNER).pw_uid
    place = f"{called.path}/{{user}}-maildir"
    before = shown(called, called.settings["POPAD_MAILDROP"])
    assert command.main(["convert", "--user", NAME, "--rename", f"maildir:{place}"]) == 0
    maildir = called.path / f"{NAME}-maildir"
    assert {path.stat().st_uid for path in [maildir, *maildir.rglob("*")]} == {uid}
    said = capsys.readouterr().out
    assert said.startswith(f"{NAME}: mbox:{called.mailbox} is maildir:{maildir}: 3 messages, 102 octets")
    assert "what was converted is now " in said
    assert not called.mailbox.exists()
    assert shown(called, f"maildir:{place}") == before
    arguments = ["--user", NAME, "--json", f"maildir:{place}", called.settings["POPAD_MAILDROP"]]
    assert command.main(["convert", *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    wanted = {"user": NAME, "converted": True, "messages": 3, "octets": 102, "changed": 0, "renamed": "", "trouble": ""}
    assert {name: report[name] for name in wanted} == wanted
    assert (report["from"], report["to"]) == (f"maildir:{maildir}", f"mbox:{called.mailbox}")
    assert called.mailbox.stat().st_uid == uid
    assert shown(called, called.settings["POPAD_MAILDROP"]) == before


@needs_root
def test_all_users(called: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Who has no mail is left out."""
    lines = called.credentials.read_text()
    called.credentials.write_text(lines + lines.replace(NAME, "bob"))
    assert command.main(["convert", "--all", f"maildir:{called.path}/{{user}}"]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert command.main(["convert", "--all", f"maildir:{called.path}/{{user}}"]) == 1
    assert f"popad convert: {NAME}: not converted: {called.path}/{NAME} has messages" in capsys.readouterr().err


@needs_root
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--user", "nosuch", "maildir:{place}/x"], "has no line for 'nosuch'"),
        (["--user", NAME, "maildir:{place}/x/y"], "there is no directory|No such file"),
        (["--user", NAME, "mbox:{place}/x"], "has the format of mbox:"),
        (["--user", NAME, "--group", "nosuch", "maildir:{place}/x"], "there is no group 'nosuch'"),
        (["--user", NAME, "mbox:{place}/none", "maildir:{place}/x"], "{place}/none is not there"),
        (["--user", NAME, "maildir:{place}/none", "mbox:{place}/x"], "{place}/none is not there"),
        (["--user", NAME, "maildir:/root/x"], "Permission denied|Read-only"),
    ],
)
def test_what_cannot_be_done(
    called: Server, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    words = [word.replace("{place}", str(called.path)) for word in arguments]
    assert command.main(["convert", "--json", *words]) == 1
    out, err = capsys.readouterr()
    assert any(each.replace("{place}", str(called.path)) in err for each in said.split("|")), err
    assert json.loads(out)["converted"] is False
    assert called.mailbox.read_bytes() == ALL
    assert not (called.path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: TO"),
        (["maildir:x"], "TO: 'maildir:x' must name an absolute path"),
        (["x", "maildir:/x"], "FROM: 'x' must start with one of mbox:, maildir:"),
        (["--all", "--user", "a", "maildir:/{user}"], "--all and --user do not go together"),
        (["--all", "maildir:/x"], "TO: one place for several users"),
    ],
)
def test_what_is_called_wrong(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert command.main(["convert", *arguments]) == 2
    assert said in capsys.readouterr().err


@needs_root
def test_root_has_to_say_whose(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["convert", "mbox:/a", "maildir:/b"]) == 2
    assert "root has to say whose mail it is" in capsys.readouterr().err


@pytest.mark.skipif(ROOT and shutil.which("setpriv") is None, reason="needs setpriv")
def test_as_a_user(public_path: Path) -> None:
    """With a POPAD_STATE of one's own; not with one that a session begun by root would use."""
    mails = Mails(public_path)
    mails.mbox.write_bytes(ALL)
    uid = pwd.getpwnam(OWNER).pw_uid
    for path in (mails.place, mails.mbox):
        os.chown(path, uid, -1)
    own = mails.place / "own"
    own.mkdir()
    os.chown(own, uid, -1)
    become = ["setpriv", f"--reuid={uid}", "--clear-groups"] if ROOT else []
    for state, status in ((mails.state_path, 1 if ROOT else 0), (own, 0)):
        done = subprocess.run(
            [*become, *POPAD, "convert", f"mbox:{mails.mbox}", f"maildir:{mails.maildir}"],
            env={"PATH": os.defpath, "POPAD_STATE": str(state), "POPAD_CACHE": ""},
            cwd=open_checkout(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        if status:
            assert "is for sessions that root begins" in done.stderr
    assert len(list((mails.maildir / "cur").iterdir())) == 3


@needs_root
def test_a_group_besides(called: Server) -> None:
    """As delivery programs have it, for a spool that only they write to."""
    spool = called.path / "spool"
    spool.mkdir()
    spool.chmod(0o2775)
    os.chown(spool, 0, 8)
    maildir = called.path / "x"
    assert command.main(["convert", "--user", NAME, f"maildir:{maildir}"]) == 0
    arguments = ["--user", NAME, f"maildir:{maildir}", f"mbox:{spool}/{NAME}"]
    assert command.main(["convert", *arguments]) == 1
    assert command.main(["convert", "--group", "mail", *arguments]) == 0
    status = (spool / NAME).stat()
    assert (status.st_mode & 0o7777, status.st_gid) == (0o660, 8)
    assert [path.name for path in spool.iterdir()] == [NAME]


@needs_root
def test_who_interrupts_it_has_nothing_left(called: Server) -> None:
    """No part of a target, no lock, and no word more than needed."""
    called.mailbox.write_bytes(b"".join(b"From a\nDate: %d\n\nbody\n\n" % number for number in range(20000)))
    before = sorted(path.name for path in called.path.rglob("*"))
    process = subprocess.Popen(
        [*POPAD, "convert", "--user", NAME, f"maildir:{called.path}/maildir"],
        env={"PATH": os.defpath, **called.settings},
        cwd=CHECKOUT,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_until((called.path / ".maildir.popad-convert" / "cur").exists)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=PATIENCE)[1] == b"\n"
    assert process.returncode == convert.INTERRUPTED
    there = sorted(path.name for path in called.path.rglob("*") if path.parent != called.state)
    assert [name for name in there if name not in before] == []


def test_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Said when it takes longer than a moment; what a process of a user says is printed as text."""
    monkeypatch.setattr(convert, "QUIET", -1.0)
    ours, theirs = map(Channel, message_pair())
    theirs.send((b"at", b"7", b"9"))
    theirs.send((b"failed", b"no\x1b[1m\xff room"))
    with pytest.raises(NotConverted, match=r"no\\x1b\[1m. room"):
        convert.heard(ours, "jane")
    assert capsys.readouterr().err == "jane: 7 of 9 messages\n"
    for channel in (ours, theirs):
        channel.close()


def test_a_child_that_says_no_number() -> None:
    ours, theirs = map(Channel, message_pair())
    theirs.send((b"done", *[b"7"] * (len(convert.COUNTS) - 1), b"x", b"", b""))
    with pytest.raises(ContractBroken, match="a number that is none"):
        convert.heard(ours, "jane")
    for channel in (ours, theirs):
        channel.close()


def examples() -> list[str]:
    """What the manual pages show."""
    pages = (CHECKOUT / "packaging/man" / page for page in ("popad.8", "popad-admin.8"))
    return [line for page in pages for line in re.findall(r"^(?:# )?popad convert (.*)$", page.read_text(), re.M)]


@needs_root
@pytest.mark.parametrize("example", examples())
def test_examples_of_the_manual(called: Server, example: str) -> None:
    """With a virtual user, who has no home: in a place of its own, and the spool of this test."""
    words = example.replace("jane", NAME).replace("{home}", f"{called.path}/{{user}}").replace("/var/mail", "{mail}")
    for directory in (called.path / NAME, called.path / "spool"):
        directory.mkdir()
        os.chown(directory, pwd.getpwnam(OWNER).pw_uid, -1)
    arguments = words.replace("{mail}", str(called.path / "spool")).split()
    maildir = f"maildir:{called.path}/{NAME}/Maildir"
    if "mbox:" in example:
        assert command.main(["convert", "--user", NAME, maildir]) == 0
    if "--all" in example and "mbox:" in example:
        os.environ["POPAD_MAILDROP"] = maildir
    assert command.main(["convert", *arguments]) == 0


def test_there_are_examples() -> None:
    assert len(examples()) >= 5
