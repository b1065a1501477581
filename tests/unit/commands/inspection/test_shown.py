"""commands/inspection/shown.py: what was found, for people and for programs."""

import json

import pytest

from popad.commands.inspection.shown import AsJson, AsText

ROWS: list[tuple[str, dict[str, int | str], str]] = [
    (
        "locks",
        {"kind": "fcntl", "pid": 7, "bars": 1, "says": "local (7) has it for itself"},
        "  fcntl: local (7) has it for itself; a session waits for it",
    ),
    (
        "messages",
        {"number": 1, "octets": 34, "id": "0123456789abcdef", "offset": 1000, "line": "From a\x07"},
        "       1         34 octets  0123456789abcdef at        1000  From a\\x07",
    ),
    (
        "messages",
        {"number": 1, "octets": 34, "id": "a", "offset": 0, "line": "new/1.M1P1.host"},
        "       1         34 octets  a  new/1.M1P1.host",
    ),
    (
        "text_lines",
        {"offset": 9, "why": "it has no date", "line": "From x"},
        "  at           9  From x  (it has no date)",
    ),
    (
        "twins",
        {"number": 2, "id": "a", "digest": "b", "first": 1},
        "       2 has a; popa3d's b is first that of 1",
    ),
    ("renamed", {"number": 2, "id": "a", "name": "1.x\x1b"}, "       2 has a: 1.x\\x1b"),
    ("others", {"name": "cur/.nfs", "why": "its name begins with a dot"}, "  cur/.nfs: its name begins with a dot"),
]


@pytest.mark.parametrize(("name", "row", "line"), ROWS)
def test_a_list(capsys: pytest.CaptureFixture[str], name: str, row: dict[str, int | str], line: str) -> None:
    show = AsText()
    show.row(name, row)
    show.listed(name, 1)
    show.row(name, row)
    show.listed(name, 12_346)
    first, shown, again, more_shown, more = capsys.readouterr().out.splitlines()
    assert first == again
    assert first.endswith(":")
    assert shown == more_shown == line
    assert more == "  … 12,345 more (--all)"


def test_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Told where one looks for it."""
    show = AsText()
    show.listed("messages", 0)
    show.listed("twins", 0)
    assert capsys.readouterr().out == "messages: none\n"


@pytest.mark.parametrize("show", [AsText, AsJson])
def test_the_exit_status(show: "type[AsText | AsJson]", capsys: pytest.CaptureFixture[str]) -> None:
    """1 where it is refused, where something is wrong, and where nothing was said in the end."""
    assert show().end() == 1
    for code, reason, wrong, status in (("", "", "", 0), ("SYS/PERM", "no", "", 1), ("", "", "x", 1)):
        shown = show()
        shown.begin("mbox:/x", "jane")
        if wrong:
            shown.wrong(wrong)
        shown.note("n")
        shown.verdict(code, reason)
        assert shown.end() == status


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever lists there are, and however long."""
    show = AsJson()
    show.begin('mbox:/"x"', "jane")
    show.fact("redo log", "none\x1b")
    show.count("messages", 2)
    for name, row, _ in ROWS:
        if name != "messages":
            show.row(name, row)
            show.row(name, row)
            show.listed(name, 5)
    show.listed("messages", 0)
    show.wrong("w")
    show.verdict("IN-USE", "held")
    found = json.loads(capsys.readouterr().out)
    assert found["facts"] == {"redo_log": "none\x1b", "messages": 2}
    assert found["locks"] == [ROWS[0][1]] * 2
    assert found["messages"] == []
    assert found["in_all"]["others"] == 5
    assert (found["served"], found["code"], found["reason"], found["wrong"]) == (False, "IN-USE", "held", ["w"])
