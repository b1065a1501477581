"""popad-standalone.service: the daemon under systemd, its socket held by systemd, and TCP wrappers in all shapes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import SERVER_PACKAGES, Machine, needs, tree
from tests.support.patience import wait_until
from tests.support.pop3 import Pop3
from tests.system.conftest import MESSAGES, PASSWORD, SETTINGS, Server, mbox
from tests.system.standalone import QUICK, SERVICE, main_pid, processes, standalone_on

SOCKET = "popad-standalone.socket"
EXPOSURE = 1.7  # of 10; popad-auth.service, whose work it does as well, has 1.4


def active(server: Server, unit: str) -> str:
    return server.machine.show(unit, "ActiveState")["ActiveState"]


@pytest.fixture
def standalone(server: Server) -> Iterator[Server]:
    with standalone_on(server) as running:
        yield running


def test_login_by_pam(standalone: Server) -> None:
    """The helper is in the same sandbox; a mailbox is read and changed."""
    name = standalone.add_user()
    since = standalone.machine.cursor()
    for address in ("127.0.0.1", "::1"):
        with standalone.connect(address).logged_in(name, PASSWORD) as client:
            client.ok("RETR 1")
            assert client.body().decode() == MESSAGES[0]
            client.ok("QUIT")
    with standalone.connect().logged_in(name, PASSWORD) as client:
        client.ok("DELE 1")
        client.ok("QUIT")
        assert client.closed()
    assert (standalone.machine.root / "var/mail" / name).read_text() == mbox(MESSAGES[1:])
    entry = standalone.machine.wait_entry({"POPAD_EVENT": "maildrop-updated"}, after=since)
    assert entry["_SYSTEMD_UNIT"] == SERVICE
    assert entry["_UID"] == str(standalone.uid(name))
    assert entry["POPAD_RHOST"] == "127.0.0.1", "not as mapped to IPv6"


def test_wrong_password(standalone: Server) -> None:
    name = standalone.add_user()
    with standalone.connect().greeted() as client:
        client.ok(f"USER {name}")
        assert client.say("PASS wrong").startswith(b"-ERR [AUTH]")


def test_ready_means_that_it_listens(standalone: Server) -> None:
    """And the status is about sessions."""
    assert standalone.machine.show(SERVICE, "ActiveState", "SubState", "Type") == {
        "ActiveState": "active",
        "SubState": "running",
        "Type": "notify",
    }
    with standalone.connect().greeted():
        wait_until(lambda: "1 sessions" in standalone.machine.show(SERVICE, "StatusText")["StatusText"])
    wait_until(lambda: "0 sessions" in standalone.machine.show(SERVICE, "StatusText")["StatusText"])


def test_each_shape_stops_the_other(server: Server) -> None:
    """In both directions, the port changing hands, and a session of either living on."""
    name = server.add_user()
    with server.connect().logged_in(name, PASSWORD) as instance:
        with standalone_on(server) as running:
            assert (active(server, SERVICE), active(server, SOCKET)) == ("active", "active")
            assert active(server, "popad.socket") == "inactive"
            instance.ok("NOOP")
            with running.connect().greeted() as client:
                assert standalone_unit(running, client) == SERVICE
        assert (active(server, SERVICE), active(server, SOCKET)) == ("inactive", "inactive")
        assert active(server, "popad.socket") == "active"
        with server.connect().greeted() as client:
            assert server.instance(client).startswith("popad@")
        instance.ok("QUIT")


def standalone_unit(server: Server, client: Pop3) -> str:
    fields = {"POPAD_EVENT": "session-opened", "POPAD_RPORT": str(client.port)}
    return str(server.machine.wait_entry(fields)["_SYSTEMD_UNIT"])


def test_enabled_it_is_the_one_that_starts(server: Server) -> None:
    """Its socket needs no enabling."""
    try:
        server.machine.run(["systemctl", "enable", SERVICE])
        wants = server.machine.run(["systemctl", "show", "multi-user.target", "--property=Wants"]).stdout
        assert SERVICE in wants
        assert SOCKET in server.machine.show(SERVICE, "Wants")["Wants"]
    finally:
        server.machine.run(["systemctl", "disable", SERVICE])


def test_stop_leaves_nothing(standalone: Server) -> None:
    """Not a process, not the port; what runs is given POPAD_STOP_TIMEOUT and then ended."""
    name = standalone.add_user()
    with standalone.connect().logged_in(name, PASSWORD) as user, standalone.connect().greeted() as newcomer:
        standalone.machine.run(["systemctl", "stop", SERVICE])
        assert user.closed()
        assert newcomer.closed()
    assert standalone.machine.show(SERVICE, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert processes(standalone) == []
    wait_until(lambda: active(standalone, SOCKET) == "inactive")
    with pytest.raises(ConnectionRefusedError):
        standalone.connect()


def test_a_stop_refuses_new_clients_at_once_and_lets_sessions_end(standalone: Server) -> None:
    """systemd holds the port until the sessions have ended: nobody waits there for a daemon that does not come."""
    machine = standalone.machine
    with standalone.connect().logged_in(standalone.add_user(), PASSWORD) as client:
        machine.write(SETTINGS, QUICK.replace("STOP_TIMEOUT=2", "STOP_TIMEOUT=60"))
        machine.run(["systemctl", "reload", SERVICE])
        machine.run(["systemctl", "stop", "--no-block", "popad"])
        wait_until(lambda: machine.run(["systemctl", "is-active", SERVICE], check=False).stdout == "deactivating\n")
        wait_until(lambda: refuses(standalone))
        assert client.ok("STAT").startswith(b"3 ")
        # Before that has ended: the same socket of systemd's serves again.
        machine.run(["systemctl", "start", "--no-block", SERVICE])
        client.ok("QUIT")
    machine.run(["systemctl", "start", SERVICE])
    with standalone.connect().greeted():
        pass


def refuses(server: Server) -> bool:
    try:
        server.connect().socket.close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_restart_refuses_nobody(standalone: Server) -> None:
    """Clients come all the time; the port is never closed, and a session that runs may end by itself."""
    name = standalone.add_user()
    greetings: list[bytes] = []
    enough = threading.Event()

    def keep_coming() -> None:
        while not enough.is_set():
            with standalone.connect(source="127.0.0.3") as client:
                greetings.append(client.line())
                client.say("QUIT")

    standalone.machine.write(SETTINGS, QUICK + "POPAD_MAX_SESSIONS_PER_SOURCE=500\n")
    standalone.machine.run(["systemctl", "reload", SERVICE])
    comer = threading.Thread(target=keep_coming)
    comer.start()
    try:
        wait_until(lambda: len(greetings) > 3)
        before = main_pid(standalone)
        with standalone.connect().logged_in(name, PASSWORD) as client:
            restart = threading.Thread(target=standalone.machine.run, args=(["systemctl", "restart", SERVICE],))
            restart.start()
            wait_until(lambda: active(standalone, SERVICE) == "deactivating")
            client.ok("DELE 1")
            client.ok("QUIT")
        restart.join()
        assert main_pid(standalone) != before
        seen = len(greetings)
        wait_until(lambda: len(greetings) > seen + 3)
    finally:
        enough.set()
        comer.join()
    assert set(greetings) == {b"+OK popad ready"}
    assert (standalone.machine.root / "var/mail" / name).read_text() == mbox(MESSAGES[1:])


def test_sessions_outlive_a_main_process_that_is_killed(standalone: Server) -> None:
    name = standalone.add_user()
    with standalone.connect().logged_in(name, PASSWORD) as user, standalone.connect().greeted() as newcomer:
        before = main_pid(standalone)
        standalone.machine.run(["kill", "-KILL", str(before)])
        with standalone.connect() as client:  # waits for the next one
            client.greeted()
        assert main_pid(standalone) not in (0, before)
        user.ok("DELE 2")
        user.ok("QUIT")
        newcomer.ok(f"USER {name}")
        newcomer.ok(f"PASS {PASSWORD}")
        newcomer.ok("QUIT")
    assert (standalone.machine.root / "var/mail" / name).read_text() == mbox([MESSAGES[0], MESSAGES[2]])
    # The daemon, its helper, the spare session and its authorization child: the old helper and its workers have left.
    wait_until(lambda: len(processes(standalone)) == 4)


def test_killed_again_and_again(standalone: Server) -> None:
    """No start limit takes the port away."""
    for _ in range(7):
        before = main_pid(standalone)
        standalone.machine.run(["kill", "-KILL", str(before)])
        wait_until(lambda before=before: main_pid(standalone) not in (0, before))  # type: ignore[misc]  # mypy infers no lambda with defaults
    with standalone.connect() as client:
        client.greeted()
    assert active(standalone, SOCKET) == "active"


def test_a_helper_that_is_killed(standalone: Server) -> None:
    name = standalone.add_user()
    main = main_pid(standalone)
    helper = standalone.machine.run(["cat", f"/proc/{main}/task/{main}/children"]).stdout.split()[0]
    since = standalone.machine.cursor()
    standalone.machine.run(["kill", "-KILL", helper])
    standalone.machine.wait_entry({"POPAD_EVENT": "helper-died"}, after=since)
    with standalone.connect().logged_in(name, PASSWORD) as client:
        client.ok("QUIT")
    assert main_pid(standalone) == main


def test_reload(standalone: Server) -> None:
    since = standalone.machine.cursor()
    with standalone.connect().greeted() as client:
        standalone.machine.write(SETTINGS, QUICK + "POPAD_MAX_SESSIONS_PER_SOURCE=1\n")
        standalone.machine.run(["systemctl", "reload", SERVICE])
        standalone.machine.wait_entry({"POPAD_EVENT": "reloaded"}, after=since)
        with standalone.connect() as other:
            assert other.closed()
        standalone.machine.write(SETTINGS, QUICK + "POPAD_MAX_SESSIONS_PER_SOURCE=none\n")
        assert standalone.machine.run(["systemctl", "reload", SERVICE], check=False).returncode != 0
        standalone.machine.wait_entry({"MESSAGE": "POPAD_MAX_SESSIONS_PER_SOURCE: must be"}, after=since)
        with standalone.connect() as other:
            assert other.closed()
        standalone.machine.write(SETTINGS, QUICK)  # without the line: systemd had it in the environment at no time
        standalone.machine.run(["systemctl", "reload", SERVICE])
        with standalone.connect() as other:
            other.greeted()
        client.ok("QUIT")
    assert active(standalone, SERVICE) == "active"


def test_a_daemon_with_a_wrong_setting(server: Server) -> None:
    """It tells each client, as popad.socket does, and says why; it serves once a reload finds it right."""
    since = server.machine.cursor()
    path = server.machine.root / SETTINGS.lstrip("/")
    before = path.read_bytes()
    try:
        path.write_text("POPAD_MIN_DELAY=soon\n")
        server.machine.run(["systemctl", "start", SERVICE])
        entry = server.machine.wait_entry({"POPAD_EVENT": "setting-wrong"}, after=since)
        assert entry["POPAD_REASON"] == "POPAD_MIN_DELAY: must be a whole number"
        for _ in range(20):
            with server.connect() as client:
                assert client.line() == b"-ERR [SYS/PERM] the server is not set up to serve this"
                assert client.closed()
        assert "POPAD_MIN_DELAY" in server.machine.show(SERVICE, "StatusText")["StatusText"]
        assert len(server.machine.journal("POPAD_EVENT=setting-wrong", after=since)) == 1, "no flood of the journal"
        assert server.machine.run(["systemctl", "reload", SERVICE], check=False).returncode != 0
        process = main_pid(server)
        path.write_text(QUICK)
        server.machine.run(["systemctl", "reload", SERVICE])
        wait_until(lambda: "0 sessions" in server.machine.show(SERVICE, "StatusText")["StatusText"])
        with server.connect() as client:
            client.greeted()
        assert main_pid(server) == process
        assert server.machine.show(SERVICE, "NRestarts")["NRestarts"] == "0"
        path.write_text("POPAD_MIN_DELAY=soon\n")
        server.machine.run(["systemctl", "restart", SERVICE])
        server.machine.run(["systemctl", "stop", SERVICE])
        assert server.machine.show(SERVICE, "Result")["Result"] == "success"
    finally:
        path.write_bytes(before)
        server.machine.run(["systemctl", "start", "popad.socket"])


def test_watchdog(server: Server) -> None:
    """The loop answers it; a daemon that hangs is replaced."""
    with server.drop_in(SERVICE, "[Service]\nWatchdogSec=3\n"), standalone_on(server) as running:
        answered = "WatchdogTimestampMonotonic"
        first = int(running.machine.show(SERVICE, answered)[answered])
        wait_until(lambda: int(running.machine.show(SERVICE, answered)[answered]) > first + 3_000_000)
        before = main_pid(running)
        assert running.machine.show(SERVICE, "NRestarts")["NRestarts"] == "0"
        running.machine.run(["kill", "-STOP", str(before)])
        wait_until(lambda: main_pid(running) not in (0, before))
        with running.connect() as client:
            client.greeted()


def test_unit_files(server: Server) -> None:
    said = server.machine.run(["systemd-analyze", "--man=no", "verify", SERVICE, SOCKET], check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    scored = server.machine.run(["systemd-analyze", "security", "--no-pager", SERVICE], check=False).stdout
    exposure = float(scored.rpartition("Overall exposure level for ")[2].split(": ")[1].split()[0])
    assert exposure <= EXPOSURE


def test_the_51st_of_a_source(standalone: Server) -> None:
    """popad's own limit: the default of the setting. IPv4 and IPv6 are sources apart."""
    since = standalone.machine.cursor()
    with contextlib.ExitStack() as clients:
        for _ in range(50):
            clients.enter_context(standalone.connect()).greeted()
        for _ in range(10):
            with standalone.connect() as one_more:
                assert one_more.closed()
        clients.enter_context(standalone.connect("::1")).greeted()
        clients.enter_context(standalone.connect(source="127.0.0.2")).greeted()
    entry = standalone.machine.wait_entry({"POPAD_EVENT": "limit-reached"}, after=since)
    assert entry["POPAD_LIMIT"] == "limit of 50 sessions of one source"


# -- TCP wrappers -----------------------------------------------------------------------------------------------------


def test_rules_without_libwrap(server: Server) -> None:
    """Debian's systemd and popad do without the library: the daemon serves nobody, and says why."""
    if list((server.machine.root / "usr/lib").glob("*/libwrap.so.0")):
        pytest.skip("the machine has libwrap")
    since = server.machine.cursor()
    server.machine.write("/etc/hosts.deny", "popad: 192.0.2.1\n")
    try:
        server.machine.run(["systemctl", "start", SERVICE])
        entry = server.machine.wait_entry({"POPAD_EVENT": "setting-wrong"}, after=since)
        assert "/etc/hosts.deny cannot be applied" in entry["POPAD_REASON"]
        assert "POPAD_WRAPPERS" in entry["POPAD_REASON"]
        with server.connect() as client:
            assert client.line().startswith(b"-ERR [SYS/PERM]")
    finally:
        server.machine.run(["rm", "/etc/hosts.deny"])
        server.machine.run(["systemctl", "start", "popad.socket"])


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def wrapped(request: pytest.FixtureRequest, package: Path) -> Iterator[Server]:
    """A machine that has libwrap and tcpd."""
    if reason := needs():
        pytest.skip(reason)
    with Machine(tree(request.param, SERVER_PACKAGES)) as machine:
        machine.install(package)
        yield Server(machine, request.param)


@contextlib.contextmanager
def rules(server: Server, allow: str = "", deny: str = "") -> Iterator[str]:
    """hosts.allow and hosts.deny of the machine; the end of the journal before."""
    since = server.machine.cursor()
    server.machine.write("/etc/hosts.allow", allow)
    server.machine.write("/etc/hosts.deny", deny)
    yield since
    server.machine.write("/etc/hosts.allow", "")
    server.machine.write("/etc/hosts.deny", "")


def check_rules(server: Server, event: bool = True) -> None:
    """Denied, allowed, and denied but for some; rules are read anew for each client."""
    name = server.add_user()
    with rules(server, deny="popad: 127.0.0.1\n") as since:
        with server.connect() as client:
            assert client.closed()
        if event:
            entry = server.machine.wait_entry({"POPAD_EVENT": "access-denied"}, after=since)
            assert entry["POPAD_RHOST"] == "127.0.0.1"
        with server.connect(source="127.0.0.2").logged_in(name, PASSWORD) as client:
            client.ok("QUIT")
    with rules(server, allow="popad: 127.0.0.1, [::1]\n", deny="ALL: ALL\n"):
        for address in ("127.0.0.1", "::1"):
            with server.connect(address).logged_in(name, PASSWORD) as client:
                client.ok("QUIT")
        with server.connect(source="127.0.0.2") as client:
            assert client.closed()


def test_rules_in_the_daemon(wrapped: Server) -> None:
    with standalone_on(wrapped) as running:
        check_rules(running)


def test_rules_in_inherited_sessions(wrapped: Server) -> None:
    """In the sandbox of popad@.service."""
    with wrapped.settings("POPAD_WRAPPERS=always\nPOPAD_GUESS_DELAY=0\n"):
        check_rules(wrapped)


def test_inherited_sessions_do_not_ask_by_default(wrapped: Server) -> None:
    with rules(wrapped, deny="ALL: ALL\n"), wrapped.connect() as client:
        client.greeted()


def test_tcpd_as_a_wrapper_of_the_unit(wrapped: Server) -> None:
    drop_in = "[Service]\nExecStart=\nExecStart=@-/usr/sbin/tcpd /usr/sbin/popad\nStandardInput=socket\n"
    # What tcpd refuses is over before popad could say that it is ready.
    with wrapped.drop_in("popad@.service", drop_in + "Type=simple\n"):
        check_rules(wrapped, event=False)


def test_tcpd_as_inetd_has_it(wrapped: Server) -> None:
    """inetd.conf's `pop3 stream tcp nowait root /usr/sbin/tcpd /usr/sbin/popad`: no unit of popad's, no helper."""
    wrapped.machine.run(["systemctl", "stop", "popad.socket"])
    unit = "[Socket]\nListenStream=110\nBindIPv6Only=both\nAccept=yes\n"
    service = "[Service]\nExecStart=@-/usr/sbin/tcpd /usr/sbin/popad\nStandardInput=socket\n"
    wrapped.machine.write("/etc/systemd/system/inetd.socket", unit)
    wrapped.machine.write("/etc/systemd/system/inetd@.service", service)
    wrapped.machine.run(["systemctl", "daemon-reload"])
    wrapped.machine.run(["systemctl", "start", "inetd.socket"])
    try:
        check_rules(wrapped, event=False)
    finally:
        wrapped.machine.run(["systemctl", "stop", "inetd.socket"])
        wrapped.machine.run(["systemctl", "start", "popad.socket"])


def test_what_the_daemon_has_loaded_is_not_counted(server: Server) -> None:
    """Where the release's Python has objects that live for ever: sessions copy fewer pages of the daemon."""
    said = server.machine.python(
        "import sys\n"
        "sys.path.insert(0, '/usr/lib/popad')\n"
        "from popad.daemon import supervisor\n"
        "from popad.privsep import immortal\n"
        "immortal.make_all_immortal()\n"
        "before = sys.getrefcount(supervisor)\n"
        "more = [supervisor] * 100\n"
        "print(sys.getrefcount(supervisor) - before)\n"
    )
    assert said == {"bookworm": "100\n", "trixie": "0\n"}[server.release]
    assert server.machine.journal("POPAD_EVENT=memory-not-shared") == []
