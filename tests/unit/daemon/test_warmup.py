"""daemon/warmup.py: it does all that a session does, and leaves nothing."""

import os
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import pytest

from popad.daemon import warmup
from popad.errors import MaildropUnavailable
from tests.support.daemon import daemon
from tests.support.descriptors import descriptors
from tests.support.serving import Server


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    # The daemon has none when it warms up. Here the hard limit would stay, and not every root may raise it again.
    monkeypatch.setattr("popad.privsep.identity.leave_no_core_file", lambda: None)
    return tmp_path


def test_nothing_is_left(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No file, no descriptor, no word, no change of who this process is and what it may do."""
    warmup.warm_up()  # opens what is opened once
    before = sorted(descriptors()), os.getresuid(), os.getgroups(), Path("/proc/self/limits").read_text()
    warmup.warm_up()
    after = sorted(os.listdir("/proc/self/fd")), os.getresuid(), os.getgroups(), Path("/proc/self/limits").read_text()
    assert after == before
    assert os.listdir(place) == []
    assert capfd.readouterr() == ("", "")


def test_what_runs_often_enough_to_be_made_faster() -> None:
    """The hot parts of a session, eight times at least (CPython 3.11: QUICKENING_INITIAL_WARMUP_VALUE)."""
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            calls[frame.f_code.co_qualname] += 1

    sys.setprofile(count)
    try:
        warmup.warm_up()
    finally:
        sys.setprofile(None)
    for hot in (
        *(
            "converse",
            "dispatch",
            "Lines.take",
            "PreauthClient.read",
            "Connection.write",
            "Channel.receive_message",
            "unpack",
        ),
        *(
            "unpack_verdict",
            "printable",
            "SharedDirectory.read_key",
            "Mbox.load",
            "Mbox.content",
            "Mbox.check",
            "PostauthClient.read",
        ),
    ):
        assert calls[hot] >= 8, (hot, calls)


def test_no_room(place: Path) -> None:
    """The daemon serves all the same."""
    gone = str(place / "gone")
    os.environ["TMPDIR"] = gone
    with pytest.raises(FileNotFoundError):
        warmup.warm_up()


def test_descriptors_after_a_failure(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the daemon forks would have them."""
    warmup.warm_up()
    before = sorted(descriptors())
    monkeypatch.setattr(warmup, "MESSAGES", 1)
    with pytest.raises(MaildropUnavailable):
        warmup.warm_up()
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert os.listdir(place) == []


def test_a_daemon_with_narrow_limits(server: Server) -> None:
    """They are for clients."""
    narrow = {"POPAD_MAX_MESSAGES": "1", "POPAD_MAX_OCTETS": "1", "POPAD_MAX_ARGUMENT": "40"}
    with daemon(server, narrow) as running:
        client = running.connect()
        assert client.line().startswith(b"+OK")
        client.close()
    assert "Traceback" not in server.stderr.read_text()


def test_a_daemon_without_room(server: Server) -> None:
    with daemon(server, environment={"TMPDIR": "/nonexistent"}) as running:
        client = running.connect()
        assert client.log_in().startswith(b"+OK")
        client.close()
    assert "Traceback" not in server.stderr.read_text()
