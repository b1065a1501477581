"""commands/tls_helper.py: the process that systemd starts to hold the keys."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
from pathlib import Path

from popad.net.encryption import LIMITS, unpack
from popad.privsep.channel import Channel
from tests.support.certificates import HOST, make, settings
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE
from tests.support.serving import POPAD, handed_over


def run(settings: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*POPAD, "tls-helper"],
        cwd=CHECKOUT,
        env=settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )


def test_the_helper_is_not_started_by_hand() -> None:
    done = run({})
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"popad-tls-helper.socket" in done.stderr


def test_the_helper_as_systemd_starts_it(public_path: Path) -> None:
    """Ready when the keys are loaded; connections go on when it is told to end, and nobody waits for them."""
    pair = make(public_path)
    notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with notifications, listening:
        notifications.bind(str(public_path / "notify"))
        (public_path / "notify").chmod(0o777)  # started as root it becomes POPAD_TLS_USER
        notifications.settimeout(PATIENCE)
        listening.bind(str(public_path / "tls.sock"))
        listening.listen()
        process = subprocess.Popen(
            handed_over(listening, *POPAD, "tls-helper"),
            cwd=CHECKOUT,
            env={"PATH": os.defpath, "NOTIFY_SOCKET": str(public_path / "notify"), **settings(pair)},
            pass_fds=[listening.fileno()],
        )
        try:
            said = notifications.recv(4096)
            assert said in [b"READY=1\nSTATUS=certificates: 1, days left: %d" % days for days in (89, 90)]
            asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            asking.connect(str(public_path / "tls.sock"))
            channel = Channel(asking)
            outside, inside = socket.socketpair()
            plain, theirs = socket.socketpair()
            channel.send([b"192.0.2.7"], inside.fileno(), theirs.fileno())
            inside.close()
            theirs.close()
            with ssl.create_default_context(cafile=str(pair.chain)).wrap_socket(
                outside, server_hostname=HOST
            ) as client:
                assert unpack(channel.receive(LIMITS, PATIENCE)).is_up
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == 0
                plain.sendall(b"+OK\r\n")
                assert client.recv(10) == b"+OK\r\n"
            plain.close()
            asking.close()
        finally:
            process.kill()
            process.wait()


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    """The reason is for the journal, and the status for systemd. A client that waits is told so at once."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    waiting = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with listening, waiting:
        listening.bind(str(tmp_path / "tls.sock"))
        listening.listen()
        waiting.connect(str(tmp_path / "tls.sock"))
        done = subprocess.run(
            handed_over(listening, *POPAD, "tls-helper"),
            cwd=CHECKOUT,
            env={"POPAD_TLS_CERTIFICATE": str(tmp_path / "none"), "POPAD_TLS_USER": "games"},
            pass_fds=[listening.fileno()],
            capture_output=True,
            timeout=PATIENCE,
        )
        waiting.settimeout(PATIENCE)
        assert waiting.recv(1) == b""
    assert done.returncode == 78
    assert done.stderr.startswith(b"popad: POPAD_TLS_CERTIFICATE: ")
