"""commands/helper_service.py: settings that have changed since a helper has them."""

import os
import time
from pathlib import Path

import pytest

from popad.commands import helper_service
from popad.commands.helper_service import Sources


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """popad.conf and a drop-in of long ago, below this directory."""
    (tmp_path / "drop-ins").mkdir()
    for name in ("popad.conf", "drop-ins/test.conf", "drop-ins"):
        if name != "drop-ins":
            (tmp_path / name).write_text("POPAD_TIMEOUT=600\n")
        os.utime(tmp_path / name, (1, 1))
    monkeypatch.setattr(helper_service, "CONFIGURATION", str(tmp_path / "popad.conf"))
    monkeypatch.setattr(helper_service, "PLACES", (str(tmp_path), str(tmp_path / "none")))
    return tmp_path


@pytest.mark.parametrize("is_there", [True, False])
def test_settings_that_nobody_has_changed(sources: Path, is_there: bool) -> None:
    if not is_there:
        (sources / "popad.conf").unlink()
    assert not Sources("drop-ins").are_changed()


def test_a_popad_conf_that_is_changed_made_or_removed(sources: Path) -> None:
    path = sources / "popad.conf"
    seen = Sources("drop-ins")
    path.write_text("POPAD_TIMEOUT=700\n")
    assert seen.are_changed()
    os.utime(path, (1, 1))
    seen = Sources("drop-ins")
    path.unlink()
    assert seen.are_changed()
    seen = Sources("drop-ins")
    path.touch()
    assert seen.are_changed()


def test_a_popad_conf_that_was_written_while_systemd_read_it(sources: Path) -> None:
    """This process is older than that: what systemd has read may be what was there before."""
    (sources / "popad.conf").write_text("POPAD_TIMEOUT=700\n")
    assert Sources("drop-ins").are_changed()


@pytest.mark.parametrize("name", ["drop-ins/test.conf", "drop-ins/another.conf"])
def test_a_drop_in_counts_when_systemd_has_read_it(sources: Path, name: str) -> None:
    seen = Sources("drop-ins")
    path = sources / name
    path.write_text("[Service]\nEnvironment=POPAD_TIMEOUT=700\n")
    assert not seen.are_changed(), "systemctl edit has just written it"
    for changed in (path, path.parent):
        os.utime(changed, (time.time() - 3, time.time() - 3))
    assert seen.are_changed()


def test_when_this_process_was_started() -> None:
    assert 0 < time.time_ns() - helper_service.started() < time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    child = os.fork()
    if child == 0:
        os._exit(0 if time.time_ns() - helper_service.started() < 1_000_000_000 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
