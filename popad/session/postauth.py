"""The session after the login, as the user: TRANSACTION and UPDATE, and what the journal hears of them."""

import gc
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.auth.verdict import Verdict
    from popad.net.connection import Connection
    from popad.notify import Notifier
    from popad.protocol.dialogue import Peer
    from popad.session.context import Context

from popad import journal
from popad.errors import (
    MaildropChanged,
    MaildropUnavailable,
    MaildropUnreadable,
    MessageGone,
    PeerGone,
    PeerSilent,
)
from popad.maildrop.maildrop import Maildrop
from popad.maildrop.open import open_store
from popad.net.connection import LINGER
from popad.protocol import replies, transaction
from popad.protocol.dialogue import converse
from popad.protocol.lines import Lines
from popad.protocol.sasl import allowed
from popad.protocol.transaction import Transaction
from popad.session import ending
from popad.session.ending import ToldToEnd

EVENTS = {
    MaildropChanged: journal.MAILDROP_CHANGED,
    MaildropUnreadable: journal.MAILDROP_UNREADABLE,
    MessageGone: journal.MESSAGE_GONE,
}
THINKING = 0.1  # seconds without a command after which systemd is told how the session stands


def postauth_role(session: "Context", verdict: "Verdict", ahead: bytes) -> None:
    """TRANSACTION and UPDATE, as the user."""
    connection, settings, notifier = session.connection, session.settings, session.ready()
    connection.sent_octets = 0  # of the user's session, as the journal counts
    notifier.put_off(settings.timeout)
    try:
        drop = open_maildrop(session, verdict)
    except MaildropUnavailable as failure:
        session.log(journal.MAILDROP_REFUSED, reason=failure.reason)
        connection.write(replies.err("the mailbox is not available", failure.code), settings.timeout)
        connection.close(LINGER)
    else:
        serve(session, verdict.name, drop, ahead)


def serve(session: "Context", name: str, drop: Maildrop, ahead: bytes) -> None:
    """The client's commands until its end, and what the journal is to know of them."""
    connection, settings = session.connection, session.settings
    done = Transaction(drop, Notices(session).notice, allowed(session.may()))
    client = PostauthClient(name, connection, settings.timeout, session.ready(), drop, session.tls)
    peer = traced(client, session, name, ahead)
    connection.keep_time(THINKING)
    ending.end_when_told(lambda: not done.over or done.updated or done.update_failure is not None)
    is_told = False
    if not gc.isenabled():  # in a session that systemd has started; the daemon has done so before it forked
        gc.freeze()  # what was loaded: the collector, which has been off, would look through it now
        gc.enable()
    try:
        peer.write(replies.ok(f"{drop.messages} messages ({drop.octets_in_all} octets)"))
        converse(peer, Lines(ahead), transaction.TABLE, done, settings.max_argument)
        connection.close()
    except (PeerGone, PeerSilent) as end:
        session.log(journal.PEER_GONE if isinstance(end, PeerGone) else journal.PEER_SILENT)
        connection.hang_up()
    except (MaildropChanged, MaildropUnreadable, MessageGone):
        connection.hang_up()  # in the middle of an answer: the journal knows why
    except OSError as error:
        connection.hang_up()
        session.log(journal.MAILDROP_UNREADABLE, reason=str(error))
    except ToldToEnd as told:
        is_told = True
        connection.hang_up()
        session.log(journal.SESSION_INTERRUPTED, signal=str(told))
    drop.finish(wait=not is_told)
    if drop.trouble:
        session.log(journal.IDS_NOT_KEPT, reason=drop.trouble)
    if drop.wrong_sizes:
        session.log(journal.SIZE_WRONG, reason=drop.wrong_sizes)
    log_the_end(session, done)


def traced(client: "PostauthClient", session: "Context", name: str, ahead: bytes) -> "Peer":
    """The client, whose words are noted where the settings say so."""
    if session.settings.log != "debug" and name not in session.settings.debug_users:
        return client
    from popad.session.trace import Traced

    return Traced(client, session, ahead)


class Notices:
    """What the journal hears of commands that have no proper answer: each kind once a session, however often a client
    asks again.
    """

    def __init__(self, session: "Context") -> None:
        self.session = session
        self.given: set[journal.Event] = set()

    def notice(self, failure: MaildropChanged | MaildropUnreadable | MessageGone) -> None:
        event = EVENTS[type(failure)]
        if event not in self.given:
            self.given.add(event)
            self.session.log(event, reason=str(failure))


class PostauthClient:
    """The client, who may think as long as the autologout timer allows; systemd hears when it does.

    A command resets the timer (RFC 1939 section 3), and each has an answer; so does what the client takes of an answer.
    Octets that make no command do not. Little by little it may read for ever, as it may say NOOP for ever: either holds
    one session of those that its source may have. Before the login the time runs whatever the client does (preauth.py).
    """

    def __init__(
        self, name: str, connection: "Connection", timeout: float, notifier: "Notifier", drop: Maildrop, tls: str = ""
    ) -> None:
        """`tls` is the version that the connection has, if any."""
        self.name = name
        self.arrived = (f", {tls}" if tls else "") + (f", from {connection.rhost}" if connection.proxy else "")
        self.connection = connection
        self.timeout = timeout
        self.notifier = notifier
        self.drop = drop
        self.deadline = 0.0

    def read(self) -> bytes:
        if time.monotonic() >= self.deadline:
            raise PeerSilent
        if data := self.connection.read_soon():
            return data
        self.drop.finish(wait=False)
        deleted = f", {self.drop.deleted} deleted" if self.drop.deleted else ""
        self.notifier.status(f"{self.name}: {self.drop.messages} messages{deleted}{self.arrived}")
        return self.connection.read(self.deadline - time.monotonic(), self.takes)

    def write(self, data: bytes) -> None:
        if data:
            self.takes()
            self.connection.write(data, self.timeout, self.takes)
            self.takes()  # the write may have taken as long, and the client's time begins now

    def takes(self) -> None:
        """The client takes what it was sent, so it is there, however slow its line."""
        self.notifier.put_off(self.timeout)
        self.deadline = time.monotonic() + self.timeout


def open_maildrop(session: "Context", verdict: "Verdict") -> Maildrop:
    """The user's maildrop, after finishing what an earlier session may have left unfinished. MaildropUnavailable."""
    if isinstance(session.state, MaildropUnavailable):
        raise session.state
    store = open_store(verdict.maildrop, session.settings, session.state, session.cache)
    if store.read_only:
        session.log(journal.MAILDROP_READ_ONLY, reason=store.read_only)
    if store.recovery and store.recovery.finished:
        session.log(journal.UPDATE_RECOVERED)
    if store.recovery and store.recovery.kept:
        session.log(journal.UPDATE_ORPHANED, kept=store.recovery.kept, reason=store.recovery.reason)
    drop = Maildrop(store)
    session.log(journal.MAILDROP_LOADED, messages=drop.messages, octets=drop.octets_in_all)
    return drop


def log_the_end(session: "Context", state: Transaction) -> None:
    """What the session did, and what became of the messages marked as deleted."""
    drop = state.maildrop
    deleted = drop.messages - drop.remaining if state.updated else 0
    left = drop.remaining if state.updated else drop.messages
    if state.update_failure:
        session.log(journal.UPDATE_FAILED, reason=str(state.update_failure))
    elif deleted:
        session.log(journal.MAILDROP_UPDATED, deleted=deleted, left=left, left_octets=drop.remaining_octets)
    session.log(
        journal.SESSION_CLOSED,
        retrieved=state.retrieved,
        topped=state.topped,
        deleted=deleted,
        left=left,
        sent_octets=session.connection.sent_octets,
        duration_usec=int((time.monotonic() - session.began) * 1_000_000),
    )
