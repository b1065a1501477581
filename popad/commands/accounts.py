"""The users of this host, as the settings have them: who each is, where the mail is, and who there are."""

import os
import pwd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from popad.auth.identity import Owner
    from popad.settings import Settings

from popad.auth import credentials, identity

LOGIN_DEFS = "/etc/login.defs"
PEOPLE = {"UID_MIN": 1000, "UID_MAX": 60000}  # where login.defs(5) has no others


class Accounts:
    """Users whom clients can be: names of the credentials file, or of the system."""

    def __init__(self, settings: "Settings", maildrop: str | None = None) -> None:
        """`maildrop` counts in place of those that settings and file have. Raises Unavailable where the credentials
        file cannot be read.
        """
        self.settings = settings
        self.maildrop = maildrop
        self.file: credentials.Users | None = None
        if settings.auth == "file":
            try:
                self.file = credentials.Users(settings.credentials)
            except (credentials.FileWrong, OSError) as wrong:
                raise identity.Unavailable(str(wrong)) from wrong

    def find(self, name: str) -> "tuple[str, Owner, str]":
        """The name as it counts, who it is and the maildrop. Raises LoginFailed and Unavailable."""
        user = identity.user_of(os.fsencode(name), self.settings)
        own = ""
        if self.file:
            try:
                line = self.file.find(user)
            except credentials.FileWrong as wrong:
                raise identity.Unavailable(str(wrong)) from wrong
            if not line:
                raise identity.Unknown(f"{self.file.path} has no line for {user!a}")
            own = line.maildrop
        owner = identity.owner(user, self.settings)
        return user, owner, identity.place(self.maildrop or own or self.settings.maildrop, owner.name, owner.home)

    def all(self) -> "Iterator[str]":
        """All names of the file; or the people of the system who have a maildrop."""
        if self.file:
            yield from self.file.places
            return
        uids = people()
        for entry in pwd.getpwall():
            if entry.pw_uid not in uids:
                continue
            try:
                maildrop = identity.place(self.maildrop or self.settings.maildrop, entry.pw_name, entry.pw_dir)
            except identity.Refused:
                continue  # there is no place where it could be
            if may_be_there(maildrop.partition(":")[2]):
                yield entry.pw_name


def may_be_there(path: str) -> bool:
    """Whether there is something, or only its owner can tell (on NFS root may be nobody)."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def people() -> range:
    """The uids that login.defs(5) has for people."""
    bounds = dict(PEOPLE)
    try:
        with open(LOGIN_DEFS, encoding="utf-8", errors="surrogateescape") as lines:
            for fields in map(str.split, lines):
                if len(fields) == 2 and fields[0] in bounds and fields[1].isdigit():
                    bounds[fields[0]] = int(fields[1])
    except OSError:
        pass  # Debian's own bounds count
    return range(bounds["UID_MIN"], bounds["UID_MAX"] + 1)
