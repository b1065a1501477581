"""maildrop/mbox/scan.py against a model that reads line by line, at every size of block."""

import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from popad.errors import MaildropUnavailable
from popad.maildrop.mbox import scan
from popad.maildrop.mbox.separators import AHEAD
from popad.protocol import replies
from tests.support.mailboxes import DATED, REFUSED, SIZES, D, mailboxes
from tests.support.mboxes import messages


def scanned(text: bytes, block: int = scan.BLOCK, limit: int = 1000) -> scan.Messages:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "BLOCK", block)
        return scan.Scan(lambda count, offset: text[offset : offset + count], len(text), limit).run()


def outcome(text: bytes, block: int) -> list[tuple[int, int, bytes, int]] | None:
    """From line, start, data and size of each message; None for what is refused."""
    try:
        found = scanned(text, block)
    except MaildropUnavailable as unavailable:
        assert unavailable.code == "SYS/PERM"
        assert unavailable.reason.startswith("not an mbox: ")
        return None
    assert found.end == len(text)
    assert found.crc == zlib.crc32(text)
    rows = zip(found.froms, found.starts, found.ends, found.sizes, strict=True)
    return [(place, start, text[start:end], size) for place, start, end, size in rows]


def expected(text: bytes) -> list[tuple[int, int, bytes, int]] | None:
    """What a reader of lines finds."""
    found = messages(text)
    return found if found is None else [(each.place, each.start, each.data, len(each.wire)) for each in found]


@pytest.mark.parametrize(
    "text",
    [
        b"From a\nFrom b\nS: s\n\nb\n",
        b"From a%bFrom b%bS: s\n\nb\n" % (D, D),
        b"From a\n\nFrom b%bFrom c x\n" % D,
        b"From a\nS: 1\n\nb\n\nFrom b\n",
        b"From a\nS: 1\n\nb\n\nFrom b",
        b"From a\nS: 1\n\nb\n\nFrom ",
        b"From a\nS: 1\n\nb\n\nFrom b%b" % D,
        b"From a\nS: 1\n\nb\n\nFrom b Thu Jan",
        b"From a\n\nb\n\nFrom b%b" % D[:-1],
        b"From the station go north.\nFrom there it is a mile.\n",
        b"From a\nS: 1\n\nb\n\nFrom %b%bS: 2\n" % (b"x" * 975, D),
        b"From a",
        b"From a\r\n",
        b"From ",
    ],
)
def test_text_and_one_message(text: bytes) -> None:
    """From lines together, alone, cut or too long are text, and no reason to refuse a mailbox."""
    found = outcome(text, scan.BLOCK)
    assert found is not None
    assert [place for place, *_ in found] == [0]
    assert {str(outcome(text, block)) for block in range(1, 40)} == {str(found)}


@pytest.mark.parametrize("text", REFUSED)
def test_not_an_mbox(text: bytes) -> None:
    assert expected(text) is None
    for block in range(1, 40):
        assert outcome(text, block) is None, block


@pytest.mark.parametrize(("text", "sizes"), SIZES)
def test_sizes(text: bytes, sizes: list[int]) -> None:
    wanted = expected(text)
    assert wanted is not None
    assert [size for *_, size in wanted] == sizes  # the model is right
    for block in (*range(1, 60), 1 << 20):
        assert outcome(text, block) == wanted, block


@given(mailboxes, st.integers(1, 64))
def test_any_mailbox_at_any_size_of_block(text: bytes, block: int) -> None:
    assert outcome(text, block) == expected(text)


@given(mailboxes, st.sampled_from([b"\n", b"\r\n"]), st.sampled_from(DATED), st.booleans())
def test_what_is_appended_changes_nothing_before(text: bytes, end: bytes, line: bytes, blank: bool) -> None:
    """A message with a date in its From line, and a header where there is no blank line before it."""
    text += (b"" if text.endswith(b"\n") else end) + (end if blank else b"")
    before = outcome(text, 64)
    if before and text.count(b"\n") > 1:  # behind a From line alone in the file it is that message
        added = b"From " + line + end + (b"" if blank else b"S: s" + end) + end + b"body" + end
        after = outcome(text + added, 64)
        assert after is not None
        assert [place for place, *_ in after] == [*(place for place, *_ in before), len(text)]


# A blank line ends the header even where one of the other kind follows it.
@given(mailboxes)
@example(b"From a\nH\n\r\n\n")
@example(b"From a\nH\n\n\r\n")
@example(b"From a\nH\r\n\r\n\n")
@example(b"From a\nH\n\r\n\nFrom b\nH\n\r\n\n")
def test_any_mailbox_in_one_block(text: bytes) -> None:
    assert outcome(text, scan.BLOCK) == expected(text)


@given(mailboxes, st.integers(1, 64), st.integers(1, 8))
def test_size_is_what_retr_sends(text: bytes, block: int, sent: int) -> None:
    """LIST counts the octets of the body that a client has when it has taken the stuffed dots out."""
    found = outcome(text, block)
    for _, _, data, size in found or []:
        wire = b"".join(replies.body(data[place : place + sent] for place in range(0, len(data), sent)))
        lines = wire.split(b"\r\n")
        assert len(b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)) == size


@given(mailboxes)
def test_messages_fill_the_mailbox(text: bytes) -> None:
    """What QUIT cuts goes from a From line to the next: together the whole file, nothing between, nothing twice."""
    found = outcome(text, 16)
    if found:
        assert found[0][0] == 0
        for (_, start, data, _), following in zip(found, [place for place, *_ in found[1:]] + [len(text)], strict=True):
            assert start + len(data) <= following
            assert data or text.count(b"\n", 0, -1) == 0  # a From line alone in the file
            assert text[start + len(data) : following] in (b"", b"\n", b"\r\n")


def test_too_many_messages() -> None:
    text = b"From a\nS: 1\n\nx\n\n" * 5
    assert len(scanned(text, limit=5).sizes) == 5
    with pytest.raises(MaildropUnavailable) as unavailable:
        scanned(text, limit=4)
    assert unavailable.value.code == "SYS/PERM"
    assert "4 messages" in unavailable.value.reason


@pytest.mark.parametrize("left", [0, 3, 5, 20])
def test_a_mailbox_that_shrinks_meanwhile(left: int) -> None:
    """Its size was read before its octets are."""
    text = b"From a\n\nbody of a message\n\n"
    with pytest.raises(MaildropUnavailable) as unavailable:
        scan.Scan(lambda count, offset: text[:left][offset : offset + count], len(text), 10).run()
    if left >= 5:
        assert unavailable.value.code == "SYS/TEMP"


def test_a_mailbox_that_is_rewritten_meanwhile() -> None:
    """What is read twice must be the same, or the CRC would be of other octets."""
    text = b"From a\n\nbody of a message\n\nFrom b\n\nx\n\n"
    reads = 0

    def read(count: int, offset: int) -> bytes:
        nonlocal reads
        reads += 1
        return (text if reads < 3 else text.replace(b"s", b"z"))[offset : offset + count]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "BLOCK", 24)
        with pytest.raises(MaildropUnavailable) as unavailable:
            scan.Scan(read, len(text), 10).run()
    assert unavailable.value.code == "SYS/TEMP"
    assert "rewritten" in unavailable.value.reason


@pytest.mark.parametrize("piece", [1, 2, 3, 5])
@given(mailboxes, st.integers(1, 64))
def test_any_mailbox_in_any_pieces(piece: int, text: bytes, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "PIECE", piece)
        assert outcome(text, block) == expected(text)


@pytest.mark.parametrize("lines", [b"x\n" * 3 + b"long" * 40 + b"\n", b"x\r\n" * 40 + b"long" * 100 + b"\r\n"])
def test_short_and_long_lines(lines: bytes) -> None:
    """However they are counted."""
    text = b"".join(b"From a\nS: s\n\n" + lines * times + b"\n" for times in (1, 2, 300, 1, 0, 1000))
    assert outcome(text, 4096) == expected(text)


@pytest.mark.parametrize(
    "text",
    [b"From " + b"x" * 5_000_000, b"From a\nS: " + b"x" * 5_000_000, b"From a\n" + b"\n" * 5_000_000]
    + [b"From a\n\n" + (b"From " + b"x" * length + b" Thu\n") * (3_000_000 // length) for length in (900, 2_000_000)],
)
def test_memory_does_not_grow_with_a_line(text: bytes) -> None:
    class Watched(scan.Scan):
        most = 0

        def move_on(self) -> None:
            super().move_on()
            Watched.most = max(Watched.most, len(self.text))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "BLOCK", 65536)
        try:
            Watched(lambda count, offset: text[offset : offset + count], len(text), 10).run()
        except MaildropUnavailable as unavailable:
            assert "`From ` line" in unavailable.reason
    assert 0 < Watched.most <= AHEAD + 16
