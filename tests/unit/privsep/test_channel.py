"""privsep/channel.py: messages of a fixed shape and nothing else, and descriptors that nobody asked for are closed."""

import _socket
import fcntl
import os
import resource
import socket
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.errors import ContractBroken
from popad.privsep import channel
from popad.privsep.channel import MAX_MESSAGE, Channel, message_pair, unpack, wipe
from tests.support.patience import PATIENCE

NOBODY = 65534


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, other = (Channel(end) for end in message_pair())
    yield one, other
    one.close()
    other.close()


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_fields_arrive_as_they_were(fields: list[bytes]) -> None:
    one, other = (Channel(end) for end in message_pair())
    try:
        one.send(fields)
        if fields:
            assert other.receive([300] * len(fields), PATIENCE) == fields
        else:
            with pytest.raises(ContractBroken):
                other.receive([], PATIENCE)
    finally:
        one.close()
        other.close()


def packed(*fields: bytes | bytearray) -> bytearray:
    return bytearray(b"".join(len(field).to_bytes(4, "big") + field for field in fields))


@pytest.mark.parametrize(
    ("message", "limits"),
    [
        (packed(b"a"), [1, 1]),
        (packed(b"a", b"b"), [1]),
        (packed(b"ab"), [1]),
        (packed(b"a") + b"x", [1]),
        (packed(b"a")[:-1], [9]),
        (packed(b"a")[:3], [9]),
        (bytearray(b"\xff\xff\xff\xff"), [9]),
        (bytearray(b"\xff\xff\xff\xffabc"), [0xFFFFFFFF]),
        (bytearray(b"\0"), [9]),
        (bytearray(), [9]),
        (packed(b"a", b"b"), [1, 0]),
    ],
)
def test_a_message_of_another_shape_breaks_the_contract(message: bytearray, limits: list[int]) -> None:
    with pytest.raises(ContractBroken):
        unpack(message, limits)


@given(st.binary(max_size=40), st.lists(st.integers(0, 20), max_size=4))
def test_any_octets_are_a_message_or_break_the_contract(octets: bytes, limits: list[int]) -> None:
    try:
        fields = unpack(bytearray(octets), limits)
    except ContractBroken:
        return
    assert packed(*fields) == octets
    assert len(fields) == len(limits)
    assert all(len(field) <= limit for field, limit in zip(fields, limits, strict=True))


def test_an_empty_message_and_an_end_are_the_same(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.close()
    with pytest.raises(ContractBroken, match="gone"):
        other.receive([9], PATIENCE)
    with pytest.raises(OSError, match="Broken pipe"):  # and no SIGPIPE
        other.send([b"x"])


@pytest.mark.parametrize("timeout", [0.01, 0, -1])
def test_receive_does_not_wait_for_ever(ends: tuple[Channel, Channel], timeout: float) -> None:
    """The deadline may have passed before the wait begins."""
    with pytest.raises(TimeoutError):
        ends[0].receive([9], timeout)


def test_a_message_too_long(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    with pytest.raises(ContractBroken):
        one.send([b"x" * MAX_MESSAGE])
    one.send([b"x" * (MAX_MESSAGE - 4)])
    assert len(other.receive([MAX_MESSAGE], PATIENCE)[0]) == MAX_MESSAGE - 4


def test_what_others_send_too_long_is_no_message() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.sendall(packed(b"x" * 70_000))
        with pytest.raises(ContractBroken):
            Channel(ours).receive([100_000], PATIENCE)


def test_a_message_with_a_descriptor_is_none_and_the_descriptor_is_gone(ends: tuple[Channel, Channel]) -> None:
    reading, writing = os.pipe()
    descriptors = (socket.SOL_SOCKET, socket.SCM_RIGHTS, writing.to_bytes(4, sys.byteorder) * 100)
    before = os.listdir("/proc/self/fd")
    ends[0].socket.sendmsg([packed(b"a")], [descriptors])
    os.close(writing)
    with pytest.raises(ContractBroken):
        ends[1].receive([1], PATIENCE)
    assert len(os.listdir("/proc/self/fd")) < len(before)
    assert os.read(reading, 1) == b""  # nobody has the other end of the pipe
    os.close(reading)


def test_a_received_password_is_wiped(ends: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch) -> None:
    """The message does not keep what the field has."""
    wiped: list[bytearray] = []
    real = channel.wipe

    def wipe(secret: bytearray) -> None:
        real(secret)
        wiped.append(secret)

    monkeypatch.setattr(channel, "wipe", wipe)
    ends[0].send([b"alice", b"secret"])
    fields = ends[1].receive([9, 9], PATIENCE)
    assert fields == [b"alice", b"secret"]
    assert [len(buffer) for buffer in wiped] == [19, 19]
    assert not any(map(any, wiped))


def test_wipe() -> None:
    secret = bytearray(b"secret")
    wipe(secret)
    assert secret == bytes(6)


def test_a_channel_of_any_number() -> None:
    """select(2) knows descriptors below 1,024."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < 2000:
        pytest.skip("the limit of descriptors is below 2,000")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, limits[1]))
    ours, theirs = message_pair()
    try:
        high = fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD_CLOEXEC, 1500)
        channel = Channel(_socket.socket(fileno=high))
        assert not channel.waits(0)
        theirs.send(b"\0\0\0\1x")
        assert channel.receive([1], PATIENCE) == [b"x"]
        channel.close()
    finally:
        ours.close()
        theirs.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_channels_are_not_inherited_by_programs(ends: tuple[Channel, Channel]) -> None:
    assert not os.get_inheritable(ends[0].fileno())
    assert not os.get_inheritable(ends[1].fileno())
