"""popad (or popa3d) on a port of 127.0.0.1, started once a connection by systemd-socket-activate.

It runs in a mount namespace of its own, with the accounts of support/namespace.py and no journal. The listening socket
outlives the server: another server can take the port over, as clients keep their state by host and port.
"""

import contextlib
import os
import select
import socket
import subprocess
from pathlib import Path

from tests.support import namespace, peers
from tests.support.patience import PATIENCE


class Server:
    """`name` is what runs at the port; `mailbox` is the only user's, as octets."""

    user, password = namespace.USER, namespace.PASSWORD

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def serve(self, name: str) -> None:
        """Let `name` (popad, popa3d) answer at the port from now on."""
        self.end()
        self.process = subprocess.Popen(
            peers.in_namespace("listen", name, str(self.listening.fileno())),
            pass_fds=[self.listening.fileno()],
            stdout=subprocess.PIPE,
        )
        # A line, when the namespace is complete.
        assert self.process.stdout
        if self.process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{name} has not started: {self.process.wait()}")

    def end(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.communicate(timeout=PATIENCE)
            self.process = None

    @property
    def path(self) -> Path:
        """The mailbox, seen from outside of the namespace."""
        assert self.process
        return Path(f"/proc/{self.process.pid}/root{namespace.MAILBOX}")

    @property
    def mailbox(self) -> bytes:
        self.wait_for_sessions()
        return self.path.read_bytes()

    @mailbox.setter
    def mailbox(self, content: bytes) -> None:
        self.wait_for_sessions()
        namespace.put_mailbox(content, self.path)

    def wait_for_sessions(self) -> None:
        """Until no session is under way: a client need not have waited for the answer to its QUIT."""
        assert self.process
        for session in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError), open(os.pidfd_open(int(session)), "rb") as process:
                if not select.select([process], [], [], PATIENCE)[0]:
                    raise TimeoutError(f"a session goes on for {PATIENCE} seconds")

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *failure: object) -> None:
        self.end()
        self.listening.close()
