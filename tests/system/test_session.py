"""One POP3 session on a real host: the package installed, PAM, systemd and journald as a user of Debian has them."""

from __future__ import annotations

import pytest

from popad.settings import PREAUTH_UIDS
from tests.support.instances import popad_unit
from tests.support.patience import wait_until
from tests.system.conftest import MESSAGES, PASSWORD, Server, mbox


def wire_size(message: str) -> int:
    """Octets as POP3 counts them: every LF as CRLF."""
    return len(message) + message.count("\n")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_fetch_and_delete(server: Server, address: str) -> None:
    name = server.add_user()
    with server.connect(address).logged_in(name, PASSWORD) as client:
        assert client.ok("STAT") == f"3 {sum(map(wire_size, MESSAGES))}".encode()
        client.ok("RETR 2")
        assert client.body().decode() == MESSAGES[1]
        client.ok("DELE 2")
        client.ok("QUIT")
        assert client.closed()
    mailbox = server.machine.root / "var/mail" / name
    assert mailbox.read_text() == mbox([MESSAGES[0], MESSAGES[2]])
    assert mailbox.stat().st_mode & 0o7777 == 0o600
    assert mailbox.stat().st_uid == server.uid(name)


def test_a_maildir(server: Server) -> None:
    """As the user, in the unit's sandbox: fetched into cur/, deleted, and the rest as it was."""
    name, machine = server.add_user(), server.machine
    place = f"/var/mail/{name}.maildir"
    parts = [f"{place}{part}" for part in ("", "/new", "/cur", "/tmp")]
    machine.run(["install", "-d", "-m", "700", "-o", name, *parts])
    for number, message in enumerate(MESSAGES):
        machine.write(f"{place}/new/160000000{number}.M1P1.host", message, mode=0o600, owner=name)
    with (
        server.settings("POPAD_MAILDROP=maildir:/var/mail/{user}.maildir\n"),
        server.connect().logged_in(name, PASSWORD) as client,
    ):
        assert client.ok("STAT") == f"3 {sum(map(wire_size, MESSAGES))}".encode()
        assert client.ok("UIDL 2") == b"2 1600000001.M1P1.host"
        client.ok("RETR 2")
        assert client.body().decode() == MESSAGES[1]
        client.ok("DELE 1")
        client.ok("QUIT")
        assert client.closed()
    root = machine.root / place.lstrip("/")
    assert [path.name for path in (root / "new").iterdir()] == ["1600000002.M1P1.host"]
    (seen,) = (root / "cur").iterdir()
    assert (seen.name, seen.stat().st_uid) == ("1600000001.M1P1.host:2,S", server.uid(name))


def test_nothing_is_deleted_without_quit(server: Server) -> None:
    name = server.add_user()
    since = server.machine.cursor()
    with server.connect().logged_in(name, PASSWORD) as client:
        client.ok("DELE 1")
    entry = server.machine.wait_entry({"POPAD_EVENT": "peer-gone", "POPAD_USER": name}, after=since)
    assert entry["_UID"] == str(server.uid(name))
    server.machine.wait_entry({"POPAD_EVENT": "session-closed", "POPAD_USER": name}, after=since)
    assert (server.machine.root / "var/mail" / name).read_text() == mbox(MESSAGES)


def test_a_login_needs_the_password(server: Server) -> None:
    name = server.add_user()
    with server.connect(source="127.0.2.1").greeted() as client:
        client.ok(f"USER {name}")
        assert client.say("PASS wrong").startswith(b"-ERR [AUTH] ")
        assert client.closed()


@pytest.mark.parametrize("account", ["root", "alias of root", "locked", "expired"])
def test_accounts_that_are_refused(server: Server, account: str) -> None:
    """The right password does not help. The client learns no more than from a wrong one."""
    name = server.add_user()
    if account == "root":
        server.machine.run(["chpasswd"], stdin=f"root:{PASSWORD}\n")
        name = "root"
    else:
        change = {
            "alias of root": ["--non-unique", "--uid", "0"],
            "locked": ["--lock"],
            "expired": ["--expiredate", "1"],
        }
        server.machine.run(["usermod", *change[account], name])
    with server.connect(source=f"127.0.3.{len(account)}").greeted() as client:  # no other test waits for it
        client.ok(f"USER {name}")
        assert client.say(f"PASS {PASSWORD}").startswith(b"-ERR [AUTH] ")
        assert client.closed()


def test_before_the_login(server: Server) -> None:
    """The session is root with two capabilities; what reads the words of an unauthenticated client can do nothing."""
    with server.connect().greeted() as client:
        client.ok("CAPA")  # answered by the authorization child: it has shut its doors
        client.body()
        unit, main = server.instance(client), server.main_pid(client)
        processes = server.machine.run(["systemctl", "show", "-P", "ControlGroup", unit]).stdout.strip()
        pids = (server.machine.root / f"sys/fs/cgroup{processes}/cgroup.procs").read_text().split()
        # The file has the pids of the reader's namespace; NSpid has those of the machine's.
        assert len(pids) == 2
        session = server.process_status(main)
        assert session["Uid"] == "0 0 0 0"
        assert int(session["CapEff"], 16) == 1 << 6 | 1 << 7  # CAP_SETGID, CAP_SETUID
        assert int(session["CapBnd"], 16) == 1 << 6 | 1 << 7

        (child,) = server.machine.run(["pgrep", "--parent", main]).stdout.split()
        preauth = server.process_status(child)
        uid = PREAUTH_UIDS[int(child)]
        assert preauth["Uid"] == f"{uid} {uid} {uid} {uid}"
        gid = server.machine.run(["id", "-g", "popad"]).stdout.strip()
        assert (preauth["Gid"], preauth["Groups"]) == (f"{gid} {gid} {gid} {gid}", gid)
        assert preauth["CapEff"] == preauth["CapPrm"] == "0000000000000000"
        assert preauth["NoNewPrivs"] == "1"
        assert preauth["Seccomp"] == "2"
        limits = (server.machine.root / "proc" / child / "limits").read_text().splitlines()
        for limit in ("Max open files", "Max processes", "Max file size", "Max core file size"):
            (line,) = [line for line in limits if line.startswith(limit)]
            assert line[len(limit) :].split()[:2] == ["0", "0"], line
        # The client and both channels; its standard streams lead nowhere.
        files = server.machine.run(["find", f"/proc/{child}/fd", "-type", "l", "-printf", "%f %l\n"]).stdout
        opened = dict(line.split(" ", 1) for line in files.splitlines())
        assert {opened.pop(standard) for standard in ("0", "1", "2")} == {"/dev/null"}
        assert all(target.startswith("socket:[") for target in opened.values()), opened
        assert len(opened) == 3, opened


def test_after_the_login(server: Server) -> None:
    """One process, the user's, with the user's groups and without any privilege."""
    name = server.add_user()
    server.machine.run(["usermod", "--append", "--groups", "mail", name])
    with server.connect().logged_in(name, PASSWORD) as client:
        main = server.main_pid(client)
        status = server.process_status(main)
        uid = server.uid(name)
        assert status["Uid"] == f"{uid} {uid} {uid} {uid}"
        groups = server.machine.run(["id", "-G", name]).stdout.split()
        assert len(groups) == 2
        assert sorted(status["Groups"].split()) == sorted(groups)
        assert status["Gid"].split() == [groups[0]] * 4
        assert status["CapEff"] == status["CapPrm"] == status["CapAmb"] == "0000000000000000"
        assert server.machine.run(["pgrep", "--parent", main], check=False).stdout == ""


def test_sandbox(server: Server) -> None:
    """What the unit promises, seen from inside a session."""
    name = server.add_user()
    with server.connect().logged_in(name, PASSWORD) as client, server.connect().greeted() as other:
        main = server.main_pid(client)

        def inside(*command: str) -> str:
            return server.machine.run(["nsenter", "--target", main, "--mount", *command], check=False).stdout

        for hidden in ("/home", "/root", "/tmp", "/run/user", "/proc/sys"):
            assert inside("find", hidden, "-mindepth", "1") == "", hidden
        assert inside("ls", "/run").split() == ["popad", "systemd", "user"]
        assert inside("ls", "/run/systemd").split() == ["incoming", "journal", "notify"]

        def options(path: str) -> list[str]:
            return inside("findmnt", "--noheadings", "--output", "OPTIONS", "--target", path).strip().split(",")

        for path in ("/", "/etc", "/usr", "/var/lib", "/run", "/run/popad", "/sys", "/sys/fs/cgroup"):
            assert "ro" in options(path), path
        for path in ("/var/mail", "/var/lib/popad", "/var/cache/popad"):
            assert "rw" in options(path), path

        server.machine.run(["mknod", "/dev/disk", "b", "7", "0"])
        assert "null" in inside("ls", "/dev").split()
        assert "disk" not in inside("ls", "/dev").split()
        server.machine.run(["rm", "/dev/disk"])

        def network(pid: str) -> str:
            return server.machine.run(["readlink", f"/proc/{pid}/ns/net"]).stdout

        assert network(main) != network("1")
        assert network(main) == network(server.main_pid(other))  # made once, by popad-sandbox.service


def test_filter_refuses_signals(server: Server) -> None:
    """Also where preauth children share a uid (too few of them), one of their processes cannot end another's."""
    _, service = popad_unit()
    names = ("NoNewPrivileges", "SystemCallArchitectures", "SystemCallFilter")
    properties = [f"--property={line}" for line in service if line.split("=")[0] in names]
    script = "import os, signal\ntry:\n    os.kill(os.getppid(), 0)\nexcept PermissionError:\n    print('refused')\n"
    run = ["systemd-run", "--quiet", "--wait", "--pipe"]
    assert server.machine.run([*run, "/usr/bin/python3", "-c", script]).stdout == ""
    assert server.machine.run([*run, *properties, "/usr/bin/python3", "-c", script]).stdout == "refused\n"


def test_status(server: Server) -> None:
    name = server.add_user()
    with server.connect().greeted() as client:
        unit = server.instance(client)

        def status() -> str:
            return server.machine.show(unit, "StatusText")["StatusText"]

        wait_until(lambda: status() == "authorization, 127.0.0.1")
        client.ok(f"USER {name}")
        client.ok(f"PASS {PASSWORD}")
        wait_until(lambda: status() == f"{name}: 3 messages")
        client.ok("DELE 3")
        wait_until(lambda: status() == f"{name}: 3 messages, 1 deleted")


def test_a_session_leaves_no_unit(server: Server) -> None:
    with server.connect().greeted() as client:
        unit = server.instance(client)
        client.ok("QUIT")
        assert client.closed()
    wait_until(lambda: server.machine.show(unit, "LoadState", "ActiveState")["ActiveState"] == "inactive")
    assert unit not in server.machine.run(["systemctl", "list-units", "--all", "--plain", "popad@*"]).stdout
