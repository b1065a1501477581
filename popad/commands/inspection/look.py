"""The look at a maildrop, in a process of its user: what there is, what a session would list, what stands in its way.

It changes nothing and locks nothing. What it finds is what the session's own code finds (maildrop/*/looked_at.py).
"""

import os
import pwd
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from popad.commands.inspection.said import Telling
    from popad.maildrop.maildrop import Texts
    from popad.settings import Settings

from popad.errors import MaildropChanged, MaildropUnavailable, MaildropUnreadable
from popad.maildrop import uidl
from popad.maildrop.id_list import Replaced
from popad.maildrop.looked_at import Empty, SeenDirectory, SeenFiles
from popad.maildrop.maildir.looked_at import SeenMaildir
from popad.maildrop.mbox.dotlock import SAME_FILE
from popad.maildrop.mbox.holders import FCNTL, Holder, holders
from popad.maildrop.mbox.locks import dotlock_of
from popad.maildrop.mbox.looked_at import SeenMbox
from popad.maildrop.mbox.text_lines import text_lines
from popad.maildrop.open import former_server

LINE = 200  # octets of a line that are said
TRIES = 3  # at a mailbox that others write to meanwhile
NO_ID = "-"
PAUSE = 0.05  # seconds between two looks at a lock
NO_LOG = "none: no update was cut short"
# Where only root may know the names in POPAD_STATE.
NOT_KNOWN = "not known: only root can tell (sudo popad inspect)"


class Places:
    """POPAD_STATE and POPAD_CACHE. Opened as root: only root can read the keys of the names in them. Where no session
    has used one yet, there is nothing in it.
    """

    def __init__(self, settings: "Settings") -> None:
        self.trouble = ""  # why every session refuses every mailbox
        self.state: SeenDirectory = Empty()
        self.cache: SeenDirectory | None = None
        try:
            self.state = SeenDirectory(settings.state)
        except OSError as error:
            self.trouble = f"POPAD_STATE: {error}"
        try:
            self.cache = SeenDirectory(settings.cache) if settings.cache else None
        except OSError:
            pass  # sessions are slower, and no more
        self.is_known = os.geteuid() == 0 or not self.state.is_of_others  # which names there are in them

    def state_of(self, path: str) -> SeenFiles:
        """What is remembered of a mailbox."""
        return (self.state if self.is_known else Empty()).files_of(path)

    def cache_of(self, path: str) -> SeenFiles | None:
        """What is learnt of a maildrop; None where nothing is kept, or can be known."""
        return self.cache.files_of(path) if self.cache and self.is_known else None


def look(maildrop: str, settings: "Settings", places: Places, tell: "Telling") -> None:
    """Say all that is found of a maildrop (SCHEME:PATH), and at last whether a session would serve it."""
    scheme, _, path = maildrop.partition(":")
    try:
        of_files(path, tell)
        if places.trouble:
            raise MaildropUnavailable("SYS/TEMP", places.trouble)
        look_again(lambda is_last: LOOKS[scheme](path, settings, places, tell, is_last))
    except (MaildropUnavailable, MaildropUnreadable) as refused:
        tell.say(b"refused", refused.code, str(refused))
    except MaildropChanged as changed:
        tell.say(b"refused", "SYS/TEMP", f"it is written to all the time: {changed}")
    except OSError as error:
        tell.say(b"refused", "SYS/TEMP", str(error))
    else:
        tell.say(b"served")


def look_again(work: "Callable[[bool], None]") -> None:
    """Again, where others have changed it before anything was said; `work` hears whether it is the last time."""
    for left in reversed(range(TRIES)):
        try:
            return work(not left)
        except MaildropChanged:
            if not left:
                raise


def of_files(path: str, tell: "Telling") -> None:
    """Whose the maildrop is, and whose the directory around it."""
    directory = os.path.dirname(path.rstrip("/"))
    for name, place in (("file", path.rstrip("/")), ("directory", directory)):
        try:
            status = os.lstat(place)
        except OSError as error:
            tell.fact(name, f"{place}: {error.strerror}")
            continue
        kind = stat.filemode(status.st_mode)
        whose = f"uid {status.st_uid}{name_of_user(status.st_uid)}, gid {status.st_gid}"
        tell.fact(name, f"{place}: {kind}, {whose}, {status.st_size} octets")
        if status.st_mode & 0o007 and name == "file" and not stat.S_ISLNK(status.st_mode):
            tell.wrong(f"others may reach {place}, mode {stat.S_IMODE(status.st_mode):04o} (chmod o=)")


def name_of_user(uid: int) -> str:
    """Behind its number, where it has a name."""
    try:
        return f" ({pwd.getpwuid(uid).pw_name})"
    except KeyError:
        return ""


# -- mbox


def of_mbox(path: str, settings: "Settings", places: Places, tell: "Telling", is_last: bool) -> None:
    """Raises MaildropUnavailable, MaildropUnreadable, MaildropChanged, OSError."""
    files, cache = places.state_of(path), places.cache_of(path)
    limits = settings.max_messages, settings.max_octets
    locks = Locks(settings, tell)
    try:
        seen = SeenMbox(path, files, *limits, settings.locks, cache, former_server("mbox", settings), locks.wait)
    except MaildropUnavailable:
        locks.say()
        of_first_line(path, tell)
        raise
    try:
        if seen.fd < 0:
            tell.note("there is no mailbox: it is served as one without a message")
            tell.count("messages", 0)
            return
        listed = None if seen.half_moved else Listed(seen, tell, is_last)
        locks.say()
        if seen.read_only:
            tell.wrong(f"messages cannot be deleted: {seen.read_only}")
        if not places.is_known:
            for name in ("redo log", "index", "remembered ids"):
                tell.fact(name, NOT_KNOWN)
        else:
            of_redo_logs(seen, tell)
            tell.fact("index", seen.index_state)
            if listed and not listed.trouble:
                of_ids(seen, tell)
        if listed:
            listed.say()
    finally:
        seen.close()


def of_first_line(path: str, tell: "Telling") -> None:
    """Of a file that may be no mbox. A device is not opened."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return
        fd = os.open(path, os.O_RDONLY | SAME_FILE)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                line = os.pread(fd, LINE, 0).partition(b"\n")[0]
                tell.fact("first line", line.decode("utf-8", "backslashreplace"))
        finally:
            os.close(fd)
    except OSError:
        pass


class Locks:
    """Who has the mailbox locked; waited for, as a session would, but without a lock."""

    def __init__(self, settings: "Settings", tell: "Telling") -> None:
        self.settings = settings
        self.tell = tell
        self.found: list[Holder] = []

    def wait(self, seen: SeenMbox) -> None:
        """Before the mailbox is read. Raises MaildropUnavailable where a session would give up, OSError."""
        dotlock = dotlock_of(seen.path, self.settings.locks)
        self.found = found = holders(seen.fd, dotlock)
        patience = self.settings.lock_timeout
        deadline = time.monotonic() + patience
        while barring := [each for each in found if bars(each, seen)]:
            if time.monotonic() > deadline:
                raise MaildropUnavailable("IN-USE", f"another program held {barring[0].what} for {patience} seconds")
            time.sleep(PAUSE)
            self.tell.step(0, 0)
            found = holders(seen.fd, dotlock)

    def say(self) -> None:
        """As it was at the first look."""
        self.tell.rows("locks", ((each.kind, each.pid, int(each.bars), each.says) for each in self.found))


def bars(holder: Holder, seen: SeenMbox) -> bool:
    """Whether a session waits for that. Who finishes an update wants the mailbox alone."""
    return holder.bars or (seen.half_moved and holder.kind == FCNTL)


class Listed:
    """What a session would list: ids first, as all else goes by them. Raises what SeenMbox raises."""

    def __init__(self, seen: SeenMbox, tell: "Telling", is_last: bool) -> None:
        self.seen = seen
        self.tell = tell
        self.trouble = ""
        count = len(seen.sizes)
        for index in range(count):
            seen.header_number(index)
            tell.step(index, count)
        try:
            self.ids: Texts = seen.unique_ids()
        except MaildropUnreadable as failure:  # a session refuses UIDL, and nothing else
            self.ids = [NO_ID] * count
            self.trouble = str(failure)
        self.twins = twins_of(seen)
        seen.check()
        if seen.was_touched and not is_last:
            raise MaildropChanged("it was written to while it was looked at")

    def say(self) -> None:
        seen, tell = self.seen, self.tell
        if self.trouble:
            tell.wrong(f"unique-ids cannot be listed: {self.trouble}")
        if seen.was_touched:
            tell.note("it was written to while it was looked at: the last message may not be whole")
        tell.count("messages", len(seen.sizes))
        tell.count("octets", sum(seen.sizes))
        if seen.messages.froms and seen.messages.froms[0]:
            tell.note(f"the first {seen.messages.froms[0]} octets are data of a mail reader, and no message")
        rows = range(len(seen.sizes))
        tell.rows(
            "messages",
            (
                (index + 1, seen.sizes[index], self.ids[index], seen.messages.froms[index], seen.from_line(index, LINE))
                for index in rows
            ),
        )
        tell.rows("text_lines", self.text_lines())
        tell.rows(
            "twins",
            (
                (index + 1, self.ids[index], uidl.text_of(seen.digests[index]), first + 1)
                for index, first in self.twins.items()
            ),
        )

    def text_lines(self) -> "Iterator[tuple[int, str, bytes]]":
        """And how far it is."""
        seen = self.seen
        for place, why, line in text_lines(seen.read, seen.messages.end, seen.messages.froms):
            yield place, why, line[:LINE]
            self.tell.step(place, seen.messages.end)


def twins_of(seen: SeenMbox) -> dict[int, int]:
    """Messages whose digests are equal, and the first of each kind; those without a digest are of one kind."""
    there: set[int] = set()
    with_twins = {uidl.NOTHING}
    for digest in seen.digests:
        if digest in there:
            with_twins.add(digest)
        there.add(digest)
    first: dict[int, int] = {}
    return {index: first.setdefault(digest, index) for index, digest in enumerate(seen.digests) if digest in with_twins}


def of_redo_logs(seen: SeenMbox, tell: "Telling") -> None:
    """Updates that were cut short, and what the next session makes of them."""
    for log in seen.redo_logs:
        if log.foreign:
            kept = seen.seen_files.kept_name(log.name)
            tell.wrong(f"a redo log is not of this mailbox: {log.foreign}; the next session renames it to {kept}")
            tell.fact("redo log", f"{log.name}: not applied: {log.foreign}")
        elif log.is_unfinished and (record := log.record):
            tell.fact(
                "redo log",
                f"{log.name}: an update that takes {record.gone} of {record.size} octets was cut short at octet"
                f" {record.target} ({record.phase.decode()}); the next session finishes it first",
            )
            tell.wrong("an update was cut short: messages are listed when a session has finished it (a login does)")
        else:
            tell.fact("redo log", f"{log.name}: of an update that has ended, or has not begun")
    if not seen.redo_logs:
        tell.fact("redo log", NO_LOG)


def of_ids(seen: SeenMbox, tell: "Telling") -> None:
    """What is remembered of unique-ids, and what the next listing remembers first. Raises OSError."""
    content = seen.ids.load()
    memory = seen.ids.recall(content, seen)
    says = f"{len(memory.taken)} of messages that are gone, {len(memory.holders)} of twins" if content else "none"
    if seen.unwritten.would_write:
        says += "; the next listing writes which twin has which"
    tell.fact("remembered ids", says)
    if seen.trouble:
        tell.wrong(f"unique-ids are not kept: {seen.trouble}")
    if isinstance(given := seen.unique_ids(), Replaced):
        tell.fact("list of ids", f"{len(given.given)} ids from before a move")


# -- Maildir


def of_maildir(path: str, settings: "Settings", places: Places, tell: "Telling", _: bool) -> None:
    """Raises MaildropUnavailable, MaildropUnreadable, OSError."""
    seen = SeenMaildir(
        path,
        settings.max_messages,
        settings.max_octets,
        places.cache_of(path),
        former_server("maildir", settings),
        missing_is_empty=settings.maildir_missing == "empty",
    )
    try:
        if not seen.directories.are_there:
            tell.note("there is no Maildir: it is served as one without a message")
            tell.count("messages", 0)
            return
        try:
            given: Texts = seen.unique_ids()
        except MaildropUnreadable as failure:  # as of an mbox
            given = [NO_ID] * len(seen.names)
            tell.wrong(f"unique-ids cannot be listed: {failure}")
        if seen.read_only:
            tell.wrong(f"messages cannot be deleted: {seen.read_only}")
        tell.fact("index", seen.cache_state if places.is_known else NOT_KNOWN)
        if isinstance(given, Replaced):
            tell.fact("list of ids", f"{len(given.given)} ids from before a move")
        tell.count("messages", len(seen.names))
        tell.count("in new", sum(seen.in_new))
        tell.count("octets", sum(seen.sizes))
        tell.rows("messages", rows_of(seen, given))
        renamed = seen.directories.becomes
        tell.rows(
            "renamed",
            (
                (index + 1, given[index], os.fsencode(renamed[name][1]))
                for index, name in enumerate(seen.names)
                if name in renamed
            ),
        )
        tell.rows("others", seen.others())
    finally:
        seen.close()


def rows_of(seen: SeenMaildir, given: "Texts") -> "Iterator[tuple[int, int, str, int, str]]":
    """The messages, with the name that each has."""
    for index, name in enumerate(seen.names):
        real = seen.directories.becomes.get(name, (-1, name))[1]
        yield index + 1, seen.sizes[index], given[index], 0, f"{'new' if seen.in_new[index] else 'cur'}/{real}"


LOOKS: "dict[str, Callable[[str, Settings, Places, Telling, bool], None]]" = {"mbox": of_mbox, "maildir": of_maildir}
