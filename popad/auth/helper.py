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
        """Messages to and from whoever asks: popad.privsep.Channel."""

        def send(self, fields: Sequence[bytes]) -> None: ...
        def receive(self, limits: Sequence[int], timeout: float | None) -> list[bytearray]: ...

    class Source(Protocol):
        """Where passwords are checked. authenticate() raises what identity.py defines for it."""

        def authenticate(self, name: str, password: bytes, rhost: str) -> Account: ...
else:
    import _signal as signal  # the C part: the enumerations around it cost 3.6 ms

from popad.auth import identity
from popad.sources import source_of

MAX_PASSWORD = 248  # octets: what a PASS line carries
MAX_RHOST = 64
# A request: name, password, the client's address.
REQUEST_LIMITS = (identity.MAX_NAME, MAX_PASSWORD, MAX_RHOST)
# A verdict: which, name, uid, gid, maildrop, reason.
MAX_REASON = 1024
VERDICT_LIMITS = (16, identity.MAX_NAME, 10, 10, 4096, MAX_REASON)
GRACE = 5  # seconds
MARGIN = 0.5  # seconds before the session gives up that a verdict which is put off is given after all
# A refusal is given so many seconds after its request, or else a multiple of the second. What a check takes tells
# whether there is such a user: pam_unix hashes nothing for a name that it does not know, which is 5 ms in place of 60
# (yescrypt, measured). The second is more than the 1 to 3 seconds that libpam waits after a failure, by its dice.
SOON, LATER = 0.5, 4.0
REQUEST_TIMEOUT = 10.0  # seconds; the session has the request at hand when it connects

PASSED = b"passed"
FAILED = b"failed"  # the name or the password is wrong, or the account may not log in
UNKNOWN = b"unknown"  # the same to the client; the journal does not repeat the name
REFUSED = b"refused"  # a user whose mail popad does not serve: the same to the client
UNAVAILABLE = b"unavailable"  # nothing is known about the password: the client may try again later
NO_ID = 0xFFFFFFFF  # as uid_t and gid_t: what setresuid(2) takes for "leave it as it is"
NOBODY = "popad: nobody"  # asked for in place of a user whom popad refuses to be; nobody can have such a name
VERDICTS = (PASSED, FAILED, UNKNOWN, REFUSED, UNAVAILABLE)


class Verdict:
    """What the helper says of a login. The name, uid, gid and maildrop ("store:path") count only when it PASSED."""

    def __init__(
        self, which: bytes, name: str = "", uid: int = 0, gid: int = 0, maildrop: str = "", reason: str = ""
    ) -> None:
        self.which = which
        self.name = name
        self.uid = uid
        self.gid = gid
        self.maildrop = maildrop
        self.reason = reason

    @property
    def known(self) -> bool:
        """Whether anything is known about the login: else the client may try the same again later."""
        return self.which != UNAVAILABLE

    def pack(self) -> list[bytes]:
        reason = self.reason.encode("utf-8", "backslashreplace")[:MAX_REASON]
        return [self.which, self.name.encode(), b"%d" % self.uid, b"%d" % self.gid, self.maildrop.encode(), reason]


def unpack_verdict(fields: "Sequence[bytearray]") -> Verdict:
    """The verdict that pack() made. Raises ValueError for what it cannot have made."""
    which, name, uid, gid, maildrop, reason = map(bytes, fields)
    if which not in VERDICTS or not uid.isdigit() or not gid.isdigit():
        raise ValueError("not a verdict")
    if max(int(uid), int(gid)) >= NO_ID:
        raise ValueError("a verdict for an identity that nobody can have")
    return Verdict(which, name.decode(), int(uid), int(gid), maildrop.decode(), reason.decode("utf-8", "replace"))


def refused_after(took: float) -> float:
    """When a refusal is given whose check took so many seconds."""
    return SOON if took < SOON else took + LATER - took % LATER


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
        name, password, rhost = channel.receive(REQUEST_LIMITS, REQUEST_TIMEOUT)
        client = rhost.decode("ascii", "replace")
        verdict = self.judge(bytes(name), bytes(password), client)
        password[:] = bytes(len(password))  # this process may live on; what PAM had of it PAM has overwritten
        if verdict.known:
            network = source_of(client, self.settings.source_prefix)
            # Good or bad, every verdict waits for what went before: how soon it comes tells nothing. But it comes while
            # the session still waits for it. All times are counted from the request.
            due = self.guesses.put_off(network, bytes(name), verdict.which == PASSED)
            took = time.monotonic() - begun
            if verdict.which != PASSED:
                due = max(due, refused_after(took))
            if (left := min(due, self.settings.auth_timeout - MARGIN) - took) > 0:
                time.sleep(left)  # not of 0 seconds, which the kernel makes 60 us
        try:
            channel.send(verdict.pack())
        except ConnectionError:
            pass  # the session has gone: there is nobody to tell, and nothing wrong here
        signal.alarm(0)

    def judge(self, name: bytes, password: bytes, rhost: str) -> Verdict:
        """Whether `password` is that of `name`, and who that is."""
        settings = self.settings
        try:
            text = identity.checked_name(name)
            if not password:
                raise identity.Unknown("null password")
            entry = identity.lookup(text)
            if entry and (refusal := identity.why_refused(entry, settings)) is not None:
                self.take_the_time(password, rhost)
                raise identity.Refused(refusal)
            who = identity.identify(self.source.authenticate(text, password, rhost), settings)
        except identity.Unknown as unknown:
            return Verdict(UNKNOWN, reason=str(unknown))
        except identity.Refused as refused:
            return Verdict(REFUSED, reason=str(refused))
        except identity.LoginFailed as failed:
            return Verdict(FAILED, reason=str(failed))
        except identity.Unavailable as unavailable:
            return Verdict(UNAVAILABLE, reason=str(unavailable))
        return Verdict(PASSED, who.name, who.uid, who.gid, who.maildrop)

    def take_the_time(self, password: bytes, rhost: str) -> None:
        """What a login takes, without finding out whether a password is right."""
        try:
            self.source.authenticate(NOBODY, password, rhost)
        except identity.LoginFailed:
            pass


def source_of_passwords(settings: "Settings") -> "Source":
    """What POPAD_AUTH names."""
    if settings.auth == "file":
        from popad.auth.credentials import File

        return File(settings.credentials)
    from popad.auth.pam import Pam

    return Pam(settings.pam_service)
