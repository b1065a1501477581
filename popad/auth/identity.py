"""Who a name is: a system user (NSS) or a virtual one, where the mail is, and whom popad refuses to be."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pwd

    from popad.settings import Settings

from popad.auth import nss
from popad.auth.saslprep import prepared
from popad.auth.verdict import MAX_GROUPS, MAX_NAME
from popad.settings import PREAUTH_UIDS
from popad.values import is_a_lock


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


class Owner:
    """A user popad can serve: the name, the home directory ("" for a virtual user), who to become, in which groups."""

    def __init__(self, name: str, home: str, entry: "pwd.struct_passwd", groups: list[int]) -> None:
        self.name = name
        self.home = home
        self.uid = entry.pw_uid
        self.gid = entry.pw_gid
        self.groups = groups


def user_of(typed: bytes, settings: "Settings") -> str:
    """The user whom a client means by the name that it gives. Raises Unknown."""
    text = checked_name(prepared(typed))
    if settings.lower_case:
        text = text.lower()
    local, at, domain = text.rpartition("@")
    if at and domain.lower() in settings.strip_domains:
        text = local
    return checked_name(text.encode())


def checked_name(name: bytes) -> str:
    """`name` as text, if it can be a user's name at all. Raises Unknown.

    A name becomes a part of paths and of log lines: no slash, nothing that does not print, and no file that lies beside
    mailboxes: popad and other mail programs begin those with a dot, or make them from a mailbox's name and `.lock`.
    """
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        raise Unknown("the name is not UTF-8") from None
    if not text or len(name) > MAX_NAME or not text.isprintable() or text != text.strip(" "):
        raise Unknown("no user can have such a name")
    if "/" in text or text.startswith("."):
        raise Unknown("the name could mean another path")
    if is_a_lock(text):
        raise Unknown("the name could mean the lock file of another user's mailbox")
    return text


def owner(name: str, settings: "Settings") -> Owner:
    """Who `name` is served as. Raises Unknown, Refused and Unavailable."""
    entry = lookup(name)
    name, home = (entry.pw_name, entry.pw_dir) if entry else (name, "")
    if entry is None:
        if settings.auth != "file":
            raise Unknown("the name is not known to NSS")
        if not settings.virtual_user:
            raise Unknown("NSS does not know the name, and POPAD_VIRTUAL_USER names nobody to own its mail")
        entry = lookup(settings.virtual_user)
        if entry is None:
            raise Unavailable(f"POPAD_VIRTUAL_USER: NSS does not know {settings.virtual_user!a}")
    if (reason := why_refused(entry, settings)) is not None:
        raise Refused(reason)
    try:
        groups = nss.groups(entry)
    except nss.Unanswered as error:
        raise Unavailable(str(error)) from error
    if len(groups) > MAX_GROUPS:
        raise Refused(f"{entry.pw_name} is in {len(groups)} groups, more than {MAX_GROUPS}")
    return Owner(name, home, entry, groups)


def why_refused(entry: "pwd.struct_passwd", settings: "Settings") -> str | None:
    """Why popad does not serve this user; None if it does. Raises Unavailable."""
    if entry.pw_uid == 0:
        return "uid 0"
    preauth = lookup(settings.user)
    if entry.pw_uid in PREAUTH_UIDS or (preauth and entry.pw_uid == preauth.pw_uid):
        return "the preauth user has no mail"
    return None


def lookup(name: str) -> "pwd.struct_passwd | None":
    """The user as NSS knows it. Raises Unavailable where NSS cannot say."""
    try:
        return nss.user(name)
    except nss.Unanswered as error:
        raise Unavailable(str(error)) from error


def place(maildrop: str, name: str, home: str) -> str:
    """The maildrop with the user's name and home directory in it. Raises Refused where there is no home.

    No other failure to the client: it would be told that the password is right.
    """
    if "{home}" in maildrop and not home.startswith("/"):
        raise Refused(f"{maildrop}: {name} has no home directory")
    domain = name.rpartition("@")[2] if "@" in name else ""
    if "{domain}" in maildrop and (not domain or domain.startswith(".")):
        raise Refused(f"{maildrop}: {name} has no domain")
    # One after the other, and not in what another one stands for: a name may have braces.
    words = {"{home}": home, "{user}": name, "{domain}": domain}
    done, rest = "", maildrop
    while found := [(rest.find(word), word) for word in words if word in rest]:
        place, word = min(found)
        done += rest[:place] + words[word]
        rest = rest[place + len(word) :]
    return done + rest
