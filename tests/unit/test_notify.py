"""notify.py: what arrives on a notification socket."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from popad import notify
from popad.maildrop.maildrop import Maildrop
from popad.net.connection import Connection
from popad.notify import Direct, Library, Notifier
from popad.session import postauth
from tests.support.serving import connection

Way = type[Library] | type[Direct]
WAYS: tuple[Way, ...] = (Library, Direct)
EMPTY: Any = SimpleNamespace(sizes=[])  # a store


class Systemd:
    """The other end of a notification socket."""

    def __init__(self, address: str, way: Way) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0"))
        self.socket.setblocking(False)
        self.way = way
        self.notifiers: list[Notifier] = []

    def notifier(self) -> Notifier:
        notifier = Notifier(self.way)
        self.notifiers.append(notifier)
        return notifier

    def told(self) -> list[str]:
        """The messages since the last time."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self.socket.close()
        for notifier in self.notifiers:
            notifier.close()


def addresses(place: Path) -> tuple[str, str]:
    """A path, and an abstract name, as sd_notify(3) has one; without the "@" that tells, no other than the path."""
    return str(place / "notify"), f"@{place}/notify"


@pytest.fixture(params=WAYS)
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Systemd]:
    address, _ = addresses(tmp_path)
    systemd = Systemd(address, request.param)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    yield systemd
    systemd.close()


def test_a_session_sends_what_the_library_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Message by message, to either kind of address, on the same clock."""
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 1000 * 10**9)
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    for number, address in enumerate(addresses(tmp_path)):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        by_each = []
        for way in WAYS:
            Path(address).unlink(missing_ok=True)
            systemd = Systemd(address, way)
            notifier = systemd.notifier()
            notifier.ready("authorization, 192.0.2.7, TLSv1.3", 180)
            notifier.status(f"J\xfcrgen \u65e5 a\udcffb {'x' * 2000}: {number} messages, 1=1")
            notifier.put_off(600)
            notifier.reloading()
            notifier.alive()
            by_each.append(systemd.told())
            systemd.close()
        assert by_each[0] == by_each[1]
        assert len(by_each[0]) == 5


LEAVES_IT_OPEN = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize("way", [pytest.param(Library, marks=LEAVES_IT_OPEN), Direct])
def test_a_socket_that_nobody_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notifier = Notifier(way)
    notifier.ready("authorization")
    notifier.close()
    assert notifier.last_status == "authorization"


def test_ready(systemd: Systemd) -> None:
    systemd.notifier().ready("authorization, 192.0.2.7")
    assert systemd.told() == ["READY=1\nSTATUS=authorization, 192.0.2.7"]


def test_ready_and_how_long_it_may_take(systemd: Systemd) -> None:
    systemd.notifier().ready("authorization", 180)
    [ready] = systemd.told()
    *_, last = ready.splitlines()
    assert ready.startswith("READY=1\nSTATUS=authorization\n")
    assert int(last.removeprefix("EXTEND_TIMEOUT_USEC=")) >= 180_000_000


def test_a_child_of_who_is_heard_says_nothing(systemd: Systemd) -> None:
    notifier = systemd.notifier()
    notifier.close()
    notifier.ready("authorization")
    assert systemd.told() == []


def test_status_is_told_when_it_is_news(systemd: Systemd) -> None:
    notifier = systemd.notifier()
    notifier.ready("authorization")
    notifier.status("authorization")
    notifier.status("alice: 3 messages")
    notifier.status("alice: 3 messages")
    notifier.status("authorization")
    assert systemd.told()[1:] == ["STATUS=alice: 3 messages", "STATUS=authorization"]


@pytest.mark.parametrize("name", ["Jürgen", "日本", "a\udcffb"])
def test_status_is_utf_8(systemd: Systemd, name: str) -> None:
    """sdnotify encodes in Latin-1; systemd expects UTF-8."""
    systemd.notifier().status(f"{name}: 3 messages")
    assert systemd.told() == [f"STATUS={name}: 3 messages".replace("\udcff", "?")]


def test_put_off_is_longer_than_asked_for_and_not_told_each_time(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RuntimeMaxSec= must not end a session that has had a command within its time limit."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    notifier = systemd.notifier()
    told: list[tuple[float, float]] = []  # when, until when the session may live
    while now < 1100:
        notifier.put_off(600)
        for message in systemd.told():
            name, _, microseconds = message.partition("=")
            assert name == "EXTEND_TIMEOUT_USEC"
            told.append((now, now + int(microseconds) / 1e6))
        assert told[-1][1] >= now + 600
        now += 0.5
    assert len(told) == 100 / notify.PAUSE


def test_no_socket_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delitem(sys.modules, "sdnotify", raising=False)
    notifier = Notifier()
    notifier.ready("authorization")
    notifier.status("alice: 3 messages")
    notifier.put_off(600)
    assert notifier.systemd is None
    assert "sdnotify" not in sys.modules  # its import would be for nothing


def test_a_systemd_that_is_gone_does_not_end_a_session(systemd: Systemd) -> None:
    notifier = systemd.notifier()
    systemd.socket.close()
    notifier.ready("authorization")
    notifier.put_off(600)
    assert notifier.last_status == "authorization"


def test_a_systemd_that_does_not_read_is_not_waited_for(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a daemon does is told each second, and its clients are not to wait for that: HAProxy's looks timed out."""
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    notifier = systemd.notifier()
    for number in range(1000):  # many more than fit
        notifier.status(f"{number} sessions")
        notifier.alive()
    assert systemd.told()[0] == "STATUS=0 sessions"
    notifier.ready("again")  # this counts, and is sent as soon as there is room
    assert systemd.told()[-1] == "READY=1\nSTATUS=again"


@pytest.mark.parametrize("systemd", [Direct], indirect=True)
def test_a_long_write_is_put_off_for(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer that a slow client takes for longer than the unit may live without a word."""
    monkeypatch.setattr(notify, "PAUSE", 0.2)
    limit = 1.0
    ours, theirs = connection(receive_buffer=8192)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    server = Connection(theirs.detach(), "", None)
    told: list[float] = []

    def read_slowly() -> None:
        while ours.recv(2000):
            time.sleep(0.01)
            told.extend(time.monotonic() for message in systemd.told() if message.startswith("EXTEND_TIMEOUT_USEC="))

    reader = threading.Thread(target=read_slowly)
    reader.start()
    client = postauth.PostauthClient("alice", server, limit, systemd.notifier(), Maildrop(EMPTY))
    begun = time.monotonic()
    client.write(bytes(700_000))
    ended = time.monotonic()
    server.hang_up()
    reader.join()
    ours.close()
    assert ended - begun > 2 * limit
    allowed = limit + 2 * notify.PAUSE
    assert max(later - earlier for earlier, later in pairwise([begun, *told, ended])) < allowed
