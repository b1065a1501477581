"""commands/auth_helper.py: the process that systemd starts to check passwords."""

import os
import socket
import subprocess
from pathlib import Path

from popad.auth.verdict import VERDICT_LIMITS
from popad.privsep.channel import Channel, message_pair
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE
from tests.support.serving import POPAD, Server, handed_over


def test_the_helper_is_not_started_by_hand() -> None:
    done = subprocess.run(
        [*POPAD, "auth-helper"], cwd=CHECKOUT, env={}, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"popad-auth.socket" in done.stderr


def test_the_helper_as_systemd_starts_it(public_path: Path) -> None:
    """Ready when everything is loaded; answers; leaves when nobody has asked for POPAD_AUTH_IDLE seconds, and no answer
    can be under way (POPAD_AUTH_TIMEOUT).
    """
    server = Server(public_path)
    notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with notifications, listening:
        notifications.bind(str(public_path / "notify"))
        notifications.settimeout(PATIENCE)
        listening.bind(str(public_path / "auth.sock"))
        listening.listen()
        process = subprocess.Popen(
            handed_over(listening, *POPAD, "auth-helper"),
            cwd=CHECKOUT,
            env={
                "PATH": os.defpath,
                "NOTIFY_SOCKET": str(public_path / "notify"),
                **server.settings,
                "POPAD_AUTH_IDLE": "1",
                "POPAD_AUTH_TIMEOUT": "1",
            },
            pass_fds=[listening.fileno()],
        )
        try:
            assert notifications.recv(4096) == b"READY=1\nSTATUS=waiting for logins"
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
                asking.connect(str(public_path / "auth.sock"))
                channel = Channel(asking)
                credentials, given = map(Channel, message_pair())
                channel.send([b"192.0.2.7", b"", b""], given.fileno())
                credentials.send([b"USER", b"alice", b"secret"])
                given.close()
                credentials.close()
                which, name, *_ = map(bytes, channel.receive(VERDICT_LIMITS, PATIENCE))
            assert (which, name) == (b"passed", b"alice")
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()
