"""Updates of an mbox that die at any of their calls, for the tests of updates and of their recovery."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from popad.maildrop.mbox import record
from tests.support.box import Box

MESSAGES = [b"From %d\nDate: %d\n\n%b\n\n" % (n, n, bytes([97 + n]) * (n * 7 + 1)) for n in range(6)]
NEW = b"From new\nDate: 9\n\nmail from another program, meanwhile\n\n"
CALLS = ("pwrite", "fsync", "fdatasync", "ftruncate", "posix_fallocate", "rename", "unlink", "open", "link")


def spans_of(messages: list[bytes], gone: set[int]) -> list[tuple[int, int]]:
    """The places of the messages that go; neighbours stay separate spans, as mbox.py makes them."""
    spans, place = [], 0
    for number, message in enumerate(messages):
        if number in gone:
            spans.append((place, place + len(message)))
        place += len(message)
    return spans


def without(messages: list[bytes], gone: set[int]) -> bytes:
    return b"".join(message for number, message in enumerate(messages) if number not in gone)


class Died(BaseException):
    """In place of a death. Nothing in popad catches it, so that what runs on its way out is what closes files."""


def dies(work: Callable[[], object], after: int, torn: bool = False) -> bool:
    """Do `work` up to its `after`-th call. False where the work was done before.

    From the next call on, nothing reaches the files: that is what a death leaves behind. It is played in this process,
    as a test has hundreds of deaths and a fork takes 10 ms; tests/faults kills processes at each call.

    `torn`: the call that would be the next writes the first half of what it should, if it writes.
    """
    count = 0
    opened = os.listdir("/proc/self/fd")

    def counted(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> object:
            nonlocal count
            count += 1
            if count <= after:
                return real(*arguments, **options)
            if count == after + 1 and torn and name == "pwrite":
                fd, data, place = arguments
                real(fd, data[: len(data) // 2], place)
            raise Died

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, counted(name))
        try:
            work()
        except Died:
            pass
    assert os.listdir("/proc/self/fd") == opened
    return count > after


def record_of(box: Box, slot: int) -> record.Record | None:
    """What is in the first or second slot of the redo log, if there is one."""
    text = box.redo_log.read_bytes() if box.redo_log.exists() else b""
    return record.Record.unpack(text[slot * record.SLOT : (slot + 1) * record.SLOT])
