"""maildrop/maildir/looked_at.py: who only looks finds what a session finds, and changes nothing."""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from popad.errors import MaildropUnavailable, MaildropUnreadable
from popad.maildrop.looked_at import SeenDirectory
from popad.maildrop.maildir import looked_at
from popad.maildrop.maildir.looked_at import SeenMaildir
from popad.maildrop.maildir.sizes import FEW
from popad.maildrop.maildir.store import Maildir
from tests.support.generated import KINDS, as_layout
from tests.support.layouts import LAYOUTS, Layout
from tests.support.maildirs import MOST, Mail, ids
from tests.support.trees import tree

GENERATED = [as_layout(f"{name} {seed}", make(random.Random(seed))) for name, make in KINDS.items() for seed in (1, 2)]
MANY = 10_000
Answer = list[tuple[int, str]] | tuple[str, str]


@pytest.fixture
def mail(tmp_path: Path) -> Mail:
    return Mail(tmp_path)


def look(mail: Mail, *, cached: bool = True, missing_is_empty: bool = True) -> SeenMaildir:
    before = tree(mail.path.parent)
    cache = SeenDirectory(str(mail.cache_path)).files_of(str(mail.path)) if cached else None
    try:
        return SeenMaildir(str(mail.path), MOST, 0, cache, None, missing_is_empty=missing_is_empty)
    finally:
        assert tree(mail.path.parent) == before


def answer(work: Callable[[], Maildir]) -> Answer:
    """What a client would see, or why there is nothing."""
    try:
        store = work()
        return list(zip(store.sizes, ids(store), strict=True))
    except (MaildropUnavailable, MaildropUnreadable) as refused:
        return refused.code, str(refused)


def session(mail: Mail) -> Answer:
    try:
        with mail.opened(cached=True) as store:
            return answer(lambda: store)
    except MaildropUnavailable as refused:
        return refused.code, refused.reason


@pytest.mark.parametrize("layout", [*LAYOUTS, *GENERATED], ids=lambda layout: layout.name)
def test_maildirs_of_other_programs(mail: Mail, layout: Layout) -> None:
    """Before a session has seen them, and behind it."""
    for name, content in layout.files.items():
        (mail.path / name).parent.mkdir(parents=True, exist_ok=True)
        (mail.path / name).write_bytes(content)
    layout.more(mail.path)
    before = answer(lambda: look(mail, cached=False))
    assert before == session(mail)
    assert answer(lambda: look(mail)) == session(mail)


def test_names_that_a_session_gives(mail: Mail) -> None:
    """Two messages with one base: the later one is shown as it will be called, and is called as it was."""
    mail.deliver(b"S: 1\n\nolder\n", "1600000001.M1P1.host:2,S", cur=True)
    newer = mail.deliver(b"S: 2\n\nnewer one\n", "1600000001.M1P1.host")
    os.utime(mail.path / "new" / newer, (2**31, 2**31))
    seen = look(mail, cached=False)
    ((becomes, (_, name)),) = seen.directories.becomes.items()
    assert (name, ",twin=" in becomes) == (newer, True)
    assert sorted(seen.sizes) == [15, 19]
    assert mail.there()["new"] == [newer]
    before = answer(lambda: seen)
    assert session(mail) == before
    assert mail.there()["new"] == [becomes]


def test_what_is_remembered_is_worth(mail: Mail) -> None:
    assert look(mail, cached=False).cache_state == looked_at.NO_CACHE
    with mail.opened(cached=True):
        pass
    for _ in range(FEW - 1):
        mail.deliver()
    assert look(mail).cache_state == looked_at.SMALL
    mail.deliver()
    assert look(mail).cache_state == looked_at.MISSING
    for part in ("new", "cur"):
        os.utime(mail.path / part, (1_600_000_000, 1_600_000_000))
    with mail.opened(cached=True):
        pass
    assert look(mail).cache_state == looked_at.FITS
    mail.deliver()
    assert look(mail).cache_state == looked_at.OLD


def test_what_is_no_message(mail: Mail) -> None:
    mail.deliver()
    mail.deliver(name="1600000002.M2P1.host:2,ST", cur=True)
    (mail.path / "cur" / ".nfs1").touch()
    os.mkfifo(mail.path / "new" / "1600000003.fifo")
    seen = look(mail, cached=False)
    assert len(seen.names) == 1
    assert sorted(seen.others()) == [
        ("cur/.nfs1", looked_at.DOT),
        ("cur/1600000002.M2P1.host:2,ST", looked_at.MARKED),
        ("new/1600000003.fifo", looked_at.NO_FILE),
    ]


def test_many_files_that_are_no_messages_take_no_memory(mail: Mail) -> None:
    """A session does not count them, and a user may have any number."""
    for number in range(MANY):
        (mail.path / "cur" / f".{number}").touch()
    seen = look(mail, cached=False)
    tracemalloc.start()
    try:
        assert sum(1 for _ in seen.others()) == MANY
        assert tracemalloc.get_traced_memory()[1] < 10 * MANY
    finally:
        tracemalloc.stop()


def test_no_maildir(mail: Mail) -> None:
    for part in ("new", "cur", "tmp"):
        (mail.path / part).rmdir()
    mail.path.rmdir()
    assert not look(mail, cached=False).directories.are_there
    with pytest.raises(MaildropUnavailable, match="No such file"):
        look(mail, cached=False, missing_is_empty=False)
