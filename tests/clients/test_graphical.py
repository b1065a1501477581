"""A graphical client under a virtual screen: Sylpheed, over STLS and over TLS that begins at once.

A picture of what it shows is kept in $POPAD_TEST_CACHE/clients, to be looked at.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support import certificates
from tests.support.daemon import daemon, free_ports
from tests.support.here import CACHE
from tests.support.patience import PATIENCE, wait_until
from tests.support.screen import screen
from tests.support.serving import NAME, PASSWORD, Server

from .mail import MAIL, NAMES

FOLDERS = {"inbox": "inbox", "outbox": "sent", "draft": "draft", "queue": "queue", "trash": "trash", "junk": "junk"}
needs = [tool for tool in ("sylpheed", "Xvfb", "import") if shutil.which(tool) is None]


def configure(home: Path, port: int, at_once: bool, chain: Path) -> None:
    """As its own dialogues would have written it."""
    place = home / ".sylpheed-2.0"
    (place / "certs").mkdir(parents=True)
    shutil.copy(chain, place / "certs/ca-certificates.crt")
    account = {
        "account_name": NAME,
        "is_default": 1,
        "name": NAME,
        "address": f"{NAME}@example.org",
        "protocol": 0,
        "receive_server": "localhost",
        "user_id": NAME,
        "password": PASSWORD,
        "inbox": "inbox",
        "remove_mail": 0,
        "receive_at_get_all": 1,
        "set_popport": 1,
        "pop_port": port,
        "ssl_pop": 1 if at_once else 2,
    }
    lines = "".join(f"{name}={value}\n" for name, value in account.items())
    (place / "accountrc").write_text(f"[Account: 1]\n{lines}")
    (place / "sylpheedrc").write_text("[Common]\nautochk_newmail=0\nchk_on_startup=0\nopen_inbox_on_inc=1\n")
    items = ""
    for kind, name in FOLDERS.items():
        (home / "Mail" / name).mkdir(parents=True)
        items += f'<folderitem type="{kind}" name="{name}" path="{name}" mtime="0" new="0" unread="0" total="0"/>\n'
    folder = f'<folder type="mh" name="Mailbox" path="{home}/Mail">\n{items}</folder>\n'
    (place / "folderlist.xml").write_text(
        f'<?xml version="1.0" encoding="UTF-8"?>\n<folderlist>\n{folder}</folderlist>\n'
    )


@pytest.mark.skipif(bool(needs), reason=f"not installed: {' '.join(needs)}")
@pytest.mark.parametrize("at_once", [False, True], ids=["STLS", "at once"])
def test_sylpheed(server: Server, at_once: bool) -> None:
    server.deliver(MAIL)
    pair = certificates.make(server.path, "localhost")
    ports = free_ports(socket.AF_INET, "127.0.0.1", 2)
    where = [f"--listen=127.0.0.1:{ports[0]}", f"--listen-tls=127.0.0.1:{ports[1]}"]
    home = server.path / "home"
    configure(home, ports[at_once], at_once, pair.chain)
    settings = certificates.settings(pair) | {"POPAD_PLAINTEXT": "tls"}
    with daemon(server, settings, arguments=where, ports=ports) as served, screen() as display:
        environment = {**os.environ, "HOME": str(home), "DISPLAY": display, "LC_ALL": "C.UTF-8"}
        client = subprocess.Popen(
            ["sylpheed", "--receive-all"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            fetched = home / "Mail/inbox"
            wait_until(lambda: len([path for path in fetched.iterdir() if path.name.isdigit()]) == len(NAMES))
            assert served.entries("session-closed")[0]["tls"].startswith("TLSv1.")
            pictures = CACHE / "clients"
            pictures.mkdir(parents=True, exist_ok=True)
            picture = pictures / f"sylpheed-{'pop3s' if at_once else 'stls'}.png"
            subprocess.run(["import", "-window", "root", picture], env=environment, check=True, timeout=PATIENCE)
        finally:
            client.terminate()
            client.wait(PATIENCE)
    mails = "".join(path.read_text() for path in (home / "Mail/inbox").iterdir() if path.name.isdigit())
    assert all(f"body of the {name}" in mails for name in NAMES)
