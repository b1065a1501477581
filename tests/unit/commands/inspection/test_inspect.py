"""commands/inspection/inspect.py: `popad inspect` from the command line on, compared with real sessions."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from popad.commands import as_user, command, effective, units
from popad.commands.inspection import inspect
from popad.maildrop.mbox import dotlock
from popad.maildrop.mbox.parallel import WORTH_IT
from popad.privsep.channel import Channel
from tests.support.edges import EDGES, REFUSED, generate
from tests.support.generated import put
from tests.support.layouts import LAYOUTS
from tests.support.marks import needs_root
from tests.support.others import lock_held, may_lock
from tests.support.patience import PATIENCE
from tests.support.serving import ALL, NAME, OWNER, POPAD, Server, open_checkout
from tests.support.trees import tree

TWINS = b"From a\nDate: 1\n\nbody 1\n\nFrom a\nDate: 1\n\nother\n\n"
PROSE = b"From a\nDate: 1\n\nDirections:\n\nFrom the station go north.\n\n"


@pytest.fixture(autouse=True)
def this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The units and the file of this machine do not matter; lock files of processes count as on a host."""
    monkeypatch.setattr(effective, "CONFIGURATION", "/nonexistent")
    monkeypatch.setattr(units, "RUNNING", "/nonexistent")
    monkeypatch.setattr(dotlock, "processes_are_known", lambda: True)


@pytest.fixture
def run(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command with these words: its exit status, what it prints, what it complains of. Nothing has changed."""

    def inspect_(*words: str, **settings: str) -> tuple[int, str, str]:
        for name, value in (server.settings | {f"POPAD_{name}": value for name, value in settings.items()}).items():
            monkeypatch.setenv(name, value)
        before = tree(server.path)
        status = command.main(["inspect", *words])
        assert tree(server.path) == before
        said = capsys.readouterr()
        return status, said.out, said.err

    return inspect_


def of(run: Any, *words: str, **settings: str) -> dict[str, Any]:
    """The object that it prints of jane's maildrop, all of it."""
    status, out, _ = run("--user", NAME, "--json", "--all", *words, **settings)
    found = json.loads(out)
    assert status == (0 if found["served"] and not found["wrong"] else 1)
    return dict(found)


# -- how it is called


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["--format", "mh", "/x"], "--format: 'mh' is not mbox or maildir"),
        (["--format", "mbox", "--user", "a"], "--format goes with MAILDROP"),
        (["--format", "mbox", "maildir:/x"], "--format: 'maildir:/x' says maildir"),
        (["--user", "a", "mbox:/{usr}"], "MAILDROP: 'mbox:/{usr}' knows {user}, {domain} and {home} only"),
        (["mbox:{home}/x"], "is not a store and an absolute path"),
        (["mbox:x"], "MAILDROP: 'mbox:x' is not a store and an absolute path without .."),
        (["/var/mail/jane.lock"], "is the lock file of another mailbox"),
        pytest.param([], "root has to say what is meant: MAILDROP, or --user NAME", marks=needs_root),
    ],
)
def test_how_it_is_called(run: Any, words: list[str], wrong: str) -> None:
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert wrong in err


@needs_root
def test_whom_nobody_knows(run: Any, server: Server) -> None:
    assert run("--user", "nobody-of-this-name") == (
        1,
        "",
        f"popad inspect: {server.credentials} has no line for 'nobody-of-this-name'\n",
    )
    assert run(str(server.path / "none"))[2].startswith("popad inspect: [Errno 2]")
    assert run("--user", NAME, TIMEOUT="soon")[2].endswith("nobody is served (popad check)\n")


@needs_root
def test_nobody_is_served_roots_mail(run: Any, server: Server) -> None:
    """Its owner would parse it: nothing is read as root."""
    os.chown(server.mailbox, 0, 0)
    said = f"popad inspect: {server.mailbox}: it is root's, who is not served: uid 0; whose it is, --user says\n"
    assert run(str(server.mailbox)) == (1, "", said)
    os.chown(server.mailbox, 54321, 54321)
    assert "NSS knows no user with uid 54321" in run(str(server.mailbox))[2]


# -- what a session lists


def session(server: Server, maildrop: str) -> list[tuple[int, str]] | str:
    """LIST and UIDL of a real session, or what its journal has for a refusal."""
    before = len(server.log) if server.stderr.exists() else 0
    with server.session({"POPAD_MAILDROP": maildrop, "POPAD_MAILDIR_SEEN": "no"}) as (client, process):
        if not client.log_in().startswith(b"+OK"):
            client.rest()
            process.wait(PATIENCE)
            (entry,) = [each for each in server.log[before:] if each["event"] == "maildrop-refused"]
            return entry["reason"]
        client.ask("LIST")
        sizes = [int(line.split()[1]) for line in client.body().splitlines()]
        client.ask("UIDL")
        ids = [line.split()[1].decode() for line in client.body().splitlines()]
        client.ask("QUIT")
    return list(zip(sizes, ids, strict=True))


def shown(found: dict[str, Any]) -> list[tuple[int, str]] | str:
    """The same of what was found."""
    if not found["served"]:
        return str(found["reason"])
    return [(row["octets"], row["id"]) for row in found.get("messages", [])]


# tests/unit/maildrop/mbox/test_looked_at.py has them all, without processes.
FEW = {
    **dict(random.Random(1).sample(sorted(EDGES.items()), 8)),
    **dict(random.Random(2).sample(sorted(REFUSED.items()), 3)),
    **dict(generate(4, seed=11)),
    "twins": TWINS * 3,
    "prose": PROSE,
}


@needs_root
@pytest.mark.parametrize("name", FEW)
def test_ids_and_sizes_are_a_sessions(run: Any, server: Server, name: str) -> None:
    server.deliver(FEW[name])
    found = of(run)
    assert shown(found) == session(server, server.settings["POPAD_MAILDROP"])
    assert shown(of(run)) == shown(found)


@needs_root
@pytest.mark.parametrize("layout", random.Random(3).sample(LAYOUTS, 8), ids=lambda layout: layout.name)
def test_ids_and_sizes_of_maildirs_are_a_sessions(run: Any, server: Server, layout: Any) -> None:
    place = server.path / "mail" / f"{NAME}-maildir"
    put(place, layout)
    maildrop = f"maildir:{server.path}/mail/{{user}}-maildir"
    found = of(run, MAILDROP=maildrop)
    assert shown(found) == session(server, maildrop)
    assert shown(of(run, MAILDROP=maildrop)) == shown(found)


def make_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def take_rights(path: Path) -> None:
    os.chown(path, 0, 0)


@needs_root
@pytest.mark.parametrize("spoil", [make_link, make_fifo, take_rights])
def test_it_refuses_in_a_sessions_words(run: Any, server: Server, spoil: Callable[[Path], None]) -> None:
    spoil(server.mailbox)
    assert shown(of(run)) == session(server, server.settings["POPAD_MAILDROP"])


@needs_root
def test_no_state_directory(run: Any, server: Server) -> None:
    state = str(server.path / "none")
    server.settings["POPAD_STATE"] = state
    assert (
        shown(of(run))
        == session(server, server.settings["POPAD_MAILDROP"])
        == (f"POPAD_STATE: [Errno 2] No such file or directory: '{state}'")
    )


@needs_root
@pytest.mark.parametrize("letter", "ai")
def test_a_mailbox_that_root_has_kept_from_changes(run: Any, server: Server, letter: str) -> None:
    if subprocess.run(["chattr", f"+{letter}", server.mailbox], capture_output=True).returncode:
        pytest.skip("this file system has no such attribute")
    try:
        refused = session(server, server.settings["POPAD_MAILDROP"])
        assert shown(of(run)) == refused == f"[Errno 1] Operation not permitted: '{server.mailbox}'"
    finally:
        subprocess.run(["chattr", f"-{letter}", server.mailbox], capture_output=True)


@needs_root
@pytest.mark.parametrize("content", [b"x" * 1000, ALL, b""])
def test_the_name_of_a_lock_file_that_is_needed_is_taken(run: Any, server: Server, content: bytes) -> None:
    """By what is no lock, or what anybody can have made."""
    lock = server.mailbox.with_name(f"{NAME}.lock")
    lock.write_bytes(content)
    if not content:
        lock.parent.chmod(0o1777)
        os.chown(lock, 4711, 4711)
    server.settings["POPAD_LOCKS"] = "fcntl,dotlock"
    refused = session(server, server.settings["POPAD_MAILDROP"])
    assert shown(of(run)) == refused
    assert refused == f"POPAD_LOCKS wants {lock}, which cannot be made: something else has this name"


@needs_root
@pytest.mark.parametrize("was_used", [False, True])
def test_a_state_directory_that_users_cannot_search(run: Any, server: Server, was_used: bool) -> None:
    if was_used:
        session(server, server.settings["POPAD_MAILDROP"])
    server.state.chmod(0o700)
    found = of(run)["reason"]
    refused = session(server, server.settings["POPAD_MAILDROP"])
    assert str(found)[:30] == refused[:30] == "[Errno 13] Permission denied: "


@needs_root
def test_a_list_of_ids_that_is_damaged(run: Any, server: Server) -> None:
    """A session serves all but UIDL."""
    server.settings["POPAD_UIDL"] = "qpopper"
    server.deliver(ALL.replace(b"Date", b"X-UIDL: abc\nDate", 1))
    session(server, server.settings["POPAD_MAILDROP"])
    (list_,) = server.state.glob("*.list")
    list_.write_bytes(b"x" * 100)
    with server.session() as (client, _):
        assert client.log_in().startswith(b"+OK")
        assert client.ask("UIDL").startswith(b"-ERR")
        assert client.ask("RETR 1").startswith(b"+OK")
        client.body()
    found = of(run)
    assert found["served"]
    assert found["wrong"] == [f"unique-ids cannot be listed: {list_.name}: it is damaged"]
    assert [row["id"] for row in found["messages"]] == ["-"] * 3


@needs_root
def test_a_list_of_ids_in_a_maildir_that_is_none(run: Any, server: Server) -> None:
    place = server.path / f"mail/{NAME}-maildir"
    put(place, LAYOUTS[0])
    os.mkfifo(place / "dovecot-uidlist")
    server.settings |= {"POPAD_UIDL": "dovecot", "POPAD_MAILDROP": f"maildir:{server.path}/mail/{{user}}-maildir"}
    with server.session() as (client, _):
        assert client.log_in().startswith(b"+OK")
        assert client.ask("UIDL").startswith(b"-ERR")
    found = of(run)
    assert found["served"]
    assert found["wrong"][-1] == "unique-ids cannot be listed: dovecot-uidlist: not a regular file"


@needs_root
@pytest.mark.parametrize("format_", ["mbox", "maildir"])
def test_a_cache_directory_that_users_cannot_search(run: Any, server: Server, format_: str) -> None:
    """Sessions are slower, and no more."""
    server.deliver(ALL + b"x" * (1 << 20))
    put(server.path / f"mail/{NAME}-maildir", LAYOUTS[0])
    maildrop = f"{format_}:{server.path}/mail/{{user}}{'-maildir' if format_ == 'maildir' else ''}"
    listed = session(server, maildrop)
    server.cache.chmod(0o700)
    found = of(run, MAILDROP=maildrop)
    assert shown(found) == session(server, maildrop) == listed
    assert found["facts"]["index"] == "none: POPAD_CACHE is empty, or cannot be had"


# -- what it tells


@needs_root
def test_text(run: Any, server: Server) -> None:
    text = TWINS + PROSE + b"From \x1b[2J now on\n\n"
    server.deliver(text)
    status, out, err = run("--user", NAME)
    assert (status, err) == (0, "")
    uid = pwd.getpwnam(OWNER).pw_uid
    for line in (
        f"mbox:{server.mailbox}, of {NAME}\n",
        f"  file            {server.mailbox}: -rw-------, uid {uid} ({OWNER}), gid ",
        "  redo log        none: no update was cut short\n",
        "  index           none: a mailbox is worth one from 1048576 octets on\n",
        "  remembered ids  none; the next listing writes which twin has which\n",
        "  messages        3\n",
        "       1         19 octets  ",
        "lines that begin with `From ` and are text:\n",
        f"  at {text.index(b'From the'):>11}  From the station go north.  (it has no date)\n",
        f"  at {text.index(b'From ' + bytes([27])):>11}  From \\x1b[2J now on  (it has no date)\n",
        "messages that popa3d's id does not tell apart:\n",
        "served: a session lists this\n",
    ):
        assert line in out, line
    assert "\x1b" not in out


@needs_root
def test_long_lists(run: Any, server: Server) -> None:
    """Shortened, unless all is wanted; how many there are is always said."""
    server.deliver(b"".join(b"From a\nDate: %d\n\nbody\n\nFrom there\n\n" % n for n in range(1234)))
    status, out, _ = run("--user", NAME)
    assert status == 0
    assert out.count("  … 1,224 more (--all)\n") == 2
    assert len(run("--user", NAME, "--all")[1].splitlines()) > 2 * 1234
    found = json.loads(run("--user", NAME, "--json")[1])
    assert (len(found["messages"]), found["in_all"]["messages"], found["facts"]["messages"]) == (1000, 1234, 1234)
    assert len(of(run)["text_lines"]) == 1234


@needs_root
def test_of_whom_the_path_is(run: Any, server: Server) -> None:
    """By its owner; with --user, as that user."""
    by_path = run(str(server.mailbox))
    assert by_path[0] == 0
    assert by_path[1].startswith(f"mbox:{server.mailbox}, of {OWNER}\n")
    assert run("--user", OWNER, f"mbox:{server.mailbox}") == by_path
    alone = server.mailbox.with_name(OWNER)
    server.mailbox.rename(alone)
    assert run("--user", OWNER, f"mbox:{server.path}/mail/{{user}}")[1].startswith(f"mbox:{alone}, of {OWNER}\n")
    alone.rename(server.mailbox)
    assert run("--user", "daemon", str(server.mailbox))[0] == 1  # POPAD_USER, or a stranger


@needs_root
def test_who_has_it_locked(run: Any, server: Server) -> None:
    """Who reads keeps no session waiting. Whom a session gives up for, `popad inspect` does."""
    with lock_held(server.mailbox, fcntl.LOCK_SH):
        found = of(run)
        assert found["served"]
        (lock,) = found["locks"]
        assert (lock["kind"], lock["bars"]) == ("fcntl", 0)
    with lock_held(server.mailbox):
        found = of(run, LOCK_TIMEOUT="1")
        assert (found["code"], found["reason"]) == ("IN-USE", "another program held the lock for 1 seconds")
        assert found["locks"][0]["bars"] == 1
    server.mailbox.with_name(f"{NAME}.lock").write_text(f"{os.getpid()}\n")
    found = of(run, LOCK_TIMEOUT="1")
    assert found["reason"] == f"another program held {server.mailbox}.lock for 1 seconds"


@needs_root
def test_a_session_meanwhile(run: Any, server: Server) -> None:
    """It goes on, and what it has not removed yet is listed."""
    with server.session() as (client, _):
        assert client.log_in().startswith(b"+OK")
        client.ask("DELE 1")
        assert len(of(run)["messages"]) == 3
        assert client.ask("QUIT").startswith(b"+OK")
    assert len(of(run)["messages"]) == 2
    assert may_lock(server.mailbox, fcntl.LOCK_EX)


@needs_root
def test_a_mailbox_that_others_may_read(run: Any, server: Server) -> None:
    server.mailbox.chmod(0o644)
    found = of(run)
    assert found["served"]
    assert found["wrong"] == [f"others may reach {server.mailbox}, mode 0644 (chmod o=)"]


@needs_root
def test_what_is_no_mbox(run: Any, server: Server) -> None:
    server.deliver(b"Subject: \x1b[31m\n" + ALL)
    found = of(run)
    assert found["reason"] == "not an mbox: its first line does not begin with `From `"
    assert found["facts"]["first_line"] == "Subject: \\x1b[31m"


@needs_root
def test_no_mailbox(run: Any, server: Server) -> None:
    server.mailbox.unlink()
    found = of(run)
    assert found["served"]
    assert found["notes"] == ["there is no mailbox: it is served as one without a message"]


@needs_root
def test_what_a_sandbox_hides(server: Server, monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    monkeypatch.setattr(units, "RUNNING", "/")
    monkeypatch.setattr(units, "in_use", lambda: [units.SOCKET])
    monkeypatch.setattr(units, "settings_in_use", lambda: ("", {}))
    monkeypatch.setattr(units, "show", lambda _: {"ProtectHome": "no", "InaccessiblePaths": str(server.path)})
    (hidden,) = of(run)["wrong"]
    assert hidden.startswith(f"popad@.service does not see {server.path}/mail (InaccessiblePaths={server.path})")
    monkeypatch.setattr(units, "show", lambda _: {"ProtectSystem": "strict"})
    (read_only,) = of(run)["wrong"]
    assert read_only.endswith(f"may not write to {server.path}/mail: [Service] ReadWritePaths=-{server.path}/mail")
    status, out, _ = run(str(server.mailbox))  # which may be served nowhere
    assert status == 0
    assert f"  sandbox         popad@.service may not write to {server.path}/mail\n" in out


# -- what it does not do


def traced(server: Server, *words: str, **settings: str) -> list[str]:
    """The calls of all its processes that name files or lock them."""
    path = server.path / "calls"
    calls = "trace=open,openat,creat,unlink,unlinkat,rename,renameat,renameat2,link,linkat,mkdir,truncate,ftruncate"
    calls += ",fcntl,flock,write,pwrite64,writev,fallocate,chmod,fchmod,utimensat"
    done = subprocess.run(
        ["strace", "-f", "-y", "-o", str(path), "-e", calls, *POPAD, "inspect", *words],
        cwd=open_checkout(),
        env={"PATH": os.defpath, **server.settings, **settings},
        capture_output=True,
        timeout=PATIENCE,
    )
    assert b"Traceback" not in done.stderr
    found = path.read_text(errors="replace").splitlines()
    path.unlink()
    return found


@needs_root
@pytest.mark.skipif(not any(Path(f"{place}/strace").exists() for place in os.defpath.split(":")), reason="needs strace")
@pytest.mark.parametrize("format_", ["mbox", "maildir"])
def test_no_file_is_opened_for_writing_and_none_is_locked(server: Server, format_: str) -> None:
    """Twins, an index and a lock file are there, in a mailbox that two processes scan; a session would write."""
    large = b"From a\nDate: 2\n\n" + b"x" * 1000 + b"\n\n"
    large *= WORTH_IT // len(large) + 1
    server.deliver(TWINS + large)
    session(server, server.settings["POPAD_MAILDROP"])
    server.deliver(TWINS * 2 + large)
    server.mailbox.with_name(f"{NAME}.lock").write_text("1\n")
    os.utime(server.mailbox.with_name(f"{NAME}.lock"), (1, 1))
    put(server.path / "mail/maildir", LAYOUTS[0])
    (server.path / "mail/maildir/new/1600000000.M0P1.host").write_bytes(b"S: a\n\ntwin\n")
    calls = traced(server, *(["--user", NAME] if format_ == "mbox" else [f"maildir:{server.path}/mail/maildir"]))
    of_mail = [call for call in calls if f"<{server.path}" in call or f'"{server.path}' in call]
    assert len(of_mail) > 10
    assert any("F_GETLK" in call for call in of_mail) == (format_ == "mbox")
    for call in of_mail:
        assert not re.search(r"O_RDWR|O_WRONLY|O_CREAT|F_SETLK|F_OFD_SETLK|flock\(", call), call
        assert re.search(r"\b(open|openat|fcntl)\(", call), call


@needs_root
def test_new_mail_stays_new(run: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """To shells and mail readers, which look at the time of access. Two processes scan the second."""
    monkeypatch.setattr(sys.modules[__name__], "tree", os.listdir)  # which reads no file
    for content in (ALL, ALL * (WORTH_IT // len(ALL) + 1)):
        server.deliver(content)
        os.utime(server.mailbox, (1_000_000_000, 1_100_000_000))
        assert run("--user", NAME)[0] == 0
        assert server.mailbox.stat().st_atime == 1_000_000_000


@needs_root
def test_no_name_of_a_file_moves_the_terminals_cursor(run: Any, server: Server) -> None:
    path = server.mailbox.with_name("x\x1b[2J")
    for uid in (0, 4711):
        path.touch()
        os.chown(path, uid, -1)
        assert run(str(path))[2].startswith(f"popad inspect: {path.parent}/x\\x1b[2J: ")


@needs_root
def test_it_reads_no_mail_as_root(server: Server, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child is the user when it opens anything; a mailbox that only root may read is refused."""
    os.chown(server.mailbox, 0, 0)
    assert "Permission denied" in str(of(run)["reason"])
    os.chown(server.mailbox, *(pwd.getpwnam(OWNER)[2:4]))
    seen: list[int] = []

    def begin(owner: Any, work: Callable[[Channel], object]) -> Any:
        seen.append(owner.uid)
        return real(owner, work)

    real = as_user.begin
    monkeypatch.setattr(as_user, "begin", begin)
    assert of(run)["served"]
    assert seen == [pwd.getpwnam(OWNER).pw_uid]


@needs_root
@pytest.mark.parametrize(
    "says",
    [
        (b"messages", b"1", b"x", b"id", b"0", b"line"),
        (b"messages", b"1"),
        (b"verdict",),
        (b"fact", b"n" * 100, b"x"),
        (b"served", b"x"),
    ],
)
def test_a_child_that_says_what_it_may_not(
    server: Server, run: Any, monkeypatch: pytest.MonkeyPatch, says: Any
) -> None:
    monkeypatch.setattr(inspect, "look", lambda *given: given[-1].channel.send(says))
    status, _, err = run("--user", NAME)
    assert status == 1
    assert err.startswith("popad inspect: the process that looks at it has failed")


ROW, LISTED = (b"others", b"new/x", b"y"), (b"listed", b"others", b"1")
OTHER = (b"twins", b"1", b"a", b"b", b"1")


@needs_root
@pytest.mark.parametrize(
    "all_of_it",
    [
        [(b"note", b"x" * 2000)] * 100_000,
        [(b"fact", b"%d" % number, b"x") for number in range(100_000)],
        [ROW] * 100_000,
        [ROW, OTHER],
        [ROW, LISTED, ROW, LISTED],
        [LISTED, LISTED],
        [ROW, (b"listed", b"twins", b"1")],
        [(b"listed", b'": [], "served": true, "x', b"1")],
        [ROW, (b"served",)],
        [ROW, (b"refused", b"IN-USE", b"x")],
    ],
)
def test_a_child_that_says_what_it_may_not_say_then(
    server: Server, run: Any, monkeypatch: pytest.MonkeyPatch, all_of_it: list[Any]
) -> None:
    """Or more than there is to say: root would keep it all, or print what is no JSON."""
    monkeypatch.setattr(inspect, "look", lambda *given: [given[-1].channel.send(each) for each in all_of_it])
    for form in ((), ("--json",)):
        status, _, err = run("--user", NAME, *form)
        assert status == 1
        assert err.startswith("popad inspect: the process that looks at it has failed: ")
        assert "no message" not in err  # it was not heard out


@needs_root
def test_a_child_that_dies(server: Server, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect, "look", lambda *_: os._exit(1))
    assert run("--user", NAME)[2].startswith("popad inspect: the process that looks at it has failed")


@needs_root
def test_who_is_not_root(server: Server) -> None:
    """As the user: the mailbox, and not what only root can know."""
    os.chown(server.path, pwd.getpwnam(OWNER).pw_uid, -1)
    session(server, server.settings["POPAD_MAILDROP"])  # the keys are there
    settings = server.settings | {"POPAD_AUTH": "pam"}

    def as_owner(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*POPAD, "inspect", *words],
            cwd=open_checkout(),
            env={"PATH": os.defpath, **settings},
            user=pwd.getpwnam(OWNER).pw_uid,
            group=pwd.getpwnam(OWNER).pw_gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    before = tree(server.path)
    done = as_owner("--format", "mbox", str(server.mailbox))
    assert (done.returncode, done.stderr) == (0, "")
    assert "  messages        3\n" in done.stdout
    assert "redo log        not known: only root can tell (sudo popad inspect)" in done.stdout
    refused = as_owner("--user", "bin", str(server.mailbox))
    assert refused.stderr == f"popad inspect: mbox:{server.mailbox}: only root can become bin\n"
    assert tree(server.path) == before


@needs_root
def test_how_far_it_is(server: Server, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error, of what takes long."""
    monkeypatch.setattr(inspect, "PATIENCE", 0.1)
    with lock_held(server.mailbox):
        err = run("--user", NAME, LOCK_TIMEOUT="1")[2]
    assert err.startswith("popad inspect: still looking, or waiting for a lock\n")


def test_progress_has_numbers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    progress = inspect.Progress()
    progress.say(1, 2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(inspect, "PATIENCE", 0.0)
    progress.say(1000, 20000)
    assert capsys.readouterr().err == "popad inspect: 1,000 of 20,000\n"


# Runs a command; then the processor time of it and its children, and the memory of the largest of them.
MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
"""


@needs_root
def test_a_large_mailbox_is_looked_at_in_time(server: Server) -> None:
    """170 MB, 20,000 messages: in bounded memory."""
    message = b"From a@b Thu Jan  1 00:00:00 1970\nReceived: by x id %d\n\n" + b"text of a letter, " * 470 + b"\n\n"
    server.deliver(b"")
    with server.mailbox.open("wb") as file:
        for number in range(20000):
            file.write(message % number)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *POPAD, "inspect", "--user", NAME],
        cwd=open_checkout(),
        env={"PATH": os.defpath, **server.settings},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert "  messages        20,000\n" in done.stdout
    seconds, kibibytes = map(float, done.stderr.split())
    assert seconds < 2
    assert kibibytes < 64 << 10
