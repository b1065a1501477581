"""What the auth helper says of a login, in one message, and what the session believes of it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

from popad.values import ARGUMENT_OCTETS

MAX_NAME = MAX_PASSWORD = ARGUMENT_OCTETS
# Of one user. Windows takes no more than 1,015 into a token, so a directory has few users with more.
MAX_GROUPS = 1024
MAX_RHOST, MAX_BINDING = 64, 64
# What the monitor asks: the client's address, the digest of the certificate that it was shown, the name of its own
# (empty where there is none); with a channel to the preauth child, which says the rest.
REQUEST_LIMITS = (MAX_RHOST, MAX_BINDING, MAX_NAME)
# A verdict: which, name, uid, gid, maildrop, reason, groups (numbers with a comma between them), mechanism.
MAX_REASON = 1024
MAX_MECHANISM = 32
ID_DIGITS = 10  # of a uid_t or gid_t
VERDICT_LIMITS = (16, MAX_NAME, ID_DIGITS, ID_DIGITS, 4096, MAX_REASON, MAX_GROUPS * (ID_DIGITS + 1), MAX_MECHANISM)

PASSED = b"passed"
FAILED = b"failed"  # the name or the password is wrong, or the account may not log in
UNKNOWN = b"unknown"  # the same to the client; the journal does not repeat the name
REFUSED = b"refused"  # a user whose mail popad does not serve: the same to the client
UNAVAILABLE = b"unavailable"  # nothing is known about the password: the client may try again later
CANCELLED = b"cancelled"  # by the client, before its password was looked at: the session goes on
BROKEN = b"broken"  # the preauth child has said what it may not say: the session ends
NO_ID = 0xFFFFFFFF  # as uid_t and gid_t: what setresuid(2) takes for "leave it as it is"
VERDICTS = (PASSED, FAILED, UNKNOWN, REFUSED, UNAVAILABLE, CANCELLED, BROKEN)


class Verdict:
    """What the helper says of a login. The uid, gid, all groups and maildrop count only when it PASSED; the name is the
    user's then, and else what the client has typed. A maildrop is "store:path". The reason is for the journal: why not,
    and why not sooner.
    """

    def __init__(
        self,
        which: bytes,
        name: str = "",
        uid: int = 0,
        gid: int = 0,
        maildrop: str = "",
        reason: str = "",
        groups: "Sequence[int]" = (),
        mechanism: str = "",
    ) -> None:
        self.which = which
        self.name = name
        self.uid = uid
        self.gid = gid
        self.maildrop = maildrop
        self.reason = reason
        self.groups = tuple(groups)
        self.mechanism = mechanism

    @property
    def known(self) -> bool:
        """Whether anything is known about the login: else the client may try the same again later."""
        return self.which != UNAVAILABLE

    def pack(self) -> list[bytes]:
        reason = self.reason.encode("utf-8", "backslashreplace")[:MAX_REASON]
        groups = b",".join(b"%d" % gid for gid in self.groups)
        who = self.name.encode("utf-8", "surrogateescape"), b"%d" % self.uid, b"%d" % self.gid
        return [self.which, *who, self.maildrop.encode(), reason, groups, self.mechanism.encode("ascii")]


def unpack_verdict(fields: "Sequence[bytearray]") -> Verdict:
    """The verdict that pack() made. Raises ValueError for what it cannot have made."""
    which, name, uid, gid, maildrop, reason, groups, mechanism = map(bytes, fields)
    if which not in VERDICTS:
        raise ValueError("not a verdict")
    all_groups = [identifier(group) for group in groups.split(b",")] if groups else []
    if len(all_groups) > MAX_GROUPS:
        raise ValueError("a verdict with too many groups")
    why = reason.decode("utf-8", "replace")
    who = name.decode("utf-8", "strict" if which == PASSED else "surrogateescape")
    said = mechanism.decode("ascii")
    if not said.isprintable():
        raise ValueError("a verdict with a mechanism that does not print")
    return Verdict(which, who, identifier(uid), identifier(gid), maildrop.decode(), why, all_groups, said)


def identifier(digits: bytes) -> int:
    """A uid or gid that somebody can have. Raises ValueError."""
    if not digits.isdigit() or len(digits) > ID_DIGITS or int(digits) >= NO_ID:
        raise ValueError("a verdict for an identity that nobody can have")
    return int(digits)
