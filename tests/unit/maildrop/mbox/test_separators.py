"""maildrop/mbox/separators.py: which lines separate, against the rule written as regular expressions."""

import pytest

from popad.maildrop.mbox import separators
from popad.maildrop.mbox.separators import AHEAD, BEHIND, FEW, data_behind, next_separator
from tests.support.mailboxes import DATED
from tests.support.mboxes import messages

PROSE = (
    """
the station go north.
there it is a mile.
Black's Law Dictionary:
a b
a@b 1970-01-01 00:00:00
a@b Thu Jan  1 00:00:00
a@b Thu Jan  1 1970
a@b Thu Foo  1 00:00:00 1970
a@b Thx Jan  1 00:00:00 1970
a@b Thu Jan  x 00:00:00 1970
a@b Thu Jan  1 00:0x:00 1970
a@b Thu Jan  1 00 1970
a@b Thu Jan  1 00:00:00 197
a@b Thu Jan  1 00:00:00 1970 it was cold
a@b Thu Jan  1 00:00:00 1 2 3 1970
a@b Thu Jan  1 00:00:00 A B C 1970
a@b Thu Jan  1 00:00:00 1970 A B C
what he said Thu Jan  1 00:00:00 1970
a@b Thu Jan  1 00:00:00 1970.
a\tb Thu Jan  1 00:00:00 1970x
""".strip("\n")
    .encode()
    .split(b"\n")
)
UNDATED = [b"a", b"a@b", b" a ", b'"a b"@c', b"-", b"here:"]
HEADERS = [b"S: s\n", b"S:\n", b"S:s", b"!#$%&'*+-./09AZ^_`az{|}~: x\n", b"x" * 127 + b":\n"]
NO_HEADERS = [
    b"\n",
    b"text\n",
    b":\n",
    b"S : s\n",
    b"S/s: s: t\n"[3:],
    b"http://a\n",
    b" S: s\n",
    b"\xc4: s\n",
    b"x" * 128 + b":\n",
]
MAIL = b"From m\nS: 1\n\nbody\n"


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("kind", ["dated", "prose", "undated"])
def test_what_separates(kind: str, end: bytes) -> None:
    """Each line behind a blank line and behind another; before a header field, and before text. Cut or whole."""
    behind_blank = {"dated": (True, True), "prose": (False, False), "undated": (True, False)}[kind]
    behind_text = (kind == "dated", False)
    for line in {"dated": DATED, "prose": PROSE, "undated": UNDATED}[kind]:
        for blank, separates in ((end, behind_blank), (b"", behind_text)):
            for follow, separates_before in ((HEADERS, separates[0]), (NO_HEADERS, separates[1])):
                for behind in follow:
                    before = MAIL.replace(b"\n", end) + blank
                    line_end = len(before + b"From " + line + end)
                    text = before + b"From " + line + end + behind
                    found = next_separator(text, 0, complete=True)
                    assert found == ((len(before), line_end) if separates_before else (-1, 0)), text
                    assert [each.place for each in messages(text) or ()][1:] == [len(before)][:separates_before]
                    for cut in range(len(before), len(text)):
                        assert next_separator(text[:cut], 0, complete=False) in (found, (len(before), -1), (-1, 0))
                        told = data_behind(text[:cut], len(before), complete=False) if cut > len(before) + 5 else -1
                        assert told in (found[1], -1), text[:cut]


@pytest.mark.parametrize(
    "line", [b"\n\nFro", b"\nFrom ", b"\n\nFrom ", b"\nFrom x", b"\n\nFrom x\nand more", b"\n\r\nFrom x y"]
)
def test_lines_without_a_colon_are_passed_over(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A letter full of them costs little: no more than FEW are looked at, and some at the end of what is at hand."""
    looked_at = 0

    def count(text: bytes, place: int, complete: bool) -> int:
        nonlocal looked_at
        looked_at += 1
        return data_behind(text, place, complete)

    monkeypatch.setattr(separators, "data_behind", count)
    text = b"From a\nS: 1\n\n" + line * 20_000
    for complete in (False, True):
        place, start = next_separator(text, BEHIND, complete)
        assert start <= 0
        assert looked_at <= 3 * FEW
        if not complete and start < 0:
            assert len(text) - place < AHEAD
        looked_at = 0
    found = len(text) + len(b"\n\n")
    assert next_separator(text + b"\n\nFrom b\nS: 2\n", BEHIND, complete=True) == (found, found + 7)


def test_enough_is_at_hand() -> None:
    """With so many octets all that there is to tell can be told."""
    for line in (b"From " + b"x" * 969 + b" Thu Jan  1 00:00:00 1970\n", b"From " + b"x" * 2000):
        for name in (b"x" * 127 + b":xx", b"x" * 130):
            assert data_behind((b"x\n\n" + line + name)[: 3 + AHEAD], 3, complete=False) >= 0
