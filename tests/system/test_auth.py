"""The authentication helper as a service: warm, gone when idle, back on demand; what it asks; how it fails."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from popad.auth.pam import Pam
from tests.support.patience import PATIENCE, wait_until
from tests.system.conftest import MESSAGES, PASSWORD, SETTINGS, Server, mbox

HELPER = "popad-auth.service"
DROP_IN = f"etc/systemd/system/{HELPER}.d/test.conf"


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


def test_a_changed_setting_counts_for_the_next_login(server: Server) -> None:
    """Nobody restarts anything, and the helper is warm: where mail is, who checks passwords, and back."""
    machine = server.machine
    name = server.add_user()
    machine.write(f"/var/mail/elsewhere-{name}", mbox(MESSAGES[:1]), mode=0o600, owner=f"{name}:mail")
    line = machine.run(["popad", "passwd", name], stdin="another\n").stdout
    machine.write("/etc/popad/credentials", line, mode=0o600)
    path = machine.root / SETTINGS.lstrip("/")
    before = path.read_bytes()
    try:
        for text, password, messages in (
            (b"", PASSWORD, b"3 "),
            (b"POPAD_MAILDROP=mbox:/var/mail/elsewhere-{user}\n", PASSWORD, b"1 "),
            (b"POPAD_AUTH=file\n", "another", b"3 "),
            (b"", PASSWORD, b"3 "),
        ):
            path.write_bytes(before + text)
            with server.connect().logged_in(name, password) as client:
                assert client.ok("STAT").startswith(messages)
        since = machine.cursor()
        with server.drop_in(HELPER, "[Service]\nEnvironment=POPAD_AUTH=file\n"):
            wait_until(lambda: time.time() - (machine.root / DROP_IN).stat().st_mtime > 2.1)
            with server.connect().logged_in(name, "another"):
                pass
        assert machine.journal("POPAD_EVENT=login-unavailable", after=since) == []
    finally:
        path.write_bytes(before)
        machine.run(["systemctl", "stop", HELPER])
        machine.run(["rm", "/etc/popad/credentials"])


def test_no_login_is_lost_while_settings_change(server: Server) -> None:
    """Eight clients come and go while popad.conf is written again and again."""
    names = [server.add_user() for _ in range(8)]
    path = server.machine.root / SETTINGS.lstrip("/")
    before = path.read_bytes()
    path.write_bytes(before + b"POPAD_GUESS_DELAY=0\n")

    def come(number: int) -> bool:
        with server.connect(source=f"127.0.2.{number % 8 + 1}").logged_in(names[number % 8], PASSWORD) as client:
            return client.ok("STAT").startswith(b"3 ")

    helpers: set[str] = set()
    try:
        with ThreadPoolExecutor(8) as clients:
            served = []
            for number in range(64):
                served.append(clients.submit(come, number))
                if number % 8 == 7:
                    path.write_bytes(before + b"POPAD_GUESS_DELAY=0\nPOPAD_TIMEOUT=%d\n" % (600 + number))
                    wait_until(lambda: sum(not one.done() for one in served) < 5)
                    helpers.add(helper(server))
            assert all(one.result() for one in served)
        assert len(helpers - {"0"}) > 2
    finally:
        path.write_bytes(before)


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
        f'#!/bin/sh\n[ "$PAM_USER" != {slow} ] || exec sleep {PATIENCE:.0f}\n',
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


def test_a_mailbox_that_a_secondary_group_may_access(server: Server) -> None:
    """Read and updated as a member of it, and refused to others: the session is in all groups of its user."""
    machine = server.machine
    member, other = server.add_user(), server.add_user()
    machine.run(["groupadd", "--force", "team"])
    machine.run(["usermod", "--append", "--groups", "team", member])
    for name in (member, other):
        machine.write(f"/var/mail/{name}", mbox(MESSAGES), mode=0o660, owner="root:team")
    with server.connect().logged_in(member, PASSWORD) as client:
        groups = server.process_status(server.main_pid(client))["Groups"].split()
        assert set(groups) == set(machine.run(["id", "-G", member]).stdout.split())
        client.ok("DELE 1")
        client.ok("QUIT")
        assert client.closed()
    assert (machine.root / "var/mail" / member).read_text() == mbox(MESSAGES[1:])
    with server.connect().greeted() as client:
        client.ok(f"USER {other}")
        assert client.say(f"PASS {PASSWORD}").startswith(b"-ERR [SYS/")


def test_a_pam_module_that_is_replaced(server: Server) -> None:
    """As dpkg does it, by rename(2): the next logins use the new one, in the same service without a restart of it."""
    name = server.add_user()
    machine = server.machine
    pam = machine.root / "etc/pam.d/popad"
    before = pam.read_text()
    directory = machine.run(["sh", "-c", "dirname /usr/lib/*/security/pam_permit.so"]).stdout.strip()
    machine.run(["cp", f"{directory}/pam_permit.so", "/usr/local/lib/pam_test.so"])
    pam.write_text("auth required /usr/local/lib/pam_test.so\naccount required pam_permit.so\n")

    def log_in(password: str) -> bytes:
        with server.connect().greeted() as client:
            client.ok(f"USER {name}")
            return client.say(f"PASS {password}")[:3]

    try:
        with server.settings("POPAD_GUESS_DELAY=0\n"):
            assert log_in("whatever it is") == b"+OK"
            first = helper(server)
            machine.run(["cp", f"{directory}/pam_deny.so", "/usr/local/lib/pam_test.new"])
            machine.run(["mv", "/usr/local/lib/pam_test.new", "/usr/local/lib/pam_test.so"])
            wait_until(lambda: log_in("whatever it is") == b"-ER")
            assert log_in(PASSWORD) == b"-ER"
            assert helper(server) == first
            assert helper(server, "NRestarts") == "0"
    finally:
        pam.write_text(before)
        machine.run(["rm", "-f", "/usr/local/lib/pam_test.so"])


TRIES = int(os.environ.get("POPAD_TEST_TRIES", "8"))  # of each case; 200 in a long run (8 minutes)
AT_ONCE = 16


def test_a_refusal_comes_at_the_same_time_whatever_refused(server: Server) -> None:
    """Debian's common-auth and yescrypt. A right password of an account that may not be used tells nothing."""
    machine = server.machine
    wrong, locked, expired, must_change = (server.add_user() for _ in range(4))
    machine.run(["chpasswd"], stdin="".join(f"{name}:{PASSWORD}\n" for name in (wrong, expired, must_change, "root")))
    machine.run(["usermod", "--lock", locked])
    machine.run(["chage", "--expiredate", "1", expired])
    machine.run(["chage", "--lastday", "0", must_change])
    cases = {
        "wrong": (wrong, "not it"),
        "unknown": ("nobody-here", PASSWORD),
        "locked": (locked, PASSWORD),
        "expired": (expired, PASSWORD),
        "must change": (must_change, PASSWORD),
        "root": ("root", PASSWORD),
        "a path": ("../root", PASSWORD),
        "a lock file": (f"{wrong}.lock", PASSWORD),
    }

    def attempt(number: int, case: str) -> float:
        name, password = cases[case]
        with server.connect(source=f"127.0.1.{number % 200 + 1}").greeted() as client:
            client.ok(f"USER {name}")
            begun = time.monotonic()
            assert client.say(f"PASS {password}").startswith(b"-ERR [AUTH] "), name
            return time.monotonic() - begun

    since = machine.cursor()
    with server.settings("POPAD_GUESS_DELAY=0\n"), ThreadPoolExecutor(AT_ONCE) as clients:
        tried = random.sample([*cases] * TRIES, TRIES * len(cases))
        took = list(clients.map(attempt, range(len(tried)), tried))
    times = {case: sorted(each for each, of in zip(took, tried, strict=True) if of == case) for case in cases}
    table = {case: [round(each, 2) for each in (of[0], of[len(of) // 2], of[-1])] for case, of in times.items()}
    print(f"\n{server.release}, {TRIES} tries, seconds (least, median, most): {table}")
    assert min(took) >= Pam.refused_soonest, table
    # What a busy machine adds, it adds to all; before, a right password was told 3 seconds earlier than a wrong one.
    for which, most in ((0, 1), (1, 2)):
        of_cases = [of[which] for of in table.values()]
        assert max(of_cases) - min(of_cases) < most, table
    assert not machine.journal("POPAD_EVENT=login-unavailable", after=since)


def test_as_many_log_in_at_once_as_there_may_be_sessions(server: Server) -> None:
    """While the helper starts: each has a channel on its way to it, and the kernel has a limit for those."""
    name = server.add_user()
    with contextlib.ExitStack() as clients:
        clients.enter_context(server.drop_in("popad-auth.service", "[Service]\nExecStartPre=/bin/sleep 8\n"))
        server.machine.run(["systemctl", "stop", "popad-auth.service"])
        many = [
            clients.enter_context(server.connect(source=f"127.0.4.{1 + number // 10}").greeted())
            for number in range(78)
        ]
        for client in many:
            client.ok(f"USER {name}")
        for client in many:
            client.socket.sendall(f"PASS {PASSWORD}\r\n".encode())
        answers = [client.line() for client in many]
        assert [answer for answer in answers if not answer.startswith(b"+OK")] == []
    server.machine.run(["systemctl", "stop", "popad-auth.service"])
