"""One session's life up to the login: the roles in order, and what each process may know.

What runs as root, from the first line to become(): reading the settings, looking up POPAD_USER, the greeting (a
constant), the fork of the authorization child, log entries and notifications, one message from the child (its shape is
checked, its content passed on and never parsed), one question to the helper, one verdict (checked again here), opening
POPAD_STATE and POPAD_CACHE and keeping room in the former, and to a login that fails a constant reply. Where no warm
helper is configured, a child of it asks PAM.
"""

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator

    from popad.auth.helper import Verdict
    from popad.errors import MaildropUnavailable
    from popad.journal import Event, Value
    from popad.maildrop.private import State
    from popad.net.connection import Connection
    from popad.notify import Notifier
    from popad.privsep.helpers import Relay
    from popad.privsep.spawn import Child
    from popad.settings import Settings

else:
    import _signal as signal  # the C part: the enumerations around it cost 3.6 ms

from popad.errors import ContractBroken, PeerGone, PeerSilent, SettingWrong
from popad.net.connection import LINGER

GREETING = b"+OK popad ready\r\n"
# All that the session itself ever says to somebody it does not know. Response codes: RFC 2449 section 8, RFC 3206.
WRONG = b"-ERR [AUTH] authentication failed\r\n"
LATER = b"-ERR [SYS/TEMP] authentication is not possible now\r\n"
NOT_SERVED = b"-ERR [SYS/PERM] the server is not set up to serve this\r\n"

# What the authorization child says, and what the journal hears.
WHY_NOT = {b"quit": "QUIT", b"gone": "the client left", b"silent": "timed out", b"errors": "too many errors"}
GRACE = 5.0  # seconds that the authorization child gets beyond its own time limit before it is given up
DONE = "done"
SUCCESS, SOFTWARE, CONFIG = 0, 70, 78  # exit statuses (sysexits.h)
SERVED = 1  # what serve() returns where somebody has logged in; for systemd and inetd that is SUCCESS


class Session:
    """What every part of a session needs: the connection, the settings, systemd's ear, and what each entry says."""

    def __init__(
        self,
        connection: "Connection",
        settings: "Settings",
        identity: tuple[int, int] | None,
        relay: "Relay | None",
    ) -> None:
        self.connection = connection
        self.settings = settings
        self.identity = identity  # who the authorization child becomes (uid, gid); None: one uid for all
        self.relay = relay  # the way to the authentication helper, where the settings do not name it
        self.started = time.monotonic()
        self.logged_in = False
        self.rhost = connection.rhost or "unknown"
        self.known: dict[str, Value] = {"rhost": self.rhost, "rport": connection.rport}
        self.notifier: Notifier | None = None
        self.state: State | MaildropUnavailable  # POPAD_STATE and POPAD_CACHE: settle_in() opens them
        self.cache: State | None

    def log(self, event: "Event", **fields: "Value") -> None:
        """Write an entry about this session."""
        from popad import journal

        journal.send(event, **(self.known | fields))

    def ready(self) -> "Notifier":
        """Tell systemd that the greeting has left, if it has not heard yet."""
        if self.notifier is None:
            from popad import notify

            self.notifier = notify.Notifier()
            lives = self.settings.login_timeout + self.settings.auth_timeout
            self.notifier.ready(f"authorization, {self.rhost}", lives)
        return self.notifier

    def settle_in(self) -> "Iterator[None]":
        """What a login needs and its verdict does not wait for, step by step: done while somebody else is busy."""
        self.ready()
        yield
        yield from load_what_a_user_needs()
        yield
        from popad.maildrop.private import of_indexes, of_updates

        self.state, self.cache = of_updates(self.settings.state), of_indexes(self.settings.cache)

    def make_room(self) -> None:
        """As root, for a user who has logged in: on a full disk there shall be room to delete mail."""
        from popad.maildrop.private import State

        if isinstance(self.state, State):
            self.state.tend_reserve()

    def forget_places(self) -> None:
        """Nobody has logged in: the process that hears the client out has no use for them."""
        from popad.maildrop.private import State

        for place in (self.state, self.cache):
            if isinstance(place, State):
                place.close()


def serve(
    connection: "Connection",
    settings: "Settings",
    identity: tuple[int, int] | None,
    relay: "Relay | None" = None,
    child: "Child | None" = None,
) -> int:
    """One session from the greeting to the end. Returns SERVED or an exit status.

    `identity` is what identity_of_strangers() found, `relay` the way to the authentication helper where the settings do
    not name it, `child` the authorization child, where there is one that waits for its client. Nothing is imported
    before the greeting that the greeting does not need: the client waits for it.
    """
    os.umask(0o077)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever started us may have ignored it
    session = Session(connection, settings, identity, relay)
    greeted = False
    try:
        connection.write(GREETING, settings.login_timeout)
        greeted = True
        authorize(session, child)
    except (PeerGone, PeerSilent):
        connection.hang_up()
        if not greeted:
            from popad import journal

            session.log(journal.LOGIN_NOT_ATTEMPTED, reason=WHY_NOT[b"gone"])
    except ContractBroken as broken:
        from popad import journal

        connection.hang_up()
        session.log(journal.CONTRACT_BROKEN, reason=str(broken))
        return SOFTWARE
    return SERVED if session.logged_in else SUCCESS


def refuse_to_serve(connection: "Connection", wrong: SettingWrong) -> None:
    """A client came and nobody can be served: say so to it and to the journal."""
    from popad import journal

    try:
        connection.write(NOT_SERVED, 1)
    except (PeerGone, PeerSilent):
        pass  # the journal knows
    connection.hang_up()
    journal.send(journal.SETTING_WRONG, rhost=connection.rhost, reason=str(wrong))


def identity_of_strangers(settings: "Settings") -> tuple[int, int] | None:
    """Who the authorization child becomes (uid, gid); None where popad is not root and all roles share one uid.

    Raises SettingWrong.
    """
    if os.geteuid() != 0:
        return None
    import pwd

    try:
        entry = pwd.getpwnam(settings.user)
    except KeyError:
        raise SettingWrong("POPAD_USER", f"there is no user {settings.user!a}") from None
    if entry.pw_uid == 0:
        raise SettingWrong("POPAD_USER", "must not be root")
    return entry.pw_uid, entry.pw_gid


def introduce(child: "Child", connection: "Connection") -> bool:
    """Give the authorization child its client. False where it has died while it waited."""
    from popad.privsep.channel import send_descriptor

    try:
        send_descriptor(child.channel.socket, b"\0", connection.fileno())
    except OSError:
        child.end()
        return False
    return True


def authorize(session: Session, child: "Child | None") -> None:
    """As root: let the client say to a child that can do nothing who it is, and become that user."""
    from popad.privsep import spawn
    from popad.privsep.channel import wipe
    from popad.privsep.identity import become, become_a_stranger, leave_no_core_file, never_gain_privileges
    from popad.session import preauth

    leave_no_core_file()
    connection, settings, identity = session.connection, session.settings, session.identity
    deadline = session.started + settings.login_timeout
    if child is None or not introduce(child, connection):
        role = preauth.authorization_role
        child = spawn.fork(lambda channel: role(channel, connection, deadline, settings, identity))
    from popad import journal, sinks
    from popad.privsep import helpers

    sinks.guard_standard_error()
    verdict = None
    try:
        session.log(journal.SESSION_OPENED)
        if identity is None:
            session.log(journal.ONE_IDENTITY)
        steps = session.settle_in()
        while not child.channel.waits(0):
            if next(steps, DONE) == DONE:
                break
        left = deadline + GRACE - time.monotonic()
        which, name, password, ahead = child.channel.receive(preauth.HAND_OVER_LIMITS, left)
        if which == preauth.LOGIN:
            if not settings.auth_socket and not session.relay:
                child.end()  # the helper is going to be a fork of this process, and knows no client
            try:
                request = (name, password, session.rhost.encode("ascii", "replace"))
                verdict = helpers.verdict(connection, settings, session.relay, request, lambda: list(steps))
            finally:
                wipe(password)
    except TimeoutError:
        connection.hang_up()  # the child may be busy with it
        raise ContractBroken("the authorization child did not keep its time limit") from None
    except ContractBroken as broken:
        raise ContractBroken(f"{broken} (the authorization child, exit status {child.end()})") from None
    finally:
        status = child.end()  # after the question to a warm helper: while that works, this one ends
    if status != 0:
        raise ContractBroken(f"the authorization child ended with status {status}")
    if verdict is None:
        session.ready()
        if (why := WHY_NOT.get(bytes(which))) is None:
            raise ContractBroken("the authorization child handed over nothing that it may")
        session.log(journal.LOGIN_NOT_ATTEMPTED, reason=why)
        connection.hang_up()
        return
    if not passed(session, verdict, bytes(name)):
        connection.write(WRONG if verdict.known else LATER, settings.timeout)
        session.forget_places()
        if identity is not None:
            become_a_stranger(*identity)  # closing reads what the client goes on to say
        connection.close(LINGER)
        return
    session.make_room()
    try:
        become(verdict.uid, verdict.gid, verdict.groups)
        never_gain_privileges()
    except PermissionError as error:
        session.log(journal.LOGIN_REFUSED, user=verdict.name, reason=str(error))
        connection.write(NOT_SERVED, settings.timeout)
        connection.hang_up()
        return
    session.logged_in = True
    from popad.session.postauth import transaction_role

    transaction_role(session, verdict, bytes(ahead))


def load_what_a_user_needs() -> "Iterator[None]":
    """Import what comes after the login, step by step: it takes longer than all that comes before."""
    from popad.maildrop import maildrop  # noqa: F401

    yield
    from popad.protocol import transaction  # noqa: F401

    yield
    from popad.maildrop.mbox import store  # noqa: F401

    yield
    from popad.session import postauth  # noqa: F401


def passed(session: Session, verdict: "Verdict", name: bytes) -> bool:
    """Log the verdict; whether it lets the client in. What it names is checked again here."""
    from popad import journal, settings
    from popad.auth import helper

    if verdict.which == helper.PASSED:
        try:
            settings.maildrop_of_user(verdict.maildrop)
        except ValueError as wrong:
            raise ContractBroken(f"the helper named a maildrop that {wrong}") from None
        strangers = session.identity[:1] if session.identity else ()
        if verdict.uid in (0, *strangers) or verdict.uid in settings.UIDS_OF_STRANGERS or not verdict.name:
            raise ContractBroken(f"the helper named uid {verdict.uid}")
        session.known |= {"user": verdict.name, "maildrop": verdict.maildrop}
        session.log(journal.LOGIN_PASSED)
        return True
    # A name is not repeated unless it is known to be one: it may be a password typed too early.
    hidden = verdict.which in (helper.UNKNOWN, helper.UNAVAILABLE) and not session.settings.log_unknown
    special = {helper.UNAVAILABLE: journal.LOGIN_UNAVAILABLE, helper.REFUSED: journal.LOGIN_REFUSED}
    event = special.get(verdict.which, journal.LOGIN_FAILED)
    session.log(event, user=None if hidden else name, reason=verdict.reason)
    return False
