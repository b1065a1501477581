"""maildrop/mbox/remembered.py: a message that is remembered counts where its borders are, and nowhere else.

What becomes of a session that finds them elsewhere is in test_index.py.
"""

import pytest

from popad.maildrop.mbox import remembered
from popad.maildrop.mbox.file import CONTENT_BLOCK
from popad.maildrop.mbox.scan import Messages, Scan

ONE, TWO = b"From a\nDate: 1\n\nbody 1\n\n", b"From b\nDate: 2\n\nbody 2\n"
LARGE = b"From c\nDate: 3\n\n" + b"line\n" * (CONTENT_BLOCK // 5) + b"\n"
EMPTY = b"From d\n"


def scanned(text: bytes) -> Messages:
    return Scan(lambda count, place: text[place : place + count], len(text), 10).run()


def octets_of(text: bytes, known: Messages, index: int) -> bytes | None:
    return remembered.octets_of(lambda count, place: text[place : place + count], known, index)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_message_that_is_there(index: int) -> None:
    text = ONE + ONE + TWO
    expected = b"Date: 2\n\nbody 2\n" if index == 2 else b"Date: 1\n\nbody 1\n"
    assert octets_of(text, scanned(text), index) == expected
    assert octets_of(text + ONE, scanned(text), index) == expected  # mail has come


@pytest.mark.parametrize("text", [LARGE + TWO, ONE + LARGE + TWO, ONE + LARGE])
def test_of_a_large_one_only_the_borders_are_read(text: bytes) -> None:
    read_here = 0

    def read(count: int, place: int) -> bytes:
        nonlocal read_here
        read_here += count
        return text[place : place + count]

    assert remembered.octets_of(read, scanned(text), text.startswith(ONE)) == b""
    assert read_here < 20


def test_an_empty_one() -> None:
    assert octets_of(EMPTY, scanned(EMPTY), 0) == b""
    assert octets_of(EMPTY.lower(), scanned(EMPTY), 0) is None


@pytest.mark.parametrize("message", [ONE, LARGE])
@pytest.mark.parametrize(
    ("there", "instead"),
    [
        (b"From a", b"from a"),  # its own line
        (b"\n\nFrom b", b"\n\nfrom b"),  # the next one's
        (b"\n\nFrom b", b"\nxFrom b"),
        (b"From a\n", b"From a "),
    ],
)
def test_a_border_that_is_not_there(message: bytes, there: bytes, instead: bytes) -> None:
    message = message.replace(b"From c", b"From a")
    text = message + TWO
    changed = text.replace(there, instead)
    assert changed != text
    assert octets_of(text, scanned(text), 0) is not None
    assert octets_of(changed, scanned(text), 0) is None


def test_a_mailbox_that_is_shorter() -> None:
    text = ONE + TWO
    for length in range(len(ONE) + len(b"From")):
        assert octets_of(text[:length], scanned(text), 0) is None
