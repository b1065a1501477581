"""commands/report/logfmt.py: lines that popad has written to standard error."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad import journal
from popad.commands.report.entry import Entry
from popad.commands.report.logfmt import LINE, Lines, entry_of
from tests.support.entries import as_lines, expected, history


def read(octets: bytes) -> list[Entry]:
    return [*Lines(io.BytesIO(octets))]


def test_each_entry_of_popad_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entries = read(as_lines(history(), monkeypatch, tmp_path / "log"))
    assert [(entry.when, entry.fields) for entry in entries] == [*map(expected, history())]


@given(st.text(), st.binary())
def test_no_value_makes_another_field(one: str, other: bytes) -> None:
    values = (one.encode("utf-8", "surrogatepass"), other)
    rest = " ".join(f"f{place}={journal.logfmt(journal.printable(value))}" for place, value in enumerate(values))
    found = entry_of(f"event=login-failed {rest}\n".encode())
    assert found is not None
    assert found.fields == {"event": "login-failed", "f0": journal.printable(values[0]), "f1": journal.printable(other)}


@pytest.mark.parametrize(
    "line",
    [
        b"Traceback (most recent call last):",
        b"yesterday event=login-failed",
        b'event=login-failed user="x',
        b'event=login-failed user="x"y=z',
        b"event=login-failed = x",
        b"",
    ],
)
def test_what_is_no_entry_is_counted(line: bytes) -> None:
    lines = Lines(io.BytesIO(line + b"\nevent=reloaded\n"))
    assert [entry.fields for entry in lines] == [{"event": "reloaded"}]
    assert lines.others == 1


def test_a_line_that_is_too_long_is_one_line() -> None:
    """What follows in it is no entry, whatever it looks like."""
    forged = b"x" * LINE + b"event=login-failed user=x"
    lines = Lines(io.BytesIO(forged + b"\nevent=reloaded\n"))
    assert [entry.fields["event"] for entry in lines] == ["reloaded"]
    assert lines.others == 1


@given(st.binary())
def test_any_octets(octets: bytes) -> None:
    for entry in read(octets):
        assert "event" in entry.fields
        for text in entry.fields.values():
            text.encode()
