"""A mailbox, what happens to it, and what its clients remember. World.judge() says what must hold at each UIDL."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st

from popad.errors import MaildropChanged, MaildropUnavailable
from popad.maildrop import uidl
from popad.maildrop.mbox import twins, update
from popad.maildrop.mbox.ids import Ids
from popad.maildrop.mbox.store import Mbox
from popad.maildrop.private import KEY, SharedDirectory

Step = tuple[str, int, int]

# What popa3d looks at; the first two are no headers to it. Several of each, as the twins are the matter here.
HEADERS = (b"", b"Subject: s\n", b"Date: 1\n", b"Date: 2\n", b"Date: 1\n Subject: folded\n", b"DATE: 1\nSubject: s\n")
BODIES = (None, b"", b"a\n", b"b\n", b"a\n\n")  # None: no blank line behind the header either
READERS = (b"Status: R\n", b"Status: RO\nX-Status: A\n", b"X-UID: 7\nStatus: O\nX-Keywords: a\n  b\n", b"")
CLIENTS = 2
FEW = 3  # taken ids that are remembered, where the list is to meet its bound


class Message:
    """One delivery."""

    def __init__(self, serial: int, header: bytes, body: bytes | None) -> None:
        self.serial = serial
        self.header = header
        self.body = body
        self.of_readers = b""

    def stored(self) -> bytes:
        """As it stands in the mailbox. Each has a From_ line of its own, and a blank line behind it."""
        header = self.header + self.of_readers
        text = b"%b\n%b" % (header, self.body) if self.body is not None else header
        return b"From a%d Thu Jan  1 00:00:01 1970\n%b\n" % (self.serial, text or b"\n")

    @property
    def popa3d(self) -> int:
        """Its id in popa3d."""
        text = self.header + (b"" if self.body is None else b"\n" + self.body)
        return uidl.number_of(uidl.header_digest(uidl.header_pieces([text] if text else [])))


class Client:
    """A POP3 client that leaves mail on the server: it remembers all it was told."""

    def __init__(self) -> None:
        self.store: Mbox | None = None
        self.there: list[Message] = []  # when its session began


class World:
    """The mailbox, its clients, and the ids of all messages so far."""

    def __init__(self, path: Path, forgets: bool) -> None:
        self.forgets = forgets  # ids of messages that are gone
        self.path = path
        self.mailbox = path / "mailbox"
        self.mailbox.touch()
        (path / "state").mkdir()
        (path / "cache").mkdir()
        self.state = SharedDirectory(str(path / "state"))
        self.cache = SharedDirectory(str(path / "cache"))
        self.messages: list[Message] = []
        self.serial = 0
        self.clients = [Client() for _ in range(CLIENTS)]
        self.ids: dict[int, int] = {}  # serial: id
        self.owners: dict[int, int] = {}  # id: serial
        self.first: dict[int, int] = {}  # popa3d's id: the first message that ever had it
        self.removed: set[int] = set()  # serials
        self.failed = False
        self.listings = 0
        self.twins = 0

    def close(self) -> None:
        for client in self.clients:
            self.leave(client)
        os.close(self.state.fd)
        os.close(self.cache.fd)

    def step(self, step: Step) -> None:
        name, one, other = step
        getattr(self, name)(one, other)

    # -- what others do

    def deliver(self, header: int, body: int) -> None:
        message = Message(self.serial, HEADERS[header % len(HEADERS)], BODIES[body % len(BODIES)])
        self.serial += 1
        self.messages.append(message)
        self.first.setdefault(message.popa3d, message.serial)
        with self.mailbox.open("ab") as file:
            file.write(message.stored())

    def read_mail(self, which: int, how: int) -> None:
        """A mail reader marks messages as seen and rewrites the file.

        Not behind an update that has failed: popad takes that for the update (ids.py).
        """
        if self.failed or not self.messages:
            return
        for place, message in enumerate(self.messages):
            if which >> place % 6 & 1:
                message.of_readers = READERS[how % len(READERS)]
        content = b"".join(message.stored() for message in self.messages)
        if how & 4:
            (self.path / "new").write_bytes(content)
            (self.path / "new").rename(self.mailbox)
        else:
            self.mailbox.write_bytes(content)

    def lose_cache(self, _one: int, _other: int) -> None:
        for file in (self.path / "cache").iterdir():
            if file.name != KEY:
                file.unlink()

    # -- what clients do

    def log_in(self, number: int, _other: int) -> None:
        client = self.clients[number % CLIENTS]
        self.leave(client)
        client.store = self.open()
        client.there = list(self.messages)
        assert len(client.store.sizes) == len(client.there)

    def open(self) -> Mbox:
        path = str(self.mailbox)
        return Mbox(path, self.state.files_of(path), 1, 1000, 0, cache=self.cache.files_of(path))

    def leave(self, client: Client) -> None:
        if client.store and client.store.fd >= 0:
            os.close(client.store.fd)
        client.store = None

    def list_ids(self, number: int, _other: int) -> None:
        client = self.clients[number % CLIENTS]
        if not client.store:
            self.log_in(number, 0)
        assert client.store
        try:
            ids = client.store.id_numbers()
        except MaildropChanged:
            self.leave(client)
        else:
            self.judge(client.there, ids)

    def delete(self, number: int, which: int) -> None:
        self.update(number, which, fails=False)

    def delete_and_die(self, number: int, which: int) -> None:
        """The session is killed when the messages are gone."""
        with mock.patch.object(Ids, "done"), mock.patch.object(Mbox, "remember_what_is_left"):
            self.update(number, which, fails=False)

    def delete_in_vain(self, number: int, which: int) -> None:
        """A disk that is full when the update is about to begin."""
        self.update(number, which, fails=True)

    def update(self, number: int, which: int, fails: bool) -> None:
        client = self.clients[number % CLIENTS]
        if not client.store:
            self.log_in(number, 0)
        assert client.store
        marks = bytearray(which >> place % 6 & 1 for place in range(len(client.there)))
        if not any(marks):
            return
        try:
            with failing() if fails else mock.patch("popad.maildrop.mbox.store.LARGE", 1):
                client.store.remove(marks)
        except (MaildropChanged, MaildropUnavailable) as error:
            assert fails or isinstance(error, MaildropChanged)
            self.failed = self.failed or isinstance(error, MaildropUnavailable)
        else:
            self.failed = False
            gone = {message.serial for message, mark in zip(client.there, marks, strict=True) if mark}
            self.removed |= gone
            self.messages = [message for message in self.messages if message.serial not in gone]
            assert self.mailbox.read_bytes() == b"".join(message.stored() for message in self.messages)
        assert not client.store.ids.trouble
        self.leave(client)

    # -- what must hold

    def judge(self, there: Sequence[Message], ids: Sequence[int]) -> None:
        """RFC 1939 section 7: all are different, each stays, and none is another message's, ever. The first message
        that popa3d looks at some header of, and never saw the same in before, has popa3d's.
        """
        self.listings += 1
        assert len(ids) == len(there)
        assert len(set(ids)) == len(ids), "two messages have one id"
        for message, unique_id in zip(there, ids, strict=True):
            was = self.ids.setdefault(message.serial, unique_id)
            assert was == unique_id, f"the id of message {message.serial} has changed"
            owner = self.owners.setdefault(unique_id, message.serial)
            if owner != message.serial:
                assert self.forgets, f"message {message.serial} has the id of message {owner}"
                assert owner in self.removed
                self.owners[unique_id] = message.serial
            popa3ds = message.popa3d
            if popa3ds != uidl.NOTHING and self.first[popa3ds] == message.serial:
                assert unique_id == popa3ds, f"message {message.serial} has lost popa3d's id"
            self.twins += unique_id != popa3ds


@contextmanager
def failing() -> Iterator[None]:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with mock.patch.object(update, "remove", side_effect=full):
        yield


@contextmanager
def quick(remembered: int) -> Iterator[None]:
    """No session waits for the clock that stamps files (each change in these histories changes the size, too), each
    mailbox has an index, and the list of taken ids is as long.
    """
    with (
        mock.patch("popad.maildrop.mbox.file.waiting_time", return_value=0),
        mock.patch("popad.maildrop.mbox.store.LARGE", 1),
        mock.patch.object(twins, "MOST", remembered),
    ):
        yield


numbers = st.integers(0, 63)


def steps(*names: str) -> st.SearchStrategy[Step]:
    """One of these steps."""
    return st.tuples(st.sampled_from(names), numbers, numbers)


deliveries = steps("deliver", "deliver", "read_mail", "lose_cache")
sessions = steps("log_in", "list_ids", "list_ids", "delete", "delete", "delete_in_vain", "delete_and_die")
histories = st.lists(st.one_of(deliveries, sessions), min_size=12, max_size=60)


def play(history: Sequence[Step], where: Path, remembered: int = twins.MOST) -> tuple[int, int]:
    """Let it happen, and list what is left. Returns how many listings, and how many ids in them were not popa3d's."""
    path = Path(tempfile.mkdtemp(dir=where))
    try:
        with quick(remembered):
            world = World(path, remembered < len(history))
            try:
                for step in history:
                    world.step(step)
                for number in range(CLIENTS):
                    world.log_in(number, 0)
                    world.list_ids(number, 0)
                    world.lose_cache(0, 0)
            finally:
                world.close()
            return world.listings, world.twins
    finally:
        shutil.rmtree(path)
