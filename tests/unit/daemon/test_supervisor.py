"""A real `popad -D` on loopback ports, as root (sessions change their uid) and as nobody special."""

import os
import resource
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from popad import __version__
from tests.support.daemon import Daemon, daemon, free_ports
from tests.support.here import CHECKOUT, ROOT
from tests.support.marks import needs_root
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import (
    NAME,
    PASSWORD,
    POPAD,
    POPAD_WITHOUT_JOURNAL,
    Client,
    Server,
    children_of,
    status_of,
)

NOBODY = 65534
MAIL = b"From a@example.org Thu Jan  1 00:00:00 1970\nSubject: one\n\nbody\n\n"
# So that what a test is about is not in the way of the others.
QUICK = {"POPAD_MIN_DELAY": "1", "POPAD_GUESS_DELAY": "0", "POPAD_STOP_TIMEOUT": "20"}


@pytest.fixture
def server(public_path: Path) -> Server:
    server = Server(public_path)
    server.deliver(MAIL)
    return server


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def logged_in(running: Daemon) -> Client:
    client = running.connect()
    assert client.log_in().startswith(b"+OK")
    return client


# -- one uid for all, or root -----------------------------------------------------------------------------------------


class OneUid:
    """The words that start a program as nobody special, where the tests run as root."""

    words = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups") if ROOT else ()


@contextmanager
def as_somebody(server: Server, settings: Mapping[str, str] = {}) -> Iterator[Daemon]:
    """A daemon that is not root."""
    if ROOT:
        for path in (server.path, server.credentials, server.state, server.cache):
            os.chown(path, NOBODY, NOBODY)
        server.stderr.touch()
        os.chown(server.stderr, NOBODY, NOBODY)
    with daemon(server, {**QUICK, **settings}, program=(*OneUid.words, *POPAD_WITHOUT_JOURNAL)) as running:
        yield running


@pytest.mark.skipif(ROOT and not os.access("/usr/bin/setpriv", os.X_OK), reason="needs setpriv (util-linux)")
def test_a_session_under_one_uid(server: Server) -> None:
    with as_somebody(server) as running:
        client = logged_in(running)
        assert status_of(running.sessions[0])["Uid"].split()[0] != "0"
        assert client.ask("STAT").startswith(b"+OK 1 ")
        assert client.ask("DELE 1").startswith(b"+OK")
        assert client.ask("QUIT").startswith(b"+OK")
        client.close()
        running.entries("session-closed")
        assert server.mailbox.read_bytes() == b""
        (opened,) = running.entries("session-opened")
        assert opened["rhost"] == "127.0.0.1"
        assert "one-identity" in server.events


# -- listening ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("option", "address"), [("-4", "127.0.0.1"), ("-6", "::1")])
def test_every_address_of_a_family(server: Server, option: str, address: str) -> None:
    """On port 110, in a network namespace: the tests' host may have a POP3 server."""
    if not ROOT:
        pytest.skip("needs root: a network namespace")
    code = (
        "import subprocess, socket, sys; subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)\n"
        f"subprocess.run([*{POPAD!r}, '-D', {option!r}], check=True, stdin=subprocess.DEVNULL)\n"
        f"print(socket.create_connection(({address!r}, 110), 20).recv(100))\n"
        f"other = {'::1' if address == '127.0.0.1' else '127.0.0.1'!r}\n"
        "try: socket.create_connection((other, 110), 20)\n"
        "except ConnectionRefusedError: print('refused')\n"
    )
    done = subprocess.run(
        ["unshare", "--net", "--pid", "--fork", "--kill-child", POPAD[0], "-c", code],
        cwd=CHECKOUT,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **server.settings},
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (0, b"b'+OK popad ready\\r\\n'\nrefused\n"), done.stderr


def test_several_addresses(server: Server) -> None:
    first, second = free_ports(socket.AF_INET, "127.0.0.1", 2)
    (third,) = free_ports(socket.AF_INET6, "::1")
    where = [f"--listen=127.0.0.1:{first}", f"--listen=127.0.0.2:{second}", f"--listen=[::1]:{third}"]
    with daemon(server, QUICK, where, [first, second, third]) as running:
        for address, port in (("127.0.0.1", first), ("127.0.0.2", second), ("::1", third)):
            client = running.connect(address, port=port)
            assert client.line() == b"+OK popad ready\r\n"
            client.close()
        assert {entry["rhost"] for entry in running.entries("session-opened", 3)} == {"127.0.0.1", "::1"}


def test_sockets_that_systemd_passes(server: Server) -> None:
    """Accept=no: --listen does not go with it."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        os.set_inheritable(listener.fileno(), True)
        code = (
            f"import os, sys; os.dup2({listener.fileno()}, 3); words = sys.argv[1:]\n"
            "os.execvpe(words[0], words, os.environ | {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())})"
        )
        words = [POPAD[0], "-c", code]
        done = subprocess.run(
            [*words, *POPAD, "-D", "--listen=127.0.0.1:8110"],
            cwd=CHECKOUT,
            env={"PATH": os.defpath, **server.settings},
            capture_output=True,
            close_fds=False,
            timeout=PATIENCE,
        )
        assert (done.returncode, b"do not go with them" in done.stderr) == (1, True), done.stderr
        with open(server.stderr, "ab") as stderr:
            process = subprocess.Popen(
                [*words, *POPAD_WITHOUT_JOURNAL, "-D", "--foreground"],
                cwd=CHECKOUT,
                env={"PATH": os.defpath, **server.settings},
                stderr=stderr,
                close_fds=False,
            )
        listener.close()
        try:
            client = Client(socket.create_connection(("::1", port), PATIENCE))
            assert client.log_in().startswith(b"+OK")
            assert client.ask("QUIT").startswith(b"+OK")
            client.close()
        finally:
            process.terminate()
            assert process.wait(PATIENCE) == 0


# -- limits -----------------------------------------------------------------------------------------------------------


def test_the_51st_of_a_source(server: Server) -> None:
    """The default. Another source is served, and each limit has its word in the journal."""
    with daemon(server, {"POPAD_MIN_DELAY": "1"}) as running:
        clients = [running.connect() for _ in range(50)]
        assert all(client.line().startswith(b"+OK") for client in clients)
        one_more = running.connect()
        assert one_more.rest() == b""
        neighbour = running.connect(source="127.0.0.2")
        assert neighbour.line().startswith(b"+OK")
        for client in (*clients, one_more, neighbour):
            client.close()
        (entry,) = running.entries("limit-reached")
        assert (entry["rhost"], entry["limit"], entry["dropped"]) == (
            "127.0.0.1",
            "limit of 50 sessions of one source",
            "1",
        )


def test_the_limit_of_all(server: Server) -> None:
    with daemon(server, QUICK | {"POPAD_MAX_SESSIONS": "3"}) as running:
        clients = [running.connect(source=f"127.0.0.{number}") for number in range(1, 4)]
        assert all(client.line().startswith(b"+OK") for client in clients)
        one_more = running.connect(source="127.0.0.9")
        assert one_more.rest() == b""
        for client in (*clients, one_more):
            client.close()


def test_a_network_of_ipv6_is_one_source(server: Server) -> None:
    """In a network namespace with addresses of its own."""
    if not ROOT:
        pytest.skip("needs root: a network namespace")
    addresses = ("2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:2::1")
    add = "\n".join(f"run('ip', '-6', 'addr', 'add', '{address}/64', 'dev', 'lo', 'nodad')" for address in addresses)
    code = (
        "import subprocess, socket\n"
        "def run(*words): subprocess.run(words, check=True)\n"
        f"run('ip', 'link', 'set', 'lo', 'up')\n{add}\n"
        f"run(*{POPAD!r}, '-D', '--listen=[2001:db8:0:1::1]:110')\n"
        "def says(source):\n"
        "    kept.append(socket.create_connection(('2001:db8:0:1::1', 110), 20, (source, 0)))\n"
        "    return kept[-1].recv(100)\n"
        f"kept = []; print([says(source) for source in {addresses!r}])\n"
    )
    done = subprocess.run(
        ["unshare", "--net", "--pid", "--fork", "--kill-child", POPAD[0], "-c", code],
        cwd=CHECKOUT,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            **server.settings,
            "POPAD_MAX_SESSIONS_PER_SOURCE": "1",
        },
        capture_output=True,
        timeout=PATIENCE,
    )
    greeting = b"b'+OK popad ready\\r\\n'"
    assert done.stdout == b"[" + greeting + b", b'', " + greeting + b"]\n", done.stderr


def test_a_slot_is_kept_min_delay_after_its_session(server: Server) -> None:
    settings = {"POPAD_MIN_DELAY": "2", "POPAD_MAX_SESSIONS_PER_SOURCE": "1"}
    with daemon(server, settings) as running:
        begun = now()
        client = running.connect()
        assert client.line().startswith(b"+OK")
        client.ask("QUIT")
        client.close()
        wait_until(lambda: running.at_rest)
        early = running.connect()
        assert early.rest() == b""
        early.close()

        def served() -> bool:
            client = running.connect()
            greeting = client.line()
            client.close()
            return greeting.startswith(b"+OK")

        wait_until(served)
        assert 2 <= now() - begun < 5
        entries = running.entries("limit-reached", 2)
        assert entries[0]["dropped"] == "1"
        assert len(entries) <= 3, "at most one every 2 s, however often the client came"
        assert running.process.poll() is None


@needs_root
def test_a_connection_that_is_closed_makes_two_entries(server: Server) -> None:
    with daemon(server, QUICK) as running:
        client = running.connect()
        assert client.line().startswith(b"+OK")
        client.close()
        wait_until(lambda: running.at_rest)
        assert server.events == ["daemon-started", "session-opened", "login-not-attempted"]


def test_who_has_logged_in_is_not_held_up(server: Server) -> None:
    """fetchmail with `expunge 1` logs in for each message, from one address; so does who polls 51 accounts."""
    settings = {"POPAD_MIN_DELAY": "600", "POPAD_MAX_SESSIONS_PER_SOURCE": "2", "POPAD_GUESS_DELAY": "0"}
    with daemon(server, settings) as running:
        for _ in range(6):
            client = logged_in(running)
            assert client.ask("QUIT").startswith(b"+OK")
            client.close()
            wait_until(lambda: running.at_rest)
        assert "limit-reached" not in server.events
        # Not so a wrong password, nor who hangs up.
        client = running.connect()
        client.line()
        client.ask(f"USER {NAME}")
        assert client.ask("PASS wrong").startswith(b"-ERR")
        client.close()
        wait_until(lambda: running.at_rest)
        client = running.connect()
        assert client.line().startswith(b"+OK")
        client.close()
        wait_until(lambda: running.at_rest)
        one_more = running.connect()
        assert one_more.rest() == b""
        one_more.close()


def now() -> float:
    return time.monotonic()


def test_what_was_dropped_is_said_although_nobody_comes_any_more(server: Server) -> None:
    """The second message carries what came within the pause after the first."""
    with daemon(server, {"POPAD_MIN_DELAY": "2", "POPAD_MAX_SESSIONS_PER_SOURCE": "0"}) as running:
        begun = now()
        for _ in range(20):
            client = running.connect()
            assert client.rest() == b""
            client.close()
        first, second = running.entries("limit-reached", 2)
        assert (first["dropped"], second["dropped"]) == ("1", "19")
        assert now() - begun >= 2
        running.systemd.hear("STATUS=0 sessions, 20 connections refused")


# -- life -------------------------------------------------------------------------------------------------------------


def test_reload(server: Server) -> None:
    """New sessions have the new settings, running ones the old; a wrong one changes nothing and is said."""
    config = server.path / "popad.conf"
    config.write_text("POPAD_MAX_SESSIONS_PER_SOURCE=1\nPOPAD_MAX_ARGUMENT=40\n")
    (port,) = free_ports(socket.AF_INET, "127.0.0.1")
    where = [f"--listen=127.0.0.1:{port}", f"--config={config}"]
    with daemon(server, QUICK, where, [port]) as running:
        client = logged_in(running)
        other = running.connect()
        assert other.rest() == b""
        other.close()

        config.write_text("POPAD_MAX_SESSIONS_PER_SOURCE=lots\n")
        running.reload()
        (refused,) = running.entries("reload-refused")
        assert "POPAD_MAX_SESSIONS_PER_SOURCE" in refused["reason"]
        other = running.connect()
        assert other.rest() == b""
        other.close()

        config.write_text("POPAD_MAX_SESSIONS_PER_SOURCE=2\n")
        running.reload()
        running.entries("reloaded")
        second = logged_in(running)
        assert client.ask("STAT").startswith(b"+OK 1 ")
        for each in (client, second):
            assert each.ask("QUIT").startswith(b"+OK")
            each.close()
        wait_until(lambda: running.at_rest)  # the old helper has left, too
        assert not running.zombies


def test_a_setting_that_goes_from_the_file_goes(server: Server) -> None:
    """Although systemd had put it into the environment. What else the environment has stays, above the file."""
    config = server.path / "popad.conf"
    config.write_text("POPAD_MAX_SESSIONS_PER_SOURCE=0\nPOPAD_MAX_SESSIONS=0\n")
    (port,) = free_ports(socket.AF_INET, "127.0.0.1")
    where = [f"--listen=127.0.0.1:{port}", f"--config={config}"]
    environment = {"POPAD_MAX_SESSIONS_PER_SOURCE": "0", "POPAD_MAX_SESSIONS": "9"}
    with daemon(server, QUICK | environment, where, [port]) as running:
        client = running.connect()
        assert client.rest() == b""
        client.close()
        config.write_text("POPAD_MAX_SESSIONS=0\n")
        running.reload()
        client = running.connect()
        assert client.line().startswith(b"+OK")
        client.close()


def test_a_user_that_is_wrong_now(server: Server) -> None:
    if not ROOT:
        pytest.skip("needs root: POPAD_USER means nothing else")
    config = server.path / "popad.conf"
    config.touch()
    (port,) = free_ports(socket.AF_INET, "127.0.0.1")
    settings = {"POPAD_USER": "-"}
    config.write_text("POPAD_USER=daemon\n")
    with daemon(server, QUICK | settings, [f"--listen=127.0.0.1:{port}", f"--config={config}"], [port]) as running:
        config.write_text("POPAD_USER=root\n")
        running.reload()
        (refused,) = running.entries("reload-refused")
        assert "POPAD_USER" in refused["reason"]
        logged_in(running).close()


def refuses(running: Daemon) -> bool:
    """Whether nobody listens; a session that has just been forked still has the socket, for a moment."""
    try:
        running.connect().close()
    except ConnectionError:
        return True
    return False


def test_sigterm_lets_sessions_finish(server: Server) -> None:
    with daemon(server, QUICK) as running:
        client = logged_in(running)
        running.process.send_signal(signal.SIGTERM)
        running.systemd.hear("STOPPING=1")
        wait_until(lambda: refuses(running))
        assert client.ask("DELE 1").startswith(b"+OK")
        assert client.ask("QUIT").startswith(b"+OK")
        client.close()
        assert running.ended() == 0
        assert server.mailbox.read_bytes() == b""
        assert "helper-died" not in server.stderr.read_text()  # it has left, as it should


def test_a_login_while_the_daemon_stops(server: Server) -> None:
    """The helper stays until the last session that may ask it has."""
    with daemon(server, QUICK) as running:
        client = running.connect()
        assert client.line().startswith(b"+OK")
        running.process.send_signal(signal.SIGTERM)
        running.systemd.hear("STOPPING=1")
        client.ask(f"USER {NAME}")
        assert client.ask(f"PASS {PASSWORD}").startswith(b"+OK")
        assert client.ask("QUIT").startswith(b"+OK")
        client.close()
        assert running.ended() == 0


def test_sigusr1_closes_the_port_and_lets_sessions_finish(server: Server) -> None:
    """Who has connected is served; where the port is systemd's: tests/system/test_standalone.py."""
    with daemon(server, QUICK) as running:
        client = logged_in(running)
        running.process.send_signal(signal.SIGUSR1)
        running.systemd.hear("STOPPING=1")
        wait_until(lambda: refuses(running))
        running.process.send_signal(signal.SIGTERM)
        assert client.ask("QUIT").startswith(b"+OK")
        client.close()
        assert running.ended() == 0


def test_sigusr1_behind_sigterm_changes_nothing(server: Server) -> None:
    with daemon(server, QUICK) as running:
        client = logged_in(running)
        running.process.send_signal(signal.SIGTERM)
        running.systemd.hear("STOPPING=1")
        running.process.send_signal(signal.SIGUSR1)
        assert client.ask("QUIT").startswith(b"+OK")
        client.close()
        assert running.ended() == 0


def test_a_client_of_a_proxy_while_the_daemon_stops(server: Server) -> None:
    """Its session asks the parent for a slot, who has stopped to accept by then."""
    with daemon(server, QUICK | {"POPAD_PROXY_FROM": "127.0.0.1"}) as running:
        client = running.connect()
        wait_until(lambda: running.sessions)
        running.process.send_signal(signal.SIGTERM)
        running.systemd.hear("STOPPING=1")
        client.send(b"PROXY TCP4 127.0.0.9 127.0.0.1 1 2\r\n")
        assert client.log_in().startswith(b"+OK")
        assert client.ask("QUIT").startswith(b"+OK")
        client.close()
        assert running.ended() == 0


@pytest.mark.parametrize("state", ["before the login", "after it"])
def test_sigterm_ends_what_does_not_finish(server: Server, state: str) -> None:
    """A preauth child goes with its session, the helper with the last one."""
    with daemon(server, QUICK | {"POPAD_STOP_TIMEOUT": "1"}) as running:
        if state == "after it":
            client = logged_in(running)
        else:
            client = running.connect()
            assert client.line().startswith(b"+OK")
        processes = running.descendants
        running.process.send_signal(signal.SIGTERM)
        assert client.rest() == b""
        client.close()
        assert running.ended() == 0
        wait_until(lambda: all(map(gone, processes)))


def test_what_does_not_end_when_it_is_told_to_is_killed(server: Server) -> None:
    """A process that stands still hears SIGTERM when it goes on."""
    shorten = "from popad.daemon import supervisor; supervisor.LAST_WORDS = 0.2; "
    program = (*POPAD_WITHOUT_JOURNAL[:-1], shorten + POPAD_WITHOUT_JOURNAL[-1])
    with daemon(server, QUICK | {"POPAD_STOP_TIMEOUT": "1"}, program=program) as running:
        client = logged_in(running)
        (session,) = running.sessions
        os.kill(session, signal.SIGSTOP)
        try:
            running.process.send_signal(signal.SIGTERM)
            assert running.ended() == 0
            wait_until(lambda: gone(session))
        finally:
            with suppress(ProcessLookupError):
                os.kill(session, signal.SIGKILL)
        client.close()


def test_sessions_outlive_a_daemon_that_is_killed(server: Server) -> None:
    """And so does the helper, for those that still have to log in; then it leaves. The port is free for the next."""
    with daemon(server, QUICK) as running:
        user, newcomer = logged_in(running), running.connect()
        assert newcomer.line().startswith(b"+OK")
        processes = running.descendants
        running.process.kill()
        running.ended()
        wait_until(lambda: refuses(running))
        with socket.socket() as next_one:
            next_one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            next_one.bind(("127.0.0.1", running.ports[0]))
        assert newcomer.ask(f"USER {NAME}").startswith(b"+OK")
        assert newcomer.ask(f"PASS {PASSWORD}").startswith(b"+OK")
        assert user.ask("DELE 1").startswith(b"+OK")
        assert user.ask("QUIT").startswith(b"+OK")
        newcomer.close()
        user.close()
        wait_until(lambda: all(map(gone, processes)))


def test_a_helper_that_is_killed(server: Server) -> None:
    """A new one is started, and logs in the client that asked meanwhile."""
    with daemon(server, QUICK) as running:
        helper = running.helper
        client = running.connect()
        assert client.line().startswith(b"+OK")
        assert client.ask(f"USER {NAME}").startswith(b"+OK")
        os.kill(helper, signal.SIGKILL)
        running.entries("helper-died")
        assert client.ask(f"PASS {PASSWORD}").startswith(b"+OK")
        client.close()
        wait_until(lambda: running.at_rest and running.helper != helper)
        assert not running.zombies


def test_a_login_whose_helper_is_killed(server: Server) -> None:
    """The process that judges it: [SYS/TEMP], not a wrong password. Wrong passwords before give time to kill it."""
    with daemon(server, QUICK | {"POPAD_GUESS_DELAY": "15"}) as running:
        for _ in range(2):
            client = running.connect()
            client.line()
            client.ask("USER mallory")
            assert client.ask("PASS guess").startswith(b"-ERR [AUTH]")
            client.close()
        client = running.connect()
        client.line()
        client.ask(f"USER {NAME}")
        client.send(f"PASS {PASSWORD}\r\n".encode())

        def killed() -> bool:
            """Whether the client heard of it: a worker that had not yet got the request was killed for nothing."""
            for worker in children_of(running.helper):
                os.kill(worker, signal.SIGKILL)
            return bool(select.select([client.socket], [], [], 0.05)[0])

        wait_until(killed)
        assert client.line().startswith(b"-ERR [SYS/TEMP]")
        client.close()
        running.entries("login-unavailable")
        wait_until(lambda: running.at_rest)


def test_a_session_that_its_user_stops(server: Server) -> None:
    """It cannot keep its time limit itself, and must not hold a slot for ever."""
    with daemon(server, QUICK | {"POPAD_MAX_SESSIONS": "1", "POPAD_TIMEOUT": "1"}) as running:
        client = logged_in(running)
        (session,) = running.sessions
        os.kill(session, signal.SIGSTOP)
        assert client.rest() == b""
        client.close()
        wait_until(lambda: gone(session))
        (entry,) = running.entries("session-stopped")
        assert entry["pid"] == str(session)
        wait_until(lambda: running.at_rest)
        assert "peer-silent" not in server.events


def test_a_session_that_is_stopped_and_goes_on(server: Server) -> None:
    with daemon(server, QUICK) as running:
        client = logged_in(running)
        (session,) = running.sessions
        os.kill(session, signal.SIGSTOP)
        client.send(b"NOOP\r\n")
        os.kill(session, signal.SIGCONT)
        assert client.line().startswith(b"+OK")
        assert client.ask("QUIT").startswith(b"+OK")
        client.close()
        wait_until(lambda: running.at_rest)


def test_a_session_that_is_killed(server: Server) -> None:
    """Its slot is free in time, its preauth child goes, the client sees the end, and nothing is left of it."""
    with daemon(server, QUICK | {"POPAD_MAX_SESSIONS": "1"}) as running:
        client = running.connect()
        assert client.line().startswith(b"+OK")
        (session,) = running.sessions
        wait_until(lambda: bool(children_of(session)))
        (preauth,) = children_of(session)
        os.kill(session, signal.SIGKILL)
        assert client.rest() == b""
        client.close()
        wait_until(lambda: gone(preauth) and gone(session))
        assert not running.zombies

        def served() -> bool:
            client = running.connect()
            greeting = client.line()
            client.close()
            return greeting.startswith(b"+OK")

        wait_until(served)


@needs_root
def test_keys_are_made_at_the_start_and_at_a_reload(server: Server) -> None:
    """No client has come yet."""
    config = server.path / "popad.conf"
    config.write_text(f"POPAD_STATE={server.path}/missing\n")
    ports = free_ports(socket.AF_INET, "127.0.0.1")
    arguments = [f"--listen=127.0.0.1:{ports[0]}", f"--config={config}"]
    with daemon(server, {"POPAD_STATE": "-"}, arguments, ports) as running:
        assert (server.cache / ".key").stat().st_uid == 0
        config.write_text(f"POPAD_STATE={server.state}\n")
        running.reload()
        assert (server.state / ".key").stat().st_uid == 0


# -- the spare session ------------------------------------------------------------------------------------------------


def test_no_descriptor_left_for_a_spare(server: Server) -> None:
    """The daemon goes on without one, and has one again when it can."""
    with daemon(server, QUICK) as running:
        wait_until(lambda: running.at_rest)
        pid = running.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")), limits[1]))
        os.kill(running.spare, signal.SIGKILL)
        wait_until(lambda: running.children == [running.helper])
        time.sleep(1.5)  # longer than the pause before the next try
        assert running.children == [running.helper]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        wait_until(lambda: running.at_rest)
        client = running.connect()
        assert client.log_in().startswith(b"+OK")
        client.close()


def test_no_zombies_and_no_descriptors_after_many_sessions(server: Server) -> None:
    with daemon(server, QUICK | {"POPAD_MAX_SESSIONS_PER_SOURCE": "500"}) as running:
        logged_in(running).close()
        before = sorted(os.listdir(f"/proc/{running.process.pid}/fd"))
        for _ in range(30):
            client = running.connect()
            assert client.line().startswith(b"+OK")
            client.close()
        wait_until(lambda: running.at_rest)
        assert sorted(os.listdir(f"/proc/{running.process.pid}/fd")) == before


def test_watchdog(server: Server) -> None:
    with daemon(server, QUICK, environment={"WATCHDOG_USEC": "100000"}) as running:
        for _ in range(2):
            running.systemd.hear("WATCHDOG=1")


def test_guessing_is_slowed_down_across_sessions(server: Server) -> None:
    with daemon(server, {"POPAD_GUESS_DELAY": "2"}) as running:

        def fails_after(password: str) -> float:
            client = running.connect()
            client.line()
            client.ask(f"USER {NAME}")
            begun = now()
            assert client.ask(f"PASS {password}").startswith(b"-ERR [AUTH]")
            client.close()
            return now() - begun

        assert fails_after("guess") >= 1
        assert fails_after("another guess") >= 2
        neighbour = running.connect(source="127.0.0.2")
        neighbour.line()
        neighbour.ask("USER bob")
        begun = now()
        assert neighbour.ask("PASS guess").startswith(b"-ERR [AUTH]")
        assert now() - begun < 2
        neighbour.close()
        assert [entry["reason"].partition("; ")[2] for entry in running.entries("login-failed", 2)[:2]] == [
            f"put off for {seconds} s, after wrong passwords for this name" for seconds in (1, 2)
        ]


def test_a_forgotten_device_does_not_keep_its_network_out(server: Server) -> None:
    """24 users behind one address, where a phone goes on asking with an old password; each waits a second at most."""
    names = [f"user{number}" for number in range(24)]
    verifier = server.credentials.read_text().partition(" ")[2]
    server.credentials.write_text("".join(f"{name} {verifier}" for name in [NAME, *names]))
    with daemon(server) as running:

        def log_in(name: str, password: str) -> bytes:
            with closing(running.connect()) as client:
                assert client.line().startswith(b"+OK")
                client.ask(f"USER {name}")
                client.send(f"PASS {password}\r\nQUIT\r\n".encode())
                return client.rest().partition(b" ")[0]

        with ThreadPoolExecutor(12) as clients:
            assert set(clients.map(lambda _: log_in(NAME, "the old one"), range(5))) == {b"-ERR"}
            begun = now()
            assert list(clients.map(lambda name: log_in(name, PASSWORD), names)) == [b"+OK"] * 24
        assert now() - begun < 15  # what one of them waited before


def test_a_verdict_is_not_put_off_beyond_its_time_limit(server: Server) -> None:
    """It would be [SYS/TEMP] then."""
    with daemon(server, {"POPAD_GUESS_DELAY": "60", "POPAD_AUTH_TIMEOUT": "2"}) as running:
        for guess in range(3):  # the third would wait 4 s
            client = running.connect()
            client.line()
            client.ask(f"USER {NAME}")
            assert client.ask(f"PASS guess {guess}").startswith(b"-ERR [AUTH]")
            client.close()


# -- what the journal has of its life


def test_where_it_listens_and_how_it_stops(server: Server) -> None:
    """One session ends by itself in its time, one is told to; each has its end in the journal."""
    with daemon(server, QUICK | {"POPAD_STOP_TIMEOUT": "1"}) as running:
        (started,) = running.entries("daemon-started")
        assert (started["addresses"], started["version"]) == (f"127.0.0.1:{running.ports[0]}", __version__)
        assert started["max_sessions"] == "230"
        stays, leaves = running.connect(), running.connect()
        for client in (stays, leaves):
            client.log_in()
        running.process.terminate()
        running.systemd.hear("STOPPING=1")
        leaves.ask("QUIT")
        assert running.ended() == 0
        (stopped,) = running.entries("daemon-stopped")
        assert (stopped["finished"], stopped["told"]) == ("1", "1")
        assert len(running.entries("session-interrupted")) == 1
        assert len(running.entries("session-closed", 2)) == 2


def test_memory_that_cannot_be_shared(server: Server) -> None:
    """With a Python that is not as it is known; Debian's makes no such entry (above, and in tests/system)."""
    otherwise = "from popad.privsep import immortal; immortal.FIRST = immortal.LAST = (3, 11); "
    python, option, whole = POPAD_WITHOUT_JOURNAL
    with daemon(server, QUICK, program=(python, option, otherwise + whole)) as running:
        (entry,) = running.entries("memory-not-shared")
        assert entry["reason"].startswith("Python 3.")
        logged_in(running).ask("QUIT")
