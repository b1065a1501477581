"""The table of stores: what the scheme of POPAD_MAILDROP (mbox:/var/mail/alice) opens."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from popad.maildrop.maildrop import Store
    from popad.maildrop.private import SharedDirectory
    from popad.settings import Settings

from popad.maildrop.mbox.store import Mbox


def open_mbox(path: str, settings: "Settings", state: "SharedDirectory", cache: "SharedDirectory | None") -> "Store":
    """mbox: a file."""
    limits = settings.lock_timeout, settings.max_messages, settings.max_octets
    return Mbox(path, state.files_of(path), *limits, settings.locks, cache.files_of(path) if cache else None)


STORES: "dict[str, Callable[[str, Settings, SharedDirectory, SharedDirectory | None], Store]]" = {"mbox": open_mbox}


def open_store(
    maildrop: str, settings: "Settings", state: "SharedDirectory", cache: "SharedDirectory | None"
) -> "Store":
    """The store that `maildrop` (SCHEME:PATH) names, as the user. Raises MaildropUnavailable.

    `state` and `cache` are POPAD_STATE and POPAD_CACHE.
    """
    scheme, _, path = maildrop.partition(":")
    return STORES[scheme](path, settings, state, cache)
