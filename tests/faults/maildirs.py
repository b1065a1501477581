"""Sessions of a Maildir that die: where messages go from new/ to cur/, and where an update removes them.

Each call for itself leaves a whole maildrop, so there is no recovery: what was not marked is there once, with its
octets and its unique-id, what was marked is there or not, and a session that has ended has removed all of it.
"""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults import trees
from tests.faults.crashes import DEATHS
from tests.faults.interposer import Interposer, Mode
from tests.faults.judge import Tally
from tests.faults.mailboxes import which
from tests.support.conversions import Mails, Shown, wire


class Maildirs:
    """One Maildir, of which one session after the other dies."""

    def __init__(self, place: Path, interposer: Interposer, seed: int) -> None:
        self.mails = Mails(place, POPAD_MAILDIR_SEEN="yes")
        self.mails.make_maildir()
        self.interposer = interposer
        self.chance = random.Random(f"maildirs {seed}")
        self.tally = Tally()

    def run(self, count: int, pattern: str) -> None:
        """A session of so many messages that retrieves some of them and removes some, and dies at each call."""
        mails = self.mails
        parts: trees.Snapshot = {"maildir/new": None, "maildir/cur": None, "maildir/tmp": None}
        trees.restore(mails.place, {"state": None, "cache": None, "maildir": None, **parts})
        for number in range(count):
            part, flags = self.chance.choice((("new", ""), ("cur", ":2,"), ("cur", ":2,F")))
            name = f"{1600000000 + number}.M{number}.h{flags}"
            mails.deliver(name, b"Subject: %d\n\n" % number + b"text\n" * self.chance.randint(0, 9), part)
        read, gone = which("some", count, self.chance), which(pattern, count, self.chance)
        start = trees.snapshot(mails.place)
        wanted = self.shown()

        def session() -> None:
            with mails.opened(mails.maildir) as store:
                for index in sorted(read):
                    wire(store, index)
                store.remove(bytearray(index in gone for index in range(count)))

        trees.restore(mails.place, start)
        calls = self.interposer.recorded(session)
        left = [message for index, message in enumerate(wanted) if index not in gone]
        self.check(f"{count} messages, {pattern}: not killed", left, [])
        going = [message for index, message in enumerate(wanted) if index in gone]
        for nth in range(1, len(calls) + 1):
            for mode in DEATHS[:2]:
                trees.restore(mails.place, start)
                self.interposer.run(session, mode, nth)
                self.check(f"{count} messages, {pattern}: {mode.name} at call {nth} of {len(calls)}", left, going)
        for nth in range(1, len(calls) + 1):
            trees.restore(mails.place, start)
            self.interposer.here(session, Mode.FAIL, nth)
            self.check(f"{count} messages, {pattern}: error at call {nth}", left, going)

    def shown(self) -> list[Shown]:
        return self.mails.shown(self.mails.maildir)

    def check(self, where: str, left: list[Shown], going: list[Shown]) -> None:
        self.tally.points += 1
        shown = self.shown()
        lost = [message for message in left if message not in shown]
        doubled = len(shown) - len({message.unique_id for message in shown})
        strange = [message for message in shown if message not in left and message not in going]
        in_order = [message for message in shown if message in left] == left
        if lost or doubled or strange or not in_order:
            self.tally.fail(where, len(lost), doubled, len(strange) or int(not in_order))


@contextmanager
def maildirs(place: Path, interposer: Interposer, seed: int) -> Iterator[Maildirs]:
    """In a directory of its own below `place`, which is the interposer's."""
    directory = place / "maildirs"
    directory.mkdir()
    made = Maildirs(directory, interposer, seed)
    try:
        yield made
    finally:
        made.mails.close()
        shutil.rmtree(directory)
