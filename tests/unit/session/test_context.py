"""session/context.py: what each entry of a session says."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.net.arrival import Arrival, Facts
from popad.net.connection import Connection
from popad.net.encryption import Encryption
from popad.notify import Notifier
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


def test_the_status_says_tls_as_soon_as_there_is_some(context: Context) -> None:
    """Whoever is told is told of the client, at once and once more."""
    told: list[str] = []

    class Ear(Notifier):
        def tell(self, *assignments: str, waits: bool = True) -> None:
            told.extend(each for each in assignments if each.startswith("STATUS="))

    context.new_notifier = lambda _: Ear()
    context.ready()
    context.encrypted(Encryption("TLSv1.3", "TLS_AES_256_GCM_SHA384"))
    assert told == ["STATUS=authorization, unknown", "STATUS=authorization, unknown, TLSv1.3"]
