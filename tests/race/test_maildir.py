"""A Maildir with everybody at it at once: who delivers, a mail reader that sets flags and moves, and two sessions that
fetch and delete. No message is lost, none is fetched twice by who has deleted it, and each has its octets.
"""

import multiprocessing
import os
import random
import time
from collections import Counter
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

from popad.errors import MaildropUnavailable, MessageGone
from popad.maildrop.maildir.names import base_of
from popad.maildrop.maildir.store import Maildir
from tests.support.maildirs import Mail, ids
from tests.support.patience import PATIENCE

DELIVERIES, DELIVERERS = int(os.environ.get("POPAD_TEST_DELIVERIES", "600")), 3
MOST = 1_000_000


def content_of(base: str) -> bytes:
    return f"Subject: {base}\n\n{base}\n".encode()


def deliver(path: Path, who: int, count: int) -> None:
    """As maildir(5) has it: written to tmp/, durable or not, then moved to new/."""
    for number in range(count):
        base = f"{1_600_000_000 + number}.M{number}P{who}.host"
        (path / "tmp" / base).write_bytes(content_of(base))
        (path / "tmp" / base).rename(path / "new" / base)


def read_mail(path: Path, done: Event) -> None:
    """Moves what is new, and sets and takes flags."""
    rng = random.Random(1)
    while not done.is_set():
        for part in ("new", "cur"):
            for name in os.listdir(path / part):
                if rng.random() < 0.3:
                    flags = "".join(sorted(rng.sample("DFRS", rng.randint(0, 4))))
                    try:
                        (path / part / name).rename(path / "cur" / f"{base_of(name)}:2,{flags}")
                    except FileNotFoundError:
                        pass  # it has been removed


def fetch_and_delete(path: Path, done: Event, found: "Queue[list[str] | str]", seed: int) -> None:
    """Sessions, one after the other; what each has removed after it had it whole."""
    rng = random.Random(seed)
    removed: list[str] = []
    try:
        last = False
        while not last:
            last = done.is_set()  # one more behind the last delivery
            store = Maildir(str(path), MOST, 0)
            texts = ids(store)
            marks = bytearray(len(texts))
            for index, base in enumerate(texts):
                if not last and rng.random() < 0.5:
                    continue
                try:
                    whole = b"".join(store.content(index))
                except MessageGone:
                    continue
                if whole != content_of(base):
                    found.put(f"{base}: {whole!r}")
                    return
                marks[index] = 1
            try:
                store.remove(marks)
            except MaildropUnavailable as failure:
                found.put(failure.reason)
                return
            finally:
                store.directories.close()
            removed += [base for index, base in enumerate(texts) if marks[index]]
    finally:
        found.put(removed)


def test_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    mail = Mail(tmp_path)
    context = multiprocessing.get_context("fork")
    done: Event = context.Event()
    results: list[Queue[list[str] | str]] = [context.Queue() for _ in range(2)]
    each = DELIVERIES // DELIVERERS
    deliverers = [context.Process(target=deliver, args=(mail.path, who, each)) for who in range(DELIVERERS)]
    others = [context.Process(target=read_mail, args=(mail.path, done))]
    others += [
        context.Process(target=fetch_and_delete, args=(mail.path, done, queue, seed))
        for seed, queue in enumerate(results)
    ]
    for process in (*deliverers, *others):
        process.start()
    for process in deliverers:
        process.join(PATIENCE)
        assert process.exitcode == 0
    began = time.monotonic()
    done.set()
    removed = [queue.get(timeout=PATIENCE) for queue in results]
    for process in others:
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert time.monotonic() - began < PATIENCE
    assert all(isinstance(each, list) for each in removed), removed
    counts = Counter(base for each in removed for base in each)
    delivered = {
        f"{1_600_000_000 + number}.M{number}P{who}.host" for who in range(DELIVERERS) for number in range(each)
    }
    left = {base_of(name) for part in ("new", "cur") for name in os.listdir(mail.path / part)}
    assert set(counts) | left == delivered
    assert not set(counts) & left
    for removed_by_one in removed:
        assert len(removed_by_one) == len(set(removed_by_one)), "a message that was deleted was there again"
