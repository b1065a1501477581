"""maildrop/mbox/looked_at.py: who only looks finds what a session finds, and changes nothing."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popad.errors import MaildropChanged, MaildropUnavailable
from popad.maildrop.looked_at import SeenDirectory
from popad.maildrop.mbox import looked_at
from popad.maildrop.mbox.dotlock import TEMPORARY_PREFIX
from popad.maildrop.mbox.file import signature
from popad.maildrop.mbox.index import Index
from popad.maildrop.mbox.looked_at import SeenMbox
from popad.maildrop.mbox.store import LARGE, Mbox
from tests.support.box import ONE, THREE, TWO, Box, marks
from tests.support.edges import EDGES, REFUSED, crossing, generate
from tests.support.forked import as_nobody
from tests.support.here import CHECKOUT, ROOT
from tests.support.patience import wait_until
from tests.support.trees import tree
from tests.support.updates import MESSAGES, NEW, dies, spans_of

CORPUS = CHECKOUT / "tests/fuzz/corpus/mbox_scan"
MOST = 1000  # messages
OF_OTHERS = {
    **REFUSED,
    **EDGES,
    **dict(crossing()),
    **dict(generate(60, seed=7)),
    **{f"corpus {path.name}": path.read_bytes() for path in sorted(CORPUS.iterdir())},
}


class Place(Box):
    """With both directories as who only looks has them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, cached=True)
        self.seen_state, self.seen_cache = (SeenDirectory(str(path)) for path in (self.state_path, self.cache_path))

    def close(self) -> None:
        self.seen_state.close()
        self.seen_cache.close()
        super().close()


def links() -> Iterator[str]:
    """What this process has open."""
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/self/fd/{fd}")


def look(box: Place, locks: str = "auto", wait: Callable[[SeenMbox], None] = lambda _: None) -> SeenMbox:
    """Without a change of anything; what it refuses is refused."""
    before = tree(box.path.parent)
    path = str(box.path)
    try:
        files, cache = box.seen_state.files_of(path), box.seen_cache.files_of(path)
        seen = SeenMbox(path, files, MOST, 0, locks, cache, None, wait)
        if not seen.half_moved:
            listed(seen)
        return seen
    finally:
        assert tree(box.path.parent) == before


def listed(store: Mbox) -> list[tuple[int, str]]:
    ids = store.unique_ids()
    return [(size, ids[index]) for index, size in enumerate(store.sizes)]


def answer(work: Callable[[], Mbox]) -> list[tuple[int, str]] | tuple[str, str]:
    """What a client would see, or why there is nothing."""
    try:
        return listed(work())
    except MaildropUnavailable as refused:
        return refused.code, refused.reason


@pytest.fixture
def box(quick_path: Path, still_clock: None) -> Iterator[Place]:
    (quick_path / "looked at").mkdir()
    box = Place(quick_path / "looked at")
    yield box
    # Who touches a lock file closes its descriptor some time after the lock was released; others count descriptors.
    wait_until(lambda: not any(TEMPORARY_PREFIX in link for link in links()))
    box.close()
    shutil.rmtree(quick_path / "looked at")


@pytest.mark.parametrize("name", OF_OTHERS)
def test_mailboxes_of_other_programs(box: Place, name: str) -> None:
    """Before a session has seen them, and behind it."""
    box.fill(OF_OTHERS[name])
    before = answer(lambda: look(box))
    assert before == answer(box.open)
    assert answer(lambda: look(box)) == before


@pytest.mark.parametrize("seed", range(25))
def test_any_history(box: Place, seed: int) -> None:
    """What is remembered of ids, twins and those that are gone, and what is not written yet."""
    rng = random.Random(seed)
    box.fill(b"")
    for _ in range(8):
        for _ in range(rng.randrange(4)):
            box.append(rng.choice((ONE, TWO, THREE, ONE.replace(b"body", b"other"), b"From d\n\nno header\n\n")))
        before = answer(lambda: look(box))
        store = box.open()
        if rng.random() < 0.7:
            assert listed(store) == before
            assert answer(lambda: look(box)) == before
        if len(store.sizes) and rng.random() < 0.7:
            store.remove(marks(store, *rng.sample(range(1, len(store.sizes) + 1), rng.randint(1, len(store.sizes)))))
        os.close(store.fd)


def test_twins_that_have_not_been_listed(box: Place) -> None:
    """A session writes down which has which, before it says so."""
    box.fill(ONE + ONE.replace(b"body", b"other") + TWO)
    seen = look(box)
    assert seen.unwritten.would_write
    box.open().id_numbers()
    assert box.ids.exists()
    again = look(box)
    assert not again.unwritten.would_write
    assert listed(again) == listed(seen)


# -- what is in the way


def symbolic_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def holes(path: Path) -> None:
    os.truncate(path, 1 << 30)


@pytest.mark.parametrize("spoil", [symbolic_link, fifo, directory, holes])
def test_what_is_refused(box: Place, spoil: Callable[[Path], None]) -> None:
    """In the words of a session."""
    spoil(box.path)
    refused = answer(box.open)
    assert isinstance(refused, tuple)
    assert answer(lambda: look(box)) == refused


def test_no_spool(box: Place) -> None:
    path = str(box.path.parent / "none" / "mailbox")
    with pytest.raises(MaildropUnavailable, match="there is no directory"):
        SeenMbox(path, box.seen_state.files_of(path), MOST, 0, "auto", None, None, lambda _: None)


def test_a_missing_mailbox(box: Place) -> None:
    box.path.unlink()
    assert answer(lambda: look(box)) == answer(box.open) == []


@pytest.mark.skipif(not ROOT, reason="needs root: gives files away")
@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_what_its_user_may_not_write(public_path: Path, mode: int, still_clock: None) -> None:
    """A session opens it for writing, and is refused."""
    box = Box(public_path)
    for path in (box.path, box.state_path, box.state_path / ".key"):
        os.chown(path, 65534, 65534)
    box.path.chmod(mode)
    mailbox = str(box.path)
    said = as_nobody(lambda: str(answer(box.open)))
    assert "Permission denied" in said

    def seen() -> SeenMbox:
        files = SeenDirectory(str(box.state_path)).files_of(mailbox)
        return SeenMbox(mailbox, files, MOST, 0, "auto", None, None, lambda _: None)

    assert as_nobody(lambda: str(answer(seen))) == said
    box.close()


@pytest.mark.skipif(not ROOT, reason="needs root: gives files away")
def test_a_lock_file_that_its_user_cannot_make(public_path: Path, still_clock: None) -> None:
    box = Box(public_path)
    for path in (box.path, box.state_path, box.state_path / ".key"):
        os.chown(path, 65534, 65534)
    mailbox = str(box.path)

    def session() -> Mbox:
        return Mbox(mailbox, box.state.files_of(mailbox), 1, MOST, 0, "fcntl,dotlock")

    def seen() -> SeenMbox:
        files = SeenDirectory(str(box.state_path)).files_of(mailbox)
        return SeenMbox(mailbox, files, MOST, 0, "fcntl,dotlock", None, None, lambda _: None)

    said = as_nobody(lambda: str(answer(session)))
    assert "POPAD_LOCKS wants" in said
    assert as_nobody(lambda: str(answer(seen))) == said
    box.close()


# -- updates that were cut short


@pytest.mark.parametrize("gone", [{1}, {0, 3}, {2, 4}])
@pytest.mark.parametrize("appended", [b"", NEW])
def test_what_a_session_makes_of_an_update_that_died(box: Place, gone: set[int], appended: bytes) -> None:
    """At each of its calls: whether it has to be finished, and what is listed where it has not."""
    death = unfinished = 0
    while True:
        box.fill(b"".join(MESSAGES))
        died = dies(lambda: box.remove(spans_of(MESSAGES, gone)), death)
        box.append(appended)
        seen = look(box)
        unfinished += seen.half_moved
        before = None if seen.half_moved else listed(seen)
        recovered = box.recover()
        assert (recovered.finished, recovered.kept) == (seen.half_moved, "")
        if before is not None:
            assert before == listed(box.open())
        if not died:
            break
        death += 1
    assert unfinished > 2


def interrupted(box: Place) -> None:
    """Message 1 is on its way out."""
    for death in range(30):
        box.fill(b"".join(MESSAGES))
        dies(lambda: box.remove(spans_of(MESSAGES, {1})), death)
        if box.unfinished and look(box).half_moved:
            return
    raise AssertionError


SPOILED: dict[str, Callable[[Place], None]] = {
    "another file": lambda box: box.replace(box.content),
    "changed in front": lambda box: box.write(b"#", 3),
    "shrunk": lambda box: os.truncate(box.path, len(box.content) - 1),
    "not an mbox any more": lambda box: box.replace(b"x" + box.content),
    "open to others": lambda box: box.redo_log.chmod(0o620),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_redo_log_that_must_not_be_applied(box: Place, name: str) -> None:
    """And what a session calls it then; where that is refused, in the session's words."""
    interrupted(box)
    SPOILED[name](box)
    before = answer(lambda: look(box))
    foreign = None if isinstance(before, tuple) else look(box).redo_logs[0]
    try:
        store = box.open()
    except MaildropUnavailable as refused:
        assert before == (refused.code, refused.reason)
        return
    assert before == listed(store)
    assert foreign and store.recovery
    assert not foreign.is_unfinished
    assert foreign.foreign == store.recovery.reason


# -- the index


def test_what_an_index_is_worth(box: Place) -> None:
    large = ONE[:-1] + b"x" * LARGE + b"\n\n"
    assert look(box).index_state == looked_at.SMALL
    box.fill(large + TWO)
    assert look(box).index_state == looked_at.MISSING
    box.learn()
    assert look(box).index_state == looked_at.FITS
    box.append(THREE)
    assert look(box).index_state == looked_at.GROWN
    box.write(b"y", 100)
    assert look(box).index_state == looked_at.OLD
    box.index.write_bytes(b"x")
    assert look(box).index_state == looked_at.NOT_BELIEVED
    path = str(box.path)
    seen = SeenMbox(path, box.seen_state.files_of(path), MOST, 0, "auto", None, None, lambda _: None)
    assert seen.index_state == looked_at.NO_CACHE


def test_an_index_that_lies_stays(box: Place) -> None:
    """A session removes one whose message is not where it was; who only looks says so."""
    box.fill(ONE[:-1] + b"x" * LARGE + b"\n\n" + TWO)
    known = box.learn(unique_ids=False).messages
    box.write(b"#", box.content.rindex(b"From b"))
    Index(box.index_files).store(known, signature(os.stat(box.path)))
    with pytest.raises(MaildropChanged, match="message 1 is not where it was"):
        look(box)
    assert box.index.exists()
    with pytest.raises(MaildropChanged, match="message 1 is not where it was"):
        box.open().id_numbers()
    assert not box.index.exists()
