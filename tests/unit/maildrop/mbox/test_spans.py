"""maildrop/mbox/spans.py: when messages go, the others are what they were."""

from hypothesis import assume, example, given
from hypothesis import strategies as st

from popad.maildrop.mbox.scan import Scan
from popad.maildrop.mbox.spans import spans
from tests.support.mailboxes import mailboxes
from tests.support.mboxes import messages

DATED = b"From b Thu Jan  1 00:00:00 1970\n"


def removed(text: bytes, flags: list[bool], appended: bytes = b"") -> tuple[list[bytes], bytes]:
    """What stays of the messages, and of the mailbox, to which others have appended meanwhile."""
    found = Scan(lambda count, offset: text[offset : offset + count], len(text), 100).run()
    flags = (flags + [False] * len(found.froms))[: len(found.froms)]
    now = text + appended
    goes, _ = spans(lambda count, offset: now[offset : offset + count], found, bytearray(flags))
    left = now
    for begin, end in reversed(goes):
        left = left[:begin] + left[end:]
    kept = [text[start:end] for start, end, flag in zip(found.starts, found.ends, flags, strict=True) if not flag]
    return kept, left


def same(stays: bytes, was: bytes) -> bool:
    """As it was, but for the blank line that ends a header, if there was none."""
    return stays == was or (stays in (was + b"\n", was + b"\r\n") and b"\n\n" not in was and b"\n\r\n" not in was)


ENDS = st.lists(st.booleans(), max_size=8)
NO_BLANK_LINE = b"From a\nS: 1\n\nbody\n" + DATED + b"S: 2\n\nbody\n\n"


@given(mailboxes | st.lists(mailboxes, min_size=2, max_size=4).map(b"".join), ENDS)
@example(NO_BLANK_LINE + b"From c\nS: 3\n\nbody\n", [False, True])
@example(NO_BLANK_LINE + DATED + b"\nbody\n", [False, True])
@example(NO_BLANK_LINE.replace(b"\n", b"\r\n") + b"From c\r\nS: 3\r\n\r\nbody\r\n", [False, True])
@example(b"From a\nS: 1\n" + DATED + b"S: 2\n\n\nFrom c\nS: 3\n", [False, True])
def test_the_others_stay(text: bytes, flags: list[bool]) -> None:
    assume(text.startswith(b"From "))
    kept, left = removed(text, flags)
    assume(not any(b"From " in data.splitlines(keepends=True)[-1] for data in kept if data))  # see spans.py
    stays = [message.data for message in messages(left) or ()]
    assert len(stays) == len(kept)
    assert all(same(*pair) for pair in zip(stays, kept, strict=True)), (left, kept)


@given(mailboxes, ENDS, st.sampled_from([b"From n\nS: 9\n\nnew\n", DATED + b"\nnew\n", DATED + b"S: 9\n\nnew\n"]))
def test_what_was_appended_stays_a_message(text: bytes, flags: list[bool], appended: bytes) -> None:
    """By a delivery that other programs take for one: behind a blank line."""
    text = text.rstrip(b"\r\n") + b"\n\n"
    assume(text.startswith(b"From ") and text.count(b"\n") > 2)
    kept, left = removed(text, flags, appended)
    assume(not any(b"From " in data.splitlines(keepends=True)[-1] for data in kept if data))
    assert (messages(left) or [])[-1].data == appended.split(b"\n", 1)[1]


def test_messages_that_stand_together_are_one_span() -> None:
    text = b"From a\nS: 1\n\nbody\n\n" * 6
    found = Scan(lambda count, offset: text[offset : offset + count], len(text), 100).run()
    each = len(text) // 6
    goes, blank_lines_stay = spans(
        lambda count, offset: text[offset : offset + count], found, bytearray(b"\1\1\0\1\0\1")
    )
    assert goes == [(0, 2 * each), (3 * each, 4 * each), (5 * each, 6 * each)]
    assert not blank_lines_stay


def test_a_blank_line_is_kept_only_where_it_is_needed() -> None:
    for behind, needed in ((b"From c\nS: 3\n", True), (DATED + b"S: 3\n", False), (DATED + b"text\n", True)):
        for before in (b"body\n", b"body\n\n"):
            text = b"From a\nS: 1\n\n" + before + DATED + b"S: 2\n\nbody\n\n" + behind
            _, left = removed(text, [False, True])
            blank_line = b"\n" if needed and before == b"body\n" else b""
            assert left == b"From a\nS: 1\n\n" + before + blank_line + behind
