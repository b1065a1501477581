"""commands/report/catalog.py: the journal's catalog as the package installs it."""

from popad.commands.report import catalog
from popad.journal import EVENTS, LOGIN_FAILED
from tests.support.here import CHECKOUT


def test_each_event_has_its_text() -> None:
    texts = catalog.read(str(CHECKOUT / "packaging/popad.catalog"))
    assert [*texts] == [event.message_id for event in EVENTS]
    subject, text = texts[LOGIN_FAILED.message_id]
    assert subject == "A POP3 login has failed"
    assert text.startswith("A client at @POPAD_RHOST@ gave a wrong name")
    assert text.endswith("for long.")


def test_it_is_where_the_package_puts_it() -> None:
    installed = (CHECKOUT / "packaging/debian/popad.install").read_text()
    assert f"packaging/popad.catalog {catalog.CATALOG.rpartition('/')[0].lstrip('/')}" in " ".join(installed.split())


def test_none_is_there() -> None:
    assert catalog.read("/nonexistent") == {}


def test_fields_are_filled_in_once() -> None:
    """What a field says is no field."""
    text = catalog.filled("@POPAD_USER@ @POPAD_KEPT@ x", {"user": "@POPAD_KEPT@"})
    assert text == "@POPAD_KEPT@ unknown x"
    assert len(catalog.filled("@POPAD_USER@", {"user": "x" * 70_000})) < 1000
