"""maildrop/conversion/conversion.py: any history of a maildrop that is converted there and back, and failures."""

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popad.maildrop.conversion import building
from popad.maildrop.conversion.building import NotConverted
from tests.support import clock
from tests.support.conversions import Mails, Shown

STEPS = ["deliver", "deliver", "deliver", "twin", "session", "delete", "flags", "remove", "empty cache", "convert"]
HEADER = b"Received: x\nMessage-ID: <%d@x>\n\n"


class History:
    """What has been delivered, and what each id has been shown for."""

    def __init__(self, place: Path) -> None:
        place.mkdir()
        self.mails = Mails(place)
        self.delivered: list[bytes] = []  # as they are served
        self.there: list[int] = []
        self.ids: dict[str, int] = {}  # every id that was ever shown
        self.is_maildir = False
        self.mails.mbox.touch()

    def deliver(self, header: int) -> None:
        number = len(self.delivered)
        text = HEADER % header + b"message %d\n" % number + b"line\n" * (number % 3)
        self.delivered.append(text.replace(b"\n", b"\r\n"))
        self.there.append(number)
        if self.is_maildir:
            self.mails.deliver(f"{int(time.time()) + number}.M{number:05}.h", text)
        else:
            with self.mails.mbox.open("ab") as file:
                file.write(b"From a Thu Jan  1 10:%02d:00 2015\n" % (59 - number % 60) + text + b"\n")

    def session(self, delete: int = -1) -> None:
        """All is as it should be; then a message is deleted."""
        path = self.mails.maildir if self.is_maildir else self.mails.mbox
        shown = self.mails.shown(path)
        self.check(shown)
        if delete >= 0 and shown:
            with self.mails.opened(path) as store:
                store.remove(bytearray(index == delete % len(shown) for index in range(len(shown))))
            del self.there[delete % len(shown)]

    def check(self, shown: list[Shown]) -> None:
        assert [message.wire for message in shown] == [self.delivered[number] for number in self.there]
        assert [message.size for message in shown] == [len(message.wire) for message in shown]
        for message, number in zip(shown, self.there, strict=True):
            assert self.ids.setdefault(message.unique_id, number) == number, "an id has passed on"
        known = {number: text for text, number in reversed(self.ids.items())}
        assert [message.unique_id for message in shown] == [known[number] for number in self.there], "an id has changed"

    def others(self, step: str, number: int) -> None:
        """What other programs do to a Maildir, which popad notices; it does not if they do it to an mbox."""
        files = sorted(self.mails.maildir.rglob("*/*")) if self.is_maildir else []
        if not files:
            return
        index = number % len(files)
        path = sorted(files, key=lambda path: path.name)[index]
        if step == "remove":
            path.unlink()
            del self.there[index]
        else:
            base = path.name.partition(":")[0]
            path.rename(self.mails.maildir / "cur" / f"{base}:2,{('', 'S', 'FR', 'D')[number % 4]}")

    def convert(self) -> None:
        report = self.mails.to_mbox(renames=True) if self.is_maildir else self.mails.to_maildir(renames=True)
        assert (report.messages, report.changed, report.arrived) == (len(self.there), 0, 0)
        self.is_maildir = not self.is_maildir
        assert self.mails.left() >= {"maildir" if self.is_maildir else "mbox"}
        for left in self.mails.place.glob("*.converted-*"):
            left.rename(self.mails.place.parent / f"{self.mails.place.name}-{os.urandom(8).hex()}")


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 20)), max_size=20))
def test_any_history(quick_path: Path, steps: list[tuple[str, int]]) -> None:
    """Ids, sizes and octets are never wrong, and no id passes on."""
    with clock.not_waited_for():
        history = History(quick_path / os.urandom(8).hex())
        for step, number in [*steps, ("session", 0), ("convert", 0), ("session", 0), ("convert", 0), ("session", 0)]:
            if step == "deliver":
                history.deliver(len(history.delivered))
            elif step == "twin":
                history.deliver(number % 3)
            elif step in ("session", "delete"):
                history.session(number if step == "delete" else -1)
            elif step == "empty cache":
                for path in history.mails.cache_path.iterdir():
                    path.unlink()
            elif step == "convert":
                history.convert()
            else:
                history.others(step, number)
        history.mails.close()


@pytest.fixture
def mails(tmp_path: Path) -> Mails:
    mails = Mails(tmp_path)
    mails.mbox.write_bytes(b"".join(b"From a\nDate: %d\n\nbody\n\n" % number for number in range(5)))
    return mails


def copied_back(mails: Mails) -> Mails:
    mails.to_maildir(renames=True)
    for path in mails.place.glob("mbox.*"):
        path.unlink()
    return mails


@pytest.mark.parametrize("to_mbox", [False, True])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_no_room_leaves_nothing(
    mails: Mails, monkeypatch: pytest.MonkeyPatch, to_mbox: bool, number: int, call: str
) -> None:
    if to_mbox:
        copied_back(mails)
    before = mails.left()
    usual: Callable[..., int] = getattr(os, call)
    count = iter(range(100))

    def fails(*arguments: object) -> int:
        if next(count) == (0 if call == "fsync" else 4):
            raise OSError(number, os.strerror(number))
        return usual(*arguments)

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(NotConverted, match=os.strerror(number).split(maxsplit=1)[0]):
        mails.to_mbox() if to_mbox else mails.to_maildir()
    monkeypatch.undo()
    assert mails.left() == before


@pytest.mark.parametrize("to_mbox", [False, True])
def test_it_is_told_to_end(mails: Mails, to_mbox: bool) -> None:
    if to_mbox:
        copied_back(mails)
    before = mails.left()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(NotConverted, match="told to end"):
            mails.to_mbox() if to_mbox else mails.to_maildir()
        signal.sigwait({signal.SIGTERM})
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert mails.left() == before


@pytest.mark.parametrize("to_mbox", [False, True])
def test_what_died_before_is_cleaned_up(mails: Mails, monkeypatch: pytest.MonkeyPatch, to_mbox: bool) -> None:
    if to_mbox:
        copied_back(mails)
    before = mails.left()

    def dies(self: building.Place) -> None:
        os._exit(0)

    if not (pid := os.fork()):
        monkeypatch.setattr(building.Place, "take_name", dies)
        mails.to_mbox() if to_mbox else mails.to_maildir()
    os.waitpid(pid, 0)
    assert len(mails.left()) == len(before) + 1
    shown = mails.shown(mails.maildir if to_mbox else mails.mbox)
    report = mails.to_mbox() if to_mbox else mails.to_maildir()
    assert report.messages == 5
    assert mails.left() == {"mbox", "maildir"}
    assert mails.shown(mails.mbox if to_mbox else mails.maildir) == shown


def test_a_source_that_cannot_be_renamed_is_not_converted(mails: Mails, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    with pytest.raises(NotConverted, match="no right to rename"):
        mails.to_maildir(renames=True)
    assert mails.left() == {"mbox"}


def test_a_limit_of_popads_is_one_here(mails: Mails) -> None:
    mails.settings.max_messages = 4
    with pytest.raises(NotConverted, match="more than 4 messages"):
        mails.to_maildir()
    mails.settings.max_messages = 5
    copied_back(mails)
    mails.settings.max_messages = 4
    with pytest.raises(NotConverted, match="more than 4 messages"):
        mails.to_mbox()
    assert mails.left() == {"maildir"}


def test_what_fits_an_mbox_and_no_maildir_is_not_converted(mails: Mails) -> None:
    """A Maildir is counted with both octets of each line end: popad would not serve it."""
    mails.mbox.write_bytes(b"From a\n" + b"\n" * 100)
    mails.settings.max_octets = 150
    with pytest.raises(NotConverted, match="the limit of a Maildir is 150"):
        mails.to_maildir()
    assert mails.left() == {"mbox"}


def test_ids_that_an_mbox_has_by_itself_need_no_list(mails: Mails) -> None:
    before = mails.shown(mails.mbox)
    assert mails.to_maildir(renames=True).listed == 5
    assert mails.to_mbox().listed == 0
    assert mails.shown(mails.mbox) == before
