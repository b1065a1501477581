"""daemon/spare.py: the handoff over which a session gets its client. What the daemon does with it: test_children.py."""

import _socket
import os
import socket
import sys

import pytest

from popad.daemon.spare import Spare, client_from
from popad.privsep.channel import message_pair
from tests.support.descriptors import descriptors
from tests.support.patience import PATIENCE


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8:1111:2222:3333:4444:5555:6666", "fe80::1%enp0s31f6"])
def test_a_client(address: str) -> None:
    ours, theirs = message_pair()
    client, server = socket.socketpair()
    with client, server:
        assert Spare(0, ours).give(server.fileno(), address, 65535)
        connection = client_from(theirs)
        assert connection is not None
        assert (connection.rhost, connection.rport) == (address, 65535)
        assert not os.get_inheritable(connection.fileno())
        connection.write(b"hello", PATIENCE)
        assert client.recv(10) == b"hello"
        connection.socket.close()
    for end in (ours, theirs):
        assert end.fileno() == -1, "there is one client"


def test_no_client() -> None:
    ours, theirs = message_pair()
    Spare(0, ours).dismiss()
    assert client_from(theirs) is None


def test_a_spare_that_has_gone() -> None:
    ours, theirs = message_pair()
    theirs.close()
    assert not Spare(0, ours).give(0, "192.0.2.1", 1)
    assert ours.fileno() == -1


def test_more_descriptors_than_one() -> None:
    """There is no room for them: they do not stay open."""
    ours, theirs = message_pair()
    a, b = socket.socketpair()
    with a, b:
        before = len(descriptors())
        fds = b"".join(end.fileno().to_bytes(4, sys.byteorder) for end in (a, b, a, b))
        ours.sendmsg([b"192.0.2.1 1"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
        connection = client_from(theirs)
        assert connection is not None
        connection.socket.close()
        assert len(os.listdir("/proc/self/fd")) == before - 1
    ours.close()
