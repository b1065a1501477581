"""commands/paths.py: where mail is, what is mounted, and what is below what."""

import pytest

from popad.commands.paths import is_below, mail_places, mount_points


@pytest.mark.parametrize(
    ("path", "directory", "wanted"),
    [("/srv/mail", "/srv", True), ("/srv", "/srv", True), ("/srv-mail", "/srv", False), ("/srv", "/", True)],
)
def test_what_is_below(path: str, directory: str, wanted: bool) -> None:
    assert is_below(path, directory) == wanted


def test_where_mail_is() -> None:
    assert mail_places("mbox:/srv/mail/{user}") == {"/srv/mail"}
    assert "/" not in mail_places("mbox:{home}/mailbox")


def test_mount_points_of_this_machine() -> None:
    assert {"/", "/proc"} <= mount_points()
