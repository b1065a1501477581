"""commands/auth_helper.py: the process that systemd starts to check passwords."""

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from popad.auth.helper import VERDICT_LIMITS
from popad.commands import auth_helper
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
                channel.send([b"192.0.2.7"], given.fileno())
                credentials.send([b"alice", b"secret"])
                given.close()
                credentials.close()
                which, name, *_ = map(bytes, channel.receive(VERDICT_LIMITS, PATIENCE))
            assert (which, name) == (b"passed", b"alice")
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """popad.conf and a drop-in of long ago, below this directory."""
    (tmp_path / "drop-ins").mkdir()
    for name in ("popad.conf", "drop-ins/test.conf", "drop-ins"):
        if name != "drop-ins":
            (tmp_path / name).write_text("POPAD_TIMEOUT=600\n")
        os.utime(tmp_path / name, (1, 1))
    monkeypatch.setattr(auth_helper, "CONFIGURATION", str(tmp_path / "popad.conf"))
    monkeypatch.setattr(auth_helper, "DROP_INS", "drop-ins")
    monkeypatch.setattr(auth_helper, "PLACES", (str(tmp_path), str(tmp_path / "none")))
    return tmp_path


@pytest.mark.parametrize("is_there", [True, False])
def test_settings_that_nobody_has_changed(sources: Path, is_there: bool) -> None:
    if not is_there:
        (sources / "popad.conf").unlink()
    assert not auth_helper.Sources(auth_helper.DROP_INS).are_changed()


def test_a_popad_conf_that_is_changed_made_or_removed(sources: Path) -> None:
    path = sources / "popad.conf"
    seen = auth_helper.Sources(auth_helper.DROP_INS)
    path.write_text("POPAD_TIMEOUT=700\n")
    assert seen.are_changed()
    os.utime(path, (1, 1))
    seen = auth_helper.Sources(auth_helper.DROP_INS)
    path.unlink()
    assert seen.are_changed()
    seen = auth_helper.Sources(auth_helper.DROP_INS)
    path.touch()
    assert seen.are_changed()


def test_a_popad_conf_that_was_written_while_systemd_read_it(sources: Path) -> None:
    """This process is older than that: what systemd has read may be what was there before."""
    (sources / "popad.conf").write_text("POPAD_TIMEOUT=700\n")
    assert auth_helper.Sources(auth_helper.DROP_INS).are_changed()


@pytest.mark.parametrize("name", ["drop-ins/test.conf", "drop-ins/another.conf"])
def test_a_drop_in_counts_when_systemd_has_read_it(sources: Path, name: str) -> None:
    seen = auth_helper.Sources(auth_helper.DROP_INS)
    path = sources / name
    path.write_text("[Service]\nEnvironment=POPAD_TIMEOUT=700\n")
    assert not seen.are_changed(), "systemctl edit has just written it"
    for changed in (path, path.parent):
        os.utime(changed, (time.time() - 3, time.time() - 3))
    assert seen.are_changed()


def test_when_this_process_was_started() -> None:
    assert 0 < time.time_ns() - auth_helper.started() < time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    child = os.fork()
    if child == 0:
        os._exit(0 if time.time_ns() - auth_helper.started() < 1_000_000_000 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
