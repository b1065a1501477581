"""session/context.py: what each entry of a session says."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.net.arrival import Arrival, Facts
from popad.net.connection import Connection
from popad.session.context import Context
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


def test_a_client_without_an_address_is_known_as_such(context: Context) -> None:
    assert context.known == {"rhost": "unknown", "rport": None}
