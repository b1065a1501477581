"""An upgrade while somebody fetches mail."""

from __future__ import annotations

from pathlib import Path

from tests.system.conftest import MESSAGES, PASSWORD, Server, mbox


def test_upgrade_with_sessions_open(server: Server, package: Path) -> None:
    """A session that began with the old code ends with it; one that has not logged in yet can still do so."""
    fetching, waiting = server.add_user(), server.add_user()
    with server.connect().logged_in(fetching, PASSWORD) as client, server.connect().greeted() as stranger:
        client.ok("DELE 1")
        main = server.main_pid(client)
        server.machine.install(package)
        assert server.main_pid(client) == main
        client.ok("RETR 3")
        assert client.body().decode() == MESSAGES[2]
        client.ok("QUIT")
        assert client.closed()
        stranger.ok(f"USER {waiting}")
        stranger.ok(f"PASS {PASSWORD}")
        stranger.ok("QUIT")
    assert (server.machine.root / "var/mail" / fetching).read_text() == mbox(MESSAGES[1:])
    with server.connect().logged_in(fetching, PASSWORD) as client:
        assert client.ok("STAT").startswith(b"2 ")
