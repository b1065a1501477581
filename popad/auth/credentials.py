"""The credentials file: a line a user, `name SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey [maildrop]`.

White space between the fields, base64 as in RFC 5802; lines that begin with # are comments. The file holds no password
and nothing that can be replayed; who reads it can still guess, so nobody but root (or the user popad runs as) may.
"""

import base64
import hashlib
import hmac
import os
import re
import stat
import stringprep
import time
import unicodedata

from popad.auth.identity import Account, LoginFailed, Unavailable, Unknown
from popad.settings import maildrop as checked_maildrop

SCHEME = "SCRAM-SHA-256"
LEAST_ITERATIONS = 4096  # RFC 7677 section 4
# Of a new line. Each login pays for them, and a client looks for mail every few minutes: 56 ms here on a core where
# yescrypt, Debian's own, takes 32 and the 600,000 that OWASP advises (for files that leak; this one is root's) 340.
ITERATIONS = 100_000
MAX_ITERATIONS = 10_000_000
SALT_OCTETS = 16
LEAST_SALT = 8  # octets
CLOCK_STEP_NS = 100_000_000  # times of files go in steps of up to 10 ms, the kernel's tick


# A name, and what its line costs if the rest of it is right. Digits as many as MAX_ITERATIONS has.
LINE = re.compile(rf"^[^\S\n]*([^\s#]\S*)(?:[^\S\n]+{SCHEME}\$([0-9]{{1,8}}):)?", re.MULTILINE)


class FileWrong(Exception):
    """The credentials file cannot be believed or understood. The text names the file, the line and the reason."""


class Credential:
    """A line of the file: what is needed to check a password, and the user's own maildrop ("" for POPAD_MAILDROP)."""

    def __init__(self, iterations: int, salt: bytes, stored_key: bytes, maildrop: str = "") -> None:
        self.iterations = iterations
        self.salt = salt
        self.stored_key = stored_key
        self.maildrop = maildrop

    def matches(self, password: bytes) -> bool:
        """Whether `password` is the one this was made of. Takes the time of its iterations, whatever the answer."""
        stored_key = keys(password, self.salt, self.iterations)[0]
        return hmac.compare_digest(stored_key, self.stored_key)


# No password matches it: checked for names that the file does not have.
NOBODYS = Credential(1, bytes(SALT_OCTETS), bytes(hashlib.sha256().digest_size))


class File:
    """The credentials file at `path` as a source of passwords. An edit needs no restart: it is read again then.

    With 50,000 users that is 80 ms of processor time, and a look-up 0.02.
    """

    refused_soonest = 0.5  # seconds: every check takes the same, and a mistyped password is to be typed again

    def __init__(self, path: str) -> None:
        self.path = path
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
        matches = (credential or NOBODYS).matches(password)
        # Every answer costs as much as the most expensive line: the time it takes does not tell which names exist.
        if more := users.most - (credential or NOBODYS).iterations:
            hashlib.pbkdf2_hmac("sha256", password, NOBODYS.salt, more)
        if not credential:
            raise Unknown("the name is not in the credentials file")
        if not matches:
            raise LoginFailed("wrong password")
        return Account(name, credential.maildrop)

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
        for line in LINE.finditer(self.text):
            name, iterations = line.groups()
            if self.places.setdefault(name, line.start()) != line.start():
                self.twice.setdefault(name, line.start())
            if iterations and self.most < int(iterations) <= MAX_ITERATIONS:
                self.most = int(iterations)

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
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise FileWrong(f"{path}: not a regular file")
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise FileWrong(f"{path}: not a regular file any more")
        if status.st_uid not in (0, os.geteuid()):
            raise FileWrong(f"{path}: owned by uid {status.st_uid}, not by root")
        if status.st_mode & 0o077:
            raise FileWrong(
                f"{path}: mode {stat.S_IMODE(status.st_mode):04o}, others may read or write it (chmod 0600)"
            )
        try:
            return file.read().decode("utf-8"), stamp_of(status)
        except UnicodeDecodeError as wrong:
            raise FileWrong(f"{path}: not UTF-8 at octet {wrong.start}") from None


def parse(fields: list[str], where: str) -> Credential:
    """The credential in a line's fields. Raises FileWrong that begins with `where`."""
    try:
        _, verifier, *rest = fields
        scheme, parameters, both_keys = verifier.split("$")
        iterations, salt = parameters.split(":")
        stored_key, server_key = (base64.b64decode(key, validate=True) for key in both_keys.split(":"))
        if scheme != SCHEME or not (iterations.isascii() and iterations.isdigit()):
            raise ValueError
        credential = Credential(int(iterations), base64.b64decode(salt, validate=True), stored_key)
        if not 1 <= credential.iterations <= MAX_ITERATIONS or len(credential.salt) < LEAST_SALT:
            raise ValueError
        if not len(stored_key) == len(server_key) == hashlib.sha256().digest_size:
            raise ValueError
    except ValueError:
        raise FileWrong(f"{where}: expected NAME {SCHEME}$ITERATIONS:SALT$STOREDKEY:SERVERKEY [MAILDROP]") from None
    if rest:
        try:
            (maildrop,) = rest
            credential.maildrop = checked_maildrop(maildrop)
        except ValueError as wrong:
            raise FileWrong(f"{where}: the maildrop {wrong}") from None
    return credential


def line(name: str, password: bytes, iterations: int) -> str:
    """A line of the file for a new password, with a salt of its own."""
    salt = os.urandom(SALT_OCTETS)
    stored_key, server_key = keys(password, salt, iterations)
    octets = [base64.b64encode(value).decode("ascii") for value in (salt, stored_key, server_key)]
    return f"{name} {SCHEME}${iterations}:{octets[0]}${octets[1]}:{octets[2]}"


def keys(password: bytes, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """StoredKey and ServerKey of RFC 5802 section 3."""
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hashlib.sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256")


def prepared(password: bytes) -> bytes:
    """SASLprep (RFC 4013) as RFC 5802 asks for, so that one password typed in two ways is one.

    What it does not allow stays as it was typed: such a password works where it is sent as it was set.
    """
    if password.isascii():
        return password
    try:
        text = password.decode("utf-8")
    except UnicodeDecodeError:
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(mark) else mark for mark in text if not stringprep.in_table_b1(mark)
    )
    normal = unicodedata.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
        stringprep.in_table_a1,
    )
    right_to_left = [stringprep.in_table_d1(mark) for mark in normal]
    mixed = any(right_to_left) and not (
        right_to_left[0] and right_to_left[-1] and not any(stringprep.in_table_d2(mark) for mark in normal)
    )
    if not normal or mixed or any(forbids(mark) for mark in normal for forbids in prohibited):
        return password
    return normal.encode("utf-8")
