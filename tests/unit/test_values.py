"""values.py: what a maildrop is once a user's name is in it. The values of settings are in test_settings.py, with each
setting's good and bad ones.
"""

import pytest

from popad import values


@pytest.mark.parametrize("value", ["mbox:/var/mail/a{b}", "mbox:/x"])
def test_maildrop_of_a_user_may_have_braces(value: str) -> None:
    assert values.maildrop_of_user(value) == value


@pytest.mark.parametrize(
    "value", ["", "/x", "mbox:x", "mbox:{home}/x", "mbox:/x/../y", "mbox:/x\0y", "mbox:/x/a.Lock", "mh:/x"]
)
def test_what_is_no_maildrop_of_a_user(value: str) -> None:
    with pytest.raises(ValueError):
        values.maildrop_of_user(value)
