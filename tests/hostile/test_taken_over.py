"""Authorization children that have been taken over: what they can do to one another, and for how long."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from popad.net import arrival
from popad.privsep import spawn
from popad.privsep.identity import MUCH, ROOM
from popad.settings import PREAUTH_UIDS
from tests.support.attacker import AGAINST_OTHERS, SIGNALS
from tests.support.daemon import daemon
from tests.support.here import CHECKOUT
from tests.support.marks import needs_root
from tests.support.patience import wait_until
from tests.support.serving import PYTHON, Client, Server, children_of, ids, read_logfmt, status_of

ATTACKER = [PYTHON, str(CHECKOUT / "tests/support/attacker.py")]
# The container's capabilities: a session may become its user, and kill nobody.
WITHOUT_CAP_KILL = ["setpriv", "--bounding-set", "-all,+setuid,+setgid"]
ENVIRONMENT = {"PYTHONPATH": str(CHECKOUT), "NO_JOURNAL": "yes"}
ALL_SIGNALS = sum(1 << number - 1 for number in SIGNALS)
REFUSED = {"EPERM", "EMFILE", "ESRCH", "EACCES"}
SHAPES = ("inetd", "daemon")
IN_A_CONTAINER = """
import ctypes, os
from popad.commands import check
from popad.privsep.identity import MUCH, ROOM, become_preauth
from popad.privsep import spawn
from popad.settings import PREAUTH_UIDS
new_user = 0x10000000  # CLONE_NEWUSER
assert ctypes.CDLL(None).unshare(new_user) == 0
print("ready", flush=True)
input()
print(check.mapped(PREAUTH_UIDS))
become_preauth(1, 2)
print(*os.getresuid(), *os.getresgid(), *os.getgroups())
"""


class PreauthChild:
    """A client, its session, and the authorization child that does what the client says."""

    def __init__(self, client: Client, session_pid: int) -> None:
        self.client = client
        self.session = session_pid
        assert client.line() == arrival.GREETING
        assert self.does("ping") == "done"  # it has given up all that it gives up
        (self.pid,) = children_of(session_pid)

    def does(self, command: str, victim: int = 0) -> str:
        return self.client.ask(f"{command} {victim}").decode()

    def starts(self, command: str) -> None:
        self.client.send(f"{command} 0\r\n".encode())

    @property
    def uid(self) -> int:
        return int(status_of(self.pid)["Uid"].split()[0])


@pytest.fixture
def server(public_path: Path) -> Server:
    return Server(public_path)


@contextmanager
def preauth_children(
    server: Server, shape: str, count: int, wrapper: tuple[str, ...] = (), **settings: str
) -> Iterator[list[PreauthChild]]:
    """So many at once, served by inetd (a process for each) or by the daemon."""
    program = [*wrapper, *ATTACKER]
    given = {f"POPAD_{name.upper()}": value for name, value in settings.items()}
    if shape == "daemon":
        with daemon(server, given, program=program, environment=ENVIRONMENT) as running:
            found: list[PreauthChild] = []
            for _ in range(count):
                known = {each.session for each in found}
                client = running.connect()
                wait_until(lambda known=known: len(set(running.sessions) - known) == 1)  # type: ignore[misc]  # mypy infers no lambda with defaults
                (pid,) = set(running.sessions) - known
                found.append(PreauthChild(client, pid))
            yield found
            for each in found:
                each.client.close()
    elif count:
        with server.session(given, program, ENVIRONMENT) as (client, process):
            first = PreauthChild(client, process.pid)
            with preauth_children(server, shape, count - 1, wrapper, **settings) as others:
                yield [first, *others]
    else:
        yield []


def gone(pid: int) -> bool:
    """Whether the process has ended, whoever has to wait for it."""
    try:
        return status_of(pid)["State"].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


# -- one against the other


@needs_root
@pytest.mark.parametrize("shape", SHAPES)
def test_a_uid_of_its_own(server: Server, shape: str) -> None:
    """The group is that of POPAD_USER, and the only one."""
    with preauth_children(server, shape, 3) as some:
        assert {each.uid for each in some} == {PREAUTH_UIDS[each.pid] for each in some}
        gid = str(ids(server.settings["POPAD_USER"])[1])
        for each in some:
            status = status_of(each.pid)
            assert (status["Gid"], status["Groups"]) == (" ".join([gid] * 4), gid)
            assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}


@needs_root
@pytest.mark.parametrize("shape", SHAPES)
def test_nobody_can_do_anything_to_another(server: Server, shape: str) -> None:
    """Neither to the child of another session, nor to its own session."""
    with preauth_children(server, shape, 2) as (attacker, victim):
        for target in (victim.pid, attacker.session):
            for attempt in AGAINST_OTHERS:
                done = attacker.does(attempt, target)
                allowed = {"owner": {"done"}, "owner thread": {"done"}, "notify": {"ENOTDIR"}}
                assert done in allowed.get(attempt, REFUSED), (attempt, done)
                assert attacker.does("ping") == "done"  # whose octets make the kernel signal an owner
                assert victim.does("ping") == "done", attempt


@needs_root
def test_where_there_are_no_such_uids() -> None:
    """A rootless container has 65,536 of them: there it is POPAD_USER's, and `popad check` says so."""
    with subprocess.Popen([PYTHON, "-c", IN_A_CONTAINER], cwd=CHECKOUT, stdin=PIPE, stdout=PIPE, text=True) as inside:
        assert inside.stdin and inside.stdout
        assert inside.stdout.readline() == "ready\n"
        for which in ("uid", "gid"):
            Path(f"/proc/{inside.pid}/{which}_map").write_text("0 0 65536\n")
        inside.stdin.write("\n")
        inside.stdin.flush()
        assert inside.stdout.readline() == "False\n"
        assert inside.stdout.readline() == "1 1 1 2 2 2 2\n"


# -- for how long


@needs_root
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("wrapper", [(), WITHOUT_CAP_KILL], ids=["with CAP_KILL", "without"])
def test_it_is_gone_when_its_session_gives_it_up(server: Server, shape: str, wrapper: tuple[str, ...]) -> None:
    """It ignores all signals, and has taken back what the kernel was to do at its session's end."""
    with preauth_children(server, shape, 1, tuple(wrapper), login_timeout="1") as (child,):
        child.starts("outlive")
        assert child.client.rest() == b""
        wait_until(lambda: gone(child.session) and gone(child.pid))
    broken = read_logfmt(server.stderr.read_text().splitlines()[-1])
    assert (broken["event"], broken["reason"]) == (
        "contract-broken",
        "the preauth child did not keep its time limit",
    )


@needs_root
@pytest.mark.parametrize(
    ("shape", "does", "wrapper"),
    [
        ("inetd", "loop", []),
        ("daemon", "loop", []),
        ("daemon", "loop", WITHOUT_CAP_KILL),
        ("daemon", "outlive", []),
        ("daemon", "outlive", WITHOUT_CAP_KILL),
    ],
)
def test_it_is_gone_when_its_session_is_killed(server: Server, shape: str, does: str, wrapper: list[str]) -> None:
    """It ignores all signals. Under inetd one that undoes what the kernel was asked for has its time limit only."""
    with preauth_children(server, shape, 1, tuple(wrapper)) as (child,):
        child.starts(does)
        wait_until(lambda: int(status_of(child.pid)["SigIgn"], 16) & ALL_SIGNALS == ALL_SIGNALS)
        os.kill(child.session, signal.SIGKILL)
        wait_until(lambda: gone(child.pid))


@pytest.mark.parametrize("shape", SHAPES)
def test_it_gets_little_processor_time(server: Server, shape: str) -> None:
    """Even where nobody is left to end it: what POPAD_LOGIN_TIMEOUT could ever need."""
    with preauth_children(server, shape, 1, login_timeout="20") as (child,):
        limits = Path(f"/proc/{child.pid}/limits").read_text()
        assert re.search(r"^Max cpu time +2[012] +2[012] ", limits, re.M), limits


@pytest.mark.parametrize("shape", SHAPES)
def test_it_gets_little_memory(server: Server, shape: str) -> None:
    with preauth_children(server, shape, 1) as (child,):
        assert int(status_of(child.pid)["VmSize"].split()[0]) * 1024 < MUCH
        had = int(child.does("eat").removeprefix("done "))
        assert ROOM // 2 < had <= ROOM
        assert child.does("ping") == "done"


# -- what it can write


@pytest.mark.parametrize("shape", SHAPES)
def test_what_it_says_is_heard_by_nobody(server: Server, shape: str) -> None:
    with preauth_children(server, shape, 1) as (child,):
        assert {os.readlink(f"/proc/{child.pid}/fd/{standard}") for standard in (0, 1, 2)} == {"/dev/null"}
        assert child.does("lie") == "done"
    assert "login-passed" not in server.stderr.read_text()


@pytest.mark.parametrize("shape", SHAPES)
def test_how_it_has_died_is_in_the_journal(server: Server, shape: str) -> None:
    """A traceback would be read by nobody."""
    with preauth_children(server, shape, 1) as (child,):
        child.starts("crash")
        assert child.client.rest() == b""
        wait_until(lambda: "contract-broken" in server.stderr.read_text())
    broken = read_logfmt(server.stderr.read_text().splitlines()[-1])
    assert broken["reason"].endswith(f"(the preauth child, exit status {spawn.CRASHED})")
    assert "Traceback" not in server.stderr.read_text()
