"""The fault matrix: death before and after each call of an update, and of the recovery, with mail from others between.

popad's own store in a process that has it loaded: forked children that are killed, for a millisecond or two; behind
the first death, recoveries that are cut short in this process, as there are tens of thousands of ways.
"""

import random
from collections.abc import Callable, Sequence

from tests.faults.interposer import Call, ChildFailed, Interposer, Kind, Mode
from tests.faults.judge import Tally
from tests.faults.mailboxes import APPENDED, Case
from tests.faults.world import Disk, Wanted, World

DEATHS = (Mode.KILL_BEFORE, Mode.KILL_AFTER, Mode.KILL_TORN)
MORE_DEATHS = (0, 0, 1, 4)  # of recoveries, behind the first two


def deaths(calls: Sequence[Call], most: int, chance: random.Random) -> list[tuple[Mode, int]]:
    """Where to die: at each call in each way, or at `most` of those."""
    points = [
        (mode, nth)
        for nth, call in enumerate(calls, 1)
        for mode in DEATHS
        if mode != Mode.KILL_TORN or call.kind == Kind.WRITE
    ]
    if len(points) <= most:
        return points
    # The beginning and the end of an update are what differs from call to call; in its middle it copies.
    ends = most // 3
    middle = points[ends:-ends]
    return [*points[:ends], *sorted(chance.sample(middle, most - 2 * ends)), *points[-ends:]]


class Matrix:
    """Deaths of one world's updates."""

    def __init__(self, world: World, interposer: Interposer, seed: int) -> None:
        self.world = world
        self.interposer = interposer
        self.chance = random.Random(f"deaths {seed}")
        self.updates = Tally()
        self.recoveries = Tally()

    def run(self, case: Case, most: int, most_nested: int) -> None:
        """All of one case: `most` points of the update, the recoveries behind `most_nested` of them."""
        world = self.world
        world.use_windows_of(case)
        world.fill(case.before)
        calls = self.interposer.recorded(lambda: world.update(case))
        world.check(self.updates, f"{case.name}: not killed", Wanted(case, done=True))
        points = deaths(calls, most, self.chance)
        nested = set(self.chance.sample(points, min(len(points), most_nested)))
        for mode, nth in points:
            for count in (0, 1 + nth % 2):
                where = f"{case.name}: {mode.name} at call {nth} of {len(calls)}, {count} appended"
                world.fill(case.before)
                self.kill(where, lambda: world.update(case), mode, nth)
                appended = [world.append(message) for message in APPENDED[:count]]
                if (mode, nth) in nested:
                    self.nest(case, where, appended)
                world.check(self.updates, where, Wanted(case, appended))

    def kill(self, where: str, work: Callable[[], object], mode: Mode, nth: int) -> None:
        """Raises ChildFailed when it was not killed."""
        if self.interposer.run(work, mode, nth):
            raise ChildFailed(f"{where}: it lived")

    def meanwhile(self, case: Case, most: int) -> None:
        """Mail comes while the session lasts: more than it knew of has to move."""
        world = self.world

        def update(mode: Mode, nth: int) -> None:
            with world.session() as store:
                self.interposer.disarm()
                world.append(APPENDED[3])
                self.interposer.arm(mode, nth, log=mode == Mode.COUNT)
                store.remove(case.marks)

        world.fill(case.before)
        world.recover()  # has made room for a redo log: no call of the sessions that follow
        calls = self.interposer.recorded(lambda: update(Mode.COUNT, 0))
        for mode, nth in deaths(calls, most, self.chance):
            for count in (0, 1):
                world.fill(case.before)
                world.recover()
                where = f"{case.name}, mail meanwhile: {mode.name} at call {nth} of {len(calls)}, {count} appended"
                # mypy cannot tell the type of a lambda that binds what the loop goes on to change.
                self.kill(where, lambda mode=mode, nth=nth: update(mode, nth), mode, nth)  # type: ignore[misc]  # mypy infers no lambda with defaults
                appended = [world.append(message) for message in APPENDED[:count]]
                more = APPENDED[3] if case.before.endswith(b"\n") else b"\n\n" + APPENDED[3]
                world.check(self.updates, where, Wanted(case, appended, meanwhile=more))

    def nest(self, case: Case, where: str, appended: list[bytes]) -> None:
        """The recovery dies, at each of its calls; then others append, and the next recovery dies, and so on."""
        world = self.world
        disk = world.disk()
        calls = self.interposer.recorded(world.recover)
        for nth, call in enumerate(calls, 1):
            for torn in (False, True) if call.kind == Kind.WRITE else (False,):
                for count in (0, 1):
                    there = f"{where}; recovery stopped at {nth}{' torn' * torn}, {count} appended"
                    self.chain(case, there, disk, appended, nth, torn, count)
        world.restore(disk)

    def chain(
        self, case: Case, where: str, disk: Disk, appended: Sequence[bytes], nth: int, torn: bool, count: int
    ) -> None:
        """Recoveries one after the other that are cut short, from the state of `disk` on."""
        world, chance = self.world, self.chance
        world.restore(disk)
        more = list(appended)
        if not self.interposer.stopped(world.recover, nth, torn):
            raise ChildFailed(f"{where}: it was not")
        more += [world.append(message) for message in APPENDED[2 : 2 + count]]
        for again in range(chance.choice(MORE_DEATHS)):
            nth, torn = chance.randint(1, 20), chance.random() < 0.3
            where += f"; {nth}{' torn' * torn}"
            if not self.interposer.stopped(world.recover, nth, torn):
                break
            if again == 0 and chance.random() < 0.5:
                more.append(world.append(APPENDED[3]))
        world.check(self.recoveries, where, Wanted(case, more))
