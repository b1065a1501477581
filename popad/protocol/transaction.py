"""The TRANSACTION state (RFC 1939 sections 5 and 7, RFC 1460 for LAST), and the UPDATE that its QUIT asks for."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Protocol

    from popad.protocol.dialogue import Reply

    class Maildrop(Protocol):
        """The numbered messages of a session. Numbers begin at 1; sizes are octets on the wire without dot-stuffing.

        All but the properties raise MaildropChanged when another program changed the messages and MaildropUnreadable
        when they cannot be read now, update() also MaildropUnavailable.
        """

        last: int

        @property
        def messages(self) -> int: ...
        @property
        def remaining(self) -> int: ...
        @property
        def remaining_octets(self) -> int: ...
        def listed(self) -> Iterator[int]: ...
        def present(self, number: int) -> bool: ...
        def octets(self, number: int) -> int: ...
        def unique_id(self, number: int) -> str: ...
        def content(self, number: int) -> Iterator[bytes]: ...
        def prefetch(self, number: int) -> bytes: ...
        def still_valid(self) -> bool: ...
        def mark_deleted(self, number: int) -> None: ...
        def unmark_all(self) -> None: ...
        def update(self) -> None: ...


from popad.errors import CommandRefused, MaildropChanged, MaildropUnavailable, MaildropUnreadable, MessageGone
from popad.protocol import replies
from popad.protocol.capabilities import capability_list
from popad.protocol.dialogue import NUMBER, NUMBER_AND_LINES, OPTIONAL_NUMBER, OPTIONAL_WORDS, Command
from popad.protocol.language import lang
from popad.protocol.replies import err, listing, ok
from popad.values import COMMAND_OCTETS

ROW = 2  # messages retrieved in a row after which a client is expected to want the next
NOT_REMOVED = "some deleted messages not removed"  # RFC 1939's own words
MOST_AHEAD = 65536  # octets of a message that is read before it is asked for


class Transaction:
    """A user's session: the maildrop, and what the journal wants to know in the end.

    `notice` hears of each command that could not be answered for the sake of the maildrop; `sasl` are the mechanisms
    that there were for the login, as both states list the same (RFC 5034 section 3).
    """

    line_octets = COMMAND_OCTETS
    asks = None  # a line is a command here

    def __init__(
        self,
        maildrop: "Maildrop",
        notice: "Callable[[MaildropChanged | MaildropUnreadable | MessageGone], None]" = lambda _: None,
        sasl: "Sequence[str]" = (),
    ) -> None:
        self.over = False
        self.sasl = sasl
        self.maildrop = maildrop
        self.notice = notice
        self.changed = ""  # what another program has done to the messages: from then on their numbers mean nothing
        self.row = (0, 0)  # the last message retrieved, and how many in a row were, each the one behind the other
        self.ahead: tuple[int, bytes] | None = None  # a message that may be asked for next, the answer unconfirmed
        self.retrieved = 0
        self.topped = 0
        self.updated = False
        self.update_failure: MaildropUnavailable | MaildropUnreadable | None = None

    def refused(self, text: str, _line: bytes) -> bytes:
        """A user may err as often as there is time: it is known who does."""
        return err(text)

    def meanwhile(self) -> None:
        """While the client is at work: make the answer that it asks for next, if it goes on as it has begun."""
        number, drop = self.row[0] + 1, self.maildrop
        if self.row[1] < ROW or self.ahead or number > drop.messages or not drop.present(number):
            return
        octets = b""
        if drop.octets(number) <= MOST_AHEAD:
            try:
                octets = drop.prefetch(number)
            except (MaildropChanged, MaildropUnreadable, MessageGone):
                pass  # the next command finds out, if it concerns it
        if octets:
            self.ahead = number, b"".join(retrieved(drop, number, (octets,)))
        else:
            self.row = 0, 0

    def failed(self, failure: MaildropChanged | MaildropUnreadable | MessageGone) -> None:
        """Once the messages have changed no command gives any of them, though the file may look as before again."""
        if isinstance(failure, MaildropChanged):
            self.changed = str(failure)
        self.notice(failure)


def intact(state: Transaction) -> "Maildrop":
    """The maildrop, for a command that needs more of it than what is known."""
    if state.changed:
        raise MaildropChanged(state.changed)
    return state.maildrop


def chosen(state: Transaction, number: int) -> int:
    """`number`, if it is a message that is there and not marked as deleted."""
    if not 1 <= number <= state.maildrop.messages:
        raise CommandRefused("no such message")
    if not state.maildrop.present(number):
        raise CommandRefused("message is deleted")
    return number


# STAT, LIST, LAST and RSET are about what the session knows, and go on when another program has changed the mailbox:
# numbers and sizes are the same for a whole session (RFC 1939 section 5).


def stat(state: Transaction) -> "Reply":
    return ok(f"{state.maildrop.remaining} {state.maildrop.remaining_octets}")


def list_(state: Transaction, number: int | None = None) -> "Reply":
    drop = state.maildrop
    if number is not None:
        return ok(f"{chosen(state, number)} {drop.octets(number)}")
    status = f"{drop.remaining} messages ({drop.remaining_octets} octets)"
    return listing(status, (f"{each} {drop.octets(each)}" for each in drop.listed()))


def uidl(state: Transaction, number: int | None = None) -> "Reply":
    if number is not None:
        return ok(f"{chosen(state, number)} {intact(state).unique_id(number)}")
    drop = intact(state)
    return listing("unique-id listing", (f"{each} {drop.unique_id(each)}" for each in drop.listed()))


def retr(state: Transaction, number: int) -> "Reply":
    chosen(state, number)
    drop = intact(state)
    state.row = number, state.row[1] + 1 if number == state.row[0] + 1 else 1
    ahead, state.ahead = state.ahead, None
    if ahead and ahead[0] == number and drop.still_valid():
        answered(state, number)
        return ahead[1]
    return fetched(state, number)


def fetched(state: Transaction, number: int) -> "Iterator[bytes]":
    yield from retrieved(state.maildrop, number, state.maildrop.content(number))
    answered(state, number)


def answered(state: Transaction, number: int) -> None:
    """A RETR has its answer: one that the mailbox did not let have any does not count."""
    state.maildrop.last = max(state.maildrop.last, number)
    state.retrieved += 1


def retrieved(drop: "Maildrop", number: int, content: "Iterable[bytes]") -> "Iterator[bytes]":
    """The answer to RETR."""
    return message(ok(f"{drop.octets(number)} octets"), content)


def top(state: Transaction, number: int, lines: int) -> "Reply":
    chosen(state, number)
    return topped(state, replies.top(intact(state).content(number), lines))


def topped(state: Transaction, content: "Iterable[bytes]") -> "Iterator[bytes]":
    yield from message(ok("top of message"), content)
    state.topped += 1


def message(status: bytes, content: "Iterable[bytes]") -> "Iterator[bytes]":
    """A multi-line reply with (a part of) a stored message in it."""
    yield status
    yield from replies.body(content)
    yield replies.TERMINATOR


def dele(state: Transaction, number: int) -> "Reply":
    chosen(state, number)
    drop = intact(state)  # a mark that nothing can come of is not promised
    drop.last = max(drop.last, number)
    drop.mark_deleted(number)
    return ok(f"message {number} deleted")


def last(state: Transaction) -> "Reply":
    return ok(f"{state.maildrop.last}")


def rset(state: Transaction) -> "Reply":
    state.maildrop.unmark_all()
    state.maildrop.last = 0
    return ok(f"{state.maildrop.remaining} messages ({state.maildrop.remaining_octets} octets)")


def noop(state: Transaction) -> "Reply":
    return ok("nothing done")


def capa(state: Transaction) -> "Reply":
    return capability_list(sasl=state.sasl)


def quit_(state: Transaction) -> "Reply":
    """The only way into UPDATE: a complete QUIT (RFC 1939 section 6). It always has an answer.

    What another program does to a mailbox in which nothing is to be removed does not matter: it is not looked at.
    """
    state.over = True
    drop = state.maildrop
    try:
        if drop.remaining < drop.messages:
            intact(state).update()
    except MaildropChanged as change:
        state.failed(change)
        return err(NOT_REMOVED, change.code)
    except (MaildropUnavailable, MaildropUnreadable) as failure:
        state.update_failure = failure
        return err(NOT_REMOVED, failure.code)
    state.updated = True
    return ok("bye")


TABLE = {
    b"STAT": Command(stat),
    b"LIST": Command(list_, OPTIONAL_NUMBER),
    b"UIDL": Command(uidl, OPTIONAL_NUMBER),
    b"RETR": Command(retr, NUMBER),
    b"TOP": Command(top, NUMBER_AND_LINES),
    b"DELE": Command(dele, NUMBER),
    b"LAST": Command(last),
    b"RSET": Command(rset),
    b"NOOP": Command(noop),
    b"CAPA": Command(capa),
    b"LANG": Command(lang, OPTIONAL_WORDS),
    b"QUIT": Command(quit_),
}
