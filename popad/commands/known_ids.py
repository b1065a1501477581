"""What clients know each message of one maildrop by, and what popad will list: compared, and put into a list
(id_list.py). Here for what a server has left in the maildrop; asked_ids.py asks the server.

It runs in a process of the user (as_user.py), and opens the maildrop as a session does, with its settings and locks.
"""

import os
from itertools import chain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeVar

    from popad.maildrop.maildrop import Store, Texts
    from popad.settings import Settings

    Step = Callable[[int, int], None]  # so many messages of so many have been looked at
    T = TypeVar("T")

from popad.errors import MaildropChanged, MaildropUnavailable, MaildropUnreadable, MessageGone
from popad.maildrop import id_list, private, uidl
from popad.maildrop.maildir import former_ids
from popad.maildrop.maildir.store import Maildir, NameIds
from popad.maildrop.mbox import header_ids
from popad.maildrop.mbox.store import Mbox
from popad.maildrop.open import open_store
from popad.maildrop.uidl import header_pieces

POPA3D = "popa3d"
TRIES = 3  # at a mailbox that others change meanwhile
WRITTEN, NOT_WRITTEN, NOT_NEEDED, UNCHANGED = "written", "not written", "not needed", "unchanged"


class Found:
    """What was found of a maildrop: how many `messages` it has and how many `stay`; those that `change`, by their
    numbers from 1, with popad's id and the reason; how many are `new`, so that nobody knows them; `missing`: numbers
    and ids of the old server whose messages were not found here; what became of the `list`.
    """

    def __init__(self) -> None:
        self.messages = 0
        self.stay = 0
        self.new = 0
        self.change: list[tuple[int, str, str]] = []
        self.missing: list[tuple[int, str]] = []
        self.list = NOT_NEEDED

    def nobody_knows(self, behind: int) -> None:
        """Of the messages behind that number those without an id have been on no server: they are new."""
        left = [row for row in self.change if row[0] <= behind or row[2] != id_list.UNKNOWN]
        self.new, self.change = len(self.change) - len(left), left


class Host:
    """How maildrops are opened here. Made as root, as sessions open POPAD_STATE before they become the user: only root
    can read the key of the names in it.
    """

    def __init__(self, settings: "Settings") -> None:
        settings.maildir_seen = False  # nobody has read what is looked at here
        self.settings = settings
        self.state = private.of_updates(settings.state)
        self.cache = private.of_indexes(settings.cache)

    def open(self, maildrop: str) -> "Store":
        """Raises MaildropUnavailable."""
        if isinstance(self.state, MaildropUnavailable):
            raise self.state
        return open_store(maildrop, self.settings, self.state, self.cache)


class Drop:
    """A maildrop that is open: its messages, popad's own ids and the list that there is. Raises what stores raise."""

    def __init__(self, maildrop: str, host: Host) -> None:
        self.store = host.open(maildrop)
        self.sizes = self.store.sizes
        self.own: Texts
        self.listed: dict[str, str]
        if isinstance(self.store, Mbox):
            self.own = uidl.HexIds(self.store.id_numbers())
            if self.store.trouble:
                raise MaildropUnreadable(self.store.trouble)
            self.listed = id_list.of_mbox(self.store.files)
        elif isinstance(self.store, Maildir):
            self.own = NameIds(self.store.names)
            top = self.store.directories
            self.listed = id_list.of_maildir(top.top) if top.are_there else {}

    def header(self, index: int) -> "Iterator[bytes]":
        """The header's lines, as uidl.header_pieces() has them."""
        return self.store.header(index) if isinstance(self.store, Mbox) else header_pieces(self.store.content(index))

    def content(self, index: int) -> int:
        """uidl.content_number() of the message with LF for line ends."""
        return uidl.content_number(lambda place: behind(with_lf(self.store.content(index)), place))

    def keep(self, ids: "dict[str, str]") -> None:
        """In place of the list that there is, as long as nothing has changed. Raises OSError, too."""
        if isinstance(self.store, Mbox):
            files = self.store.files
            if self.store.fd < 0:
                return

            def write() -> bool:
                if id_list.of_mbox(files) != self.listed:
                    raise MaildropChanged("its list of ids")
                id_list.store_for_mbox(files, ids)
                return True

            self.store.alone(write)
        elif isinstance(self.store, Maildir) and self.store.directories.are_there:
            id_list.store_in_maildir(self.store.directories.top, ids)

    def close(self) -> None:
        """As a session ends, so that the next one knows what was learnt."""
        self.store.finish(wait=True)
        if isinstance(self.store, Mbox) and self.store.fd >= 0:
            os.close(self.store.fd)
        elif isinstance(self.store, Maildir):
            self.store.directories.close()


def by_traces(maildrop: str, host: Host, former: tuple[str, str], dry_run: bool, step: "Step") -> Found:
    """By what the server has left in the maildrop: in files of a Maildir, which are read again at each listing, or in
    headers of an mbox file, of which a list is made. Raises MaildropUnavailable, MaildropUnreadable, MaildropChanged,
    MessageGone, OSError.
    """
    return with_drop(maildrop, host, lambda drop: look_for_traces(drop, former, dry_run, step))


def with_drop(maildrop: str, host: Host, work: "Callable[[Drop], T]") -> "T":
    """Do that with the maildrop; again, where others have changed it meanwhile. Raises what `work` and Drop() raise."""
    for left in reversed(range(TRIES)):
        drop = None
        try:
            drop = Drop(maildrop, host)
            return work(drop)
        except (MaildropChanged, MessageGone):
            if not left:
                raise
        finally:
            if drop:
                drop.close()
    raise AssertionError


def look_for_traces(drop: Drop, former: tuple[str, str], dry_run: bool, step: "Step") -> Found:
    """See by_traces()."""
    store, server = drop.store, former[0]
    if isinstance(store, Maildir):
        if server not in former_ids.FILES:
            raise MaildropUnavailable("SYS/PERM", f"{server} leaves no ids in Maildirs")
        ids = dict(drop.listed)
        left = former_ids.read(store.directories.top, *former, store.max_messages) if store.names else {}
        id_list.add(ids, left)
        said = [drop.listed.get(own) or left.get(own, "") for own in texts(drop.own)]
        return compared(drop, said, ids, {})
    if server == POPA3D:
        said = list(counted(popa3ds(drop), len(drop.own), step))
        return compared(drop, said, drop.listed, why_not_popa3ds(said))
    if server == former_ids.COURIER or not isinstance(store, Mbox):
        raise MaildropUnavailable("SYS/PERM", f"{server} leaves no ids in mbox files")
    said = list(counted(header_ids.said(store, former), len(drop.own), step))
    if (
        drop.listed
    ):  # since then clients may know messages by popad's own ids: none passes on to who has sent it in a header
        popads = {*texts(drop.own)}
        said = ["" if each in popads else each for each in said]
    found = kept(drop, said, dry_run)
    if any(said):  # it writes ids into all messages that it lists, and mail is appended
        found.nobody_knows(max(number for number, known in enumerate(said, 1) if known))
    return found


def popa3ds(drop: Drop) -> "Iterator[str]":
    """popa3d's id of each message."""
    for index in range(len(drop.own)):
        yield uidl.text_of(uidl.number_of(uidl.header_digest(drop.header(index))))


def counted(said: "Iterator[T]", count: int, step: "Step") -> "Iterator[T]":
    """The same, and how far it has come."""
    for number, each in enumerate(said, 1):
        yield each
        step(number, count)


def why_not_popa3ds(said: "list[str]") -> dict[int, str]:
    """Why popa3d's ids do not tell messages apart, by their numbers from 0."""
    why: dict[int, str] = {}
    holders: dict[str, int] = {}
    for index, each in enumerate(said):
        if each == uidl.text_of(uidl.NOTHING):
            why[index] = "it has none of the header lines that popa3d makes an id of"
        elif holders.setdefault(each, index) != index:
            why[index] = f"message {holders[each] + 1} has the same id, {each}"
        else:
            why[index] = f"another message had {each}"
    return why


def kept(drop: Drop, said: "Sequence[str]", dry_run: bool) -> Found:
    """Make the list of what is said, unless it is a dry run, and compare. Raises what stores raise, OSError."""
    ids, why = id_list.renewed(drop.listed, drop.own, said)
    if isinstance(drop.store, Mbox) and drop.store.fd >= 0 and drop.store.check():
        raise MaildropChanged("it was written to while it was read")
    found = compared(drop, said, ids, why)
    if ids == drop.listed:
        found.list = UNCHANGED
    elif dry_run:
        found.list = NOT_WRITTEN
    else:
        drop.keep(ids)
        found.list = WRITTEN
    return found


def compared(drop: Drop, said: "Sequence[str]", ids: "dict[str, str]", why: "dict[int, str]") -> Found:
    """What clients know, and what they will see with the list `ids`."""
    found = Found()
    found.messages = len(drop.own)
    shown = id_list.Replaced(drop.own, ids)
    for index, known in enumerate(said):
        if shown[index] == known:
            found.stay += 1
        else:
            reason = why.get(index, "another message has that id" if known else id_list.UNKNOWN)
            found.change.append((index + 1, shown[index], reason))
    return found


def texts(ids: "Texts") -> "Iterator[str]":
    """All of them."""
    return (ids[index] for index in range(len(ids)))


def with_lf(blocks: "Iterator[bytes]") -> "Iterator[bytes]":
    """The same octets with LF for CRLF, wherever the blocks are cut."""
    held = b""
    for block in chain(blocks, [b""]):
        text = held + block
        held = b"\r" if block and text.endswith(b"\r") else b""
        if text := text[: len(text) - len(held)].replace(b"\r\n", b"\n"):
            yield text


def behind(blocks: "Iterator[bytes]", place: int) -> "Iterator[bytes]":
    """What of them is behind so many octets."""
    for block in blocks:
        if len(block) > place:
            yield block[place:]
        place = max(place - len(block), 0)
