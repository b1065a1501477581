"""An mbox to a new Maildir. The mailbox is locked for all of it, as by a program that delivers, and only read.

A message's file has the octets that stand in the mbox: clients get the same ones, Status lines and all. The date of the
From_ line, which is not served, becomes the file's time. It is the time in the name, too, but that never goes back from
one message to the next, nor beyond now: names decide the order, and it is that of the mbox.

All go to cur/, as one directory gets its name in one step and two do not. Without the flag S they are unread there.
"""

import os
import time
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from popad.maildrop.private import SharedDirectory
    from popad.settings import Settings

from popad.errors import MaildropChanged
from popad.maildrop import id_list
from popad.maildrop.conversion import ids
from popad.maildrop.conversion.building import DIRECTORY, PARTS, NotConverted, NothingThere, Place, write_whole
from popad.maildrop.conversion.from_line import delivered_at
from popad.maildrop.conversion.moving import set_aside
from popad.maildrop.conversion.report import Report
from popad.maildrop.conversion.status import flags_in
from popad.maildrop.maildir.directories import Directories
from popad.maildrop.maildir.names import INFO, VERSION, unique_id
from popad.maildrop.maildir.sizes import WireSize
from popad.maildrop.mbox.file import signature
from popad.maildrop.mbox.locks import Lock
from popad.maildrop.mbox.separators import LONGEST_LINE
from popad.maildrop.mbox.store import IN_USE, Mbox
from popad.maildrop.open import former_server
from popad.maildrop.uidl import header_pieces

TRIES = 10  # at a mailbox that gets mail between the look at it and the lock


def to_maildir(
    path: str, target: str, settings: "Settings", state: "SharedDirectory", report: Report, *, renames: bool
) -> None:
    """All of the mbox at `path`, to a Maildir that is not there or has no message. `renames`: then set the mbox aside.
    Raises NotConverted, OSError, and what stores raise.
    """
    with locked(path, settings, state) as (store, shown, gone):
        report.trouble = store.trouble
        if settings.max_octets and sum(store.sizes) > settings.max_octets:
            raise NotConverted(f"{sum(store.sizes)} octets, the limit of a Maildir is {settings.max_octets}")
        there = Directories(target, missing_is_empty=True)
        place = Place(target)
        try:
            refuse_if_used(place, there)
            fd = place.claim(directory=True)
            try:
                bases = Copy(store, fd, report).run()
                if signature(os.fstat(store.fd)) != store.signature:
                    raise MaildropChanged(f"{path} was changed by a program that does not lock it")
                earlier = id_list.of_maildir(there.top) if there.are_there else {}
                report.listed = len(bases)
                put_in_place(place, fd, there, ids.merged(bases, shown, gone, earlier))
            finally:
                place.give_up(fd)
        finally:
            there.close()
            place.close()
        if renames:
            set_aside(path, report)


@contextmanager
def locked(
    path: str, settings: "Settings", state: "SharedDirectory"
) -> "Iterator[tuple[Mbox, list[str], dict[str, str]]]":
    """The mailbox as nobody changes it now, its unique-ids, and a list of those of messages that are gone."""
    limits = settings.lock_timeout, settings.max_messages, settings.max_octets
    for _ in range(TRIES):
        store = Mbox(path, state.files_of(path), *limits, settings.locks, former=former_server("mbox", settings))
        if store.fd < 0:
            raise NothingThere(f"{path} is not there")
        try:
            texts = store.unique_ids()
            shown = ids.all_of(texts)
            memory = store.ids.recall(store.ids.load(), store)
            gone = ids.of_gone(shown, id_list.of_mbox(store.files), memory.taken)
            store.know_crc()
            with Lock(store.fd, settings.lock_timeout, IN_USE, store.dotlock, exclusive=not store.read_only) as seen:
                is_known = signature(seen) == store.signature and seen.st_size == store.messages.end
                if is_known and not store.files.exists(store.fd):
                    yield store, shown, gone
                    return
        finally:
            os.close(store.fd)
    raise NotConverted(f"{path} changes all the time")


def refuse_if_used(place: Place, there: Directories) -> None:
    """Raises NotConverted where the target is something, and not a Maildir without a message; OSError."""
    if not there.are_there:
        if place.is_taken():
            raise NotConverted(f"{place.path} is there")
    elif os.listdir(there.cur) or any(not name.startswith(".") for name in os.listdir(there.new)):
        raise NotConverted(f"{place.path} has messages")


class Copy:
    """The messages of a locked mbox on their way to the directory `fd`."""

    def __init__(self, store: Mbox, fd: int, report: Report) -> None:
        self.store = store
        self.report = report
        self.host = os.uname().nodename.replace("/", "\\057").replace(INFO, "\\072")
        self.run_name = os.urandom(8).hex()
        self.digits = len(str(len(store.sizes)))
        self.now = int(time.time())
        self.named = 0  # the time in the name of the last message, and that of its delivery
        self.delivered = int(os.fstat(store.fd).st_mtime)
        for part in PARTS:
            os.mkdir(part, 0o700, dir_fd=fd)
        self.fd = fd
        self.cur = os.open("cur", DIRECTORY, dir_fd=fd)

    def run(self) -> list[str]:
        """Copy all, durably. Returns popad's own unique-ids of them. Raises NotConverted, OSError, MaildropChanged,
        MaildropUnreadable.
        """
        count = len(self.store.sizes)
        own = []
        try:
            for index in range(count):
                self.report.at(index, count)
                own.append(self.message(index))
            for part in PARTS[1:]:
                sync(part, self.fd)
            os.fsync(self.cur)
        finally:
            os.close(self.cur)
        return own

    def message(self, index: int) -> str:
        """Copy one. Returns its unique-id."""
        found, report = self.store.messages, self.report
        begin, start, end = found.froms[index], found.starts[index], found.ends[index]
        when = delivered_at(b"".join(self.store.blocks(begin, min(start, begin + LONGEST_LINE))))
        if when is None:
            when = self.delivered  # as the one before it
        self.delivered = when
        self.named = max(self.named, min(when, self.now))
        letters = {letter for piece in header_pieces(self.store.blocks(start, end)) for letter in flags_in(piece)}
        sizes = f"S={end - start},W={found.sizes[index]}"
        base = f"{self.named}.R{self.run_name}Q{index:0{self.digits}}.{self.host},{sizes}"
        name = f"{base}{INFO}{VERSION}{''.join(sorted(letters))}"
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.cur)
        try:
            counted = WireSize()
            for block in self.store.blocks(start, end):
                counted.add(block)
                write_whole(fd, block)
                report.at(index, len(found.sizes))
            if counted.total != found.sizes[index]:
                raise MaildropChanged(f"message {index + 1} is not what it was")
            os.utime(fd, (when, when))
            os.fsync(fd)
        finally:
            os.close(fd)
        report.messages += 1
        report.octets += counted.total
        report.flags += bool(letters)
        return unique_id(base)


def put_in_place(place: Place, fd: int, there: Directories, given: dict[str, str]) -> None:
    """The list, then the messages, in one step. Raises OSError; FileExistsError, ENOTEMPTY, where messages came."""
    if not there.are_there:
        id_list.store_in_maildir(fd, given)
        place.take_name()
        return
    # Where there are folders, or what another server keeps, only cur/ is replaced: by rename(2), which does that to an
    # empty directory. The list before it speaks of no message that is there.
    id_list.store_in_maildir(there.top, given)
    status = os.fstat(there.cur)
    cur = os.open("cur", DIRECTORY, dir_fd=fd)
    try:
        os.fchown(cur, -1, status.st_gid)
        os.fchmod(cur, status.st_mode & 0o7777)
        os.fsync(cur)
    finally:
        os.close(cur)
    os.rename("cur", "cur", src_dir_fd=fd, dst_dir_fd=there.top)
    os.fsync(there.top)


def sync(name: str, directory: int) -> None:
    """Make a directory's names durable. Raises OSError."""
    fd = os.open(name, DIRECTORY, dir_fd=directory)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
