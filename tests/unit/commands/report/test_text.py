"""commands/report/text.py: the report as text."""

from popad.commands.report import catalog, text
from popad.commands.report.entry import Entry
from popad.commands.report.figures import Figures
from popad.commands.report.tables import Table
from popad.commands.report.totals import TABLE
from tests.support.here import CHECKOUT

TEXTS = catalog.read(str(CHECKOUT / "packaging/popad.catalog"))


def shown(*entries: tuple[str, dict[str, str]]) -> str:
    figures = Figures()
    for event, fields in entries:
        figures.count(Entry(0, {"event": event, **fields}))
    return "\n".join(text.report(figures, ["A note."], TEXTS))


def test_nothing() -> None:
    assert shown() == "0 entries\nA note."


def test_a_table() -> None:
    table = Table("Users", ("user", "sent", "times"), [("alice", "1 kB", "2"), ("b", "20 MB", "300")], "A note.")
    assert [*text.lines(table)] == [
        "Users",
        "  user    sent  times",
        "  alice   1 kB      2",
        "  b      20 MB    300",
        "  A note.",
    ]


def test_trouble_comes_with_the_catalogs_text() -> None:
    said = shown(("login-refused", {"rhost": "192.0.2.7", "user": "root", "reason": "uid 0"}))
    assert "login-refused: 1, the last at an unknown time\n" in said
    assert "  A user may not have a POP3 session: rhost 192.0.2.7, user root, uid 0\n" in said
    assert "    The name root is known, but popad serves it no mail. The reason\n" in said


def test_no_name_moves_the_terminals_cursor() -> None:
    evil = "x\x1b[2J\r\n<\u202e\udcff" + "y" * 70_000
    said = shown(*[(name, dict.fromkeys(("user", "rhost", "maildrop", "reason", "limit"), evil)) for name in TABLE])
    assert all(line.isprintable() for line in said.split("\n"))
    said.encode()
    assert len(said) < 100_000
