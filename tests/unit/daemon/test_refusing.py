"""daemon/refusing.py: what clients, systemd and the journal hear while a setting is wrong, and what ends it."""

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from popad import journal
from popad.daemon import refusing
from popad.errors import SettingWrong
from popad.notify import Notifier
from tests.support.forked import Forked
from tests.support.patience import PATIENCE

AGAIN, STOPPED = 3, 4  # exit statuses


class Refusing(Forked):
    """A process that refuses clients on a listening socket; what it says to the journal comes over a pipe."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.said, saying = os.pipe()

        def work() -> None:
            def send(event: journal.Event, **fields: object) -> None:
                os.write(saying, f"{event.name} {fields}\n".encode())

            journal.send = send
            again = refusing.refuse_clients([self.listener], SettingWrong("POPAD_TIMEOUT", "must be"), Notifier())
            os._exit(AGAIN if again else STOPPED)

        super().__init__(work)
        os.close(saying)

    def entries(self) -> list[str]:
        """What it has said in all; it has ended."""
        with open(self.said, encoding="utf-8", closefd=False) as said:
            return said.read().splitlines()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listener.getsockname(), PATIENCE)

    def close(self) -> None:
        super().close()
        self.listener.close()
        os.close(self.said)


@pytest.fixture
def daemon() -> Iterator[Refusing]:
    daemon = Refusing()
    yield daemon
    daemon.close()


def told(client: socket.socket) -> bytes:
    with client, client.makefile("rb") as stream:
        return stream.read()


def test_each_client_is_told_and_the_journal_once(daemon: Refusing) -> None:
    assert {told(daemon.connect()) for _ in range(5)} == {b"-ERR [SYS/PERM] the server is not set up to serve this\r\n"}
    os.kill(daemon.pid, signal.SIGTERM)
    assert daemon.left() == STOPPED
    assert daemon.entries() == ["setting-wrong {'reason': 'POPAD_TIMEOUT: must be'}"]


def test_a_client_that_says_nothing_and_stays_holds_nobody_up(daemon: Refusing) -> None:
    with daemon.connect() as first:
        assert told(daemon.connect()).startswith(b"-ERR")
        assert told(first).startswith(b"-ERR")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGHUP, AGAIN), (signal.SIGINT, STOPPED), (signal.SIGUSR1, STOPPED)]
)
def test_what_ends_it(daemon: Refusing, number: int, status: int) -> None:
    assert told(daemon.connect()).startswith(b"-ERR")  # it has begun
    os.kill(daemon.pid, number)
    assert daemon.left() == status
