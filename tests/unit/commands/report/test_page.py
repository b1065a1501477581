"""commands/report/page.py: the report as a page."""

import html.parser

import pytest

from popad.commands.report import catalog
from popad.commands.report.entry import Entry
from popad.commands.report.figures import TROUBLES, Figures
from popad.commands.report.page import page
from popad.commands.report.totals import TABLE
from tests.support.entries import START, history
from tests.support.here import CHECKOUT

TEXTS = catalog.read(str(CHECKOUT / "packaging/popad.catalog"))
VOID = {"meta"}
EVIL = [
    "<script>alert(1)</script>",
    "\"onload='alert(1)'><svg/onload=alert(1)>",
    "a\r\nb\0\x1b[2J\u202e\u2028",
    "</style></title></svg>--><!--",
    "&lt;script&gt;",
    "\udcff\ud800",
    "x" * 70_000,
    "@POPAD_USER@",
]


class Elements(html.parser.HTMLParser):
    """What a page is made of: elements, attributes and texts; and whether each that is begun is ended."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.open: list[str] = []
        self.others: list[str] = []  # comments and the like
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.texts += [value or "" for _, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.others.append(data)


def shown(*entries: tuple[int, str, dict[str, str]]) -> str:
    figures = Figures()
    for when, event, fields in entries:
        figures.count(Entry(when, {"event": event, **fields}))
    return page(figures, [], TEXTS)


def of_all_events() -> str:
    return shown(*[(when, event.name, {n: str(v) for n, v in fields.items()}) for when, event, fields in history()])


def test_a_history_with_each_event() -> None:
    elements = Elements(of_all_events())
    assert "alice" in elements.texts
    for name in TROUBLES:
        assert TEXTS[TROUBLES[name].message_id][0] in " ".join(elements.texts), name
    assert {"svg", "rect", "table", "details"} <= elements.names


def test_hours_of_the_week_where_there_is_more_than_a_day() -> None:
    login = "login-passed", {"user": "alice", "rhost": "192.0.2.7"}
    day = 86_400_000_000
    assert "Logins by day and hour" not in Elements(shown((START, *login), (START + day - 1, *login))).texts
    assert "Logins by day and hour" in Elements(shown((START, *login), (START + 2 * day, *login))).texts


def test_nothing() -> None:
    assert "0 entries" in Elements(shown()).texts


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_what_clients_say_is_text(evil: str) -> None:
    """No element, no attribute and no comment but those of the page, whatever a name is."""
    known = Elements(of_all_events())
    fields = dict.fromkeys(("user", "rhost", "maildrop", "reason", "limit", "mechanism", "tls", "kept"), evil)
    numbers = dict.fromkeys(("octets", "sent_octets", "duration_usec", "dropped", "deleted"), "7")
    entries = [(START + place, name, fields | numbers) for place, name in enumerate(TABLE) if name != "login-failed"]
    entries += [(START, "login-failed", dict.fromkeys((*fields, *numbers), evil))]
    markup = shown(*entries)
    elements = Elements(markup)
    assert elements.names <= known.names
    assert elements.attributes <= known.attributes
    assert elements.others == []
    markup.encode()
    assert all(text.isprintable() for text in markup.split("\n"))
    assert len(markup) < 400_000


def test_it_fetches_and_runs_nothing() -> None:
    markup = of_all_events()
    assert "default-src 'none'; style-src 'unsafe-inline'" in markup
    elements = Elements(markup)
    assert elements.names.isdisjoint({"script", "link", "img", "iframe", "object", "form", "a", "base"})
    assert not {name for name in elements.attributes if name.startswith("on")} | elements.attributes & {"src", "href"}


def test_it_is_for_phones_too() -> None:
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in shown()


def test_a_note_is_shown() -> None:
    assert "1 lines are no entries." in Elements(page(Figures(), ["1 lines are no entries."], TEXTS)).texts
