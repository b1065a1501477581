"""net/connection.py: reading, writing and the end, on real connections over the loopback."""

import _socket
import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from popad.errors import PeerGone, PeerSilent
from popad.net.connection import READ_SIZE, Connection, without_mapping
from tests.support.patience import PATIENCE
from tests.support.serving import connection as connected
from tests.support.serving import reset


class Pair:
    """A TCP connection: `client` is Python's socket, `server` popad's Connection."""

    def __init__(self, receive_buffer: int = 0) -> None:
        self.client, theirs = connected(receive_buffer)
        self.client.settimeout(PATIENCE)
        self.address = theirs.getpeername()
        self.server = Connection(theirs.detach(), "127.0.0.1", self.address[1])

    def close(self) -> None:
        self.client.close()
        self.server.socket.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


# -- reading and writing


def test_read(pair: Pair) -> None:
    pair.client.sendall(b"NOOP\r\n")
    assert pair.server.read(PATIENCE) == b"NOOP\r\n"


def test_read_takes_what_there_is_and_not_more_than_a_limit(pair: Pair) -> None:
    """What one read brings is bounded: it may have to travel through the hand-over."""
    pair.client.sendall(b"x" * 100_000)
    taken = 0
    while taken < 100_000:
        octets = len(pair.server.read(PATIENCE))
        assert 0 < octets <= READ_SIZE
        taken += octets


@pytest.mark.parametrize("timeout", [0.01, 0, -1])
def test_read_of_nothing(pair: Pair, timeout: float) -> None:
    with pytest.raises(PeerSilent):
        pair.server.read(timeout)


def test_read_soon(pair: Pair) -> None:
    pair.server.keep_time(PATIENCE)
    pair.client.sendall(b"NOOP\r\n")
    assert pair.server.read_soon() == b"NOOP\r\n"
    pair.server.keep_time(0.02)
    begun = time.monotonic()
    assert pair.server.read_soon() == b""
    assert 0.02 <= time.monotonic() - begun < PATIENCE
    pair.client.shutdown(socket.SHUT_WR)
    with pytest.raises(PeerGone):
        pair.server.read_soon()


class Counted:
    """A socket whose client is back after so many reads in vain; a read that waits finds it there."""

    def __init__(self, theirs: _socket.socket, in_vain: int) -> None:
        self.close = theirs.close
        self.in_vain = in_vain
        self.reads: list[int] = []

    def recv(self, _most: int, flags: int) -> bytes:
        self.reads.append(flags)
        if flags and len(self.reads) <= self.in_vain:
            raise BlockingIOError
        return b"NOOP\r\n"


def reads(pair: Pair, in_vain: int) -> list[int]:
    """The flags of the reads that read_soon() makes for a command."""
    pair.server.socket = counted = Counted(pair.server.socket, in_vain)  # type: ignore[assignment]  # in place of a socket
    assert pair.server.read_soon() == b"NOOP\r\n"
    return counted.reads


def test_who_is_waited_for_without_sleep(pair: Pair) -> None:
    """A client that is back at once, and for some commands more."""
    at_once = socket.MSG_DONTWAIT
    pair.server.keep_time(PATIENCE)
    assert reads(pair, 2) == [at_once, 0]
    assert reads(pair, 0) == [at_once]
    assert reads(pair, 9) == [at_once] * 10
    assert [len(reads(pair, 1000)) for _ in range(7)] == [17, 9, 5, 3, 2, 2, 2]


def test_read_soon_from_a_client_that_has_crashed(pair: Pair) -> None:
    pair.server.keep_time(PATIENCE)
    reset(pair.client)
    with pytest.raises(PeerGone):
        pair.server.read_soon()


class Narrow:
    """The socket of a machine where the time limit of a read has wider fields."""

    def __init__(self, theirs: _socket.socket) -> None:
        self.setblocking = theirs.setblocking
        self.recv = theirs.recv
        self.close = theirs.close

    def setsockopt(self, *_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")


def test_read_soon_where_the_kernel_does_not_keep_the_time(pair: Pair) -> None:
    """Nothing is waited for, so read() goes on with its own clock."""
    pair.server.socket = Narrow(pair.server.socket)  # type: ignore[assignment]  # in place of a socket
    pair.server.keep_time(PATIENCE)
    begun = time.monotonic()
    assert pair.server.read_soon() == b""
    assert time.monotonic() - begun < PATIENCE


def test_read_at_the_end(pair: Pair) -> None:
    pair.client.sendall(b"NOOP")
    pair.client.shutdown(socket.SHUT_WR)
    assert pair.server.read(PATIENCE) == b"NOOP"
    with pytest.raises(PeerGone):
        pair.server.read(PATIENCE)


def test_read_from_a_client_that_has_crashed(pair: Pair) -> None:
    reset(pair.client)
    with pytest.raises(PeerGone):
        pair.server.read(PATIENCE)


def test_write_to_a_client_that_has_crashed(pair: Pair) -> None:
    reset(pair.client)
    with pytest.raises(PeerGone):  # and no SIGPIPE
        pair.server.write(b"x" * 100_000, PATIENCE)


def test_write_all_of_a_large_answer(pair: Pair) -> None:
    """More than the buffers hold: goes on as the client reads."""
    octets = os.urandom(8_000_000)
    received = bytearray()

    def read_all() -> None:
        while block := pair.client.recv(65536):
            received.extend(block)

    reader = threading.Thread(target=read_all)
    reader.start()
    pair.server.write(octets, PATIENCE)
    assert pair.server.sent_octets == len(octets)
    pair.server.hang_up()
    reader.join()
    assert received == octets


def test_write_to_a_client_that_never_reads(pair: Pair) -> None:
    with pytest.raises(PeerSilent):
        pair.server.write(b"x" * 50_000_000, 0.05)
    assert 0 < pair.server.sent_octets < 50_000_000


def test_write_to_an_unauthenticated_client_that_reads_too_slowly(pair: Pair) -> None:
    """The time is for all of it: little by little would be for ever."""
    done = threading.Event()

    def read_a_little() -> None:
        while not done.wait(0.002):
            pair.client.recv(20_000)

    reader = threading.Thread(target=read_a_little)
    reader.start()
    begun = time.monotonic()
    with pytest.raises(PeerSilent):
        pair.server.write(bytes(500_000_000), 0.5)
    done.set()
    reader.join()
    assert time.monotonic() - begun < PATIENCE


class Unix(Pair):
    """The same over a Unix socket: the plain end of a relay, say."""

    def __init__(self, _: int) -> None:
        self.client, theirs = socket.socketpair()
        self.client.settimeout(PATIENCE)
        self.server = Connection(theirs.detach(), "", None)


@pytest.fixture(params=[Pair, Unix], ids=["TCP", "Unix"])
def narrow(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A connection whose buffers hold little: what is not read cannot be written for long."""
    pair = request.param(8192)
    pair.server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    yield pair
    pair.close()


class Reader(threading.Thread):
    """A client that reads 1,000 octets and makes a pause, again and again, until it has so many: a slow line."""

    def __init__(self, client: socket.socket, octets: int, pause: float) -> None:
        super().__init__()
        self.client, self.octets, self.pause = client, octets, pause
        self.got = 0

    def run(self) -> None:
        while self.got < self.octets and (block := self.client.recv(1000)):
            self.got += len(block)
            time.sleep(self.pause)


TIME_LIMIT = 0.5  # seconds; so long that a busy machine does not make a pause of it


def test_write_to_a_client_that_reads_slowly(narrow: Pair) -> None:
    """For several times the time limit: what counts is that it takes something, not that there is room for more."""
    octets, taken = 350_000, []
    reader = Reader(narrow.client, octets, TIME_LIMIT / 100)
    reader.start()
    begun = time.monotonic()
    narrow.server.write(bytes(octets), TIME_LIMIT, lambda: taken.append(time.monotonic()))
    lasted = time.monotonic() - begun
    narrow.server.hang_up()
    reader.join()
    assert reader.got == octets
    assert lasted > 2 * TIME_LIMIT
    assert max(later - earlier for earlier, later in pairwise([begun, *taken])) < TIME_LIMIT  # systemd is told so often


def test_read_from_a_client_that_still_reads_an_answer(narrow: Pair) -> None:
    """It does not answer before it has all of it. When it has, its time runs."""
    taken: list[float] = []
    room = narrow.server.socket.send(bytes(10_000_000), socket.MSG_DONTWAIT)
    reader = Reader(narrow.client, room, 2 * TIME_LIMIT / (room // 1000))
    reader.start()
    begun = time.monotonic()
    with pytest.raises(PeerSilent):
        narrow.server.read(TIME_LIMIT, lambda: taken.append(time.monotonic()))
    reader.join()
    assert taken[-1] > begun + TIME_LIMIT
    assert time.monotonic() >= taken[-1] + TIME_LIMIT


@pytest.mark.parametrize("direction", ["read", "write"])
def test_a_client_that_takes_nothing_more(narrow: Pair, direction: str) -> None:
    """It has the time limit from what it took last, and not much more."""
    taken: list[float] = []
    narrow.server.socket.send(bytes(10_000_000), socket.MSG_DONTWAIT)
    reader = Reader(narrow.client, 50_000, 0.001)
    reader.start()
    with pytest.raises(PeerSilent):
        if direction == "read":
            narrow.server.read(TIME_LIMIT, lambda: taken.append(time.monotonic()))
        else:
            narrow.server.write(bytes(10_000_000), TIME_LIMIT, lambda: taken.append(time.monotonic()))
    ended = time.monotonic()
    reader.join()
    assert taken
    assert TIME_LIMIT <= ended - taken[-1] < TIME_LIMIT + PATIENCE


def test_what_is_sent_at_once_costs_one_call(pair: Pair) -> None:
    """No look at the queue, no callback: the usual answer."""
    calls: list[str] = []

    class Counting:
        def __init__(self, theirs: _socket.socket) -> None:
            self.theirs = theirs

        def __getattr__(self, name: str) -> object:
            calls.append(name)
            return getattr(self.theirs, name)

    pair.server.socket = Counting(theirs := pair.server.socket)  # type: ignore[assignment]  # in place of a socket
    pair.server.write(b"+OK\r\n", PATIENCE, lambda: calls.append("took"))
    pair.server.socket = theirs
    assert calls == ["send"]


def test_what_is_untaken(pair: Pair) -> None:
    assert pair.server.untaken() == 0
    room = pair.server.socket.send(bytes(50_000_000), socket.MSG_DONTWAIT)
    assert 0 < pair.server.untaken() <= room
    reader, writer = os.pipe()
    os.dup2(writer, pair.server.fileno())  # of what is no socket nothing can be told
    assert pair.server.untaken() == 0
    os.close(reader)
    os.close(writer)


def test_write_of_nothing(pair: Pair) -> None:
    pair.server.write(b"", 0)
    assert pair.server.sent_octets == 0


def test_waits(pair: Pair) -> None:
    assert not pair.server.waits(0)
    assert not pair.server.waits(-1)
    pair.client.sendall(b"x")
    assert pair.server.waits(PATIENCE)


def test_answers_are_not_held_back(pair: Pair) -> None:
    """Nagle's algorithm and delayed ACK cost other servers 40 ms a command."""
    assert pair.server.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# -- the end


def test_close_lets_the_last_reply_arrive(pair: Pair) -> None:
    """Though the client has sent what nobody has read, which makes the kernel reset the connection on a plain close."""
    pair.client.sendall(b"x" * 1000)
    assert pair.server.waits(PATIENCE)
    pair.server.write(b"-ERR no\r\n", PATIENCE)
    closer = threading.Thread(target=pair.server.close, args=(PATIENCE,))
    closer.start()
    assert pair.client.makefile("rb").read() == b"-ERR no\r\n"
    pair.client.close()
    closer.join()


def test_close_does_not_wait_for_ever(pair: Pair) -> None:
    before = time.monotonic()
    pair.server.close(0.05)
    assert time.monotonic() - before < 5
    assert pair.client.recv(1) == b""


def test_close_does_not_listen_for_ever(pair: Pair) -> None:
    """To a client that never stops sending."""
    pair.client.settimeout(0.5)

    def send_on() -> None:
        try:
            while True:
                pair.client.send(b"x" * 65536)
        except OSError:
            pass

    sender = threading.Thread(target=send_on)
    sender.start()
    before = time.monotonic()
    pair.server.close(0.05)
    assert time.monotonic() - before < 5
    sender.join()


def test_close_reads_nothing_without_linger(pair: Pair) -> None:
    pair.client.sendall(b"x")
    assert pair.server.waits(PATIENCE)
    pair.server.close()
    assert pair.server.fileno() == -1


def test_hang_up_ends_the_stream_though_others_hold_a_copy(pair: Pair) -> None:
    """systemd does."""
    copy = os.dup(pair.server.fileno())
    pair.server.hang_up()
    assert pair.client.recv(1) == b""
    os.close(copy)


def test_hang_up_after_the_client_did(pair: Pair) -> None:
    reset(pair.client)
    pair.server.hang_up()
    assert pair.server.fileno() == -1


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:c000:207", "::ffff:c000:207"),
        ("", ""),
    ],
)
def test_without_mapping(address: str, shown: str) -> None:
    assert without_mapping(address) == shown
