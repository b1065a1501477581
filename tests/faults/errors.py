"""Errors of the disk instead of deaths: no space, no quota, broken, read only, interrupted, short writes, limits.

An update that fails leaves the mailbox as it was, or what the next session finishes. The real things besides the made
ones: a file system that is full, one that is read only, a limit on the size of files.
"""

import errno
import random
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from popad.errors import MaildropUnavailable
from tests.faults.interposer import Interposer, Kind, Mode
from tests.faults.judge import Tally
from tests.faults.mailboxes import APPENDED, Case
from tests.faults.world import Wanted, World, open_files

NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EINTR, errno.EROFS, errno.EFBIG)
FOR_GOOD = (errno.EROFS,)
MODES = (Mode.FAIL, Mode.FAIL_ON)


class Errors:
    """Errors in one world's updates and recoveries."""

    def __init__(self, world: World, interposer: Interposer, seed: int) -> None:
        self.world = world
        self.interposer = interposer
        self.chance = random.Random(f"errors {seed}")
        self.tally = Tally()

    def run(self, case: Case, most: int) -> None:
        """Each error at each call of an update, once and from then on; and at each of a recovery. `most` of either."""
        world = self.world
        world.fill(case.before)
        calls = self.interposer.recorded_here(lambda: world.update(case))
        points = [
            (mode, nth, number)
            for nth in range(1, len(calls) + 1)
            for mode in MODES
            for number in NUMBERS
            if not (mode == Mode.FAIL_ON and number == errno.EINTR)  # it would be tried again for ever
        ]
        points += [
            (mode, nth, 0)
            for nth, call in enumerate(calls, 1)
            if call.kind == Kind.WRITE
            for mode in (Mode.SHORT, Mode.SHORT_ON)
        ]
        for mode, nth, number in self.chance.sample(points, min(len(points), most)):
            self.update_fails(case, mode, nth, number)
        for mode, nth, number in self.chance.sample(points, min(len(points), most)):
            self.recovery_fails(case, mode, nth, number)

    def armed(self, work: Callable[[], object], mode: Mode, nth: int, number: int) -> MaildropUnavailable | None:
        """Do `work`; how the store refused."""
        self.interposer.arm(mode, nth, number)
        try:
            work()
        except MaildropUnavailable as refused:
            return refused
        finally:
            self.interposer.disarm()
        return None

    def update_fails(self, case: Case, mode: Mode, nth: int, number: int) -> None:
        world = self.world
        world.fill(case.before)
        where = f"{case.name}: {mode.name} {errno.errorcode.get(number, '')} at call {nth}"
        there = open_files()
        with world.session() as store:
            refused = self.armed(lambda: store.remove(case.marks), mode, nth, number)
            if open_files() - there != {store.fd}:
                self.tally.fail(f"{where}: a descriptor is left open", damaged=1)
        if refused and refused.code != ("SYS/PERM" if number in FOR_GOOD else "SYS/TEMP"):
            self.tally.fail(f"{where}: {refused.code}", damaged=1)
        if refused and number in (0, errno.EINTR):
            self.tally.fail(f"{where}: {refused.reason}", damaged=1)
        if refused and not world.journals() and world.path.read_bytes() not in (case.before, case.after):
            self.tally.fail(f"{where}: half moved, and no journal", damaged=1)
        self.tally.notes[refused.code if refused else "done all the same"] += 1
        world.check(self.tally, where, Wanted(case, done=None if refused else True))

    def recovery_fails(self, case: Case, mode: Mode, nth: int, number: int) -> None:
        world = self.world
        world.fill(case.before)
        stop = self.chance.randint(5, 20)
        self.interposer.stopped(lambda: world.update(case), stop)
        appended = [world.append(APPENDED[1])] if nth % 2 else []
        where = f"{case.name}: stopped at {stop}, recovery: {mode.name} {errno.errorcode.get(number, '')} at call {nth}"
        refused = self.armed(world.recover, mode, nth, number)
        self.tally.notes["recovery refused" if refused else "recovery done"] += 1
        world.check(self.tally, where, Wanted(case, appended))

    def limits(self, case: Case) -> None:
        """RLIMIT_FSIZE at every interesting size: the signal must not kill, and nothing may be half done."""
        world = self.world
        size = len(case.before)
        for limit in sorted(
            {0, 1, 4096, 8191, 8192, 8193, 8192 + len(case.after), size // 2, len(case.after), size - 1, size}
        ):
            world.fill(case.before)

            def update(limit: int = limit) -> None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
                try:
                    world.update(case)
                except MaildropUnavailable as refused:
                    if refused.code != "SYS/TEMP" or world.path.read_bytes() != case.before or world.journals():
                        raise

            self.interposer.run(update, Mode.COUNT)
            self.tally.notes["limits on the size of files"] += 1
            world.check(self.tally, f"{case.name}: files up to {limit} octets", Wanted(case))


@contextmanager
def mounted(size: int) -> Iterator[Path]:
    """A small file system in memory. Must be called in a mount namespace of its own."""
    path = Path("/mnt")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def on_a_full_disk(case: Case, tally: Tally) -> None:
    """The mailbox and its journals on a file system that has less and less room; then on one that is read only."""
    block = 4096
    room = 2 * len(case.before) + 64 * block
    with mounted(room) as path:
        world = World(path)
        filler = path / "filler"
        for left in (0, 1, 2, 3, 5, 8, 16):
            world.fill(case.before)
            fill_up(filler, left * block)
            with world.session() as store:
                try:
                    store.remove(case.marks)
                    refused = False
                except MaildropUnavailable as reason:
                    refused = True
                    if reason.code != "SYS/TEMP" or world.path.read_bytes() != case.before or world.journals():
                        tally.fail(f"{case.name}: {left} blocks left: {reason.code}: {reason.reason}", damaged=1)
            filler.unlink()
            tally.notes["full disk: refused" if refused else "full disk: done"] += 1
            world.check(tally, f"{case.name}: {left} blocks left", Wanted(case, done=not refused))
        world.fill(case.before)
        remount = ["mount", "-o", "remount,ro", str(path)]
        subprocess.run(remount, check=True)
        try:
            with world.session() as store:
                store.remove(case.marks)
            tally.fail(f"{case.name}: an update on a read-only file system", damaged=1)
        except MaildropUnavailable as reason:
            if reason.code != "SYS/PERM":
                tally.fail(f"{case.name}: read only: {reason.code}", damaged=1)
        tally.notes["read only"] += 1
        world.check(tally, f"{case.name}: read only", Wanted(case, done=False))
        subprocess.run(["mount", "-o", "remount,rw", str(path)], check=True)
        world.check(tally, f"{case.name}: read only, and not any more", Wanted(case, done=False))


def fill_up(path: Path, left: int) -> None:
    """Take all room of a file system but `left` octets."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        file.truncate(max(file.tell() - left, 0))
