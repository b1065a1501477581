"""commands/units.py: what is made of systemd's words. tests/system/test_check.py has systemd itself."""

import pytest

from popad.commands import units

SHOWN = {"Environment": 'POPAD_TIMEOUT=5 "POPAD_PAM_SERVICE=two words" HOME=/x POPAD_TYPO=1'}


def test_settings_of_an_environment() -> None:
    assert units.environment(SHOWN) == {
        "POPAD_TIMEOUT": "5",
        "POPAD_PAM_SERVICE": "two words",
        "POPAD_TYPO": "1",
    }
    assert units.environment({}) == {}


def test_what_is_wrong_in_an_environment() -> None:
    assert list(units.wrong_environment("popad@.service", SHOWN, {"POPAD_TIMEOUT": "6"})) == [
        "popad@.service: Environment=: POPAD_TYPO: no such setting",
        "popad@.service: Environment=: POPAD_PAM_SERVICE: must be one word without a slash",
        "popad@.service: Environment=POPAD_TIMEOUT=5 does not count: popad.conf has '6'; take one out",
    ]


@pytest.mark.parametrize("shown", ["a 'b", 'a "b'])
def test_quotes_that_do_not_end(shown: str) -> None:
    assert units.words(shown) == shown.split()


def test_where_systemd_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "RUNNING", "/nonexistent")
    assert units.settings_in_use() == ("", {})
    assert units.show("popad.socket").get("ActiveState", "inactive") == "inactive"
