"""The credentials file: a line a user, `name VERIFIER[,VERIFIER] [maildrop]`; one verifier is of SCRAM-SHA-256.

White space between the fields; lines that begin with # are comments. The file holds no password and nothing that can be
replayed; who reads it can still guess, so nobody but root (or the user popad runs as) may.
"""

import hashlib
import hmac
import os
import re
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

from popad.auth import verifiers
from popad.auth.identity import Account, LoginFailed, Unavailable, Unknown
from popad.auth.saslprep import prepared
from popad.auth.verifiers import ITERATIONS, MAX_ITERATIONS, NOBODYS, SALT_OCTETS, SCHEME, Verifier
from popad.values import maildrop as checked_maildrop

CLOCK_STEP_NS = 100_000_000  # times of files go in steps of up to 10 ms, the kernel's tick
KEY = ".key"  # in POPAD_STATE: root's own, and the same for as long as the host has its state

# A name, and what its line costs if the rest of it is right, and its salt. Digits as many as MAX_ITERATIONS has.
LINE = re.compile(rf"^[^\S\n]*([^\s#]\S*)(?:[^\S\n]+{SCHEME}\$([0-9]{{1,8}}):([0-9A-Za-z+/=]*)\$)?", re.MULTILINE)


class FileWrong(Exception):
    """The credentials file cannot be believed or understood. The text names the file, the line and the reason."""


class Credential:
    """A line of the file: what is needed to check a password, and the user's own maildrop ("" for POPAD_MAILDROP)."""

    def __init__(self, by_scheme: dict[str, Verifier], maildrop: str = "") -> None:
        self.by_scheme = by_scheme
        self.maildrop = maildrop

    @property
    def iterations(self) -> int:
        return self.by_scheme[SCHEME].iterations

    def matches(self, password: bytes) -> bool:
        """Whether `password` is the one this was made of. Takes the time of its iterations, whatever the answer."""
        return self.by_scheme[SCHEME].matches(password)


NOBODYS_LINE = Credential(NOBODYS)


class File:
    """The credentials file at `path` as a source of passwords. An edit needs no restart: it is read again then.

    With 50,000 users that is 80 ms of processor time, and a look-up 0.02.
    """

    refused_soonest = 0.5  # seconds: every check takes the same, and a mistyped password is to be typed again

    def __init__(self, path: str, state: str = "") -> None:
        """`state` is POPAD_STATE."""
        self.path = path
        self.key = os.path.join(state, KEY)
        self.own_key = os.urandom(32)  # where there is no other
        self.users: Users | None = None
        try:
            self.read()  # once for all workers of the helper
        except (FileWrong, OSError):
            pass  # each login will say so

    def authenticate(self, name: str, password: bytes, rhost: str) -> Account:
        """Raises Unknown, LoginFailed and Unavailable. An unknown name takes as long as a known one."""
        try:
            users = self.read()
            credential = users.find(name)
        except (FileWrong, OSError) as error:
            raise Unavailable(str(error)) from error
        matches = (credential or NOBODYS_LINE).matches(password)
        # Every answer costs as much as the most expensive line: the time it takes does not tell which names exist.
        if more := users.most - (credential or NOBODYS_LINE).iterations:
            hashlib.pbkdf2_hmac("sha256", password, bytes(SALT_OCTETS), more)
        if not credential:
            raise Unknown("the name is not in the credentials file")
        if not matches:
            raise LoginFailed("wrong password")
        return Account(name, credential.maildrop)

    def vouch(self, name: str, _: str) -> Account:
        """A user of the file's, who has shown without a password who it is. Raises Unknown and Unavailable."""
        try:
            credential = self.read().find(name)
        except (FileWrong, OSError) as error:
            raise Unavailable(str(error)) from error
        if not credential:
            raise Unknown("the name is not in the credentials file")
        return Account(name, credential.maildrop)

    def for_proof(self, name: str, scheme: str) -> tuple[Verifier, Account | None]:
        """What a client has to prove that says it is `name`, and who that is; None where it can prove what it likes.

        A name that the file does not have, or not with this scheme, gets what looks like any other's, and is the same
        each time. Raises Unavailable.
        """
        try:
            users = self.read()
            credential = users.find(name)
        except (FileWrong, OSError) as error:
            raise Unavailable(str(error)) from error
        iterations, salt_octets = users.usual
        salt = hmac.digest(self.secret(), f"{scheme} {name}".encode("utf-8", "surrogateescape"), "sha512")[:salt_octets]
        verifier = credential.by_scheme.get(scheme) if credential else None
        if not credential or not verifier:
            nobodys = NOBODYS[scheme]
            return Verifier(scheme, iterations, salt, nobodys.stored_key, nobodys.server_key), None
        return verifier, Account(name, credential.maildrop)

    def secret(self) -> bytes:
        """What nobody else knows, and stays."""
        try:
            with open(self.key, "rb") as file:
                return file.read(1024) or self.own_key
        except OSError:
            return self.own_key

    def read(self) -> "Users":
        """What the file says now. Raises FileWrong and OSError."""
        if self.users and self.users.stamp == stamp_of(os.lstat(self.path)):
            return self.users
        users = Users(self.path)
        self.users = None if users.is_recent() else users
        return users


class Users:
    """The lines of a credentials file by their names, found at one look: a line is understood when it is asked for."""

    def __init__(self, path: str) -> None:
        """Raises FileWrong and OSError."""
        self.path = path
        self.text, self.stamp = read(path)
        self.places: dict[str, int] = {}  # where a name's line begins
        self.twice: dict[str, int] = {}  # where a name stands again
        self.most = 1  # iterations that a line asks for
        kinds: dict[tuple[str, int], int] = {}  # how often there are so many iterations, and octets of salt
        for line in LINE.finditer(self.text):
            name, iterations, salt = line.groups()
            if not name.isascii():
                name = prepared(name.encode()).decode()
            if self.places.setdefault(name, line.start()) != line.start():
                self.twice.setdefault(name, line.start())
            if iterations and self.most < int(iterations) <= MAX_ITERATIONS:
                self.most = int(iterations)
            if iterations:
                kind = iterations, len(salt.rstrip("=")) * 3 // 4
                kinds[kind] = kinds.get(kind, 0) + 1
        iterations, octets = max(kinds, key=kinds.__getitem__, default=(str(ITERATIONS), SALT_OCTETS))
        self.usual = int(iterations), octets  # of most lines

    def is_recent(self) -> bool:
        """Whether the file changed so short ago that another change could have the same time."""
        return time.time_ns() - max(self.stamp[-2:]) < CLOCK_STEP_NS

    def find(self, name: str) -> Credential | None:
        """The credential of `name`, None where there is none. Raises FileWrong.

        A line of somebody else that cannot be understood does not matter (`popad check` tells of it).
        """
        if name in self.twice:
            raise FileWrong(f"{self.where(self.twice[name])}: {name!a} stands here twice")
        if (place := self.places.get(name)) is None:
            return None
        end = self.text.find("\n", place)
        return parse(self.text[place : end if end >= 0 else None].split(), self.where(place))

    def where(self, place: int) -> str:
        """PATH:LINE, for people."""
        return f"{self.path}:{self.text.count(chr(10), 0, place) + 1}"


def stamp_of(status: os.stat_result) -> tuple[int, ...]:
    """What changes when a file is changed, or its owner or mode."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read(path: str) -> tuple[str, tuple[int, ...]]:
    """The text of the file, if nobody but its owner can have written it, and its stamp. FileWrong and OSError."""
    with opened(path) as file:
        status = os.fstat(file.fileno())
        try:
            return file.read().decode("utf-8"), stamp_of(status)
        except UnicodeDecodeError as wrong:
            raise FileWrong(f"{path}: not UTF-8 at octet {wrong.start}") from None


def opened(path: str) -> "IO[bytes]":
    """A file of secrets, if nobody but its owner may read or write it. FileWrong and OSError."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise FileWrong(f"{path}: not a regular file")
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise FileWrong(f"{path}: not a regular file any more")
        if status.st_uid not in (0, os.geteuid()):
            raise FileWrong(f"{path}: owned by uid {status.st_uid}, not by root")
        if status.st_mode & 0o077:
            raise FileWrong(
                f"{path}: mode {stat.S_IMODE(status.st_mode):04o}, others may read or write it (chmod 0600)"
            )
    except BaseException:
        os.close(fd)
        raise
    return open(fd, "rb")


def parse(fields: list[str], where: str) -> Credential:
    """The credential in a line's fields. Raises FileWrong that begins with `where`."""
    try:
        _, all_verifiers, *rest = fields
        by_scheme = {each.scheme: each for each in map(verifiers.parse, all_verifiers.split(","))}
        if SCHEME not in by_scheme or len(by_scheme) != all_verifiers.count(",") + 1:
            raise ValueError
    except ValueError:
        raise FileWrong(
            f"{where}: expected NAME {SCHEME}$ITERATIONS:SALT$STOREDKEY:SERVERKEY[,SCRAM-SHA-1$...] [MAILDROP]"
        ) from None
    credential = Credential(by_scheme)
    if rest:
        try:
            (maildrop,) = rest
            credential.maildrop = checked_maildrop(maildrop)
        except ValueError as wrong:
            raise FileWrong(f"{where}: the maildrop {wrong}") from None
    return credential


def line(name: str, password: bytes, iterations: int, schemes: "Sequence[str]" = (SCHEME,)) -> str:
    """A line of the file for a new password, with salts of its own."""
    return f"{name} {','.join(str(verifiers.make(password, scheme, iterations)) for scheme in schemes)}"
