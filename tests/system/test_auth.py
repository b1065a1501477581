"""The authentication helper as a service: warm, gone when idle, back on demand; what it asks; how it fails."""

from __future__ import annotations

import socket
import subprocess

import pytest

from tests.system.conftest import MESSAGES, PASSWORD, Server, mbox
from tests.system.machine import WAIT_SECONDS, wait_until

HELPER = "popad-auth.service"


def helper(server: Server, name: str = "MainPID") -> str:
    return server.machine.show(HELPER, name)[name]


def test_leaves_when_idle_and_comes_back(server: Server) -> None:
    name = server.add_user()
    with server.settings("POPAD_AUTH_IDLE=1\nPOPAD_AUTH_TIMEOUT=4\n"):
        with server.connect().logged_in(name, PASSWORD):
            first = helper(server)
        assert first != "0"
        wait_until(lambda: helper(server, "ActiveState") == "inactive")
        assert helper(server, "Result") == "success"
        assert server.machine.show("popad-auth.socket", "ActiveState") == {"ActiveState": "active"}
        with server.connect().logged_in(name, PASSWORD):
            assert helper(server) not in ("0", first)


def test_stays_for_the_next_login(server: Server) -> None:
    name = server.add_user()
    with server.connect().logged_in(name, PASSWORD):
        first = helper(server)
    with server.connect().logged_in(name, PASSWORD):
        assert helper(server) == first


def test_killed_helper_is_replaced(server: Server) -> None:
    name = server.add_user()
    with server.connect().logged_in(name, PASSWORD):
        first = helper(server)
    server.machine.run(["kill", "-KILL", first])
    with server.connect().logged_in(name, PASSWORD):
        assert helper(server) not in ("0", first)


def test_a_helper_that_cannot_start_is_tried_again(server: Server) -> None:
    """The client learns that it is not its password; the socket survives; once the cause is gone logins work."""
    name = server.add_user()
    server.machine.run(["systemctl", "stop", HELPER])
    broken = "[Service]\nExecStart=\nExecStart=/bin/false\n"
    since = server.machine.cursor()
    with server.drop_in(HELPER, broken):
        short = server.settings("POPAD_AUTH_TIMEOUT=1\n", restart_helper=False)
        with short, server.connect().greeted() as client:
            client.ok(f"USER {name}")
            assert client.say(f"PASS {PASSWORD}").startswith(b"-ERR [SYS/TEMP] ")
        entry = server.machine.wait_entry({"POPAD_EVENT": "login-unavailable"}, after=since)
        assert entry["_UID"] == "0"
        # Past systemd's default limit of 5 starts in 10 s.
        wait_until(lambda: int(helper(server, "NRestarts")) > 5)
    assert server.machine.show("popad-auth.socket", "ActiveState") == {"ActiveState": "active"}
    with server.connect().logged_in(name, PASSWORD):
        pass


def test_only_root_may_ask(server: Server) -> None:
    name = server.add_user()
    ask = "import socket, sys; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect('/run/popad/auth.sock')"
    server.machine.python(ask)
    refused = server.machine.run(["runuser", "-u", name, "--", "/usr/bin/python3", "-c", ask], check=False)
    assert "PermissionError" in refused.stderr


def test_helper_is_confined(server: Server) -> None:
    """Root without capabilities, a network or anything to write to; and no way to ask systemd for more."""
    name = server.add_user()
    with server.connect().logged_in(name, PASSWORD):
        pid = helper(server)
        status = server.process_status(pid)
        assert status["Uid"] == "0 0 0 0"
        assert status["CapEff"] == status["CapBnd"] == "0000000000000000"
        assert status["NoNewPrivs"] == "1"

        def inside(*command: str) -> subprocess.CompletedProcess[str]:
            enter = ["nsenter", "--target", pid, "--mount", "--net"]
            powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
            return server.machine.run([*enter, *powerless, *command], check=False)

        assert inside("test", "-r", "/etc/shadow").returncode == 0
        for path in ("/etc/x", "/run/x", "/run/systemd/system/x", "/var/lib/x", "/home/x", "/sys/fs/cgroup/x"):
            assert inside("touch", path).returncode != 0, path
        connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        for path in ("/run/systemd/private", "/run/dbus/system_bus_socket"):
            server.machine.run(["/usr/bin/python3", "-c", connect, path])
            assert "PermissionError" in inside("/usr/bin/python3", "-c", connect, path).stderr, path
        networks = server.machine.run(["readlink", "/proc/1/ns/net", f"/proc/{pid}/ns/net"]).stdout.split()
        assert len(set(networks)) == 2


def test_credentials_file_with_virtual_user(server: Server) -> None:
    """Names that only the file knows; their mail belongs to one system user."""
    machine = server.machine
    machine.run(["useradd", "--system", "--home-dir", "/var/mail/virtual", "vmail"])
    line = machine.run(["popad", "passwd", "amy@example.org"], stdin=f"{PASSWORD}\n").stdout.strip()
    assert line.startswith("amy@example.org SCRAM-SHA-256$")
    assert PASSWORD not in line
    machine.write("/etc/popad/credentials", f"# test\n{line} mbox:/var/mail/virtual/amy\n", mode=0o600)
    machine.write("/var/mail/virtual/amy", mbox(MESSAGES), mode=0o600)
    machine.run(["chown", "-R", "vmail:", "/var/mail/virtual"])
    settings = "POPAD_AUTH=file\nPOPAD_VIRTUAL_USER=vmail\n"
    with server.settings(settings):
        assert machine.run(["env", *settings.split(), "popad", "check"]).stdout
        since = machine.cursor()
        with server.connect().logged_in("amy@example.org", PASSWORD) as client:
            assert server.process_status(server.main_pid(client))["Uid"].split()[0] == str(server.uid("vmail"))
            assert client.ok("STAT").startswith(b"3 ")
            client.ok("DELE 1")
            client.ok("QUIT")
        entry = machine.wait_entry({"POPAD_EVENT": "maildrop-updated"}, after=since)
        assert entry["POPAD_USER"] == "amy@example.org"
        assert entry["POPAD_MAILDROP"] == "mbox:/var/mail/virtual/amy"
        with server.connect().greeted() as client:
            client.ok("USER amy@example.org")
            assert client.say("PASS wrong").startswith(b"-ERR [AUTH] ")
    assert (machine.root / "var/mail/virtual/amy").read_text() == mbox(MESSAGES[1:])
    machine.run(["rm", "/etc/popad/credentials"])


@pytest.mark.parametrize("setting", ["POPAD_TIMEOUT=forever", "POPAD_TIMEOT=600"])
def test_bad_setting(server: Server, setting: str) -> None:
    """The client is told that it is not its fault, the administrator which setting it is."""
    since = server.machine.cursor()
    with server.settings(f"{setting}\n"):
        with server.connect() as client:
            assert client.line().startswith(b"-ERR [SYS/PERM] ")
            assert client.closed()
        entry = server.machine.wait_entry({"POPAD_EVENT": "setting-wrong"}, after=since)
    assert setting.partition("=")[0] in entry["MESSAGE"]
    assert entry["PRIORITY"] == "3"
    with server.connect() as client:
        client.greeted()


def test_mail_in_homes_by_drop_in(server: Server) -> None:
    """The drop-in that popad@.service names in its comment is what it takes."""
    name = server.add_user(mailbox="/home/{name}/Mailbox")
    with server.settings("POPAD_MAILDROP=mbox:{home}/Mailbox\n"):
        with server.connect().greeted() as client:
            client.ok(f"USER {name}")
            assert client.say(f"PASS {PASSWORD}").startswith(b"-ERR [SYS/")  # the home is hidden
        text = "[Service]\nProtectHome=no\nReadWritePaths=/home\n"
        with server.drop_in("popad@.service", text), server.connect().logged_in(name, PASSWORD) as client:
            client.ok("DELE 2")
            client.ok("QUIT")
            assert client.closed()
    left = (server.machine.root / "home" / name / "Mailbox").read_text()
    assert left == mbox([MESSAGES[0], MESSAGES[2]])


def test_pam_faillock_counts(server: Server) -> None:
    """A PAM module that keeps state can keep it in the one place that the sandbox leaves writable."""
    name = server.add_user()
    machine = server.machine
    pam = machine.root / "etc/pam.d/popad"
    before = pam.read_text()
    machine.run(["mkdir", "-p", "/run/faillock"])
    pam.write_text(
        "auth requisite pam_faillock.so preauth deny=2\n"
        "auth [success=1 default=ignore] pam_unix.so\n"
        "auth [default=die] pam_faillock.so authfail deny=2\n"
        "auth sufficient pam_faillock.so authsucc deny=2\n"
        "account required pam_unix.so\n"
    )
    try:
        with server.settings("POPAD_GUESS_DELAY=0"):
            for password, welcome in (
                ("wrong", False),
                (PASSWORD, True),
                ("wrong", False),
                ("wrong", False),
                (PASSWORD, False),
            ):
                with server.connect().greeted() as client:
                    client.ok(f"USER {name}")
                    assert client.say(f"PASS {password}").startswith(b"+OK" if welcome else b"-ERR [AUTH]")
    finally:
        pam.write_text(before)


@pytest.mark.parametrize("permitted", [False, True])
def test_pam_module_with_a_network_by_drop_in(server: Server, permitted: bool) -> None:
    """A module that asks a server: refused by the sandbox, possible with the drop-in that popad-auth.service names."""
    name = server.add_user()
    machine = server.machine
    pam = machine.root / "etc/pam.d/popad"
    before = pam.read_text()
    directory = machine.inside(lambda: socket.create_server(("127.0.0.1", 389)))
    ask = "#!/usr/bin/python3\nimport socket\nsocket.create_connection(('127.0.0.1', 389), 5)\n"
    machine.write("/usr/local/bin/ask-directory", ask, mode=0o755)
    pam.write_text(f"auth required pam_exec.so /usr/local/bin/ask-directory\n{before}")
    allowed = "PrivateNetwork=no\nRestrictAddressFamilies=AF_INET AF_INET6\nIPAddressAllow=127.0.0.1\n"
    try:
        with (
            directory,
            server.drop_in(HELPER, f"[Service]\n{allowed if permitted else ''}"),
            server.settings(""),
            server.connect().greeted() as client,
        ):
            client.ok(f"USER {name}")
            assert client.say(f"PASS {PASSWORD}").startswith(b"+OK" if permitted else b"-ERR [SYS/TEMP]")
    finally:
        pam.write_text(before)


def test_slow_pam_has_its_limit(server: Server) -> None:
    """A module that hangs costs one login its time limit, and the others nothing."""
    slow, quick = server.add_user(), server.add_user()
    machine = server.machine
    pam = machine.root / "etc/pam.d/popad"
    before = pam.read_text()
    machine.write(
        "/usr/local/bin/hang-for",
        f'#!/bin/sh\n[ "$PAM_USER" != {slow} ] || exec sleep {WAIT_SECONDS:.0f}\n',
        mode=0o755,
    )
    pam.write_text(f"auth required pam_exec.so /usr/local/bin/hang-for\n{before}")
    try:
        with server.settings("POPAD_AUTH_TIMEOUT=1\n"), server.connect().greeted() as client:
            client.ok(f"USER {slow}")
            client.socket.sendall(f"PASS {PASSWORD}\r\n".encode())
            with server.connect().logged_in(quick, PASSWORD):
                pass
            assert client.line().startswith(b"-ERR [SYS/TEMP] ")
    finally:
        pam.write_text(before)
