"""Updates of an mbox that die at any of their calls, for the tests of updates and of their recovery."""

import os
from collections.abc import Callable
from typing import Any

from popad.maildrop.mbox import record
from tests.support.box import Box

MESSAGES = [b"From %d\nDate: %d\n\n%b\n\n" % (n, n, bytes([97 + n]) * (n * 7 + 1)) for n in range(6)]
NEW = b"From new\nDate: 9\n\nmail from another program, meanwhile\n\n"
CALLS = ("pwrite", "fsync", "fdatasync", "ftruncate", "posix_fallocate", "rename", "unlink", "open", "link")
DIED = 33


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


def dies(work: Callable[[], object], after: int, torn: bool = False) -> bool:
    """Do `work` in a child that dies when it has made `after` calls. False where the work was done before.

    `torn`: the call that would be the next writes the first half of what it should, if it writes.
    """
    pid = os.fork()
    if pid == 0:
        try:
            count = 0

            def counted(name: str) -> Callable[..., object]:
                real = getattr(os, name)

                def call(*arguments: Any, **options: Any) -> object:
                    nonlocal count
                    if count == after:
                        if torn and name == "pwrite":
                            fd, data, place = arguments
                            real(fd, data[: len(data) // 2], place)
                        os._exit(DIED)
                    count += 1
                    return real(*arguments, **options)

                return call

            for name in CALLS:
                setattr(os, name, counted(name))
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, DIED)
    return status == DIED


def record_of(box: Box, slot: int) -> record.Record | None:
    """What is in the first or second slot of the journal, if there is one."""
    text = box.redo_log.read_bytes() if box.redo_log.exists() else b""
    return record.Record.unpack(text[slot * record.SLOT : (slot + 1) * record.SLOT])
