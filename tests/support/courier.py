"""Courier's POP3 server, which Debian has beside no other one: courier.sh runs it from packages that are unpacked."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support import unpacked
from tests.support.daemon import free_ports, listens
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import NAME, PASSWORD

PACKAGES = ("courier-pop", "courier-authdaemon", "msmtp-mta")  # the MTA is what its dependencies ask for
# Not in a network of its own: clients are outside. Whatever is left of it ends with its process 1.
NAMESPACE = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")
LIST = "courierpop3dsizelist"


def require() -> Path:
    """The tree of its packages. Raises unpacked.Unavailable."""
    unpacked.require(NAMESPACE)
    return unpacked.tree("courier", PACKAGES)


@contextlib.contextmanager
def courier(home: Path, port: int = 0) -> Iterator[int]:
    """Its port, while it serves `home`/Maildir. Raises unpacked.Unavailable."""
    tree = require()
    port = port or free_ports(socket.AF_INET, "127.0.0.1")[0]
    script = str(Path(__file__).with_suffix(".sh"))
    command = [*NAMESPACE, *unpacked.seen(tree, "courier", script, str(port), str(home), NAME, PASSWORD)]
    with (home / "courier.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or listens(port))
        if process.poll() is not None:
            raise unpacked.Unavailable((home / "courier.log").read_text())
        yield port
    finally:
        process.send_signal(signal.SIGKILL)  # of unshare, which has the kernel end its child and all others
        process.wait(PATIENCE)
        wait_until(lambda: not listens(port))
