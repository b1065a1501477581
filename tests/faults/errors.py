"""Errors of the disk instead of deaths: no space, no quota, broken, read only, interrupted, short writes, limits.

An update that fails leaves the mailbox as it was, or what the next session finishes. The real things besides the made
ones: a file system that is full, one that is read only, a limit on the size of files.
"""

import errno
import os
import random
import resource
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from popad.errors import MaildropUnavailable
from tests.faults.crashes import deaths
from tests.faults.interposer import Interposer, Kind, Mode
from tests.faults.judge import Tally
from tests.faults.mailboxes import APPENDED, Case
from tests.faults.world import Wanted, World, open_files
from tests.support import clock

NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EINTR, errno.EROFS, errno.EFBIG)
FOR_GOOD = (errno.EROFS,)
MODES = (Mode.FAIL, Mode.FAIL_ON)
BLOCK = 4096
EXT4_ITSELF = 4 << 20  # octets of its journal and tables


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
        world.use_windows_of(case)
        world.fill(case.before)
        world.recover()  # has made room for a redo log: the calls are those of the update alone
        calls = self.interposer.recorded_here(lambda: world.update(case))
        points = [
            (mode, nth, number)
            for nth, call in enumerate(calls, 1)
            for mode in MODES
            for number in NUMBERS
            # From then on: it would be tried again for ever. rename(2) is never interrupted.
            if number != errno.EINTR or not (mode == Mode.FAIL_ON or call.kind == Kind.RENAME)
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
        if refused and not world.redo_logs() and world.path.read_bytes() not in (case.before, case.after):
            self.tally.fail(f"{where}: half moved, and no redo log", damaged=1)
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
                    if refused.code != "SYS/TEMP" or world.path.read_bytes() != case.before or world.redo_logs():
                        raise

            self.interposer.run(update, Mode.COUNT)
            self.tally.notes["limits on the size of files"] += 1
            world.check(self.tally, f"{case.name}: files up to {limit} octets", Wanted(case))


@contextmanager
def mounted(kind: str, size: int) -> Iterator[Path]:
    """A small file system in memory. Must be called in a mount namespace of its own. Raises CalledProcessError."""
    path = Path("/mnt")
    outer = size if kind == "tmpfs" else 2 * (size + EXT4_ITSELF)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={outer}", "tmpfs", str(path)], check=True)
    try:
        if kind == "tmpfs":
            yield path
            return
        image = path / "image"
        with image.open("wb") as file:
            file.truncate(size + EXT4_ITSELF)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)  # root has no more room than users
        (path / "disk").mkdir()
        subprocess.run(["mount", "-o", "loop", str(image), str(path / "disk")], check=True)
        try:
            yield path / "disk"
        finally:
            subprocess.run(["umount", str(path / "disk")], check=True)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


class FullDisk:
    """The mailbox and its redo logs on a small file system of one kind."""

    def __init__(self, path: Path, kind: str, tally: Tally, seed: int) -> None:
        self.world = World(path)
        self.interposer = Interposer(path)
        self.filler = path / "filler"
        self.kind = kind
        self.tally = tally
        self.chance = random.Random(f"full disks {seed}")

    def run(self, case: Case, most: int) -> None:
        world = self.world
        for left in (0, 1, 2, 3, 5, 8, 16):
            world.fill(case.before)
            self.update(case, left, f"{case.name}: {self.kind}, {left} blocks left")
        world.fill(case.before)
        world.recover()  # a session that does nothing but open the mailbox, while there is room
        if self.update(case, 0, f"{case.name}: {self.kind}, full since the last session"):
            self.tally.fail(f"{case.name}: {self.kind}, full since the last session: refused", damaged=1)
        self.kill(case, most)
        self.read_only(case)

    def update(self, case: Case, left: int, where: str) -> bool:
        """With so many blocks left. Whether it was refused."""
        world = self.world
        fill_up(self.filler, left * BLOCK)
        with world.session() as store:
            try:
                store.remove(case.marks)
                refused = False
            except MaildropUnavailable as reason:
                refused = True
                if reason.code != "SYS/TEMP" or world.path.read_bytes() != case.before or world.redo_logs():
                    self.tally.fail(f"{where}: {reason.code}: {reason.reason}", damaged=1)
        self.filler.unlink()
        self.tally.notes[f"{self.kind}, full: {'refused' if refused else 'done'}"] += 1
        world.check(self.tally, where, Wanted(case, done=not refused))
        return refused

    def kill(self, case: Case, most: int) -> None:
        """No block is left, and the update dies; nor is there one for the recovery, which dies as well."""
        world = self.world

        def full() -> None:
            world.fill(case.before)
            world.recover()
            fill_up(self.filler, 0)

        full()
        calls = self.interposer.recorded(lambda: world.update(case))
        self.filler.unlink()
        for mode, nth in deaths(calls, most, self.chance):
            where = f"{case.name}: {self.kind}, full: {mode.name} at call {nth} of {len(calls)}"
            full()
            # ext4 gives blocks back when it likes: there may be a call less, to make room.
            lived = self.interposer.run(lambda: world.update(case), mode, nth)
            self.tally.notes[f"{self.kind}, full: {'lived' if lived else 'killed'}"] += 1
            self.interposer.run(world.recover, Mode.KILL_AFTER, self.chance.randint(1, 12))
            world.check(self.tally, where, Wanted(case, done=True if lived else None))
            self.filler.unlink()

    def read_only(self, case: Case) -> None:
        world, tally = self.world, self.tally
        world.fill(case.before)
        mounted = ["mount", "-o", "remount,ro", str(world.root)]
        subprocess.run(mounted, check=True)
        try:
            with world.session() as store:
                store.remove(case.marks)
            tally.fail(f"{case.name}: an update on a read-only file system", damaged=1)
        except MaildropUnavailable as reason:
            if reason.code != "SYS/PERM" or "Read-only file system" not in reason.reason:
                tally.fail(f"{case.name}: read only: {reason.code} {reason.reason}", damaged=1)
        tally.notes["read only"] += 1
        world.check(tally, f"{case.name}: read only", Wanted(case, done=False))
        subprocess.run(["mount", "-o", "remount,rw", str(world.root)], check=True)
        world.check(tally, f"{case.name}: read only, and not any more", Wanted(case, done=False))


def on_full_disks(every: Sequence[Case], most: int, tally: Tally, seed: int) -> None:
    """Each case on each kind of file system that there is."""
    room = 2 * max(len(case.before) for case in every) + 64 * BLOCK
    for kind in ("tmpfs", "ext4"):
        with ExitStack() as opened, clock.not_waited_for():
            try:
                path = opened.enter_context(mounted(kind, room))
            except (subprocess.CalledProcessError, FileNotFoundError) as error:
                tally.notes[f"no {kind}: {error}"] += 1
                continue
            disk = FullDisk(path, kind, tally, seed)
            opened.callback(os.close, disk.world.state.fd)
            for case in every:
                disk.run(case, most)


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
