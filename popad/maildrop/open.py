"""The table of stores: what the scheme of POPAD_MAILDROP (mbox:/var/mail/alice) opens."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from popad.maildrop.maildrop import Store
    from popad.maildrop.private import SharedDirectory
    from popad.settings import Settings
from popad import precompiled
from popad.values import FORMER_SERVERS


def former_server(scheme: str, settings: "Settings") -> tuple[str, str] | None:
    """The server, and the format, whose unique-ids a store of this kind can have; None: popad's own count."""
    return settings.uidl if settings.uidl and scheme in FORMER_SERVERS[settings.uidl[0]] else None


def open_mbox(path: str, settings: "Settings", state: "SharedDirectory", cache: "SharedDirectory | None") -> "Store":
    """mbox: a file."""
    from popad.maildrop.mbox.store import Mbox

    limits = settings.lock_timeout, settings.max_messages, settings.max_octets
    files, cached = state.files_of(path), cache.files_of(path) if cache else None
    return Mbox(path, files, *limits, settings.locks, cached, former_server("mbox", settings))


def open_maildir(path: str, settings: "Settings", _: "SharedDirectory", cache: "SharedDirectory | None") -> "Store":
    """maildir: a directory, with a file for each message."""
    from popad.maildrop.maildir.store import Maildir

    return Maildir(
        path,
        settings.max_messages,
        settings.max_octets,
        cache.files_of(path) if cache else None,
        former=former_server("maildir", settings),
        marks_seen=settings.maildir_seen,
        missing_is_empty=settings.maildir_missing == "empty",
    )


STORES: "dict[str, Callable[[str, Settings, SharedDirectory, SharedDirectory | None], Store]]" = {
    "mbox": open_mbox,
    "maildir": open_maildir,
}


def load(maildrop: str) -> None:
    """Import what open_store() needs for a maildrop like this, for whoever has the time before it is asked for."""
    if maildrop.startswith("maildir:"):
        precompiled.load("popad.maildrop.maildir.store")
        from popad.maildrop.maildir import store
    else:
        precompiled.load("popad.maildrop.mbox.store")
        from popad.maildrop.mbox import store  # type: ignore[no-redef]  # noqa: F401 - the other one


def open_store(
    maildrop: str, settings: "Settings", state: "SharedDirectory", cache: "SharedDirectory | None"
) -> "Store":
    """The store that `maildrop` (SCHEME:PATH) names, as the user. Raises MaildropUnavailable.

    `state` and `cache` are POPAD_STATE and POPAD_CACHE.
    """
    scheme, _, path = maildrop.partition(":")
    return STORES[scheme](path, settings, state, cache)
