"""Updates that are wrong on purpose, for the harness to find: what it cannot find in them it could not find in popad.

Run as `python3 -m tests.faults.broken NAME`, with the interposer loaded; the answer is JSON, {"bad": messages lost,
doubled or damaged, "points": how many states were tried}.
"""

import json
import os
import stat
import sys
from collections.abc import Callable, Sequence
from typing import Any

from popad.maildrop.mbox import copying, plan, recovery, update
from popad.maildrop.mbox.record import MOVED, Record
from popad.maildrop.mbox.update import Update
from popad.maildrop.private import PrivateFiles
from tests.faults.crashes import Matrix
from tests.faults.interposer import Interposer
from tests.faults.mailboxes import APPENDED, Case, message
from tests.faults.power import PowerLoss
from tests.faults.world import world

ONE = frozenset({0})
fsync, store = os.fsync, update.store


def nothing() -> None:
    """popad's update as it is."""


def without_fsync(of: Callable[[int], bool]) -> Callable[[], None]:
    """It does not wait for the disk."""

    def breaks() -> None:
        replaced: Any = lambda fd: None if of(fd) else fsync(fd)  # noqa: E731 - a def has a type, and not that of fsync
        os.fsync = os.fdatasync = replaced

    return breaks


def is_mailbox(fd: int) -> bool:
    return os.readlink(f"/proc/self/fd/{fd}").endswith("/mailbox")


def is_directory(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def is_redo_log(fd: int) -> bool:
    return not is_mailbox(fd) and not is_directory(fd)


def cuts_first() -> None:
    """It truncates before the redo log says that all has moved."""
    write_down = Update.write_down

    def writes_down(self: Update, record: Record) -> None:
        if record.phase == MOVED:
            os.ftruncate(self.mailbox, record.end)
            os.fsync(self.mailbox)
        write_down(self, record)

    replaced: Any = writes_down
    Update.write_down = replaced  # type: ignore[method-assign]  # broken on purpose


def forgets_the_window() -> None:
    """It moves each window without having it in the redo log."""
    move_window = Update.move_window

    def moves(self: Update, record: Record, sources: Sequence[tuple[int, int]]) -> None:
        record.logged = 0
        move_window(self, record, sources)

    replaced: Any = moves
    Update.move_window = replaced  # type: ignore[method-assign]  # broken on purpose


def windows_at_once() -> None:
    """It does not wait for a window before the next takes its place in the redo log."""
    end_window = Update.end_window

    def ends(self: Update, record: Record) -> None:
        if record.marked:
            end_window(self, record)

    replaced: Any = ends
    Update.end_window = replaced  # type: ignore[method-assign]  # broken on purpose


def in_the_slot_in_force() -> None:
    """Its records overwrite one another."""

    def stores(log: int, record: Record) -> None:
        copying.write(log, record.pack(), 0)
        os.fdatasync(log)

    update.store = stores


def in_place() -> None:
    """It moves what stays to the front, as popa3d does, and keeps nothing."""

    def remove(mailbox: int, spans: Sequence[tuple[int, int]], files: PrivateFiles) -> None:
        stays = plan.gaps(spans, os.fstat(mailbox).st_size)
        copying.copy(mailbox, stays, mailbox, spans[0][0])
        os.ftruncate(mailbox, spans[0][0] + sum(end - begin for begin, end in stays))
        os.fsync(mailbox)

    update.remove = remove


def recovery_of_the_cache(skipped: str) -> Callable[[], None]:
    """Its recovery goes by what the running system sees, durable or not."""

    def breaks() -> None:
        finish = recovery.finish

        def finishes(mailbox: int, log: int, record: Record) -> None:
            def once(*arguments: Any) -> None:
                """The first call does nothing, and is the only one that comes here."""
                os.fsync, update.store = fsync, store

            instead: Any = once
            if skipped == "fsync":
                os.fsync = instead
            else:
                update.store = instead
            finish(mailbox, log, record)

        recovery.finish = finishes

    return breaks


def begins_at_once() -> None:
    """It does not make sure that the mailbox is durable which its record speaks of."""
    remove = update.remove

    def removes(mailbox: int, spans: Sequence[tuple[int, int]], files: PrivateFiles) -> None:
        def once(fd: int) -> None:
            os.fsync = fsync

        instead: Any = once
        os.fsync = instead
        remove(mailbox, spans, files)

    update.remove = removes


def appended_is_forgotten() -> None:
    """Its recovery does not look for mail that was appended meanwhile."""
    finish, go_on = recovery.finish, Update.go_on

    def finishes(mailbox: int, log: int, record: Record) -> None:
        size = record.size

        def goes_on(self: Update, record: Record) -> None:
            record.size = size
            go_on(self, record)

        replaced: Any = goes_on
        Update.go_on = replaced  # type: ignore[method-assign]  # broken on purpose
        finish(mailbox, log, record)

    recovery.finish = finishes


BROKEN: dict[str, Callable[[], None]] = {
    "nothing": nothing,
    "no fsync of the mailbox": without_fsync(is_mailbox),
    "no fsync of the redo log": without_fsync(is_redo_log),
    "no fsync of the directory": without_fsync(is_directory),
    "cut before it is written down": cuts_first,
    "no redo log": in_place,
    "no window in the redo log": forgets_the_window,
    "no fsync between windows": windows_at_once,
    "one slot for records": in_the_slot_in_force,
    "recovery from a mailbox that is not durable": recovery_of_the_cache("fsync"),
    "recovery by a record that is not durable": recovery_of_the_cache("store"),
    "update of a mailbox that is not durable": begins_at_once,
    "what was appended is forgotten": appended_is_forgotten,
}


def main() -> None:
    BROKEN[sys.argv[1]]()
    with world() as place:
        interposer = Interposer(place.root)
        matrix, power = Matrix(place, interposer, 1), PowerLoss(place, interposer, 1, most=8)
        # What goes is less than a window, so that windows have to be in the redo log.
        sizes = enumerate((0, 60, 70, 80))
        case = Case("small first", tuple(message(f"{n}", b"a line of text\n" * lines) for n, lines in sizes), ONE, 4)
        matrix.run(case, 15, 1)
        tallies = (matrix.updates, matrix.recoveries, power.tally)
        power.behind_a_delivery(case, APPENDED[2])
        for nth in (5, 9, 11, 13, 15, 2, 4, 6, 7, 8, 10, 12, *range(14, 40)):
            if sys.argv[1] == "nothing" or not any(tally.bad for tally in tallies):  # one is enough
                power.after_death(case, nth, b"")
                power.after_death(case, nth, APPENDED[1])
    for tally in tallies:
        print(*tally.failures, sep="\n", file=sys.stderr)
    print(json.dumps({"bad": sum(tally.bad for tally in tallies), "points": sum(tally.points for tally in tallies)}))


if __name__ == "__main__":
    main()
