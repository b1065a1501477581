"""session/preparation.py: what is prepared for a login, and when."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.maildrop.private import SharedDirectory
from popad.net.arrival import Arrival, Facts
from popad.net.connection import Connection
from popad.privsep.channel import Channel, message_pair
from popad.session.context import Context
from popad.session.preparation import Preparation
from popad.settings import Settings


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    ours, theirs = socket.socketpair()
    settings = Settings({"POPAD_STATE": str(tmp_path), "POPAD_CACHE": ""})
    tmp_path.chmod(0o1733)
    context = Context(Arrival(Connection(theirs.detach(), "", None), Facts(settings, None, None)))
    yield context
    ours.close()
    context.connection.socket.close()


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, other = (Channel(end) for end in message_pair())
    yield one, other
    one.close()
    other.close()


def test_all_is_done_while_the_client_says_nothing(context: Context, ends: tuple[Channel, Channel]) -> None:
    preparation = Preparation(context)
    preparation.while_idle(ends[0])
    assert preparation.steps == []
    assert isinstance(context.state, SharedDirectory)
    assert context.cache is None
    context.close_places()
    assert not Path(f"/proc/self/fd/{context.state.fd}").exists()


def test_a_client_that_has_spoken_does_not_wait(context: Context, ends: tuple[Channel, Channel]) -> None:
    preparation = Preparation(context)
    ends[1].send((b"quit", b""))
    preparation.while_idle(ends[0])
    assert not hasattr(context, "state")
    preparation.finish()
    assert isinstance(context.state, SharedDirectory)
    preparation.finish()  # again is nothing
    context.close_places()
