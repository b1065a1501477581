"""Power loss: what an update did is replayed, and of all that was not made durable any part may be missing.

The model, stricter than the usual file systems: fsync(2) of a file makes its data and its size durable, fsync of the
directory the names. Of what was written since, any subset of the 512-octet sectors may be on the disk, and apart from
that the file may have any of the sizes it has had, in their order (what a truncate cut off does not come back when the
file grows again). Each file and each name is independent of the others. A failed fsync may have written any part, and
what it has not written no later fsync will write, though the running system still sees it.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.faults.interposer import Call, Interposer, Kind, Mode
from tests.faults.judge import Tally
from tests.faults.mailboxes import APPENDED, Case
from tests.faults.world import Disk, Wanted, World

SECTOR = 512
MAILBOX = ""  # its name in a Model; redo logs have theirs


@dataclass
class File:
    """What is durable of one file, and what has happened since."""

    durable: bytes = b""
    size: int = 0  # as the running system sees it
    pending: list[tuple[str, int, bytes]] = field(default_factory=list)  # ("data", offset, octets), ("size", n, b"")

    def write(self, offset: int, data: bytes) -> None:
        place = offset
        while place < offset + len(data):
            end = min(place - place % SECTOR + SECTOR, offset + len(data))
            self.pending.append(("data", place, data[place - offset : end - offset]))
            place = end
        if offset + len(data) > self.size:
            self.resize(offset + len(data))

    def resize(self, size: int) -> None:
        self.size = size
        self.pending.append(("size", size, b""))

    def sizes(self) -> int:
        return sum(what == "size" for what, _, _ in self.pending)

    def pieces(self) -> int:
        return len(self.pending) - self.sizes()

    def content(self, chosen: Sequence[bool], sizes: int) -> bytes:
        """With the chosen sectors of what is pending, and the first so many of the sizes."""
        octets, size = bytearray(self.durable), len(self.durable)
        choice = iter(chosen)
        for what, place, data in self.pending:
            if what == "data":
                if next(choice):
                    octets.extend(bytes(max(place + len(data) - len(octets), 0)))
                    octets[place : place + len(data)] = data
            elif sizes:
                sizes -= 1
                size = place
                del octets[size:]
        octets.extend(bytes(max(size - len(octets), 0)))
        return bytes(octets[:size])

    def make_durable(self, content: bytes) -> None:
        """This is on the disk, and nothing else will be."""
        self.durable = content
        self.pending = []


class Model:
    """The disk while a trace is replayed."""

    def __init__(self, start: Disk, chance: random.Random, most: int) -> None:
        self.chance = chance
        self.most = most  # states that are tried at a moment: all where there are no more, else a sample
        self.files = {MAILBOX: File(start.mailbox, len(start.mailbox))}
        self.files |= {name: File(octets, len(octets)) for name, octets in start.redo_logs.items()}
        self.names = {name: name for name in self.files}  # durable: name of an entry, file
        self.entries = dict(self.names)  # as the running system sees them
        self.changes: list[tuple[str, str | None]] = []  # pending: an entry's new file, or None

    def apply(self, call: Call, world: World) -> None:
        name = MAILBOX if call.path == str(world.path) else call.path.removeprefix(f"{world.state_path}/")
        if call.kind == Kind.FSYNC and call.path == str(world.state_path):
            if not call.error:
                self.names, self.changes = dict(self.entries), []
            return
        file = self.files.get(self.entries.get(name, ""), File()) if call.kind != Kind.CREATE else File()
        if call.kind == Kind.FSYNC:
            if call.error:
                chosen = [self.chance.random() < 0.5 for _ in range(file.pieces())]
                file.make_durable(file.content(chosen, file.sizes()))
            else:
                file.make_durable(file.content([True] * file.pieces(), file.sizes()))
        elif call.error or (call.kind == Kind.CREATE and name in self.entries):
            return
        elif call.kind == Kind.WRITE:
            file.write(call.offset, call.data)
        elif call.kind == Kind.TRUNCATE or (call.kind == Kind.ALLOCATE and call.offset > file.size):
            file.resize(call.offset)
        elif call.kind == Kind.ALLOCATE:
            pass
        elif call.kind == Kind.CREATE:
            key = f"{name}#{len(self.files)}"
            self.files[key] = file
            self.enter(name, key)
        elif call.kind == Kind.UNLINK:
            self.enter(name, None)
        else:
            other = call.other.removeprefix(f"{world.state_path}/")
            self.enter(other, self.entries[name])
            if call.kind == Kind.RENAME:
                self.enter(name, None)

    def enter(self, name: str, key: str | None) -> None:
        self.changes.append((name, key))
        if key is None:
            self.entries.pop(name, None)
        else:
            self.entries[name] = key

    def states(self) -> Iterator[Disk]:
        """What may be on the disk when the power fails now: all states where they are few, a sample otherwise."""
        pieces = sum(file.pieces() for file in self.files.values())
        count = 2 ** (pieces + len(self.changes)) * math.prod(file.sizes() + 1 for file in self.files.values())
        if count <= self.most:
            for bits in itertools.product((False, True), repeat=pieces + len(self.changes)):
                for sizes in itertools.product(*(range(file.sizes() + 1) for file in self.files.values())):
                    yield self.state(bits, sizes)
            return
        every = [file.sizes() for file in self.files.values()]
        for number in range(self.most):
            share = (0.0, 1.0, 0.5, 0.1, 0.9)[number % 5] if number < 2 or number % 5 > 1 else self.chance.random()
            bits = tuple(self.chance.random() < share for _ in range(pieces + len(self.changes)))
            yield self.state(bits, every if number % 3 == 0 else [self.chance.randint(0, most) for most in every])

    def state(self, bits: Sequence[bool], sizes: Sequence[int]) -> Disk:
        choice = iter(bits)
        contents = {
            key: file.content([next(choice) for _ in range(file.pieces())], size)
            for (key, file), size in zip(self.files.items(), sizes, strict=True)
        }
        names = dict(self.names)
        for (name, key), happened in zip(self.changes, choice, strict=True):
            if happened and key is None:
                names.pop(name, None)
            elif happened and key is not None:
                names[name] = key
        return Disk(contents[MAILBOX], {name: contents[key] for name, key in names.items() if name != MAILBOX})


class PowerLoss:
    """Losses of power during and after one world's updates and recoveries."""

    def __init__(self, world: World, interposer: Interposer, seed: int, most: int) -> None:
        self.world = world
        self.interposer = interposer
        self.chance = random.Random(f"power {seed}")
        self.tally = Tally()
        self.most = most
        self.nested = 0.01  # of the states: the recovery from them loses power as well

    def run(self, case: Case, most: int) -> None:
        """An update; updates that were killed (`most` of the ways), and their recovery; updates whose fsync fails."""
        world = self.world
        world.use_windows_of(case)
        world.fill(case.before)
        calls = self.calls_of(lambda: world.update(case))
        self.replay(case, "update", Disk(case.before, {}), [(calls, b"")], done=True)
        if case.before.endswith(b"\n\n"):  # else the delivery would be a part of the last message
            self.behind_a_delivery(case, APPENDED[2])
        stops = list(range(1, len(calls) + 1))
        for nth in sorted(self.chance.sample(stops, min(len(stops), most))):
            for message in (b"", APPENDED[1]):
                self.after_death(case, nth, message)
        fsyncs = [nth for nth, call in enumerate(calls, 1) if call.kind == Kind.FSYNC]
        for nth in sorted(self.chance.sample(fsyncs, min(len(fsyncs), most))):
            self.after_failed_fsync(case, nth)

    def calls_of(self, work: Callable[[], object], stop: int = 0) -> list[Call]:
        """What `work` did in this process, cut short before call number `stop`."""
        if not stop:
            return self.interposer.recorded_here(work)
        return self.interposer.recorded_here(work, Mode.FAIL_ON, stop)[: stop - 1]

    def after_death(self, case: Case, nth: int, message: bytes) -> None:
        """The update dies, others append (and wait for the disk, or do not), the next session recovers."""
        world = self.world
        world.fill(case.before)
        stages = [(self.calls_of(lambda: world.update(case), nth), b"")]
        if message:
            appending = self.calls_of(lambda: world.append(message))
            if nth % 2:
                appending = [call for call in appending if call.kind != Kind.FSYNC]
            message = b"".join(call.data for call in appending)
            stages.append((appending, message))
        stages.append((self.calls_of(world.recover), b""))
        # A truncate alone has no redo log: where it was not made durable, nobody has been told of it.
        done = world.path.read_bytes() == case.after + message if stages[-1][0] else None
        self.replay(case, f"killed before call {nth}", Disk(case.before, {}), stages, done)

    def behind_a_delivery(self, case: Case, message: bytes) -> None:
        """The last message was delivered by a program that did not wait for the disk; the others are taken out."""
        world = self.world
        world.fill(case.before)
        delivery = [call for call in self.calls_of(lambda: world.append(message)) if call.kind != Kind.FSYNC]
        message = b"".join(call.data for call in delivery)

        def update() -> None:
            with world.session() as store:
                store.remove(case.marks + b"\0")

        stages = [(delivery, message), (self.calls_of(update), b"")]
        self.replay(case, "behind a delivery", Disk(case.before, {}), stages, done=True)

    def after_failed_fsync(self, case: Case, nth: int) -> None:
        """An fsync fails, and the pages it has not written are taken for clean from then on."""
        world = self.world
        world.fill(case.before)
        failed = self.interposer.recorded_here(lambda: world.update(case), Mode.FAIL, nth)
        stages = [(failed, b""), (self.calls_of(world.recover), b"")]
        done = world.path.read_bytes() == case.after
        self.replay(case, f"fsync failed at call {nth}", Disk(case.before, {}), stages, done)

    def replay(
        self, case: Case, where: str, start: Disk, stages: Sequence[tuple[list[Call], bytes]], done: bool | None
    ) -> None:
        """Stages are calls, and the message of a stage in which another program appends it (all of it, or not yet).

        `done`: at the end a session has been told that the update was made, or that it was not.
        """
        model = Model(start, random.Random(self.chance.getrandbits(64)), self.most)
        wanted = Wanted(case)
        for number, (calls, message) in enumerate(stages):
            for call in calls:
                if call.kind == Kind.FSYNC and not message:
                    self.fail(f"{case.name}, {where}, stage {number}", model, wanted)
                model.apply(call, self.world)
                if call.kind == Kind.FSYNC and call.path == str(self.world.path):
                    wanted.appended += [wanted.unsynced] if wanted.unsynced else []
                    wanted.unsynced = b""
            if message and any(call.kind == Kind.FSYNC for call in calls):
                wanted.appended.append(message)
            else:
                wanted.unsynced = wanted.unsynced or message
            if number == len(stages) - 1:
                wanted.done = done
            self.fail(f"{case.name}, {where}, stage {number}, end", model, wanted)

    def fail(self, where: str, model: Model, wanted: Wanted) -> None:
        """The power fails now."""
        world = self.world
        for disk in model.states():
            world.restore(disk)
            if self.chance.random() < self.nested:
                self.fail_again(where, disk, wanted)
                world.restore(disk)
            world.check(self.tally, where, wanted)

    def fail_again(self, where: str, disk: Disk, wanted: Wanted) -> None:
        """The recovery from a loss of power loses power."""
        calls = self.calls_of(self.world.recover)
        again = Model(disk, random.Random(self.chance.getrandbits(64)), self.most)
        nested, self.nested = self.nested, 0.0
        for call in calls:
            if call.kind == Kind.FSYNC:
                self.fail(f"{where}, again", again, wanted)
            again.apply(call, self.world)
        self.fail(f"{where}, again, end", again, wanted)
        self.nested = nested
