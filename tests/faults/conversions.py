"""Conversions that are cut short: death at each call that changes a file, errors at each, losses of power.

Whatever happened: the source is served as before, the target is not there or is served the same; and the next
conversion is a whole one and leaves nothing but that.
"""

import errno
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from popad.errors import MaildropUnavailable, MaildropUnreadable
from popad.maildrop import id_list
from popad.maildrop.conversion.building import SUFFIX, NotConverted
from popad.maildrop.conversion.ids import all_of
from popad.maildrop.private import KEY
from tests.faults import trees
from tests.faults.crashes import DEATHS
from tests.faults.errors import fill_up
from tests.faults.interposer import Interposer, Kind, Mode
from tests.faults.judge import Tally
from tests.faults.trees import Snapshot, Tree
from tests.support import clock
from tests.support.conversions import Mails, Shown

TO_MAILDIR, TO_MAILDIR_WITH_FOLDERS, TO_MBOX = "to a Maildir", "to a Maildir with folders", "to an mbox"
WAYS = (TO_MAILDIR, TO_MAILDIR_WITH_FOLDERS, TO_MBOX)
NUMBERS = (errno.ENOSPC, errno.EIO)
Point = TypeVar("Point")


def message(number: int, chance: random.Random) -> bytes:
    """Some have twins, so that ids have to be remembered."""
    lines = chance.choice((0, 1, 3, 40))
    return b"Message-ID: <%d@x>\n\nbody %d\n" % (number % 4, number) + b"a line of text\n" * lines


class Conversions:
    """One place, in which one maildrop after the other is converted."""

    def __init__(self, place: Path, interposer: Interposer, seed: int) -> None:
        self.mails = Mails(place)
        self.interposer = interposer
        self.chance = random.Random(f"conversions {seed}")
        self.deaths, self.errors, self.power = Tally(), Tally(), Tally()
        self.way = ""
        self.renames = False
        self.start: Snapshot = {}
        self.wanted: list[Shown] = []

    def begin(self, way: str, count: int, *, renames: bool = False) -> None:
        """A source of so many messages, of which a list says some ids and another was removed."""
        mails = self.mails
        trees.restore(mails.place, {"state": None, "cache": None, "state/.key": mails.state.key, **self.empty_cache()})
        texts = [message(number, self.chance) for number in range(count + 1)]
        mails.mbox.write_bytes(b"".join(b"From a Thu Jan  1 10:00:00 2015\n%b\n" % text for text in texts))
        self.way, self.renames = way, renames
        with mails.opened(mails.mbox) as store:
            ids = all_of(store.unique_ids())
            store.remove(bytearray([1, *bytes(count)]))
        id_list.store_for_mbox(mails.state.files_of(str(mails.mbox)), {ids[1]: "known-1", "gone": "known-2"})
        if way == TO_MBOX:
            mails.to_maildir()
            mails.mbox.unlink()
            for path in mails.state_path.iterdir():
                if path.name != KEY:
                    path.unlink()  # of the mbox that was there
        elif way == TO_MAILDIR_WITH_FOLDERS:
            mails.make_maildir()
            (mails.maildir / ".Sent").mkdir()
        self.wanted = mails.shown(self.source)
        self.start = trees.snapshot(mails.place)

    def empty_cache(self) -> Snapshot:
        return {"cache/.key": self.mails.cache.key}

    @property
    def source(self) -> Path:
        return self.mails.maildir if self.way == TO_MBOX else self.mails.mbox

    @property
    def target(self) -> Path:
        return self.mails.mbox if self.way == TO_MBOX else self.mails.maildir

    def convert(self) -> None:
        self.mails.convert(self.source, self.target, renames=self.renames)

    def run(self, most: int, states: int) -> None:
        """All of one conversion: at most so many deaths and errors, so many states of the disk at each fsync."""
        calls = self.interposer.recorded(self.convert)
        where = f"{self.way}{', renamed' * self.renames}, {len(self.wanted)} messages"
        self.check(self.deaths, f"{where}: not killed", done=True)
        points = [
            (mode, nth)
            for nth, call in enumerate(calls, 1)
            for mode in DEATHS
            if mode != Mode.KILL_TORN or call.kind == Kind.WRITE
        ]
        for mode, nth in self.sample(points, most):
            trees.restore(self.mails.place, self.start)
            lived = self.interposer.run(self.convert, mode, nth)
            self.check(self.deaths, f"{where}: {mode.name} at call {nth} of {len(calls)}, {lived=}")
        for nth, number in self.sample([(nth, each) for nth in range(1, len(calls) + 1) for each in NUMBERS], most):
            trees.restore(self.mails.place, self.start)
            failed = self.fail(nth, number)
            self.check(self.errors, f"{where}: error {number} at call {nth}, {failed=}", done=not failed, is_clean=True)
        trees.restore(self.mails.place, self.start)
        tree = Tree(self.mails.place, self.start, self.chance, states)
        # Names differ from run to run, so what is replayed is what was done here.
        calls = self.interposer.recorded_here(self.convert)
        for nth, call in enumerate(calls, 1):
            if call.kind == Kind.FSYNC:
                self.lose_power(tree, f"{where}: before fsync, call {nth} of {len(calls)}")
            tree.apply(call)
        self.lose_power(tree, f"{where}: end", done=True)

    def sample(self, points: list[Point], most: int) -> list[Point]:
        """At most so many; with the last ones, where a name is given."""
        last = points[-(most // 3) :]
        first = points[: len(points) - len(last)]
        return [*self.chance.sample(first, min(len(first), most - len(last))), *last]

    def fail(self, nth: int, number: int) -> bool:
        """Whether the conversion failed, at a call that failed."""
        self.interposer.arm(Mode.FAIL, nth, number)
        try:
            self.convert()
        except NotConverted:
            return True
        finally:
            self.interposer.disarm()
        return False

    def lose_power(self, tree: Tree, where: str, *, done: bool = False) -> None:
        for number, state in enumerate(tree.states()):
            trees.restore(self.mails.place, state)
            self.check(self.power, f"{where}, state {number}", done=done)

    # -- what there is then

    def check(self, tally: Tally, where: str, *, done: bool = False, is_clean: bool = False) -> None:
        """`done`: the conversion has said so; `is_clean`: nothing may be left of one that failed."""
        tally.points += 1
        try:
            self.look(tally, where, done=done, is_clean=is_clean)
        except (NotConverted, MaildropUnavailable, MaildropUnreadable, OSError) as failure:
            tally.fail(f"{where}: {failure!r}", damaged=1)

    def look(self, tally: Tally, where: str, *, done: bool, is_clean: bool) -> None:
        mails = self.mails
        is_there = self.has_target()
        if done and not is_there:
            tally.fail(f"{where}: the target is not there", lost=len(self.wanted))
        if is_there:
            self.compare(tally, f"{where}: target", mails.shown(self.target))
        aside = list(mails.place.glob("*.converted-*"))
        for path in (self.source, *aside):
            if path.exists():
                with clock.not_waited_for():
                    self.compare(tally, f"{where}: {path.name}", self.shown_of_source(path))
        if not self.source.exists() and not is_there:
            tally.fail(f"{where}: neither source nor target", lost=len(self.wanted))
        if is_clean and not is_there:
            self.no_leftovers(tally, where)
        if not is_there:
            self.convert()
            self.compare(tally, f"{where}: the next conversion", mails.shown(self.target))
            self.no_leftovers(tally, f"{where}: the next conversion")

    def has_target(self) -> bool:
        """Whether there is more than a Maildir without a message."""
        if self.way == TO_MAILDIR_WITH_FOLDERS:
            return any((self.target / "cur").iterdir())
        return self.target.exists()

    def shown_of_source(self, path: Path) -> list[Shown]:
        """Where it has another name, its ids are popad's own: those that the mbox has by its path are not there."""
        shown = self.mails.shown(path)
        if path != self.source and self.way != TO_MBOX:
            return [Shown(known.unique_id, one.size, one.wire) for known, one in zip(self.wanted, shown, strict=False)]
        return shown

    def no_leftovers(self, tally: Tally, where: str) -> None:
        if left := [name for name in self.mails.left() if name.endswith(SUFFIX)]:
            tally.fail(f"{where}: left {left}", damaged=1)

    def compare(self, tally: Tally, where: str, shown: list[Shown]) -> None:
        """Each message once, with its octets, size and id, in its place."""
        if shown == self.wanted:
            return
        there, wanted = Counter(one.wire for one in shown), Counter(one.wire for one in self.wanted)
        lost, doubled = (wanted - there).total(), (there - wanted).total()
        tally.fail(where, lost, doubled, damaged=int(not lost and not doubled))


def on_a_full_disk(place: Path, tally: Tally) -> None:
    """Both ways, where the disk has room for a half of the target: nothing is left, and there is room again."""
    mails = Mails(place)
    texts = (b"Message-ID: <%d@x>\n\n" % number + b"a line of text\n" * 4000 for number in range(10))
    mails.mbox.write_bytes(b"".join(b"From a Thu Jan  1 10:00:00 2015\n%b\n" % text for text in texts))
    for source, target in ((mails.mbox, mails.maildir), (mails.maildir, mails.mbox)):
        filler = place / "filler"
        shown = mails.shown(source)
        fill_up(filler, 5 * 4000 * len(b"a line of text\n"))
        tally.points += 1
        try:
            mails.convert(source, target)
            tally.fail(f"{source.name} on a full disk: it was converted", damaged=1)
        except NotConverted as failure:
            if os.strerror(errno.ENOSPC) not in str(failure):
                tally.fail(f"{source.name} on a full disk: {failure}", damaged=1)
        if mails.left() - {"lost+found"} != {source.name, "filler"} or mails.shown(source) != shown:
            tally.fail(f"{source.name} on a full disk: left {mails.left()}", damaged=1)
        filler.unlink()
        mails.convert(source, target)
        if mails.shown(target) != shown:
            tally.fail(f"{source.name} with room again", damaged=1)
        if source == mails.mbox:
            source.unlink()
    mails.close()


@contextmanager
def conversions(place: Path, interposer: Interposer, seed: int) -> Iterator[Conversions]:
    """In a directory of its own below `place`, which is the interposer's."""
    directory = place / "conversions"
    directory.mkdir()
    made = Conversions(directory, interposer, seed)
    try:
        yield made
    finally:
        made.mails.close()
        shutil.rmtree(directory)
