"""commands/report/state.py: totals between two runs."""

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from popad.commands.report import state
from popad.commands.report.distribution import Distribution
from popad.commands.report.entry import Entry
from popad.commands.report.state import StateWrong
from popad.commands.report.totals import Totals
from tests.support.entries import history
from tests.support.marks import needs_root

ENTRIES = [
    Entry(when, {"event": event.name, **{name: str(value) for name, value in fields.items()}})
    for when, event, fields in history()
]


def all_of(totals: Totals) -> dict[str, object]:
    found = dict(vars(totals))
    for name, distribution in totals.distributions.items():
        assert type(distribution) is Distribution
        found[name] = vars(distribution)
    return found | {"distributions": None}


@pytest.mark.parametrize("at", range(len(ENTRIES)))
def test_whenever_a_run_ends_the_next_goes_on(at: int, tmp_path: Path) -> None:
    """Also between the entries of one session."""
    path = str(tmp_path / "state")
    totals, whole = Totals(), Totals()
    for entry in ENTRIES[:at]:
        totals.count(entry)
    state.save(path, totals, "a cursor")
    totals, cursor = state.load(path)
    for entry in ENTRIES[at:]:
        totals.count(entry)
    for entry in ENTRIES:
        whole.count(entry)
    assert cursor == "a cursor"
    assert all_of(totals) == all_of(whole)


def test_the_first_run_has_none(tmp_path: Path) -> None:
    totals, cursor = state.load(str(tmp_path / "state"))
    assert all_of(totals) == all_of(Totals())
    assert cursor == ""


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state"
    state.save(str(path), Totals(), "")
    assert path.stat().st_mode & 0o777 == 0o600


def of_another(path: Path) -> None:
    state.save(str(path), Totals(), "")
    os.chown(path, 4711, 4711)


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@needs_root
@pytest.mark.parametrize("spoil", [of_another, os.mkfifo, sparse])
@pytest.mark.parametrize("name", ["state", "state.lock"])
def test_what_another_user_has_put_there(name: str, spoil: Callable[[Path], None], tmp_path: Path) -> None:
    """In a directory where everybody may make files: it is not believed, and nobody waits for it."""
    spoil(tmp_path / name)
    with pytest.raises(StateWrong, match=r"not a file of this user's"), state.alone(str(tmp_path / "state")):
        state.load(str(tmp_path / "state"))


@pytest.mark.parametrize("name", ["state", "state.lock"])
def test_no_link_is_followed(name: str, tmp_path: Path) -> None:
    """By whoever may make one there, to have a file made where only root may."""
    (tmp_path / name).symlink_to(tmp_path / "nologin")
    with pytest.raises(OSError, match="symbolic links"), state.alone(str(tmp_path / "state")):
        state.load(str(tmp_path / "state"))
    assert not (tmp_path / "nologin").exists()


def test_nobody_else_can_keep_a_run_waiting(tmp_path: Path) -> None:
    """The directory may be read by all, and who can read it can lock it."""
    directory = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    try:
        with state.alone(str(tmp_path / "state")), open(tmp_path / "state.lock", "rb") as lock:
            assert os.fstat(lock.fileno()).st_mode & 0o777 == 0o600
            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(directory)


def test_what_an_earlier_version_does_not_know(tmp_path: Path) -> None:
    """Nor does it lose what a later one has counted."""
    path = tmp_path / "state"
    state.save(str(path), Totals(), "")
    kept = json.loads(path.read_text())
    del kept["events"]["reloaded"]
    kept["events"]["invented"] = 7
    path.write_text(json.dumps(kept))
    totals, _ = state.load(str(path))
    assert totals.events["reloaded"] == 0
    assert totals.events["invented"] == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", 2),
        ("cursor", 1),
        ("events", {"reloaded": -1}),
        ("events", {"reloaded": True}),
        ("events", []),
        ("sums", {}),
        ("labelled", {"mechanism": 1}),
        ("distributions", {}),
        ("pending", [[1]]),
        ("first", "x"),
    ],
)
def test_what_is_no_state(name: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "state"
    state.save(str(path), Totals(), "")
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(StateWrong, match="counters begin anew"):
        state.load(str(path))


@pytest.mark.parametrize("text", ["", "x", "[]", "\0", "[" * 100_000])
def test_what_is_no_object(text: str, tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text(text)
    with pytest.raises(StateWrong):
        state.load(str(path))
