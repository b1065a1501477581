"""The authentication helper: a request in, a verdict out. A process has one request at a time: a module that crashes or
hangs takes one login with it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from typing import Protocol

    from popad.auth.identity import Account
    from popad.settings import Settings

    class Channel(Protocol):
        """Messages to and from whoever asks: popad.privsep.channel.Channel."""

        def send(self, fields: Sequence[bytes]) -> None: ...
        def receive(self, limits: Sequence[int], timeout: float | None) -> list[bytearray]: ...
        def receive_with_channel(
            self, limits: Sequence[int], timeout: float | None
        ) -> "tuple[list[bytearray], Channel]": ...
        def shut(self) -> None: ...
        def is_empty(self) -> bool: ...
        def close(self) -> None: ...

    class Source(Protocol):
        """Where passwords are checked. authenticate() raises what identity.py defines for it."""

        refused_soonest: float  # seconds, see refused_after()

        def authenticate(self, name: str, password: bytes, rhost: str) -> Account: ...
else:
    import _signal as signal  # the C part: the enumerations around it cost 3.6 ms

from popad.auth import identity, nss
from popad.errors import ContractBroken
from popad.settings import ARGUMENT_OCTETS
from popad.sources import is_in, source_of

MAX_PASSWORD = ARGUMENT_OCTETS
MAX_RHOST = 64
REQUEST_LIMITS = (MAX_RHOST,)  # of the monitor: the client's address, and with it the end of a channel
CREDENTIALS_LIMITS = (identity.MAX_NAME, MAX_PASSWORD)  # of the preauth child, over that channel
# A verdict: which, name, uid, gid, maildrop, reason, groups (numbers with a comma between them).
MAX_REASON = 1024
ID_DIGITS = 10  # of a uid_t or gid_t
VERDICT_LIMITS = (16, identity.MAX_NAME, ID_DIGITS, ID_DIGITS, 4096, MAX_REASON, nss.MAX_GROUPS * (ID_DIGITS + 1))
GRACE = 5  # seconds
MARGIN = 0.5  # seconds before the session gives up that a verdict which is put off is given after all
# A refusal is given at a multiple of so many seconds after its request, whichever step refused: what a check takes
# tells whether there is such a user (pam_unix hashes nothing for a name that it does not know, which is 5 ms in place
# of 60), and whether the password was right (an account that has expired is refused after it).
LATER = 4.0
REQUEST_TIMEOUT = 10.0  # seconds; whoever asks has everything at hand by then

PASSED = b"passed"
FAILED = b"failed"  # the name or the password is wrong, or the account may not log in
UNKNOWN = b"unknown"  # the same to the client; the journal does not repeat the name
REFUSED = b"refused"  # a user whose mail popad does not serve: the same to the client
UNAVAILABLE = b"unavailable"  # nothing is known about the password: the client may try again later
BROKEN = b"broken"  # the preauth child has said what it may not say: the session ends
NO_ID = 0xFFFFFFFF  # as uid_t and gid_t: what setresuid(2) takes for "leave it as it is"
VERDICTS = (PASSED, FAILED, UNKNOWN, REFUSED, UNAVAILABLE, BROKEN)


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
    ) -> None:
        self.which = which
        self.name = name
        self.uid = uid
        self.gid = gid
        self.maildrop = maildrop
        self.reason = reason
        self.groups = tuple(groups)

    @property
    def known(self) -> bool:
        """Whether anything is known about the login: else the client may try the same again later."""
        return self.which != UNAVAILABLE

    def pack(self) -> list[bytes]:
        reason = self.reason.encode("utf-8", "backslashreplace")[:MAX_REASON]
        groups = b",".join(b"%d" % gid for gid in self.groups)
        who = self.name.encode("utf-8", "surrogateescape"), b"%d" % self.uid, b"%d" % self.gid
        return [self.which, *who, self.maildrop.encode(), reason, groups]


def unpack_verdict(fields: "Sequence[bytearray]") -> Verdict:
    """The verdict that pack() made. Raises ValueError for what it cannot have made."""
    which, name, uid, gid, maildrop, reason, groups = map(bytes, fields)
    if which not in VERDICTS:
        raise ValueError("not a verdict")
    all_groups = [identifier(group) for group in groups.split(b",")] if groups else []
    if len(all_groups) > nss.MAX_GROUPS:
        raise ValueError("a verdict with too many groups")
    why = reason.decode("utf-8", "replace")
    who = name.decode("utf-8", "strict" if which == PASSED else "surrogateescape")
    return Verdict(which, who, identifier(uid), identifier(gid), maildrop.decode(), why, all_groups)


def identifier(digits: bytes) -> int:
    """A uid or gid that somebody can have. Raises ValueError."""
    if not digits.isdigit() or len(digits) > ID_DIGITS or int(digits) >= NO_ID:
        raise ValueError("a verdict for an identity that nobody can have")
    return int(digits)


def refused_after(took: float, soonest: float) -> float:
    """When a refusal is given whose check took so many seconds: at `soonest`, or else at a multiple of LATER."""
    return soonest if took < soonest else took + LATER - took % LATER


class Helper:
    """The helper with everything loaded that a request needs: made once, before it forks."""

    def __init__(self, settings: "Settings") -> None:
        from popad.auth.guessing import Guesses

        self.settings = settings
        self.source = source_of_passwords(settings)
        self.guesses = Guesses(settings.guess_delay, settings.guess_memory)

    def serve(self, channel: "Channel") -> None:
        """One request, one verdict. SIGALRM ends the process when a module hangs."""
        import time

        begun = time.monotonic()
        signal.alarm(self.settings.auth_timeout + GRACE)  # the session gives up first, and says why
        try:
            (rhost,), credentials = channel.receive_with_channel(REQUEST_LIMITS, REQUEST_TIMEOUT)
        except TimeoutError:
            signal.alarm(0)
            return  # it asks nothing
        except ContractBroken as broken:
            verdict = Verdict(UNAVAILABLE, reason=f"the request: {broken}")
        else:
            verdict, left = self.hear(credentials, rhost.decode("ascii", "replace"), begun)
            if left > 0:
                time.sleep(left)  # not of 0 seconds, which the kernel makes 60 us
        try:
            channel.send(verdict.pack())
        except ConnectionError:
            pass  # the session has gone: there is nobody to tell, and nothing wrong here
        signal.alarm(0)

    def hear(self, credentials: "Channel", client: str, begun: float) -> tuple[Verdict, float]:
        """The verdict on what a preauth child says over its channel, which ends here; and the seconds that it waits."""
        import time

        try:
            name, password = credentials.receive(CREDENTIALS_LIMITS, REQUEST_TIMEOUT)
            credentials.shut()
            if not credentials.is_empty():
                raise ContractBroken("a second message")
        except TimeoutError:
            return Verdict(BROKEN, reason="no name and no password came"), 0.0
        except ContractBroken as broken:
            return Verdict(BROKEN, reason=f"the name and the password: {broken}"), 0.0
        finally:
            credentials.close()
        verdict = self.judge(bytes(name), bytes(password), client)
        left = self.due(verdict, name, password, client, time.monotonic() - begun)
        password[:] = bytes(len(password))  # this process may live on; what PAM had of it PAM has overwritten
        if verdict.which != PASSED:
            verdict.name = name.decode("utf-8", "surrogateescape")
        return verdict, left

    def due(self, verdict: Verdict, name: bytearray, password: bytearray, client: str, took: float) -> float:
        """The seconds that a verdict still waits, after a check that took so many.

        Good or bad, every verdict waits for what went before: how soon it comes tells nothing. But it comes while the
        session still waits for it.
        """
        if not verdict.known:
            return 0.0
        settings = self.settings
        source, trusted = source_of(client, settings.source_prefix), is_in(client, settings.trusted_sources)
        whose = verdict.name.encode() or bytes(name)
        longest = settings.auth_timeout - MARGIN
        due = min(self.guesses.put_off(source, whose, password, verdict.which == PASSED, trusted), longest)
        if due:
            waits = f"put off for {due:g} s, after wrong passwords {self.guesses.whose}"
            verdict.reason = f"{verdict.reason}; {waits}" if verdict.reason else waits
        if verdict.which != PASSED:
            due = max(due, refused_after(took, self.source.refused_soonest))
        return min(due, longest) - took

    def judge(self, name: bytes, password: bytes, rhost: str) -> Verdict:
        """Whether `password` is that of `name`, and who that is. Guesses count for that name, however it is typed."""
        settings = self.settings
        user = ""
        try:
            user = meant = identity.user_of(name, settings)
            if not password or b"\0" in password:
                raise identity.Unknown("null password")
            # All that can go wrong whatever the password is goes wrong before it is looked at, and tells nothing.
            who = self.owner(meant, password, rhost)
            user = who.name if who else meant
            account = self.source.authenticate(meant, password, rhost)
            if who is None or account.name != meant:
                who = identity.owner(account.name, settings)
            maildrop = identity.place(account.maildrop or settings.maildrop, who.name, who.home)
        except identity.Unknown as unknown:
            return Verdict(UNKNOWN, user, reason=str(unknown))
        except identity.Refused as refused:
            return Verdict(REFUSED, user, reason=str(refused))
        except identity.LoginFailed as failed:
            return Verdict(FAILED, user, reason=str(failed))
        except identity.Unavailable as unavailable:
            return Verdict(UNAVAILABLE, user, reason=str(unavailable))
        return Verdict(PASSED, who.name, who.uid, who.gid, maildrop, groups=who.groups)

    def owner(self, user: str, password: bytes, rhost: str) -> identity.Owner | None:
        """Who this is; None where PAM has to say. Raises Refused when the time of a login is over, and Unavailable."""
        try:
            return identity.owner(user, self.settings)
        except identity.Refused:
            self.take_the_time(password, rhost)
            raise
        except identity.Unknown:
            return None  # PAM may know it, and by another name

    def take_the_time(self, password: bytes, rhost: str) -> None:
        """What a login takes, without finding out whether a password is right."""
        try:
            self.source.authenticate(nss.NOBODY, password, rhost)
        except identity.LoginFailed:
            pass


def source_of_passwords(settings: "Settings") -> "Source":
    """What POPAD_AUTH names."""
    if settings.auth == "file":
        from popad.auth.credentials import File

        return File(settings.credentials)
    from popad.auth.pam import Pam

    return Pam(settings.pam_service)
