"""Conversions that are wrong on purpose, for the harness to find, as broken.py has updates.

Run as `python3 -m tests.faults.broken_conversions NAME`, with the interposer loaded; the answer is JSON, {"bad":
messages lost, doubled or damaged, "points": how many states were tried}.
"""

import json
import os
import stat
import sys
from collections.abc import Callable
from typing import Any

from popad.maildrop.conversion import to_mbox
from popad.maildrop.conversion.building import Place
from tests.faults.conversions import WAYS, conversions
from tests.faults.interposer import Interposer
from tests.faults.world import world

fsync = os.fsync


def nothing() -> None:
    """popad's conversion as it is."""


def without_fsync(of: Callable[[int], bool]) -> Callable[[], None]:
    """It does not wait for the disk."""

    def breaks() -> None:
        replaced: Any = lambda fd: None if of(os.fstat(fd).st_mode) else fsync(fd)  # noqa: E731 - a def has a type, and not that of fsync
        os.fsync = replaced

    return breaks


def named_at_once() -> None:
    """It builds the target in its place."""
    claim = Place.claim

    def claims(self: Place, *, directory: bool) -> int:
        fd = claim(self, directory=directory)
        os.rename(self.unfinished, self.name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        self.unfinished = self.name
        return fd

    replaced: Any = claims
    Place.claim = replaced  # type: ignore[method-assign]  # broken on purpose
    fsynced: Any = lambda self: os.fsync(self.fd)  # noqa: E731 - short
    Place.take_name = fsynced  # type: ignore[method-assign]  # broken on purpose
    leaves_all()


def list_behind_the_name() -> None:
    """Clients may come before the list is there."""
    store, take_name, later = to_mbox.store_list, Place.take_name, list[Any]()

    def stores(*arguments: Any) -> None:
        later.append(arguments)

    instead: Any = stores

    def takes(self: Place) -> None:
        take_name(self)
        for arguments in later:
            os.link(self.name, self.unfinished, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            store(*arguments)
            os.unlink(self.unfinished, dir_fd=self.fd)
        later.clear()

    replaced: Any = takes
    Place.take_name = replaced  # type: ignore[method-assign]  # broken on purpose
    to_mbox.store_list = instead


def leaves_all() -> None:
    """It does not clean up."""

    def gives_up(self: Place, fd: int) -> None:
        os.close(fd)

    Place.give_up = gives_up  # type: ignore[method-assign]  # broken on purpose


BROKEN: dict[str, Callable[[], None]] = {
    "nothing": nothing,
    "no fsync of files": without_fsync(stat.S_ISREG),
    "no fsync of directories": without_fsync(stat.S_ISDIR),
    "named at once": named_at_once,
    "the list behind the name": list_behind_the_name,
    "leaves all": leaves_all,
}


def main() -> None:
    BROKEN[sys.argv[1]]()
    with world() as place, conversions(place.root, Interposer(place.root), 1) as made:
        for way in WAYS[::2] if sys.argv[1] == "named at once" else WAYS:
            made.begin(way, 3)
            made.run(30, 12)
        tallies = (made.deaths, made.errors, made.power)
    for tally in tallies:
        print(*tally.failures, sep="\n", file=sys.stderr)
    print(json.dumps({"bad": sum(tally.bad for tally in tallies), "points": sum(tally.points for tally in tallies)}))


if __name__ == "__main__":
    main()
