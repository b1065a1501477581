"""privsep/helpers.py: a helper reached by its socket and on demand, against the real one (relays: test_pool.py)."""

import os
import select
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.auth.helper import Helper
from popad.auth.verdict import CANCELLED, REQUEST_LIMITS, UNAVAILABLE, Verdict
from popad.errors import ContractBroken
from popad.privsep import helpers, spawn
from popad.privsep import pool as keeping
from popad.privsep.channel import Channel, message_pair
from popad.settings import Settings
from tests.support.descriptors import descriptors
from tests.support.forked import Forked
from tests.support.here import ROOT
from tests.support.patience import PATIENCE
from tests.support.serving import children_of, sockets_of


def shout(channel: Channel) -> None:
    """The helper of these tests: one request, one answer, and the process that answers. Dies when asked to."""
    (word,) = channel.receive([20], PATIENCE)
    if word == b"die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == b"raise":
        os.close(2)  # the traceback is expected
        raise KeyError
    if word == b"chatter":
        channel.send([b"a", b"b", b"c"])
    if word == b"wait":
        channel.receive([20], None)
    channel.send([bytes(word).upper(), b"%d" % os.getpid()])


class ServingHelper(Forked):
    """A helper in a process of its own, with a socket as systemd passes it."""

    def __init__(self, path: Path, idle: float) -> None:
        self.path = str(path)
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listening.bind(self.path)
        self.listening.listen()
        os.chmod(self.path, 0o777)
        super().__init__(lambda: keeping.serve_requests(keeping.Listener(self.listening.detach()), shout, idle))

    def close(self) -> None:
        super().close()
        self.listening.close()


@pytest.fixture
def helper(public_path: Path) -> Iterator[ServingHelper]:
    helper = ServingHelper(public_path / "socket", PATIENCE)
    yield helper
    helper.close()


@pytest.fixture(params=["by socket", "on demand"])
def path(request: pytest.FixtureRequest) -> str:
    """What reaches a helper: its socket, or nothing."""
    return str(request.getfixturevalue("helper").path) if request.param == "by socket" else ""


def ask(path: str, word: bytes, timeout: float = PATIENCE) -> list[bytearray]:
    helper = helpers.by_socket(path) if path else helpers.on_demand(shout)
    return helpers.ask(helper, [word], [20, 20], timeout)


def test_both_ways_give_the_same_answer(path: str) -> None:
    assert ask(path, b"hello")[0] == b"HELLO"


def test_who_answers() -> None:
    """On demand, each request has a process of its own."""
    pids = {bytes(ask("", b"hello")[1]) for _ in range(5)}
    assert len(pids) == 5
    assert b"%d" % os.getpid() not in pids


@pytest.mark.parametrize("word", [b"die", b"raise", b"chatter"])
def test_a_request_that_goes_wrong_takes_itself_with_it(path: str, word: bytes) -> None:
    with pytest.raises(ContractBroken):
        ask(path, word)
    assert ask(path, b"again")[0] == b"AGAIN"


def test_an_answer_is_not_waited_for_for_ever(path: str) -> None:
    with pytest.raises(TimeoutError):
        ask(path, b"wait", timeout=0.05)
    assert ask(path, b"again")[0] == b"AGAIN"


def test_no_child_is_left_on_demand() -> None:
    before = children_of(os.getpid())
    ask("", b"hello")
    with pytest.raises(ContractBroken):
        ask("", b"die")
    assert children_of(os.getpid()) == before


@pytest.mark.parametrize("make", ["missing", "deserted", "file"])
def test_a_helper_that_cannot_be_reached(tmp_path: Path, make: str) -> None:
    path = tmp_path / "socket"
    if make == "deserted":
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(str(path))
    elif make == "file":
        path.touch()
    with pytest.raises(OSError):
        ask(str(path), b"hello")


def test_a_relay() -> None:
    """Its other end gets one end of a new channel, and the caller's copies of that are closed."""
    ours, theirs = message_pair()
    before = len(descriptors())
    relay = helpers.HelperRelay(ours)
    child = relay.reach()
    with socket.socket(fileno=theirs.detach()) as other:
        _, (fd,), _, _ = socket.recv_fds(other, 10, 2)
    with socket.socket(fileno=fd) as end:
        child.channel.send([b"hello"])
        assert Channel(end).receive([5], PATIENCE) == [b"hello"]
    child.end()
    relay.close()
    assert len(os.listdir("/proc/self/fd")) == before - 2


def test_a_relay_to_nobody() -> None:
    ours, theirs = message_pair()
    theirs.close()
    before = len(descriptors())
    with pytest.raises(OSError):
        helpers.HelperRelay(ours).reach()
    assert len(os.listdir("/proc/self/fd")) == before
    ours.close()


def test_requests_at_the_same_time(helper: ServingHelper) -> None:
    """One that hangs keeps nobody else waiting."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as hanging:
        hanging.connect(helper.path)
        Channel(hanging).send([b"wait"])
        assert ask(helper.path, b"hello")[0] == b"HELLO"


def test_a_client_that_says_nothing(helper: ServingHelper) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.connect(helper.path)
        assert ask(helper.path, b"hello")[0] == b"HELLO"


def test_only_root_and_its_own_user_are_answered(helper: ServingHelper) -> None:
    """Though the socket is open to all here: the mode of its path is the first door, this is the second."""
    if not ROOT:
        pytest.skip("needs root: becomes another user")

    def role(channel: Channel) -> None:
        os.setresuid(65534, 65534, 65534)
        try:
            ask(helper.path, b"hello")
        except (ContractBroken, OSError) as refused:
            channel.send([type(refused).__name__.encode()])
        else:
            channel.send([b"answered"])

    child = spawn.with_channel(role)
    answer = child.channel.receive([30], PATIENCE)
    child.end()
    assert bytes(answer[0]) in (b"ContractBroken", b"BrokenPipeError", b"ConnectionResetError")
    assert ask(helper.path, b"hello")[0] == b"HELLO"


def test_it_leaves_when_nobody_has_asked(public_path: Path) -> None:
    helper = ServingHelper(public_path / "socket", 0.05)
    try:
        assert helper.left() == 0
    finally:
        helper.close()


def test_a_request_to_one_that_has_left_waits_for_the_next(public_path: Path) -> None:
    """systemd keeps the socket listening: nothing is refused between two lives of the helper."""
    helper = ServingHelper(public_path / "socket", 0.01)
    try:
        assert helper.left() == 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as waiting:
            waiting.connect(helper.path)
            Channel(waiting).send([b"hello"])
            pid = os.fork()
            if pid == 0:
                try:
                    keeping.serve_requests(keeping.Listener(helper.listening.fileno()), shout, 0.01)
                finally:
                    os._exit(0)
            assert Channel(waiting).receive([20, 20], PATIENCE)[0] == b"HELLO"
            os.waitpid(pid, 0)
    finally:
        helper.close()


def test_workers_leave_no_zombies(helper: ServingHelper) -> None:
    """Nobody waits for those that end: the kernel must reap them."""
    for _ in range(5):
        pid = int(ask(helper.path, b"hello")[1])
        gone = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        assert select.select([gone], [], [], PATIENCE)[0]
        os.close(gone)
    states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in children_of(helper.pid)]
    assert "Z" not in states


# -- a verdict


class Conversation:
    """What a verdict is asked for with, and what was done meanwhile."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.settings = Settings(environ)
        self.done: list[str] = []

    def verdict(self, relay: helpers.HelperRelay | None = None, *credentials: bytes) -> Verdict:
        ours, theirs = (Channel(end) for end in message_pair())
        try:
            ours.send(credentials or (b"USER", b"alice", b"secret"))
            done = self.done
            return helpers.verdict(
                self.settings, relay, (b"192.0.2.7", b"", b""), theirs, lambda: done.append("meanwhile")
            )
        finally:
            assert theirs.fileno() == -1  # nobody but the helper has that end
            ours.close()


def test_a_verdict_of_a_helper_on_demand(tmp_path: Path) -> None:
    """Here the credentials file cannot be read: the helper is asked, and knows nothing about the password."""
    asked = Conversation({"POPAD_AUTH": "file", "POPAD_CREDENTIALS": str(tmp_path / "missing")})
    said = asked.verdict()
    assert (said.which, set(asked.done)) == (UNAVAILABLE, {"meanwhile"})
    assert "missing" in said.reason


def test_a_helper_on_demand_has_nothing_of_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all sockets only its end of its channel: no client, and no other process of the session."""

    def serve(self: Helper, channel: Channel) -> None:
        channel.receive_with_channel(REQUEST_LIMITS, PATIENCE)[1].close()
        channel.send(Verdict(UNAVAILABLE, reason=f"{len(sockets_of(os.getpid()))} sockets").pack())

    monkeypatch.setattr(Helper, "serve", serve)
    with socket.socket():
        said = Conversation({"POPAD_AUTH": "file", "POPAD_CREDENTIALS": str(tmp_path / "missing")}).verdict()
    assert said.reason == "1 sockets"


def test_no_verdict_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Helper, "serve", lambda self, channel: signal.pause())
    monkeypatch.setattr(spawn, "PATIENCE", 0.05)
    environ = {"POPAD_AUTH": "file", "POPAD_CREDENTIALS": str(tmp_path / "missing"), "POPAD_AUTH_TIMEOUT": "1"}
    said = Conversation(environ).verdict()
    assert (said.which, said.reason) == (UNAVAILABLE, "no verdict in 1 seconds")


def test_what_is_done_while_the_helper_is_busy() -> None:
    """The channel that is passed on stays here, too: a client that cancels an exchange may begin anew."""

    def role(channel: Channel) -> None:
        channel.receive_with_channel([20], PATIENCE)[1].close()
        channel.send([b"HELLO"])

    ours, theirs = (Channel(end) for end in message_pair())
    seen: list[int] = []
    worker = helpers.on_demand(role)
    answer = helpers.ask(worker, [b"hello"], [20], PATIENCE, theirs, lambda: seen.append(theirs.fileno()))
    assert answer == [b"HELLO"]
    assert seen == [theirs.fileno()]
    ours.close()
    theirs.close()


def test_what_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known about the login then."""

    def serve(self: Helper, channel: Channel) -> None:
        channel.receive_with_channel(REQUEST_LIMITS, PATIENCE)[1].close()
        channel.send([b"welcome"] * 8)

    monkeypatch.setattr(Helper, "serve", serve)
    said = Conversation({"POPAD_AUTH": "file", "POPAD_CREDENTIALS": str(tmp_path / "missing")}).verdict()
    assert (said.which, said.reason) == (UNAVAILABLE, "the authentication helper: not a verdict")


def test_no_way_to_the_helper_is_a_verdict_as_well(tmp_path: Path) -> None:
    """What is to be done meanwhile is done in any case: systemd hears of the session from it."""
    asked = Conversation({"POPAD_AUTH_SOCKET": str(tmp_path / "nobody-listens")})
    said = asked.verdict()
    assert (said.which, set(asked.done)) == (UNAVAILABLE, {"meanwhile"})
    assert said.reason.startswith("the authentication helper: ")


def test_after_an_exchange_that_was_cancelled_the_channel_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(self: Helper, channel: Channel) -> None:
        channel.receive_with_channel(REQUEST_LIMITS, PATIENCE)[1].close()
        channel.send(Verdict(CANCELLED).pack())

    monkeypatch.setattr(Helper, "serve", serve)
    asked = Conversation({"POPAD_AUTH": "file", "POPAD_CREDENTIALS": str(tmp_path / "missing")})
    ours, theirs = (Channel(end) for end in message_pair())
    for _ in range(2):
        said = helpers.verdict(asked.settings, None, (b"192.0.2.7", b"", b""), theirs, lambda: None)
        assert (said.which, said.known) == (CANCELLED, True)
    ours.send([b"still here"])
    assert theirs.receive([10], PATIENCE) == [b"still here"]
    ours.close()
    theirs.close()


def test_a_helper_that_dies_before_it_is_asked_is_a_verdict_as_well(public_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(public_path / "socket"))
        listening.listen()
        asked = Conversation({"POPAD_AUTH_SOCKET": str(public_path / "socket")})

        def accept_and_hang_up() -> None:
            listening.accept()[0].close()

        hang_up = threading.Thread(target=accept_and_hang_up)
        hang_up.start()
        said = asked.verdict()
        hang_up.join()
    assert (said.which, set(asked.done)) == (UNAVAILABLE, {"meanwhile"})


def test_a_child_that_breaks_the_contract_ends_the_session(tmp_path: Path) -> None:
    asked = Conversation({"POPAD_AUTH": "file", "POPAD_CREDENTIALS": str(tmp_path / "missing")})
    with pytest.raises(ContractBroken, match="the preauth child: the name and the password"):
        asked.verdict(None, b"alice")
    assert set(asked.done) == {"meanwhile"}
