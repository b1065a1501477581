"""What sessions do, done by the daemon before it forks any: to a mailbox of its own, with itself as the client.

Python makes code that has run some times faster by rewriting it in memory (PEP 659), and counts until then in the code
itself; what it has looked up, it keeps in a table. A session would do so in its own copy of each page, and lose it at
its end. What the rounds buy, on Debian 12: an idle session has 2.36 MB (PSS) and not 2.62.
"""

import _socket
import os
import time
from contextlib import ExitStack, closing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from popad.journal import Event, Value

from popad import journal
from popad.auth import verdict
from popad.maildrop.maildrop import Maildrop
from popad.maildrop.mbox.store import Mbox
from popad.maildrop.private import SharedDirectory
from popad.net.arrival import Arrival, Facts, arrive
from popad.net.connection import Connection
from popad.privsep import spawn
from popad.privsep.channel import Channel, message_pair, receive_descriptor
from popad.privsep.helpers import HelperRelay
from popad.protocol.authorization import PASSWORD
from popad.session import ending, monitor, postauth, preauth
from popad.session.context import Context
from popad.session.preauth import Preauth
from popad.session.shown import Shown
from popad.settings import Settings

ROUNDS = 12  # CPython 3.11 rewrites code that has run 8 times
PATIENCE = 1.0  # seconds; nothing is waited for
MESSAGES = 3
MAIL = b"From nobody Thu Jan  1 00:00:00 1970\nSubject: warm-up\n\nOne line.\n.\n\n" * MESSAGES
LOGIN = b"CAPA\r\nUSER nobody\r\nPASS nothing\r\n"
COMMANDS = b"STAT\r\nUIDL\r\nLIST\r\nUIDL 1\r\nLIST 1\r\nRETR 1\r\nTOP 1 1\r\nNOOP\r\nDELE 1\r\nRSET\r\nQUIT\r\n"


def silent(event: "Event", known: "Mapping[str, Value]") -> bool:
    """In place of journal.taken(): an entry is made, and goes nowhere."""
    journal.logfmt(journal.entry_of(event, known)["MESSAGE"])
    return True


def not_told(may_end: "Callable[[], bool]" = lambda: True) -> None:
    """In place of end_when_told()."""


def answer(relay: _socket.socket) -> None:
    """Be the auth helper that is asked over the other end of this relay, and knows nobody."""
    _, fd = receive_descriptor(relay, 1)
    if fd is not None:
        with closing(Channel(_socket.socket(fileno=fd))) as channel:
            _, credentials = channel.receive_with_channel(verdict.REQUEST_LIMITS, PATIENCE)
            with closing(credentials):
                credentials.receive((len(PASSWORD), verdict.MAX_NAME, verdict.MAX_PASSWORD), PATIENCE)
            channel.send(verdict.Verdict(verdict.FAILED, reason="warm-up").pack())


def warm_up() -> None:
    """With the default settings, but for the places.

    Raises OSError where there is no room for a mailbox in the directory for temporary files, and MaildropUnavailable
    and PeerSilent on a machine that stands still.
    """
    # Not tempfile and shutil: the libraries that they load would be in the memory of each session, too.
    place = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"popad-{os.urandom(8).hex()}")  # noqa: S108 - not to be guessed
    os.mkdir(place, 0o700)
    facts = Facts(Settings({"POPAD_STATE": place, "POPAD_CACHE": place, "POPAD_LOGIN_TIMEOUT": "1"}), None, None)
    facts.notifier = Shown
    taken, journal.taken = journal.taken, silent
    end_when_told, ending.end_when_told = ending.end_when_told, not_told  # this process has signals of its own
    try:
        mailbox = os.path.join(place, "mailbox")
        with open(mailbox, "xb") as file:
            file.write(MAIL)
        for _ in range(ROUNDS):
            with ExitStack() as opened:
                log_in(facts, opened)
                read_mail(facts, mailbox, opened)
    finally:
        journal.taken = taken
        ending.end_when_told = end_when_told
        for name in os.listdir(place):
            os.unlink(os.path.join(place, name))
        os.rmdir(place)


def log_in(facts: Facts, opened: ExitStack) -> None:
    """From the greeting to the verdict. All objects are of the classes that sessions have: Python keeps what it has
    looked up for one class alone.
    """
    client, connection = connected(opened)
    requests, credentials = ([Channel(end) for end in message_pair()] for _ in range(2))
    relay, helpers_end = message_pair()
    for channel in (*requests, *credentials):
        opened.callback(channel.close)
    for end in (relay, helpers_end):
        opened.callback(end.close)
    client.send(LOGIN)
    client.shutdown(_socket.SHUT_WR)
    if arrived := arrive(connection, facts):
        context = Context(arrived)
        opened.callback(context.ready().close)
        child = Preauth(spawn.Child(None, requests[0]), credentials[0])
        made = monitor.Monitor(context, monitor.Relays(HelperRelay(relay)), child)
        made.preparation.steps.append(lambda: answer(helpers_end))
        if its_client := preauth.client_of(requests[1])[0]:
            opened.callback(its_client.socket.close)
            preauth.speak(its_client, requests[1], credentials[1], time.monotonic() + PATIENCE, facts.settings)
        monitor.authorize(context, made)
        monitor.passed(context, verdict.Verdict(verdict.PASSED, "nobody", 1, 1, "mbox:/nowhere"))


def read_mail(facts: Facts, mailbox: str, opened: ExitStack) -> None:
    """From the mailbox's opening to the end."""
    client, connection = connected(opened)
    client.send(COMMANDS)
    updates = SharedDirectory(facts.settings.state)
    opened.callback(updates.close)
    store = Mbox(mailbox, updates.files_of(mailbox), PATIENCE, MESSAGES, 0)
    opened.callback(os.close, store.fd)
    context = Context(Arrival(connection, facts))
    opened.callback(context.ready().close)
    postauth.serve(context, "nobody", Maildrop(store), b"")


def connected(opened: ExitStack) -> tuple[_socket.socket, Connection]:
    """A client, and the connection to it."""
    client, server = _socket.socketpair()
    connection = Connection(server.detach(), "127.0.0.1", 1)
    for end in (client, connection.socket):
        opened.callback(end.close)
    return client, connection
