"""What clients know each message of one maildrop by, as the old server says it: paired with the messages here, and put
into a list (id_list.py).

It runs in a process of the user, as known_ids.py does. The server is asked while the maildrop is not open here: some
keep the mail elsewhere during a session, or change headers, and may go on to serve the same maildrop.
"""

import os
import tempfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from popad.commands.known_ids import Drop, Found, Host, Step
    from popad.commands.old_server import Asked

from popad.commands import pairing
from popad.commands.known_ids import counted, kept, with_drop
from popad.commands.pairing import Message
from popad.maildrop import id_list, uidl
from popad.maildrop.uidl import header_pieces

LARGEST = 1 << 32  # octets of a message that is fetched to be compared
BLOCK = 1 << 16
NOT_PAIRED = "it is none of the server's messages for certain"


class OldMessages:
    """What a server tells of its messages, in the order of their numbers."""

    def __init__(self, asked: "Asked", most: int, step: "Step") -> None:
        """Raises NotAnswered."""
        ids, sizes = asked.ids(most), asked.sizes(most)
        self.numbers = sorted(ids.keys() & sizes.keys())
        self.ids = [ids[number] for number in self.numbers]
        by_number = {
            number: pairing.message_of(header_pieces(blocks), sizes[number])
            for number, blocks in counted(asked.headers(self.numbers), len(self.numbers), step)
        }
        self.messages = [by_number[number] for number in self.numbers]

    def learn_contents(self, asked: "Asked", places: "set[int]", most: int, step: "Step") -> None:
        """Fetch these messages, wherever they are by now. Raises NotAnswered, OSError."""
        by_id = {known: number for number, known in asked.ids(most).items()}
        for count, place in enumerate(sorted(places), 1):
            if (number := by_id.get(self.ids[place])) is not None:
                self.messages[place].content = fetched(asked, number)
            step(count, len(places))


def fetched(asked: "Asked", number: int) -> int:
    """uidl.content_number() of a message of the server. Raises NotAnswered, OSError."""
    with tempfile.TemporaryFile() as file:
        asked.retrieve(number, file.write, LARGEST)
        file.flush()

        def blocks(place: int) -> "Iterator[bytes]":
            while block := os.pread(file.fileno(), BLOCK, place):
                yield block
                place += len(block)

        return uidl.content_number(blocks)


def by_asking(maildrop: str, host: "Host", ask: "Callable[[], Asked]", dry_run: bool, step: "Step") -> "Found":
    """By what the server says; `ask` begins a session with it. Raises NotAnswered, and what by_traces() raises."""
    most = host.settings.max_messages
    asked = ask()
    old = OldMessages(asked, most, step)
    asked.leave()

    def unclear(drop: "Drop") -> set[int]:
        return pairing.unclear(old.messages, [*messages_of(drop, step)])[0]

    if places := with_drop(maildrop, host, unclear):
        asked = ask()
        old.learn_contents(asked, places, most, step)
        asked.leave()
    return with_drop(maildrop, host, lambda drop: pair(drop, old, dry_run, step))


def messages_of(drop: "Drop", step: "Step") -> "Iterator[Message]":
    """What is compared of each message here."""
    of_each = (pairing.message_of(drop.header(index), size) for index, size in enumerate(drop.sizes))
    return counted(of_each, len(drop.sizes), step)


def pair(drop: "Drop", old: OldMessages, dry_run: bool, step: "Step") -> "Found":
    """Give each message the id of the one that it is on the server."""
    here = [*messages_of(drop, step)]
    for index in pairing.unclear(old.messages, here)[1]:
        here[index].content = drop.content(index)
    said = [""] * len(here)
    paired = bytearray(len(old.ids))
    for place, index in pairing.pairs(old.messages, here):
        said[index] = old.ids[place]
        paired[place] = 1
    found = kept(drop, said, dry_run)
    found.missing = [
        (number, known) for number, known, has in zip(old.numbers, old.ids, paired, strict=True) if not has
    ]
    if found.missing:
        found.change = [
            (number, known, NOT_PAIRED if why == id_list.UNKNOWN else why) for number, known, why in found.change
        ]
    else:
        found.nobody_knows(0)  # for what is not paired is not there
    return found
