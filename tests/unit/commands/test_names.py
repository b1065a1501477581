"""commands/names.py: users whose names no client can give. Those of the credentials file: test_check.py."""

from __future__ import annotations

import pytest

from popad.commands.accounts import Accounts
from popad.commands.names import MOST, why_not_typed, wrong_names
from popad.settings import Settings


def users(monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
    """The people who have a maildrop."""
    monkeypatch.setattr(Accounts, "all", lambda _: iter(found))


@pytest.mark.parametrize(
    ("name", "given", "reason"),
    [
        ("jane", {}, ""),
        ("Jane", {}, ""),
        ("Jane", {"POPAD_LOWER_CASE": "yes"}, "POPAD_LOWER_CASE or POPAD_STRIP_DOMAINS makes it 'jane'"),
        ("jane\udcff", {}, "the name is not UTF-8"),
        ("x.lock", {}, "the name could mean the lock file of another user's mailbox"),
    ],
)
def test_why(name: str, given: dict[str, str], reason: str) -> None:
    assert why_not_typed(name, Settings(given)) == reason


def test_people_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each reason; and none when they are called otherwise."""
    lower = Settings({"POPAD_LOWER_CASE": "yes"})
    users(monkeypatch, "jane", "Jane", "JOHN", ".x")
    changed = "POPAD_LOWER_CASE or POPAD_STRIP_DOMAINS makes it another name"
    assert list(wrong_names(lower)) == [
        f"POPAD_MAILDROP: nobody can log in as 'Jane', 'JOHN': {changed}: usermod --login",
        "POPAD_MAILDROP: nobody can log in as '.x': the name could mean another path: usermod --login",
    ]
    users(monkeypatch, "jane", "john")
    assert list(wrong_names(lower)) == []


def test_many(monkeypatch: pytest.MonkeyPatch) -> None:
    users(monkeypatch, *(f"User{number}" for number in range(MOST + 3)))
    (said,) = wrong_names(Settings({"POPAD_LOWER_CASE": "yes"}))
    assert "'User4' and 3 more: " in said
