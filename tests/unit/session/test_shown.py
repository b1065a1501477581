"""session/shown.py: what a session of the daemon says of itself. Who reads it: commands/test_processes.py."""

import os
import re
import socket
import time

import pytest

from popad.net.connection import Connection
from popad.session.shown import LARGEST, Shown


def shown_for(rhost: str, rport: int | None = 41234, proxy: str = "") -> Shown:
    client, server = socket.socketpair()
    client.close()
    connection = Connection(server.detach(), rhost, rport)
    connection.proxy = proxy
    made = Shown(connection)
    connection.socket.close()
    return made


def content(shown: Shown) -> bytes:
    return os.pread(shown.file, 2 * LARGEST, 0)


@pytest.mark.parametrize(
    ("rhost", "rport", "proxy", "said"),
    [
        ("192.0.2.7", 41234, "", r"192\.0\.2\.7 41234 (\d+)"),
        ("fe80::1%enp0s31f6", 65535, "", r"fe80::1%enp0s31f6 65535 (\d+)"),
        ("2001:db8::7", 1, "192.0.2.1", r"2001:db8::7 1 (\d+) 192\.0\.2\.1"),
        ("", None, "", r"unknown 0 (\d+)"),
    ],
)
def test_the_client_is_in_the_name(rhost: str, rport: int | None, proxy: str, said: str) -> None:
    shown = shown_for(rhost, rport, proxy)
    link = os.readlink(f"/proc/self/fd/{shown.file}")
    found = re.fullmatch(rf"/memfd:popad-session {said} \(deleted\)", link)
    assert found, link
    assert abs(time.time() - int(found[1])) < 5
    shown.close()


def test_the_last_status_counts() -> None:
    """A shorter one ends where it ends; what is for systemd alone is not kept."""
    shown = shown_for("192.0.2.7")
    shown.ready("authorization, 192.0.2.7, TLSv1.3", 10)
    assert content(shown) == b"authorization, 192.0.2.7, TLSv1.3\n"
    shown.status("jane: 3 messages")
    shown.put_off(600)
    assert content(shown).partition(b"\n")[0] == b"jane: 3 messages"
    shown.close()


def test_a_long_status_is_cut() -> None:
    shown = shown_for("192.0.2.7")
    shown.status("ü" * LARGEST)
    assert len(content(shown)) == LARGEST
    shown.close()


def test_who_is_not_shown_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(name: str) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", none_left)
    shown = shown_for("192.0.2.7")
    shown.ready("authorization, 192.0.2.7")
    shown.close()


def test_a_closed_one_keeps_nothing() -> None:
    shown = shown_for("192.0.2.7")
    before = shown.file
    shown.close()
    shown.status("jane: 3 messages")
    with pytest.raises(OSError):
        os.fstat(before)
