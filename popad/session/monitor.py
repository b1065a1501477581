"""The monitor: what runs as root in a session. It serves what the preauth child asks for, by a table, and becomes the
user when a login has passed.

What runs as root in a session's process, from the first line to become(): reading the settings, looking up POPAD_USER,
the rules, the greeting (a constant), the fork of the preauth child, log entries and notifications, one request of the
child (its row in the table says what it may be; its octets are passed on and never parsed), handing the auth helper the
end of a channel on which the child says the name and the password, the TLS helper the client's connection (after a
constant), one answer of the latter and one verdict of the former (checked again here), opening POPAD_STATE and
POPAD_CACHE and keeping room in the former, and to a login that fails a constant reply. Where no helper is configured, a
child of it asks PAM. No password passes this process.
"""

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Container

    from popad.auth.verdict import Verdict
    from popad.net.arrival import Arrival
    from popad.privsep.helpers import HelperRelay
else:
    import _signal as signal  # the C part: the enumerations around it cost 3.6 ms

from popad.errors import ContractBroken, PeerGone, PeerSilent
from popad.net.arrival import NOT_SERVED
from popad.net.connection import LINGER
from popad.privsep.identity import become, become_preauth, leave_no_core_file, never_gain_privileges
from popad.protocol.authorization import MAX_ERRORS, MAY_ENCRYPT, MAY_LOG_IN, SAID_OCTETS, in_words, is_summary
from popad.session import preauth
from popad.session.context import Context
from popad.session.ending import ToldToEnd, end_when_told
from popad.session.preauth import DECIDED, ERRORS, GONE, LOGIN, MAX_AHEAD, PROXIED, QUIT, SASL, SILENT, STLS, Preauth
from popad.session.preparation import Preparation

# All that the monitor ever says to a client that has not logged in. Response codes: RFC 2449 section 8, RFC 3206.
BEGIN_TLS = b"+OK begin TLS\r\n"
NO_TLS = b"-ERR [SYS/TEMP] TLS is not possible now\r\n"
WRONG = b"-ERR [AUTH] authentication failed\r\n"
LATER = b"-ERR [SYS/TEMP] authentication is not possible now\r\n"

FOREIGN = "a PROXY header, and not of an address in POPAD_PROXY_FROM"
WHY_NOT = {
    QUIT: "QUIT",
    GONE: "the client left",
    SILENT: "timed out",
    ERRORS: "too many errors",
    PROXIED: FOREIGN,
}  # for the journal
GRACE = 5.0  # seconds that the preauth child gets beyond its own time limit before it is given up
SUCCESS, SOFTWARE, CONFIG = 0, 70, 78  # exit statuses (sysexits.h)
SERVED = 1  # what serve() returns where somebody has logged in; for systemd and inetd that is SUCCESS

GREETED = "greeted"  # the client may say who it is
HAS_VERDICT = "has a verdict"  # the child has heard so, or is about to
ENDED = "ended"  # the child has had its one login, or no client any more


class Row:
    """A request that the preauth child may make: its fields, and in which states and how often it may come."""

    def __init__(
        self,
        request: bytes,
        limits: tuple[int, ...],
        states: "Container[str]",
        most: int,
        handler: "Callable[[Monitor, bytes, list[bytearray]], None]",
        needs: int = 0,
    ) -> None:
        """`limits`: octets that each field after the first may have; the first names the request. `needs`: what the
        client must be allowed to do.
        """
        self.request = request
        self.limits = limits
        self.states = states
        self.most = most
        self.handler = handler
        self.needs = needs


class Monitor:
    """What the preauth child has asked for, and what it still may ask for."""

    def __init__(self, context: Context, relays: "Relays", child: Preauth | None) -> None:
        """`relays` are the ways to the helpers, where the settings name none; `child` a preauth child that waits for
        its client.
        """
        self.context = context
        self.relays = relays
        self.may = context.may()
        self.state = GREETED
        self.asked: dict[bytes, int] = {}
        self.verdict: Verdict | None = None  # where a login was tried
        self.why_not = ""  # where none was, and nothing has been logged of that
        self.ahead = b""  # what the client has sent after its login
        self.deadline = context.began + context.settings.login_timeout
        self.preparation = Preparation(context)
        self.child = child if child and child.introduce(context.connection, self.may) else self.new_child()

    def new_child(self) -> Preauth:
        """For the client as it is connected now. Raises OSError."""
        context = self.context
        return preauth.start(context.connection, self.deadline, context.settings, context.identity, may=self.may)

    def run(self) -> None:
        """Serve the child's requests until it has ended. Raises ContractBroken for what no row allows."""
        try:
            self.preparation.while_idle(self.child.channel)
            while self.state != ENDED:
                self.serve_request()
            if (status := self.child.end()) != 0:
                raise ContractBroken(f"the preauth child ended with status {status}")
        except TimeoutError:
            self.context.connection.hang_up()  # the child may be busy with it
            raise ContractBroken("the preauth child did not keep its time limit") from None
        finally:
            self.child.end()
            self.relays.close()  # nobody after the login asks

    def serve_request(self) -> None:
        """One request: its row, and whether it may come now."""
        left = self.deadline + GRACE - time.monotonic()
        try:
            request, *fields = self.child.channel.receive_request(SHAPES, left)
        except ContractBroken as broken:
            raise ContractBroken(f"{broken} (the preauth child, exit status {self.child.end()})") from None
        row = TABLE[bytes(request)]
        self.asked[row.request] = self.asked.get(row.request, 0) + 1
        if self.state not in row.states or self.asked[row.request] > row.most or row.needs & ~self.may:
            raise ContractBroken(f"the preauth child asked for {row.request.decode()}, which may not come now")
        row.handler(self, row.request, fields)

    def log_in(self, _request: bytes, fields: "list[bytearray]") -> None:
        """The name and the password wait for the auth helper in the child's second channel."""
        self.ahead = bytes(fields[0])
        self.verdict = self.hear_verdict()
        self.state = ENDED

    def hear_verdict(self) -> "Verdict":
        """Of the auth helper, which hears the child. Raises ContractBroken."""
        from popad.privsep import helpers

        settings, known = self.context.settings, self.context.for_auth_helper()
        return helpers.verdict(settings, self.relays.auth, known, self.child.credentials, self.preparation.finish)

    def exchange(self, _request: bytes, _fields: "list[bytearray]") -> None:
        """The child and the auth helper talk to one another, as a mechanism wants; a client may cancel that, and have
        another attempt, as nothing was looked at.
        """
        from popad.auth.verdict import CANCELLED

        verdict = self.hear_verdict()
        if verdict.which != CANCELLED:
            self.verdict = verdict
            self.state = HAS_VERDICT

    def end_exchange(self, _request: bytes, fields: "list[bytearray]") -> None:
        """The child knows that there is a verdict."""
        self.ahead = bytes(fields[0])
        self.state = ENDED

    def start_tls(self, _request: bytes, _fields: "list[bytearray]") -> None:
        """The child has ended: nobody is left who remembers what was said in the clear. The TLS helper has the client
        then, and a new child the plain end.
        """
        from popad import journal
        from popad.tls import start

        context = self.context
        if (status := self.child.end()) != 0:
            raise ContractBroken(f"the preauth child ended with status {status}")
        try:
            worker = start.reach(context.settings, self.relays.tls)
        except start.TlsNotPossible as reason:
            context.log(journal.TLS_UNAVAILABLE, reason=str(reason))
            context.connection.write(NO_TLS, context.settings.timeout)
            self.state = ENDED
            return
        context.connection.write(BEGIN_TLS, context.settings.timeout)
        answer = start.hand_over(context.connection, worker, context.settings, self.preparation.finish)
        if not answer.is_up:
            context.log(start.why_not(answer), reason=answer.reason)
            self.state = ENDED
            return
        context.encrypted(answer)
        self.may = context.may()
        self.child = self.new_child()

    def leave(self, request: bytes, fields: "list[bytearray]") -> None:
        """No login is going to be tried."""
        said = bytes(fields[0])
        if not is_summary(said):
            raise ContractBroken("the preauth child told something else than what a client can have said")
        self.why_not = f"{WHY_NOT[request]}, after {in_words(said)}" if said else WHY_NOT[request]
        self.state = ENDED


# Any other request, and one of these in another state or once too often, ends the session.
ROWS = (
    Row(LOGIN, (MAX_AHEAD,), (GREETED,), 1, Monitor.log_in, MAY_LOG_IN),
    Row(STLS, (), (GREETED,), 1, Monitor.start_tls, MAY_ENCRYPT),
    Row(SASL, (), (GREETED,), MAX_ERRORS, Monitor.exchange, MAY_LOG_IN),
    Row(DECIDED, (MAX_AHEAD,), (HAS_VERDICT,), 1, Monitor.end_exchange),
    Row(QUIT, (SAID_OCTETS,), (GREETED,), 1, Monitor.leave),
    Row(GONE, (SAID_OCTETS,), (GREETED, HAS_VERDICT), 1, Monitor.leave),
    Row(SILENT, (SAID_OCTETS,), (GREETED, HAS_VERDICT), 1, Monitor.leave),
    Row(ERRORS, (SAID_OCTETS,), (GREETED,), 1, Monitor.leave),
    Row(PROXIED, (SAID_OCTETS,), (GREETED,), 1, Monitor.leave),
)
TABLE = {row.request: row for row in ROWS}
SHAPES = {row.request: row.limits for row in ROWS}


class Relays:
    """The ways to the helpers of a daemon, which a session asks before its login."""

    def __init__(self, auth: "HelperRelay | None" = None, tls: "HelperRelay | None" = None) -> None:
        self.auth = auth
        self.tls = tls

    def close(self) -> None:
        """Nobody asks any more."""
        for each in (self.auth, self.tls):
            if each:
                each.close()


NO_RELAYS = Relays()


def serve(arrived: "Arrival", relays: Relays = NO_RELAYS, child: Preauth | None = None) -> int:
    """One session from the greeting to the end. Returns SERVED or an exit status.

    `relays` are the ways to the helpers where the settings do not name them, `child` a preauth child that waits for its
    client, where there is one.
    """
    os.umask(0o077)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever started us may have ignored it
    leave_no_core_file()
    context = Context(arrived)
    try:
        monitor = Monitor(context, relays, child)
        end_when_told()
        authorize(context, monitor)
    except (PeerGone, PeerSilent):
        context.connection.hang_up()
    except ToldToEnd as told:
        from popad import journal

        context.connection.hang_up()
        if context.logged_in:
            context.log(journal.SESSION_INTERRUPTED, signal=str(told))
        else:
            context.log(journal.LOGIN_NOT_ATTEMPTED, reason=f"the session was told to end ({told})")
    except ContractBroken as broken:
        from popad import journal

        context.connection.hang_up()
        context.log(journal.CONTRACT_BROKEN, reason=str(broken))
        return SOFTWARE
    return SERVED if context.logged_in else SUCCESS


def authorize(context: Context, monitor: Monitor) -> None:
    """As root: hear from the preauth child and the auth helper who the client is, and become that user."""
    from popad import journal, sinks

    sinks.guard_standard_error()
    context.log(journal.SESSION_OPENED)
    if context.identity is None:
        context.log(journal.ONE_IDENTITY)
    monitor.run()
    verdict = monitor.verdict
    if verdict is None:
        context.ready()
        if monitor.why_not:
            context.log(journal.LOGIN_NOT_ATTEMPTED, reason=monitor.why_not)
        context.connection.hang_up()
    elif not passed(context, verdict):
        context.connection.write(WRONG if verdict.known else LATER, context.settings.timeout)
        context.close_places()
        if context.identity is not None:
            become_preauth(*context.identity)  # closing reads what the client goes on to say
        context.connection.close(LINGER)
    elif may_become(context, verdict):
        from popad.session.postauth import postauth_role

        postauth_role(context, verdict, monitor.ahead)


def may_become(context: Context, verdict: "Verdict") -> bool:
    """Become the user for good; whether that was possible. The client and the journal are told where it was not."""
    context.make_room()
    try:
        become(verdict.uid, verdict.gid, verdict.groups)
        never_gain_privileges()
    except PermissionError as error:
        from popad import journal

        context.log(journal.LOGIN_REFUSED, user=verdict.name, reason=str(error))
        context.connection.write(NOT_SERVED, context.settings.timeout)
        context.connection.hang_up()
        return False
    context.logged_in = True
    return True


def passed(context: Context, verdict: "Verdict") -> bool:
    """Log the verdict; whether it lets the client in. What it names is checked again here."""
    from popad import journal, settings, values
    from popad.auth.verdict import PASSED, REFUSED, UNAVAILABLE, UNKNOWN

    if verdict.mechanism:
        context.known |= {"mechanism": verdict.mechanism}
    if verdict.which == PASSED:
        try:
            values.maildrop_of_user(verdict.maildrop)
        except ValueError as wrong:
            raise ContractBroken(f"the auth helper named a maildrop that {wrong}") from None
        preauth_uids = context.identity[:1] if context.identity else ()
        if verdict.uid in (0, *preauth_uids) or verdict.uid in settings.PREAUTH_UIDS or not verdict.name:
            raise ContractBroken(f"the auth helper named uid {verdict.uid}")
        context.known |= {"user": verdict.name, "maildrop": verdict.maildrop}
        context.log(journal.LOGIN_PASSED, reason=verdict.reason or None)
        return True
    # A name is not repeated unless it is known to be one: it may be a password typed too early.
    hidden = verdict.which in (UNKNOWN, UNAVAILABLE) and not context.settings.log_unknown
    special = {UNAVAILABLE: journal.LOGIN_UNAVAILABLE, REFUSED: journal.LOGIN_REFUSED}
    event = special.get(verdict.which, journal.LOGIN_FAILED)
    context.log(event, user=None if hidden else verdict.name, reason=verdict.reason)
    return False
