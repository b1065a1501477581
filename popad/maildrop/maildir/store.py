"""A Maildir as a store. It has no lock and needs none: a message is a file that nobody writes to, and whoever moves it
keeps the base of its name.

So nothing of a session can go wrong for what others do but this: a message is gone, which is an error of that message.
"""

import os
import stat

from popad.arrays import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from popad.maildrop.maildir.directories import Look
    from popad.maildrop.maildir.sizes import Row
    from popad.maildrop.maildrop import Texts
    from popad.maildrop.private import PrivateFiles

from popad.errors import MaildropUnavailable, MaildropUnreadable, MessageGone
from popad.maildrop.maildir.directories import (
    PERMANENT,
    TRIES,
    Directories,
    code_of,
    rename_to_free,
    unavailable,
)
from popad.maildrop.maildir.names import (
    SEEN,
    SIZE,
    WIRE_SIZE,
    base_of,
    flags_of,
    seen_name,
    size_in,
    unique_id,
)
from popad.maildrop.maildir.sizes import BLOCK, NAMED, Known, WireSize, changed_at, measure
from popad.maildrop.maildrop import Store

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Maildir(Store):
    """The messages of the Maildir at `path`, in the order of their delivery, as they were when it was opened. See
    maildrop.Store.

    `cache` is where sizes are remembered, if anywhere; `former`: the server whose unique-ids count, and their format
    (former_ids.py); `marks_seen`: a message that was retrieved gets the flag S, in
    cur/; `missing_is_empty`: where the Maildir is not there and its parent is. Raises MaildropUnavailable.
    """

    directories_of = Directories

    def __init__(
        self,
        path: str,
        max_messages: int,
        max_octets: int,
        cache: "PrivateFiles | None" = None,
        *,
        former: "tuple[str, str] | None" = None,
        marks_seen: bool = True,
        missing_is_empty: bool = True,
    ) -> None:
        self.path = path
        self.max_messages = max_messages
        self.former = former
        self.marks_seen = marks_seen
        self.directories = self.directories_of(path, missing_is_empty=missing_is_empty)
        self.listed: list[str] | None = None  # the names, where they are not those that are remembered
        self.in_new = bytearray()  # 1 where a message is in new/, 0 in cur/
        # Of each message: the size on the wire, the file's size, its time of change; NAMED where it was not read.
        self.columns = [array("q") for _ in range(3)]
        self.mended: list[str] = []  # what was wrong of names, for an administrator
        self.look: Look | None = None
        self.has_learnt = False  # something that the next session would not know
        self.read_ahead = -1  # the message that prefetch() has read
        self.retrieved = -1  # one that is to be marked as seen when there is time
        self.known = Known(cache, max_messages)
        try:
            self.find_messages()
            if max_octets and sum(self.octets) > max_octets:
                raise MaildropUnavailable(PERMANENT, f"{sum(self.octets)} octets, the limit is {max_octets}")
        except OSError as error:
            self.directories.close()
            raise unavailable(error) from error
        except MaildropUnavailable:
            self.directories.close()
            raise
        self.sizes = self.octets  # as this session tells them: what it learns later is for the next one
        self.read_only = self.directories.why_read_only()

    @property
    def names(self) -> list[str]:
        """Of the messages, as their files are called now."""
        return self.known.names if self.listed is None else self.listed

    @property
    def octets(self) -> "array[int]":
        """On the wire."""
        return self.columns[0]

    def find_messages(self) -> None:
        """As they are remembered, if nothing has happened since; else by a look at the directories. Raises OSError,
        MaildropUnavailable.
        """
        known = self.known
        self.look = self.directories.reliable_look()
        if self.look and self.look == known.look and len(known.in_new) <= self.max_messages:
            self.in_new, self.columns = known.in_new, known.columns
            return
        self.listed, in_new = self.directories.listing(self.max_messages, separates=True)
        self.in_new = bytearray(map(in_new.__contains__, self.names))
        self.find_sizes(known.rows_for(self.names))
        self.has_learnt = bool(self.names)
        known.names, known.in_new, known.columns = self.names, self.in_new, self.columns

    def find_sizes(self, remembered: "Iterator[Row | None]") -> None:
        """Of each message: as its name has it, as it is remembered, or by reading it. Raises OSError.

        One that is gone meanwhile has the size 0, and is an error when it is asked for.
        """
        for index, (name, row) in enumerate(zip(self.names, remembered, strict=True)):
            base = base_of(name)
            if row and (size_in(base, SIZE) == row[1] or self.is_as_remembered(index, row)):
                found = row
            elif not row and (size := size_in(base, WIRE_SIZE)) >= 0:
                found = size, *NAMED
            else:
                found = self.learn(index)
            for column, number in zip(self.columns, found, strict=True):
                column.append(number)

    def is_as_remembered(self, index: int, remembered: "Row") -> bool:
        """Whether the file has the size and the time of change that it had. Raises OSError."""
        try:
            status = os.stat(self.names[index], dir_fd=self.place(index), follow_symlinks=False)
        except FileNotFoundError:
            return True  # it is asked for again when it is read
        return (status.st_size, changed_at(status)) == remembered[1:]

    def learn(self, index: int) -> "Row":
        """What is to be remembered of a message, by reading it. Raises OSError."""
        try:
            fd = self.open_file(index)
        except (MessageGone, MaildropUnreadable):
            return 0, *NAMED
        try:
            status = os.fstat(fd)
            return measure(fd), status.st_size, changed_at(status)
        finally:
            os.close(fd)

    def place(self, index: int) -> int:
        """The directory that a message is in."""
        return self.directories.new if self.in_new[index] else self.directories.cur

    def open_file(self, index: int) -> int:
        """A descriptor of a message, wherever it has gone. Raises MessageGone, MaildropUnreadable."""
        try:
            for _ in range(TRIES):
                try:
                    fd = os.open(self.names[index], READ, dir_fd=self.place(index))
                    break
                except FileNotFoundError:
                    was = self.names[index], self.in_new[index]
                    if self.find_again() and was == (self.names[index], self.in_new[index]):
                        raise
            else:
                raise MessageGone(f"message {index + 1} is gone")
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                raise MessageGone(f"message {index + 1} is no file any more")
        except FileNotFoundError:
            raise MessageGone(f"message {index + 1} is gone") from None
        except OSError as error:
            raise MaildropUnreadable(str(error), code_of(error)) from error
        return fd

    def find_again(self) -> bool:
        """Some program has renamed messages: learn what they are called now. Whether one that was not found is gone:
        while others rename files, a listing may have neither name. Raises MaildropUnreadable, OSError.
        """
        before = self.directories.reliable_look()
        try:
            names, in_new = self.directories.listing(self.max_messages)
        except MaildropUnavailable as failure:
            raise MaildropUnreadable(failure.reason, failure.code) from failure
        by_base = {base_of(name): name for name in names}
        for index, name in enumerate(self.names):
            found = by_base.get(base_of(name))
            if not found:
                continue
            is_new = found in in_new
            if (found != name or is_new != self.in_new[index]) and self.is_same(index, found, is_new):
                self.names[index] = found
                self.in_new[index] = is_new
        return before is not None and before == self.directories.look()

    def is_same(self, index: int, name: str, is_new: bool) -> bool:
        """Whether a file with the base of a message can be that message, by all that is known of it. Raises OSError."""
        if index >= len(self.octets):
            return True  # nothing is known yet: it is renamed while it is opened
        directory = self.directories.new if is_new else self.directories.cur
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return True  # renamed once more: it is looked for again when it is asked for
        named = size_in(base_of(name), SIZE)
        was = self.columns[1][index], self.columns[2][index]
        if was == NAMED:
            return named in (-1, status.st_size)
        # Where the name has the size, what is remembered was believed without a look at the time of change.
        return named == status.st_size or was == (status.st_size, changed_at(status))

    def prefetch(self, index: int) -> bytes:
        self.mark_retrieved()
        fd = self.open_file(index)
        try:
            block = self.read_block(fd)
            status = os.fstat(fd)
        finally:
            os.close(fd)
        if not block or len(block) != status.st_size:
            return b""
        counted = WireSize()
        counted.add(block)
        self.verify(index, counted.total, status)
        self.read_ahead = index
        return block

    def still_valid(self) -> bool:
        """Nobody writes to a message. One that others have removed since then was there when it was read."""
        self.retrieved = self.read_ahead
        return True

    def content(self, index: int) -> "Iterator[bytes]":
        self.mark_retrieved()
        fd = self.open_file(index)
        counted = WireSize()
        try:
            while block := self.read_block(fd):
                counted.add(block)
                yield block
            self.verify(index, counted.total, os.fstat(fd))
        finally:
            os.close(fd)
        self.retrieved = index

    def read_block(self, fd: int) -> bytes:
        """Raises MaildropUnreadable."""
        try:
            return os.read(fd, BLOCK)
        except OSError as error:
            raise MaildropUnreadable(str(error)) from error

    def verify(self, index: int, size: int, status: os.stat_result) -> None:
        """The size on the wire, now that it is known; a later session must not tell a wrong one again."""
        if size != self.octets[index]:
            self.mended.append(f"{base_of(self.names[index])}: {size} octets, not {self.octets[index]}")
            if self.octets is self.sizes:
                self.columns[0] = array("q", self.sizes)
            for column, number in zip(self.columns, (size, status.st_size, changed_at(status)), strict=True):
                column[index] = number
            self.has_learnt = True

    def mark_retrieved(self) -> None:
        """While nobody waits for an answer, or before anything else is done."""
        index, self.retrieved = self.retrieved, -1
        if index >= 0 and self.marks_seen:
            self.mark_seen(index)

    def mark_seen(self, index: int) -> None:
        """Have the message in cur/, with the flag S. What cannot be done, or was done by others, does not matter."""
        name = self.names[index]
        if not self.in_new[index] and SEEN in flags_of(name):
            return
        if rename_to_free(name, self.place(index), seen_name(name), self.directories.cur):
            self.names[index] = seen_name(name)
            self.in_new[index] = 0

    def unique_ids(self) -> "Texts":
        own = NameIds(self.names)
        if not self.directories.are_there:
            return own
        from popad.maildrop import id_list

        given = id_list.of_maildir(self.directories.top)
        if self.former:
            from popad.maildrop.maildir import former_ids

            id_list.add(given, former_ids.read(self.directories.top, *self.former, self.max_messages))
        return id_list.Replaced(own, given) if given else own

    def remove(self, marks: bytearray) -> None:
        """Remove the marked messages, each for itself: what is left when this is interrupted is not removed yet.

        Whoever has removed one before has done what is asked for. One that cannot be removed keeps no other.
        """
        if self.retrieved >= 0 and not marks[self.retrieved]:
            self.mark_retrieved()
        wanted = [index for index, mark in enumerate(marks) if mark]
        failure: MaildropUnavailable | None = None
        try:
            for _ in range(TRIES):
                missing: list[int] = []
                for index in wanted:
                    try:
                        os.unlink(self.names[index], dir_fd=self.place(index))
                    except FileNotFoundError:
                        missing.append(index)
                    except OSError as error:
                        failure = failure or unavailable(error)
                if not missing:
                    break
                was = [(self.names[index], self.in_new[index]) for index in missing]
                are_gone = self.find_again()
                wanted = [
                    index
                    for index, name in zip(missing, was, strict=True)
                    if not are_gone or name != (self.names[index], self.in_new[index])
                ]
            self.directories.sync()
        except MaildropUnreadable as unreadable:
            failure = failure or MaildropUnavailable(unreadable.code, str(unreadable))
        except OSError as error:
            failure = failure or unavailable(error)
        if failure:
            raise failure

    def finish(self, wait: bool) -> None:
        """When the client has gone: have the next session know what this one has learnt."""
        self.mark_retrieved()
        if not wait or not self.has_learnt or not self.directories.are_there:
            return
        self.has_learnt = False
        try:
            self.known.look = self.look if self.look == self.directories.look() else None
        except OSError:
            self.known.look = None
        self.known.store()

    @property
    def wrong_sizes(self) -> str:
        return "; ".join(self.mended[:3]) + (f"; and {len(self.mended) - 3} more" if len(self.mended) > 3 else "")


class NameIds:
    """The unique-ids of messages with these names, as they are asked for."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> str:
        return unique_id(base_of(self.names[index]))
