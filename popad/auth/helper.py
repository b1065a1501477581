"""The authentication helper: a request in, a verdict out. A process has one request at a time: a module that crashes or
hangs takes one login with it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from typing import Protocol

    from popad.auth.sasl.attempt import Attempt
    from popad.auth.sasl.attempt import Channel as ChildsChannel
    from popad.auth.sasl.table import Source
    from popad.settings import Settings

    class Channel(Protocol):
        """Messages to and from whoever asks: popad.privsep.channel.Channel."""

        def send(self, fields: Sequence[bytes]) -> None: ...
        def receive_with_channel(
            self, limits: Sequence[int], timeout: float | None
        ) -> "tuple[list[bytearray], Credentials]": ...

    class Credentials(ChildsChannel, Protocol):
        """The other end is the preauth child's."""

        def shut(self) -> None: ...
        def is_empty(self) -> bool: ...
        def close(self) -> None: ...
else:
    import _signal as signal  # the C part: the enumerations around it cost 3.6 ms

from popad.auth import identity, nss
from popad.auth.sasl.attempt import Cancelled, Client, Silent, Talk
from popad.auth.verdict import BROKEN, CANCELLED, FAILED, PASSED, REFUSED, REQUEST_LIMITS, UNAVAILABLE, UNKNOWN, Verdict
from popad.errors import ContractBroken
from popad.sources import is_in, source_of

GRACE = 5  # seconds
MARGIN = 0.5  # seconds before the session gives up that a verdict which is put off is given after all
# A refusal is given at a multiple of so many seconds after its request, whichever step refused: what a check takes
# tells whether there is such a user (pam_unix hashes nothing for a name that it does not know, which is 5 ms in place
# of 60), and whether the password was right (an account that has expired is refused after it).
LATER = 4.0
REQUEST_TIMEOUT = 10.0  # seconds; whoever asks has everything at hand by then


def refused_after(took: float, soonest: float) -> float:
    """When a refusal is given whose check took so many seconds: at `soonest`, or else at a multiple of LATER."""
    return soonest if took < soonest else took + LATER - took % LATER


class Helper:
    """The helper with everything loaded that a request needs: made once, before it forks."""

    def __init__(self, settings: "Settings") -> None:
        from popad.auth.guessing import Guesses
        from popad.auth.sasl import table

        self.begin = table.begin
        if settings.auth == "file":
            from popad.auth.sasl import scram  # noqa: F401 - before it forks
        self.settings = settings
        self.source = source_of_passwords(settings)
        self.guesses = Guesses(settings.guess_delay, settings.guess_memory)

    def serve(self, channel: "Channel") -> None:
        """One request, one verdict. SIGALRM ends the process when a module hangs."""
        import time

        begun = time.monotonic()
        signal.alarm(self.settings.auth_timeout + GRACE)  # the session gives up first, and says why
        try:
            (rhost, binding, certified), credentials = channel.receive_with_channel(REQUEST_LIMITS, REQUEST_TIMEOUT)
        except TimeoutError:
            signal.alarm(0)
            return  # it asks nothing
        except ContractBroken as broken:
            verdict = Verdict(UNAVAILABLE, reason=f"the request: {broken}")
        else:
            client = Client(rhost.decode("ascii", "replace"), bytes(binding), certified.decode("utf-8", "replace"))
            verdict = self.hear(credentials, client, begun)
        try:
            channel.send(verdict.pack())
        except ConnectionError:
            pass  # the session has gone: there is nobody to tell, and nothing wrong here
        signal.alarm(0)

    def hear(self, credentials: "Credentials", client: Client, begun: float) -> Verdict:
        """The verdict, when its time has come, on what a preauth child says over its channel. It ends here, unless the
        client may begin anew.
        """
        mechanism = ""
        try:
            talk = Talk(credentials, REQUEST_TIMEOUT)
            attempt = self.begin(self.source, client, self.settings, talk)
            mechanism = attempt.mechanism.decode()
            try:
                verdict = self.answer(attempt, client, talk, begun)
            finally:
                attempt.forget()
            credentials.shut()
            if not credentials.is_empty():
                raise ContractBroken("a second message")
        except Cancelled as cancelled:
            verdict = Verdict(CANCELLED, reason=str(cancelled))
        except Silent:
            verdict = Verdict(UNKNOWN, reason="the client did not answer a challenge")
        except identity.Unavailable as unavailable:
            verdict = Verdict(UNAVAILABLE, reason=str(unavailable))
        except TimeoutError:
            verdict = Verdict(BROKEN, reason="no name and no password came")
        except ContractBroken as broken:
            verdict = Verdict(BROKEN, reason=f"the name and the password: {broken}")
        if verdict.which != CANCELLED:
            credentials.shut()  # the monitor has a copy: the child is to hear of the end now
        credentials.close()
        verdict.mechanism = mechanism
        return verdict

    def answer(self, attempt: "Attempt", client: Client, talk: Talk, begun: float) -> Verdict:
        """The verdict on an attempt that has said all it knows. Raises Cancelled, ContractBroken."""
        import time

        heard = time.monotonic() if talk.waited else begun  # what the client thinks about is none of our time
        verdict = self.judge(attempt, client.rhost)
        left = self.due(verdict, attempt, client.rhost, time.monotonic() - heard, talk.waited)
        if left > 0:
            time.sleep(left)  # not of 0 seconds, which the kernel makes 60 us
        if verdict.which == PASSED:
            attempt.confirm()
        else:
            verdict.name = attempt.name.decode("utf-8", "surrogateescape")
        return verdict

    def due(self, verdict: Verdict, attempt: "Attempt", client: str, took: float, waited: float = 0.0) -> float:
        """The seconds that a verdict still waits, after a check that took so many; `waited`: for the client, before.

        Good or bad, every verdict waits for what went before: how soon it comes tells nothing. But it comes while the
        session still waits for it.
        """
        if not verdict.known:
            return 0.0
        settings = self.settings
        source, trusted = source_of(client, settings.source_prefix), is_in(client, settings.trusted_sources)
        whose = verdict.name.encode() or attempt.name
        longest = settings.auth_timeout - MARGIN - waited
        passed = verdict.which == PASSED
        due = min(self.guesses.put_off(source, whose, attempt.secret, passed, trusted), longest)
        if due:
            waits = f"put off for {due:g} s, after wrong passwords {self.guesses.whose}"
            verdict.reason = f"{verdict.reason}; {waits}" if verdict.reason else waits
        if not passed:
            due = max(due, refused_after(took, self.source.refused_soonest))
        return min(due, longest) - took

    def judge(self, attempt: "Attempt", rhost: str) -> Verdict:
        """Whether an attempt is that of the user whom it names, and who that is. Guesses count for that name, however
        it is typed.
        """
        settings = self.settings
        user = ""
        try:
            user = meant = identity.user_of(attempt.name, settings)
            # All that can go wrong whatever the password is goes wrong before it is looked at, and tells nothing.
            who = self.owner(meant, attempt, rhost)
            user = who.name if who else meant
            account = attempt.prove(meant, rhost)
            if attempt.whose and identity.user_of(attempt.whose, settings) != meant:
                raise identity.LoginFailed("the mail of another user")
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

    def owner(self, user: str, attempt: "Attempt", rhost: str) -> identity.Owner | None:
        """Who this is; None where PAM has to say. Raises Refused when the time of a login is over, and Unavailable."""
        try:
            return identity.owner(user, self.settings)
        except identity.Refused:
            self.take_the_time(attempt, rhost)
            raise
        except identity.Unknown:
            return None  # PAM may know it, and by another name

    def take_the_time(self, attempt: "Attempt", rhost: str) -> None:
        """What a login takes, without finding out whether a password is right."""
        try:
            attempt.prove(nss.NOBODY, rhost)
        except identity.LoginFailed:
            pass


def source_of_passwords(settings: "Settings") -> "Source":
    """What POPAD_AUTH names."""
    if settings.auth == "file":
        from popad.auth.credentials import File

        return File(settings.credentials, settings.state)
    from popad.auth.pam import Pam

    return Pam(settings.pam_service)
