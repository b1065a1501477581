"""Names of users that no client can give, for the commands."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from popad.settings import Settings

from popad.auth import identity
from popad.commands.accounts import Accounts

CHANGED = "POPAD_LOWER_CASE or POPAD_STRIP_DOMAINS"
MOST = 5  # users that are named


def why_not_typed(name: str, settings: "Settings") -> str:
    """What keeps a client from giving this name; "" if nothing does."""
    typed = name.encode("utf-8", "surrogateescape")
    if len(typed) > settings.max_argument:
        return f"it is longer than POPAD_MAX_ARGUMENT ({settings.max_argument} octets)"
    try:
        meant = identity.user_of(typed, settings)
    except identity.Unknown as unknown:
        return str(unknown)
    return "" if meant == name else f"{CHANGED} makes it {meant!a}"


def wrong_names(settings: "Settings") -> "Iterator[str]":
    """People of the system who have a maildrop, and cannot log in. A line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for name in Accounts(settings).all():
        if reason := why_not_typed(name, settings):
            kind = f"{CHANGED} makes it another name" if reason.startswith(CHANGED) else reason
            by_reason.setdefault(kind, []).append(name)
    for reason, names in by_reason.items():
        listed = ", ".join(map(ascii, names[:MOST])) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
        yield f"POPAD_MAILDROP: nobody can log in as {listed}: {reason}: usermod --login"
