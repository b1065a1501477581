"""Which unique-id each message has. A message keeps its id, and no other message gets that id later (RFC 1939 section
7).

A client that leaves mail on the server does not fetch a message whose id it knows. So if an id passes on to a message
that the client has not fetched, that mail is lost to it; if an id changes, the client fetches the message again.

popa3d makes the id from some header lines. Twins are messages in which these lines are the same, for example several
that one program delivers within a second. The first of the twins has popa3d's id, and each further one an id made from
its content, with a number for exact copies: 0, 1, … A message without any of these header lines has an id of its
content as well.

The messages and their order decide all ids, together with three things that are remembered (ids.py says how):
 - `taken`: ids of messages that are gone. No message gets them again.
 - `holders`: where twins were listed together, the content of the twin that has popa3d's id, until no twin is left.
   Another program may remove that twin; the remaining ones have other contents, so none of them becomes "the first".
 - `gone`: messages that an update removed before anybody asked for their ids, and their places. At the next listing ids
   are given out as if these messages were still there. The ids that they get become `taken`, and the rest is forgotten.

Why an id does not change when updates remove messages: new mail is only appended, so at each listing the messages
before a given one, together with those in `gone`, are the same, except for messages whose ids are taken. So the first
message with a header was the first at each listing. A taken id is skipped just like an id that a message has. Copies of
one content are counted in their order. If an index (POPAD_CACHE) knows the ids of the first messages, they are the ids
that these rules give.

Why an id does not pass on: it is in `taken` before the update begins. That list is bounded. An id that has to be
skipped for a message that is still there is never dropped from it. Of the others the latest few thousand are kept,
which is enough unless a client stays away for very long.

What other programs can do: if one removes messages, nothing is remembered here; nor is it if a session opens the
mailbox by another of its names (a hard link), as what is remembered belongs to the path. If such a program removed a
message that was the only one with its header at each listing, a twin that is delivered later gets its id. The same
happens between exact copies, which nobody can tell apart. If it removed messages that stood before those in `gone`, the
latter now stand too far back by as many places, and a message may be taken for an earlier one; where that can be
noticed, they are treated as if they had stood first.
"""

from itertools import chain

from popad.arrays import array

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
