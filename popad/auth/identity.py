"""Who a name is: a system user (NSS) or a virtual one, where the mail is, and whom popad refuses to be."""

import pwd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.settings import Settings

from popad.settings import UIDS_OF_STRANGERS

MAX_NAME = 248  # octets: what fits a command line


class LoginFailed(Exception):
    """The name or the password is wrong, or the account may not log in. The text is for the journal."""


class Unknown(LoginFailed):
    """There is no such user: to the client no other failure, but the name may be a password typed too early."""


class Refused(LoginFailed):
    """There is such a user, and popad does not serve that user's mail: to the client no other failure."""


class Unavailable(Exception):
    """Nothing is known about the login: what should answer does not work. The text is for the journal."""


class Account:
    """What a source of passwords vouches for: the user's name, and the maildrop ("store:path") if it names one."""

    def __init__(self, name: str, maildrop: str = "") -> None:
        self.name = name
        self.maildrop = maildrop


class Identity:
    """A user popad can serve: the name, who to become, and the maildrop as "store:path"."""

    def __init__(self, name: str, uid: int, gid: int, maildrop: str) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.maildrop = maildrop


def checked_name(name: bytes) -> str:
    """`name` as text, if it can be a user's name at all. Raises Unknown.

    A name becomes a part of paths and of log lines: no slash, no dots alone, nothing that does not print.
    """
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        raise Unknown("the name is not UTF-8") from None
    if not text or len(name) > MAX_NAME or not text.isprintable() or "/" in text or text.startswith("."):
        raise Unknown("no user can have such a name")
    return text


def identify(account: Account, settings: "Settings") -> Identity:
    """Who an account is. Raises Unknown, Refused and Unavailable."""
    entry = lookup(account.name)
    name, home = (entry.pw_name, entry.pw_dir) if entry else (account.name, "")
    if entry is None:
        if settings.auth != "file":
            raise Unknown("the name is not known to NSS")
        if not settings.virtual_user:
            raise Unavailable("NSS does not know the name, and POPAD_VIRTUAL_USER names nobody to own its mail")
        entry = lookup(settings.virtual_user)
        if entry is None:
            raise Unavailable(f"POPAD_VIRTUAL_USER: NSS does not know {settings.virtual_user!a}")
    if (reason := why_refused(entry, settings)) is not None:
        raise Refused(reason)
    return Identity(name, entry.pw_uid, entry.pw_gid, place(account.maildrop or settings.maildrop, name, home))


def why_refused(entry: "pwd.struct_passwd", settings: "Settings") -> str | None:
    """Why popad does not serve this user; None if it does."""
    if entry.pw_uid == 0:
        return "uid 0"
    stranger = lookup(settings.user)
    if entry.pw_uid in UIDS_OF_STRANGERS or (stranger and entry.pw_uid == stranger.pw_uid):
        return "who reads what strangers send has no mail"
    return None


def lookup(name: str) -> "pwd.struct_passwd | None":
    """The user as NSS knows it."""
    try:
        return pwd.getpwnam(name)
    except (KeyError, ValueError):
        return None


def place(maildrop: str, name: str, home: str) -> str:
    """The maildrop with the user's name and home directory in it. Raises Unavailable where there is no home."""
    if "{home}" in maildrop and not home.startswith("/"):
        raise Unavailable(f"{maildrop}: {name} has no home directory")
    return maildrop.replace("{home}", home).replace("{user}", name)
