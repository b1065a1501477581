"""daemon/proxied.py: the session's question for a slot, and the parent's answer."""

import os
import threading
from collections.abc import Iterator

import pytest

from popad.daemon import proxied
from popad.daemon.proxied import ProxiedClients
from popad.privsep.channel import send_descriptor
from tests.support.descriptors import descriptors


@pytest.fixture
def clients() -> Iterator[ProxiedClients]:
    made = ProxiedClients()
    yield made
    made.close()


@pytest.mark.parametrize("answer", [True, False])
def test_a_question(clients: ProxiedClients, answer: bool) -> None:
    asked: list[tuple[int, str]] = []

    def has_slot(pid: int, address: str) -> bool:
        asked.append((pid, address))
        return answer

    parent = threading.Thread(target=clients.answer, args=[has_slot])
    parent.start()
    assert clients.has_slot("2001:db8::7") is answer
    parent.join()
    assert asked == [(os.getpid(), "2001:db8::7")]


def test_a_parent_that_does_not_answer(clients: ProxiedClients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxied, "PATIENCE", 0.05)
    assert not clients.has_slot("192.0.2.7")


def test_a_parent_that_has_gone(clients: ProxiedClients) -> None:
    clients.end.close()
    assert not clients.has_slot("192.0.2.7")


@pytest.mark.parametrize("message", [b"x", b"", b"1", b"x 192.0.2.7", b"\xff 192.0.2.7"])
def test_what_is_no_question(clients: ProxiedClients, message: bytes) -> None:
    """Whoever says it hears the end; the parent goes on."""
    reading, writing = os.pipe()
    send_descriptor(clients.relay, message or b" ", writing)
    os.close(writing)
    before = len(descriptors())

    def never(pid: int, address: str) -> bool:
        assert (pid, address) == (1, "")
        return False

    clients.answer(never)
    assert os.read(reading, 1) in (b"", b"n")
    os.close(reading)
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_a_question_without_a_descriptor(clients: ProxiedClients) -> None:
    clients.relay.send(b"1 192.0.2.7")
    clients.answer(lambda *_: True)
