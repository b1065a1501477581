"""commands/report/journald.py: entries from the journal: files that systemd has made."""

import os
from pathlib import Path

import pytest

from popad import journal
from popad.commands.report import journald
from popad.commands.report.entry import Selection
from popad.commands.report.journald import Journal, Unreadable
from tests.support.entries import REMOTE, START, as_journal, expected, history

pytestmark = pytest.mark.skipif(not os.path.exists(REMOTE), reason="needs systemd-journal-remote")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("journal")
    as_journal(history(), path)
    return path


def test_each_entry_of_popad_is_read(directory: Path) -> None:
    entries = [*Journal(Selection(), str(directory))]
    assert [(entry.when, entry.fields) for entry in entries] == [*map(expected, history())]


@pytest.mark.parametrize("at_once", [1, 2, 3, 1000])
def test_in_parts_of_any_size(at_once: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journald, "AT_ONCE", at_once)
    entries = [*Journal(Selection(), str(directory))]
    assert [(entry.when, entry.fields) for entry in entries] == [*map(expected, history())]


def test_from_a_moment_to_another(directory: Path) -> None:
    selection = Selection(START + 250_000, START + 500_000)
    found = [entry.when for entry in Journal(selection, str(directory)) if selection.wants(entry)]
    assert found == [START + 250_000, START + 500_000]


@pytest.mark.parametrize(("said", "when"), [("1790000000000123", START + 123), ("x", START), ("", START)])
def test_the_moment_is_that_of_popad(said: str, when: int, tmp_path: Path) -> None:
    """And not that of a journald which has let it wait."""
    as_journal(history()[:1], tmp_path, {journald.SENT: said})
    assert [entry.when for entry in Journal(Selection(), str(tmp_path))] == [when]


def test_a_user(directory: Path) -> None:
    assert len([*Journal(Selection(user="alice"), str(directory))]) == 2 * len(journal.EVENTS)
    assert [*Journal(Selection(user="bob"), str(directory))] == []


@pytest.mark.parametrize(
    ("uid", "unit", "counts"),
    [
        ("0", "session-1.scope", True),
        ("0", "", True),
        ("1000", "popad@3-192.0.2.7:40000.service", True),
        ("1000", "popad-standalone.service", True),
        ("1000", "openbsd-inetd.service", True),
        ("1000", "xinetd.service", True),
        ("1000", "session-1.scope", False),
        ("1000", "user@1000.service", False),
        ("1000", "cron.service", False),
        ("1000", "ssh@popad.service", False),
        ("1000", "popad.scope", False),
    ],
)
@pytest.mark.parametrize("event", [journal.LOGIN_FAILED, journal.SESSION_CLOSED])
def test_what_a_user_writes_does_not_count(
    uid: str, unit: str, counts: bool, event: journal.Event, tmp_path: Path
) -> None:
    """Under popad's name everybody may; whose it is, and of which unit, journald says."""
    as_journal([(START, event, {})], tmp_path, {"_UID": uid} | ({"_SYSTEMD_UNIT": unit} if unit else {}))
    entries = Journal(Selection(), str(tmp_path))
    assert [entry.when for entry in entries] == [START] * counts
    assert entries.forged == (not counts)


@pytest.mark.parametrize(
    ("event", "counts"),
    [
        (journal.SESSION_CLOSED, 1),
        (journal.MAILDROP_REFUSED, 1),
        (journal.LOGIN_FAILED, 0),
        (journal.LIMIT_REACHED, 0),
    ],
)
def test_where_journald_knows_no_unit(event: journal.Event, counts: int, tmp_path: Path) -> None:
    """The process had ended when it looked. What only root says is a user's lie then."""
    as_journal([(START, event, {})], tmp_path, {"_UID": "1000"})
    assert len([*Journal(Selection(), str(tmp_path))]) == counts


def test_it_goes_on_behind_a_cursor(tmp_path: Path) -> None:
    entries = history()
    as_journal(entries[:10], tmp_path / "journal")
    first = Journal(Selection(), str(tmp_path / "journal"))
    assert len([*first]) == 10
    assert [*Journal(Selection(), str(tmp_path / "journal"), first.cursor)] == []
    as_journal(entries[10:13], tmp_path / "journal")
    more = Journal(Selection(), str(tmp_path / "journal"), first.cursor)
    assert [entry.when for entry in more] == [when for when, _, _ in entries[10:13]]


def test_it_goes_on_where_the_last_entry_is_gone(tmp_path: Path) -> None:
    """The journal has been vacuumed since."""
    entries = history()
    as_journal(entries[:10], tmp_path / "old")
    first = Journal(Selection(), str(tmp_path / "old"))
    assert len([*first]) == 10
    as_journal(entries[10:13], tmp_path / "new")
    more = Journal(Selection(), str(tmp_path / "new"), first.cursor)
    assert [entry.when for entry in more] == [when for when, _, _ in entries[10:13]]


def test_what_is_no_text_is_read_as_text(tmp_path: Path) -> None:
    """Whoever may write to the journal may write such entries."""
    assert journald.text(b"\xff") == "\\xff"
    assert journald.text(["a", "b"]) == "a"
    assert journald.text([b"\xff"]) == "\\xff"
    assert len(journald.text("x" * 10**6)) == journald.FIELD


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        [*Journal(Selection(), str(tmp_path / "nonexistent"))]


class TestWhoMayRead:
    @pytest.fixture
    def places(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "machine-id").write_text("7" * 32 + "\n")
        monkeypatch.setattr(journald, "PLACES", (str(tmp_path / "log"), str(tmp_path / "run")))
        monkeypatch.setattr(journald, "MACHINE_ID", str(tmp_path / "machine-id"))
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        return tmp_path / "run" / ("7" * 32)

    def test_a_member_of_the_group(self, places: Path) -> None:
        places.mkdir(parents=True)
        (places / "system.journal").touch()
        assert journald.why_not() == ""

    def test_others(self, places: Path) -> None:
        """They would see entries of their own alone, and take them for all."""
        places.mkdir(parents=True)
        assert "group systemd-journal" in journald.why_not()

    def test_root(self, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        places.mkdir(parents=True)
        assert journald.why_not() == ""

    def test_no_journal(self, places: Path) -> None:
        with pytest.raises(Unreadable, match="--logfmt"):
            [*Journal(Selection())]
