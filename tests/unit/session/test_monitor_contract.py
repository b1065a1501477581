"""session/monitor.py: processes that say what they may not end the session, with a reason in the log and no answer."""

import os
import socket
import sys
from collections.abc import Iterator

import pytest

from popad.auth import verdict as verdicts
from popad.auth.verdict import Verdict
from popad.errors import ContractBroken, MaildropUnavailable
from popad.net import arrival
from popad.net.connection import Connection
from popad.privsep import spawn
from popad.privsep.channel import Channel, message_pair
from popad.session import monitor
from popad.session.context import Context
from popad.session.preauth import QUIT, Preauth, client_of
from popad.settings import PREAUTH_UIDS, Settings
from popad.sinks import Words
from tests.support.marks import needs_root
from tests.support.patience import PATIENCE
from tests.support.serving import PREAUTH_USER, PYTHON, Server, ids

HOSTILE = """
import os, sys
from popad import sinks
from popad.auth import helper
from popad.privsep.identity import become
from popad.privsep import spawn
from popad.session import monitor
from popad.session import preauth
sinks.journald.path = "/nonexistent"
helper.REQUEST_TIMEOUT = 0.2
monitor.GRACE = -0.8  # with POPAD_LOGIN_TIMEOUT=1 the child is given up after 0.2 s
spawn.PATIENCE = 0.2
def preauth_role(channel, credentials, *asked):
    say = credentials.send
    {role}
preauth.preauth_role = preauth_role
from popad.__main__ import main
main()
"""
GOOD = 'say((b"USER", b"alice", b"secret")); '
ROLES = {
    "says nothing and leaves": "pass",
    "says nothing and stays": "channel.receive([1], None)",
    "says nothing and stays for good": "os.read(os.pipe()[0], 1)",
    "speaks another language": GOOD + 'channel.send((b"LOGIN", b""))',
    "wants something else": GOOD + 'channel.send((b"root", b""))',
    "says too little": GOOD + 'channel.send((b"login",))',
    "says too much": GOOD + 'channel.send((b"login", b"", b""))',
    "sends a long rest": GOOD + 'channel.send((b"login", b"x" * 32769))',
    "sends rubbish": 'channel.socket.send(b"\\xff" * 100)',
    "logs in twice": GOOD + 'channel.send((b"login", b"")); channel.send((b"login", b""))',
    "logs in and leaves": GOOD + 'channel.send((b"login", b"")); channel.send((b"quit", b""))',
    "tells a password": 'channel.send((b"quit", b"USER hunter2"))',
    "tells too much": 'channel.send((b"gone", b" ".join([b"CAPA"] * 17)))',
    "tells nothing": 'channel.send((b"quit",))',
    "logs in with a descriptor": GOOD + 'channel.send((b"login", b""), 0)',
    "logs in and crashes": GOOD + 'channel.send((b"login", b"")); os._exit(1)',
    "logs in and is killed": GOOD + 'channel.send((b"login", b"")); os.kill(os.getpid(), 9)',
    "names nobody and leaves": 'channel.send((b"login", b""))',
    "names nobody and stays": 'channel.send((b"login", b"")); channel.receive([1], None)',
    "names a long name": 'say((b"a" * 256, b"secret")); channel.send((b"login", b""))',
    "names three things": 'say((b"USER", b"alice", b"secret", b"")); channel.send((b"login", b""))',
    "names two": GOOD + GOOD + 'channel.send((b"login", b""))',
    "names with a descriptor": 'say((b"USER", b"alice", b"secret"), 0); channel.send((b"login", b""))',
}


@pytest.mark.parametrize("role", ROLES)
def test_a_child_that_breaks_the_contract_ends_the_session(server: Server, role: str) -> None:
    """Nothing is answered, nobody is authenticated, and the reason is in the log."""
    program = [PYTHON, "-c", HOSTILE.format(role=ROLES[role])]
    with server.session({"POPAD_LOGIN_TIMEOUT": "1"}, program) as (client, process):
        assert client.rest() == arrival.GREETING
        assert process.wait(PATIENCE) == 70
    broken = [line for line in server.stderr.read_text().splitlines() if line.startswith("event=")][-1]
    assert broken.startswith("event=contract-broken priority=3 ")
    assert "login-passed" not in server.stderr.read_text()


@needs_root
def test_a_child_that_stays_and_cannot_be_killed(server: Server) -> None:
    """In the unit the session has no CAP_KILL: it ends itself, and systemd what is left."""
    code = HOSTILE.format(role="import time; become(*asked[3]); time.sleep(2)")
    program = ["setpriv", "--bounding-set", "-kill", PYTHON, "-c", code]
    with server.session({"POPAD_LOGIN_TIMEOUT": "1"}, program) as (client, process):
        assert client.rest() == arrival.GREETING
        assert process.wait(PATIENCE) == 70
    assert (server.log[-1]["event"], server.log[-1]["reason"]) == ("contract-broken", "a child does not end")


# A helper's answer to every request, and what becomes of the login.
VERDICTS = {
    "root": ([b"passed", b"alice", b"0", b"0", b"mbox:/var/mail/alice", b"", b"", b""], "contract-broken"),
    "nobody by name": ([b"passed", b"", b"65534", b"65534", b"mbox:/var/mail/alice", b"", b"", b""], "contract-broken"),
    "no path": ([b"passed", b"alice", b"65534", b"65534", b"mbox:mail/alice", b"", b"", b""], "contract-broken"),
    "a way up": (
        [b"passed", b"alice", b"65534", b"65534", b"mbox:/var/mail/../../etc", b"", b"", b""],
        "contract-broken",
    ),
    "another store": (
        [b"passed", b"alice", b"65534", b"65534", b"x:/var/mail/alice", b"", b"", b""],
        "contract-broken",
    ),
    "a lock file": (
        [b"passed", b"alice", b"65534", b"65534", b"mbox:/var/mail/b.lock", b"", b"", b""],
        "contract-broken",
    ),
    "no group": ([b"passed", b"alice", b"65534", b"65534", b"mbox:/x", b"", b"8,root", b""], "login-unavailable"),
    "no verdict": ([b"perhaps", b"", b"0", b"0", b"", b"", b"", b""], "login-unavailable"),
    "no number": ([b"passed", b"alice", b"-1", b"0", b"mbox:/x", b"", b"", b""], "login-unavailable"),
    "too short": ([b"passed", b"alice"], "login-unavailable"),
}


@pytest.mark.parametrize("what", VERDICTS)
def test_a_verdict_is_checked_again(server: Server, what: str) -> None:
    answer, event = VERDICTS[what]
    path = server.path / "auth.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(PATIENCE)
        with server.session({"POPAD_AUTH_SOCKET": str(path)}) as (client, process):
            client.line()
            client.ask("USER alice")
            client.send(b"PASS secret\r\n")
            asking, _ = listening.accept()
            with asking:
                asking.recv(4096)
                asking.sendall(b"".join(len(field).to_bytes(4, "big") + field for field in answer))
                heard = client.rest()
            client.close()
            assert process.wait(PATIENCE) == (70 if event == "contract-broken" else 0)
    assert heard == (b"" if event == "contract-broken" else monitor.LATER)
    assert server.events[-1] == event
    assert "login-passed" not in server.events


@needs_root
@pytest.mark.parametrize("uid", [ids(PREAUTH_USER)[0], PREAUTH_UIDS[1]])
def test_a_verdict_for_the_user_of_preauth_is_refused(server: Server, uid: int) -> None:
    VERDICTS["preauth"] = (
        [b"passed", b"alice", b"%d" % uid, b"1", b"mbox:/var/mail/alice", b"", b"", b""],
        "contract-broken",
    )
    test_a_verdict_is_checked_again(server, "preauth")


# -- a table with rows after which the child may go on: all of today's end what it may say

STEP, LAST = b"step", b"last"


class Child:
    """A monitor whose child is played here, and the requests that were served."""

    def __init__(self, made: monitor.Monitor, says: Channel) -> None:
        self.monitor = made
        self.channel = says
        self.served: list[bytes] = []

    def ask(self, request: bytes) -> None:
        """Make a request, and let the monitor look at it."""
        self.channel.send((request,))
        self.monitor.serve_request()


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    """STEP may come twice, LAST once and after a STEP alone."""
    client, server = socket.socketpair()
    (ours, theirs), (credentials, its_end) = ([Channel(end) for end in message_pair()] for _ in range(2))
    facts = arrival.Facts(Settings({}), None, None)
    context = Context(arrival.Arrival(Connection(server.detach(), "", None), facts))
    child = Child(monitor.Monitor(context, monitor.Relays(), Preauth(spawn.Child(None, ours), credentials)), theirs)
    its_client, _ = client_of(theirs)
    assert its_client

    def serve(made: monitor.Monitor, request: bytes, _fields: list[bytearray]) -> None:
        child.served.append(request)
        made.state = "stepped"

    rows = (
        monitor.Row(STEP, (), (monitor.GREETED, "stepped"), 2, serve),
        monitor.Row(LAST, (), ("stepped",), 1, serve),
    )
    monkeypatch.setattr(monitor, "TABLE", {row.request: row for row in rows})
    monkeypatch.setattr(monitor, "SHAPES", {row.request: row.limits for row in rows})
    yield child
    for end in (client, context.connection.socket, its_client.socket, ours, theirs, credentials, its_end):
        end.close()


def test_a_request_is_served_as_often_as_its_row_says(child: Child) -> None:
    for request in (STEP, STEP, LAST):
        child.ask(request)
    assert child.served == [STEP, STEP, LAST]


@pytest.mark.parametrize(
    "before", [pytest.param([], id="in another state"), pytest.param([STEP, LAST], id="once too often")]
)
def test_a_request_that_may_not_come_now_is_not_served(child: Child, before: list[bytes]) -> None:
    for request in before:
        child.ask(request)
    with pytest.raises(ContractBroken, match="asked for last, which may not come now"):
        child.ask(LAST)
    assert child.served == before


# -- steps by themselves


@pytest.fixture
def context() -> Iterator[Context]:
    """Of a client that has been greeted, with a preauth child that is uid 1000 and gid 1001."""
    client, server = socket.socketpair()
    with client:
        context = Context(
            arrival.Arrival(Connection(server.detach(), "", None), arrival.Facts(Settings({}), None, (1000, 1001)))
        )
        yield context
        context.connection.socket.close()


def test_exit_statuses_are_those_of_sysexits() -> None:
    assert (monitor.SUCCESS, monitor.SOFTWARE, monitor.CONFIG) == (os.EX_OK, os.EX_SOFTWARE, os.EX_CONFIG)


@pytest.mark.parametrize(("uid", "passes"), [(1001, True), (1000, False)])
def test_only_the_uid_of_the_preauth_child_is_nobodys(context: Context, uid: int, passes: bool) -> None:
    """A user may have the number that is its group's."""
    verdict = Verdict(verdicts.PASSED, "alice", uid, uid, "mbox:/var/mail/alice")
    if passes:
        assert monitor.passed(context, verdict)
    else:
        with pytest.raises(ContractBroken, match="named uid 1000"):
            monitor.passed(context, verdict)


def test_who_has_become_the_user_has_logged_in(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """And who may not become the user has not: a session's slot goes by it."""
    became: list[int] = []
    context.state = MaildropUnavailable("SYS/TEMP", "no place")
    monkeypatch.setattr(monitor, "become", lambda uid, gid, groups: became.append(uid))
    monkeypatch.setattr(monitor, "never_gain_privileges", lambda: None)
    verdict = Verdict(verdicts.PASSED, "alice", 1005, 1005, "mbox:/var/mail/alice")
    assert not context.logged_in
    assert monitor.may_become(context, verdict)
    assert (became, context.logged_in) == ([1005], True)

    def refuse(uid: int, gid: int, groups: object) -> None:
        raise PermissionError("not this one")

    context.logged_in = False
    monkeypatch.setattr(monitor, "become", refuse)
    assert not monitor.may_become(context, verdict)
    assert not context.logged_in


class Told:
    """A monitor that has heard that the client left."""

    verdict: Verdict | None = None
    why_not = QUIT

    def run(self) -> None:
        """It has."""


def test_systemd_hears_of_a_session_that_had_no_login(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends before it was ready has failed (Type=notify). And no print of it can end it, from here on."""
    monkeypatch.setattr("sys.stderr", sys.stderr)
    monitor.authorize(context, Told())  # type: ignore[arg-type]  # what it uses of a monitor
    assert context.notifier is not None
    assert isinstance(sys.stderr, Words)


def test_a_refused_client_is_heard_out_without_the_places(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    monkeypatch.setattr("sys.stderr", sys.stderr)
    monkeypatch.setattr(context, "close_places", lambda: closed.append(True))
    monkeypatch.setattr(monitor, "become_preauth", lambda uid, gid: closed.append(False))
    made = Told()
    made.verdict = Verdict(verdicts.FAILED, reason="wrong")
    monitor.authorize(context, made)  # type: ignore[arg-type]  # what it uses of a monitor
    assert closed == [True, False]
