"""A Maildir to a new mbox. A Maildir has no lock: what came or went while it was read is found by another look, and
what comes behind the last one is told.

An mbox can hold less than a Maildir. A line that would be taken for a From_ line gets `>` in front of it, and a message
without an empty line behind its header gets one: these differ, and are counted. All others have the octets that they
had, flags aside: an mbox has them in lines of the header, which clients would see, so they are written on request only.

What was written is scanned as a session does it, before it gets its name: the messages have to be those of the Maildir.
"""

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from popad.maildrop.maildir.sizes import Row
    from popad.maildrop.private import SharedDirectory
    from popad.settings import Settings

from popad.errors import MaildropUnavailable, MessageGone
from popad.maildrop import id_list
from popad.maildrop.conversion import ids
from popad.maildrop.conversion.building import NotConverted, NothingThere, Place, write_whole
from popad.maildrop.conversion.from_line import NOBODY, from_line, sender_of
from popad.maildrop.conversion.moving import set_aside
from popad.maildrop.conversion.report import Report
from popad.maildrop.conversion.status import lines_for, with_lines
from popad.maildrop.maildir.names import TRASHED, base_of, flags_of
from popad.maildrop.maildir.sizes import NAMED, WireSize
from popad.maildrop.maildir.store import Maildir
from popad.maildrop.mbox.scan import Scan, hide_internal_data
from popad.maildrop.mbox.separators import FROM
from popad.maildrop.mbox.store import Mbox
from popad.maildrop.open import former_server
from popad.maildrop.uidl import HexIds, header_pieces

TRIES = 10  # at a Maildir from which messages go while it is read
CR, LF = 0x0D, 0x0A


class Source(Maildir):
    """A Maildir that is read once: no size is learnt before."""

    def learn(self, index: int) -> "Row":
        return 0, *NAMED


class Went(Exception):
    """A message that was copied is not there any more, or one came before it: all is read again."""


def to_mbox(
    path: str,
    target: str,
    settings: "Settings",
    state: "SharedDirectory",
    report: Report,
    *,
    renames: bool,
    writes_flags: bool,
) -> None:
    """All of the Maildir at `path`, to an mbox that is not there. `renames`: then set the Maildir aside. Raises
    NotConverted, OSError, and what stores raise.
    """
    place = Place(target)
    try:
        if place.is_taken():
            raise NotConverted(f"{place.path} is there")
        fd = place.claim(directory=False)
        try:
            copy = Copy(path, fd, settings, report, writes_flags=writes_flags)
            copy.run()
            copy.verify()
            directory = os.fstat(place.fd)
            if directory.st_mode & stat.S_ISGID and directory.st_uid != os.geteuid():
                os.fchmod(fd, 0o660)  # a spool: its group is that of those who deliver (Debian's policy, 11.6)
            os.fsync(fd)
            store_list(place, settings, state, copy)
            place.take_name()
        finally:
            place.give_up(fd)
        if renames:
            path = set_aside(path, report)
        report.arrived = len({*bases_of(source_of(path, settings))} - {*copy.bases})
    finally:
        place.close()


def store_list(place: Place, settings: "Settings", state: "SharedDirectory", copy: "Copy") -> None:
    """The list of unique-ids of the mbox that is about to get its name: own ones are those that a session will give.
    Raises OSError, and what the store raises.
    """
    files = state.files_of(place.path)
    store = Mbox(
        place.unfinished_path, files, settings.lock_timeout, settings.max_messages, settings.max_octets, "fcntl"
    )
    try:
        own = ids.all_of(HexIds(store.id_numbers()))
    finally:
        os.close(store.fd)
    copy.report.trouble = store.trouble
    copy.report.listed = sum(map(str.__ne__, own, copy.shown))
    earlier = id_list.of_mbox(files)
    given = ids.merged(own, copy.shown, ids.of_gone(copy.shown, copy.given, ()), earlier)
    if given or earlier:
        id_list.store_for_mbox(files, given)


def source_of(path: str, settings: "Settings") -> Source:
    """The Maildir as it is now. Raises MaildropUnavailable, NothingThere."""
    store = Source(path, settings.max_messages, 0, former=former_server("maildir", settings), marks_seen=False)
    if not store.directories.are_there:
        raise NothingThere(f"{path} is not there")
    return store


def bases_of(store: Source) -> list[str]:
    """What a store has, which is closed."""
    store.directories.close()
    return [base_of(name) for name in store.names]


class Copy:
    """The messages of a Maildir on their way to the mbox `fd`."""

    def __init__(self, path: str, fd: int, settings: "Settings", report: Report, *, writes_flags: bool) -> None:
        self.path = path
        self.fd = fd
        self.settings = settings
        self.report = report
        self.writes_flags = writes_flags
        self.begin_again()

    def begin_again(self) -> None:
        """With nothing copied. Raises OSError."""
        os.ftruncate(self.fd, 0)
        self.end = 0  # octets of the mbox
        self.bases: list[str] = []  # of the messages that were copied
        self.shown: list[str] = []  # their unique-ids
        self.given: dict[str, str] = {}  # the list that some of these come from
        self.places: list[tuple[int, int]] = []  # where each begins: the From_ line, the data
        self.sizes: list[int] = []  # on the wire, as the Maildir had them
        self.flags = self.octets = 0

    def run(self) -> None:
        """Copy all that are there at the end of it. Raises NotConverted, OSError, MaildropUnreadable,
        MaildropUnavailable.
        """
        for _ in range(TRIES):
            try:
                while self.copy_new():
                    pass
                break
            except (Went, MessageGone):
                self.begin_again()
        else:
            raise NotConverted(f"messages go from {self.path} all the time")
        report = self.report
        report.messages, report.octets, report.flags = len(self.bases), self.octets, self.flags

    def copy_new(self) -> bool:
        """Copy what there is behind what was copied. Whether there was any. Raises Went, MessageGone, and as run()."""
        store = source_of(self.path, self.settings)
        try:
            bases = [base_of(name) for name in store.names]
            done = len(self.bases)
            if bases[:done] != self.bases:
                raise Went
            texts = store.unique_ids()
            self.given = dict(getattr(texts, "given", {}))
            self.shown += [texts[index] for index in range(done, len(bases))]
            self.report.left_out = trashed(store)
            for index in range(done, len(bases)):
                self.message(store, index, len(bases))
            self.bases = bases
            return len(bases) > done
        finally:
            store.directories.close()

    def message(self, store: Source, index: int, count: int) -> None:
        """Copy one. Raises MessageGone, MaildropUnreadable, NotConverted, OSError."""
        fd = store.open_file(index)
        try:
            octets = Octets(store, fd)
            flags = flags_of(store.names[index])
            lines = lines_for(flags, bool(store.in_new[index])) if self.writes_flags else b""
            self.octets += octets.measure()
            self.flags += self.writes_flags and bool(lines_for(flags, is_new=True))
            self.sizes.append(octets.size)
            senders = filter(None, map(sender_of, header_pieces(octets.blocks(0))))
            head = from_line(next(senders, NOBODY), int(os.fstat(fd).st_mtime))
            self.places.append((self.end, self.end + len(head)))
            message = with_lines(lines, octets.blocks) if self.writes_flags else octets.blocks(0)
            end = self.write(head, message)
            if not self.is_one(end, len(head)):
                message = with_lines(lines, octets.blocks) if self.writes_flags else octets.blocks(0)
                end = self.write(head, quoted(message))
            self.report.at(index, count)
            self.end = end
        finally:
            os.close(fd)

    def write(self, head: bytes, blocks: "Iterable[bytes]") -> int:
        """Write a message and the empty line behind it. Returns where it ends. Raises OSError."""
        os.ftruncate(self.fd, self.end)
        os.lseek(self.fd, self.end, os.SEEK_SET)
        write_whole(self.fd, head)
        last = LF
        for block in blocks:
            write_whole(self.fd, block)
            last = block[-1]
        # A CR that ends the file ends no line, and is sent: it must not become a part of the line end.
        write_whole(self.fd, b"\n" if last == LF else b"\r\n\n" if last == CR else b"\n\n")
        return os.lseek(self.fd, 0, os.SEEK_CUR)

    def is_one(self, end: int, head: int) -> bool:
        """Whether what was written up to `end`, with a From_ line of `head` octets, will be found as one message."""
        begin = self.end
        if os.pread(self.fd, len(FROM), begin + head) == FROM:  # makes text of the line before it, and so of ours
            return False
        try:
            Scan(lambda count, place: os.pread(self.fd, count, begin + place), end - begin, 1).run()
        except MaildropUnavailable:
            return False
        return True

    def verify(self) -> None:
        """What was written is what was meant, by a scan as a session makes it. Raises NotConverted, OSError,
        MaildropUnavailable.
        """
        found = Scan(self.read, self.end, self.settings.max_messages).run()
        if hide_internal_data(found, self.read):
            raise NotConverted("the first message looks like what mail readers keep in an mbox for themselves")
        if [*zip(found.froms, found.starts, strict=True)] != self.places:
            raise NotConverted(f"the messages of {self.path} cannot be told apart in an mbox")
        if not self.writes_flags:
            self.report.changed = sum(one != other for one, other in zip(found.sizes, self.sizes, strict=True))

    def read(self, count: int, place: int) -> bytes:
        return os.pread(self.fd, count, place)


class Octets:
    """A message's file, read as often as it is needed."""

    def __init__(self, store: Source, fd: int) -> None:
        self.store = store
        self.fd = fd
        self.size = 0  # on the wire

    def blocks(self, place: int) -> "Iterator[bytes]":
        """What it has from a place on. Raises MaildropUnreadable."""
        os.lseek(self.fd, place, os.SEEK_SET)
        while block := self.store.read_block(self.fd):
            yield block

    def measure(self) -> int:
        """What it has on the wire. Raises MaildropUnreadable."""
        counted = WireSize()
        for block in self.blocks(0):
            counted.add(block)
        self.size = counted.total
        return self.size


def quoted(blocks: "Iterable[bytes]") -> "Iterator[bytes]":
    """The blocks, with `>` before each line that begins with `From `, as delivery programs write it."""
    line = b"\n" + FROM
    skip = 1  # of the line end before the first line, which is not there
    rest = b"\n"
    for block in blocks:
        text = (rest + block).replace(line, b"\n>" + FROM)
        kept = next((size for size in range(len(FROM), 0, -1) if text.endswith(line[:size])), 0)
        if len(text) - kept > skip:
            yield text[skip : len(text) - kept]
            rest, skip = text[len(text) - kept :], 0
        else:
            rest = text
    if len(rest) > skip:
        yield rest[skip:]


def trashed(store: Source) -> int:
    """Files that are marked as deleted, and so no messages. Raises OSError."""
    names = [*os.listdir(store.directories.new), *os.listdir(store.directories.cur)]
    return sum(TRASHED in flags_of(name) for name in names if not name.startswith("."))
