"""Which message has which unique-id: one that it keeps, and that no other has after it (RFC 1939 section 7).

Twins are messages whose headers are the same as far as popa3d looks: what one program delivers within a second, say.
The first has popa3d's id; each further one has an id of its content, and exact copies count: 0, 1, …. So has each
message that popa3d looks at no header of. A client that leaves mail on the server skips what has an id that it knows.
So an id that passes on to a message that nobody has fetched loses mail, and an id that changes fetches it again.

What is remembered of a mailbox (ids.py says how), so that its messages and their order decide the rest:
 - `taken`: ids of messages that are gone. Nobody gets them again.
 - `holders`: of twins that were listed together, the content of the one that has popa3d's id, until none of them is
   left. So another program may remove that one: what is left of the twins has other contents.
 - `gone`: messages that an update removed before anybody asked for their ids, and where they stood. When somebody asks,
   ids are given as if they were there still. What they get is taken, and that is all that is left of them.

Why an id stays, whatever has been removed by updates. Mail is only appended, so the messages before one, with those
gone, are the same at each listing, but for those whose ids are taken. The first of its header was the first at each
listing; a taken id is passed over just as one that a message has. Copies of one content are passed over in their order.
An index (POPAD_CACHE) may know the ids of the first messages: they are what these rules give.

Why it does not pass on: it is taken before the update begins. That list is bounded. What is passed over for a message
that is there is never dropped, and of the rest those that were taken last stay: some thousands, for a client that has
not been there for long.

What others can do. A program that removes messages leaves no trace here, nor does a session that comes by another name
of the mailbox (a hard link): what is remembered is the path's. Where it removed one that was the only one
of its header at each listing, a twin that is delivered later gets its id; so do exact copies from each other, which
nobody can tell apart. Where it removed messages that stood before those of `gone`, those are one further back than they
were, and a message may be taken for an earlier one; they count as the first if that shows.
"""

from array import array
from itertools import chain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

from popad.maildrop.uidl import NOTHING, id_of_content

MOST = 4096  # taken ids that are remembered, and are not passed over for a message that is there


class Gone:
    """A message that was removed: `place` messages stood before it, of those that are there now. Its content counts
    only where it may have been listed with an id of it. One that `is_there` is about to go.
    """

    __slots__ = ("content", "header", "is_there", "place")

    def __init__(self, place: int, header: int, content: int | None, is_there: bool = False) -> None:
        self.place = place
        self.header = header
        self.content = content
        self.is_there = is_there


class Memory:
    """What is remembered of one mailbox."""

    def __init__(self) -> None:
        self.taken: dict[int, None] = {}  # the oldest first
        self.holders: dict[int, int] = {}  # popa3d's id: content
        self.gone: list[Gone] = []  # as they stood

    def may_have_twins(self, header: int) -> bool:
        """Whether a message with this id of popa3d may have been listed with an id of its content."""
        return header == NOTHING or header in self.taken or header in self.holders

    def take(self, ids: "Iterable[int]") -> None:
        """Nobody else gets these. They are the newest."""
        for unique_id in ids:
            self.taken.pop(unique_id, None)
            self.taken[unique_id] = None

    def keep_newest(self, passed_over: "set[int] | frozenset[int]" = frozenset()) -> None:
        """Let go of those that are too many."""
        old = [unique_id for unique_id in self.taken if unique_id not in passed_over]
        for unique_id in old[: max(len(old) - MOST, 0)]:
            del self.taken[unique_id]


def unique_ids(
    known: "array[int]", headers: "Iterable[int]", content: "Callable[[int], int]", memory: Memory, are_all: bool
) -> "array[int]":
    """A unique-id for each message, all different. 8 octets a message, as there may be millions.

    `known` are those of the first messages, `headers` popa3d's ids of the others, `content(index)` is the number of a
    message's content, asked for where it counts. `memory` is brought up to date; unless these `are_all` messages (mail
    may have been appended since the session began), nothing is forgotten, and those gone that stood behind them wait.
    """
    ids = known + array("Q", headers)
    first = len(known)
    there: set[int] = set()
    with_twins: set[int] = set()
    for header in ids:  # to sort them would take twice the time, and a list of them the memory that the set does
        if header in there:
            with_twins.add(header)
        there.add(header)
    of_gone = (gone.header for gone in memory.gone)
    with_twins |= there.intersection(chain(of_gone, memory.taken, memory.holders, (NOTHING,)))
    giving = Giving(memory, known, there)
    later = [] if are_all else [gone for gone in memory.gone if gone.place > len(ids)]
    before = iter(memory.gone[: len(memory.gone) - len(later)])
    gone = next(before, None)
    if with_twins:
        for index in range(first, len(ids)):
            if (header := ids[index]) in with_twins:
                while gone and gone.place <= index:
                    giving.of_gone(gone)
                    gone = next(before, None)
                ids[index] = giving.of_message(header, index, content)
    while gone:
        giving.of_gone(gone)
        gone = next(before, None)
    memory.gone = later
    memory.take(giving.of_those_gone)
    if are_all and not first:
        forget(memory, there, giving.passed_over)
    return ids


class Giving:
    """Ids for messages with twins and those that are gone, in their order."""

    def __init__(self, memory: Memory, known: "array[int]", headers: set[int]) -> None:
        self.memory = memory
        self.known = known
        self.headers = headers
        self.given = set(known)
        self.first: dict[int, int] = {}  # popa3d's id: the message that has it now; -1: one that is gone
        self.of_known: dict[int, int] | None = None  # the same of those that are known, once it is needed
        self.copies: dict[tuple[int, int], int] = {}
        self.of_those_gone: list[int] = []
        self.passed_over: set[int] = set()

    def of_message(self, header: int, index: int, content: "Callable[[int], int]") -> int:
        memory = self.memory
        if header not in self.given and not memory.may_have_twins(header):
            self.first[header] = index
            self.given.add(header)
            return header
        number = content(index)
        if header in self.given:
            self.remember_holder(header, content)
        elif memory.holders.get(header) == number and header not in memory.taken:
            self.given.add(header)
            return header
        return self.by_content(header, number)

    def remember_holder(self, header: int, content: "Callable[[int], int]") -> None:
        """Somebody else with this header has been found."""
        if self.memory.may_have_twins(header):
            return
        if (index := self.first.get(header)) is None:
            if self.of_known is None:
                self.of_known = {unique_id: place for place, unique_id in enumerate(self.known)}
            index = self.of_known.get(header, -1)
        if index >= 0:
            self.memory.holders[header] = content(index)

    def by_content(self, header: int, number: int) -> int:
        """The next id of messages with this header and content."""
        copies = self.copies.get((header, number), 0)
        while True:
            unique_id = id_of_content(header, number, copies)
            copies += 1
            if unique_id in self.memory.taken:
                self.passed_over.add(unique_id)
            elif unique_id not in self.given and unique_id not in self.headers:
                break
        self.copies[header, number] = copies
        self.given.add(unique_id)
        return unique_id

    def of_gone(self, gone: Gone) -> None:
        """What is taken with it. One that had twins before its content counted was not listed beside them."""
        header, memory = gone.header, self.memory
        has_header = header not in self.given and header != NOTHING and header not in memory.taken
        if has_header and memory.holders.get(header, gone.content) == gone.content:
            unique_id = header
            self.given.add(header)
            self.first[header] = -1
        elif gone.content is not None:
            unique_id = self.by_content(header, gone.content)
        else:
            return
        self.of_those_gone.append(unique_id)
        if header in self.headers:
            self.passed_over.add(unique_id)


def forget(memory: Memory, headers: set[int], passed_over: set[int]) -> None:
    """What no message needs any more, when all have been looked at."""
    left = [header for header in memory.holders if header not in headers]
    memory.take(left)
    memory.holders = {
        header: content
        for header, content in memory.holders.items()
        if header in headers and header not in memory.taken
    }
    memory.keep_newest(passed_over | headers)
