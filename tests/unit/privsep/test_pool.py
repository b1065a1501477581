"""privsep/pool.py: workers that answer over a relay or a listening socket: what the pool survives, when it leaves."""

import _socket
import contextlib
import math
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popad.errors import ContractBroken
from popad.privsep import helpers, pool, spawn
from popad.privsep.channel import Channel, message_pair
from tests.support.forked import Forked
from tests.support.here import ROOT
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import children_of


def shout(channel: Channel) -> None:
    """The role of these tests: one word, in capitals, and who says it. Dies or waits when asked to."""
    (word,) = channel.receive([20], PATIENCE)
    if word == b"die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == b"wait":
        channel.receive([20], None)
    channel.send([bytes(word).upper(), b"%d" % os.getpid()])


class Pool(Forked):
    """A process with a pool of workers."""

    def __init__(self, make: "Callable[[], pool.RelaySource | pool.Listener]", idle: float) -> None:
        def work() -> None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # it complains of what these tests do to it
            pool.serve_requests(make(), shout, idle, ending=pool.Ending())

        super().__init__(work)


class Relayed:
    """A daemon's side of a relay, and its helper."""

    def __init__(self) -> None:
        self.end, self.helpers_end = message_pair()
        self.pool = self.start()

    def start(self) -> Pool:
        def make() -> pool.RelaySource:
            self.end.close()
            return pool.RelaySource(self.helpers_end)

        return Pool(make, math.inf)

    def session(self) -> helpers.HelperRelay:
        """What a session inherits."""
        return helpers.HelperRelay(_socket.socket(fileno=os.dup(self.end.fileno())))

    def reach(self) -> spawn.Child:
        """A worker, as a session has one that asks once."""
        session = self.session()
        try:
            return session.reach()
        finally:
            session.close()

    def ask(self, word: bytes, timeout: float = PATIENCE) -> list[bytearray]:
        return helpers.ask(self.reach(), [word], [20, 20], timeout)

    def close(self) -> None:
        self.end.close()
        self.helpers_end.close()
        self.pool.close()


@pytest.fixture
def relayed() -> Iterator[Relayed]:
    relayed = Relayed()
    yield relayed
    relayed.close()


@contextlib.contextmanager
def pidfd(pid: int) -> Iterator[int]:
    fd = os.pidfd_open(pid)
    yield fd
    os.close(fd)


def worker(relayed: Relayed) -> int:
    """Who answers a request."""
    word, pid = relayed.ask(b"hello")
    assert word == b"HELLO"
    return int(pid)


def test_a_worker_answers_one_request_after_the_other(relayed: Relayed) -> None:
    """Never the pool's own process. One that has answered may not have said yet that it is free."""
    pids = {worker(relayed) for _ in range(50)}
    assert pids <= set(children_of(relayed.pool.pid))
    assert len(pids) < 10


def test_what_a_worker_leaks_has_an_end(relayed: Relayed) -> None:
    pids = [worker(relayed) for _ in range(3 * pool.REQUESTS)]
    assert max(map(pids.count, pids)) <= pool.REQUESTS


def test_a_worker_that_dies_while_it_waits_is_no_loss(relayed: Relayed) -> None:
    before = worker(relayed)
    with pidfd(before) as gone:
        os.kill(before, signal.SIGKILL)
        assert select.select([gone], [], [], PATIENCE)[0]
    assert worker(relayed) != before


def test_as_many_workers_as_requests_and_few_that_stay(relayed: Relayed) -> None:
    waiting = [relayed.reach() for _ in range(pool.MOST_FREE + 3)]
    for asked in waiting:
        asked.channel.send([b"wait"])
    wait_until(lambda: len(children_of(relayed.pool.pid)) == len(waiting))
    for asked in waiting:
        asked.channel.send([b"go on"])
        assert asked.channel.receive([20, 20], PATIENCE)[0] == b"WAIT"
        asked.end()
    wait_until(lambda: len(children_of(relayed.pool.pid)) == 1)
    assert [worker(relayed)] == children_of(relayed.pool.pid)


def test_workers_end_with_the_pool(relayed: Relayed) -> None:
    """Those that wait, and those that are busy when they have answered: no other one keeps their channels open."""
    waiting = [relayed.reach() for _ in range(3)]
    for asked in waiting:
        asked.channel.send([b"wait"])
    wait_until(lambda: len(children_of(relayed.pool.pid)) == 3)
    workers = children_of(relayed.pool.pid)
    with contextlib.ExitStack() as open_:
        ends = [open_.enter_context(pidfd(pid)) for pid in workers]
        waiting[0].channel.send([b"go on"])
        assert waiting[0].channel.receive([20, 20], PATIENCE)[0] == b"WAIT"
        os.kill(relayed.pool.pid, signal.SIGKILL)
        assert relayed.pool.left() == -signal.SIGKILL
        for asked in waiting[1:]:
            asked.channel.send([b"go on"])
            assert asked.channel.receive([20, 20], PATIENCE)[0] == b"WAIT"
        for end in ends:
            assert select.select([end], [], [], PATIENCE)[0]
    for asked in waiting:
        asked.end()


def test_a_session_can_ask_until_it_closes_its_end(relayed: Relayed) -> None:
    session = relayed.session()
    for _ in range(3):
        assert helpers.ask(session.reach(), [b"hello"], [20, 20], PATIENCE)[0] == b"HELLO"
    session.close()
    with pytest.raises(OSError):
        session.reach()


def test_a_part_that_may_not_ask_cannot(relayed: Relayed) -> None:
    session = relayed.session()
    session.close()
    with pytest.raises(OSError):
        session.reach()


def test_a_request_that_hangs_keeps_nobody(relayed: Relayed) -> None:
    waiting = relayed.reach()
    waiting.channel.send([b"wait"])
    assert relayed.ask(b"hello")[0] == b"HELLO"
    waiting.channel.send([b"go on"])
    assert waiting.channel.receive([20, 20], PATIENCE)[0] == b"WAIT"
    waiting.end()


def test_a_request_that_dies_takes_nobody_along(relayed: Relayed) -> None:
    assert relayed.ask(b"hello")[0] == b"HELLO"
    before = os.listdir(f"/proc/{relayed.pool.pid}/fd")
    with pytest.raises(ContractBroken):
        relayed.ask(b"die")
    assert relayed.ask(b"hello")[0] == b"HELLO"
    # A child may answer before its parent has let go of the channel.
    wait_until(lambda: len(os.listdir(f"/proc/{relayed.pool.pid}/fd")) <= len(before))


def test_requests_wait_for_the_next_helper(relayed: Relayed) -> None:
    """The daemon holds the helper's end, too: what is asked while there is none is answered by the next one."""
    os.kill(relayed.pool.pid, signal.SIGKILL)
    assert relayed.pool.left() == -signal.SIGKILL
    asked = relayed.reach()
    asked.channel.send([b"hello"])
    relayed.pool.close()
    relayed.pool = relayed.start()
    assert asked.channel.receive([20, 20], PATIENCE)[0] == b"HELLO"
    asked.end()


def test_it_leaves_with_the_last_who_could_ask(relayed: Relayed) -> None:
    session = relayed.session()
    relayed.end.close()
    assert helpers.ask(session.reach(), [b"hello"], [20, 20], PATIENCE)[0] == b"HELLO"
    session.close()
    assert relayed.pool.left() == 0


def test_a_relay_without_a_helper() -> None:
    ours, theirs = message_pair()
    theirs.close()
    with pytest.raises(OSError):
        helpers.HelperRelay(ours).reach()
    ours.close()


def test_a_message_without_a_channel(relayed: Relayed) -> None:
    relayed.end.send(b"x")
    assert relayed.ask(b"hello")[0] == b"HELLO"


def test_an_empty_message_is_not_the_end(relayed: Relayed) -> None:
    relayed.end.send(b"")
    assert relayed.ask(b"hello")[0] == b"HELLO"


def open_in(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.parametrize("count", [1, 2, 250])
def test_descriptors_that_are_no_channel(relayed: Relayed, count: int) -> None:
    """None of them stays open in the pool's process."""
    assert relayed.ask(b"hello")[0] == b"HELLO"
    before = open_in(relayed.pool.pid)
    with open(os.devnull, "rb") as null:
        octets = null.fileno().to_bytes(4, sys.byteorder) * count
        for _ in range(5):
            relayed.end.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, octets)])
    assert relayed.ask(b"hello")[0] == b"HELLO"
    wait_until(lambda: open_in(relayed.pool.pid) <= before)  # there may be a second worker for a while


def test_a_channel_is_not_inherited_by_programs() -> None:
    """PAM modules start some."""
    ours, theirs = message_pair()
    relay = pool.RelaySource(theirs)
    asked = helpers.HelperRelay(ours).reach()
    ours.close()
    channel = relay.take()
    assert channel is not None
    assert not os.get_inheritable(channel.fileno())
    channel.close()
    asked.end()
    relay.socket.close()


def test_no_descriptor_left() -> None:
    """The request is lost, its session is told so by the end of the channel, and the helper lives."""
    relayed = Relayed()
    try:
        assert relayed.ask(b"hello")[0] == b"HELLO"  # it is up
        limits = resource.prlimit(relayed.pool.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(relayed.pool.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        with pytest.raises((ContractBroken, BrokenPipeError)):  # after the request, or before
            relayed.ask(b"hello")
        resource.prlimit(relayed.pool.pid, resource.RLIMIT_NOFILE, limits)
        assert relayed.ask(b"hello")[0] == b"HELLO"
    finally:
        relayed.close()


@pytest.mark.skipif(ROOT, reason="root may start as many processes as it likes")
def test_no_process_to_be_had(relayed: Relayed) -> None:
    resource.prlimit(relayed.pool.pid, resource.RLIMIT_NPROC, (1, 1))
    with pytest.raises(ContractBroken):
        relayed.ask(b"hello")


class Listening:
    """A listening socket with a name, as systemd passes it, and its helper."""

    def __init__(self, path: Path, idle: float) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(self.path)
        self.socket.listen()
        os.chmod(self.path, 0o777)
        self.pool = Pool(lambda: pool.Listener(self.socket.detach()), idle)

    def ask(self, word: bytes) -> list[bytearray]:
        return helpers.ask(helpers.by_socket(self.path), [word], [20, 20], PATIENCE)

    def close(self) -> None:
        self.socket.close()
        self.pool.close()


@pytest.fixture
def listening(public_path: Path) -> Iterator[Listening]:
    listening = Listening(public_path / "socket", PATIENCE)
    yield listening
    listening.close()


def test_a_listener(listening: Listening) -> None:
    assert [listening.ask(b"hello")[0] for _ in range(3)] == [b"HELLO"] * 3
    wait_until(lambda: len(children_of(listening.pool.pid)) == 1)  # there may be a second one for a while


def test_it_is_told_to_end_while_somebody_waits_for_an_answer(listening: Listening) -> None:
    """The answers come, and then it leaves."""
    asked, later = helpers.by_socket(listening.path), helpers.by_socket(listening.path)
    asked.channel.send([b"wait"])
    wait_until(lambda: len(children_of(listening.pool.pid)) == 2)  # the second worker waits for the later one's word
    os.kill(listening.pool.pid, signal.SIGTERM)
    assert not select.select([listening.pool.fd], [], [], 0.1)[0]
    for child, word, answer in ((asked, b"go", b"WAIT"), (later, b"hello", b"HELLO")):
        child.channel.send([word])
        assert child.channel.receive([20, 20], PATIENCE)[0] == answer
        child.end()
    assert listening.pool.left() == 0


def test_it_leaves_when_nobody_asks(public_path: Path) -> None:
    listening = Listening(public_path / "socket", 0.01)
    try:
        assert listening.pool.left() == 0
    finally:
        listening.close()


@pytest.mark.skipif(not ROOT, reason="needs root: asks as somebody else")
def test_others_may_not_ask(listening: Listening) -> None:
    """Even where the socket's mode would let them: passwords could be tried, in the name of any address."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(65534)
            try:
                listening.ask(b"hello")
            except (OSError, ContractBroken):
                os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert listening.ask(b"hello")[0] == b"HELLO"
