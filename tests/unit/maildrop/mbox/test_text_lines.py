"""maildrop/mbox/text_lines.py: each line that begins with `From ` separates, or is told, with what keeps it from
separating.
"""

from __future__ import annotations

import re

import pytest

from popad.errors import MaildropUnavailable
from popad.maildrop.mbox import text_lines as module
from popad.maildrop.mbox.scan import Messages, Scan
from popad.maildrop.mbox.separators import AHEAD, BEHIND
from popad.maildrop.mbox.text_lines import text_lines
from tests.support.edges import EDGES, crossing, generate

DATED = b"From a Thu Jan  1 00:00:00 1970\n"
FIRST = b"From x\nSubject: 1\n\nbody\n"


def scanned(text: bytes) -> Messages:
    return Scan(lambda count, place: text[place : place + count], len(text), 10**6).run()


def told(text: bytes) -> list[tuple[int, str, bytes]]:
    return list(text_lines(lambda count, place: text[place : place + count], len(text), scanned(text).froms))


def test_each_line_is_a_separator_or_told() -> None:
    """Of mailboxes of other programs, wherever blocks are cut."""
    found = 0
    for name, text in [*EDGES.items(), *crossing(), *generate(400, seed=3)]:
        try:
            separators = set(scanned(text).froms)
        except MaildropUnavailable:
            continue
        lines = {match.start() + 1 for match in re.finditer(rb"\n(?=From )", text)}
        rows = told(text)
        assert [place for place, _, _ in rows] == sorted(lines - separators), name
        assert all(text.startswith(line, place) for place, _, line in rows)
        found += len(rows)
    assert found > 1000


@pytest.mark.parametrize("at", range(module.BLOCK - 2200, module.BLOCK + 40, 31))
def test_where_blocks_are_cut(at: int) -> None:
    """A line is told once, and by all that stands around it."""
    text = FIRST + b"y" * (at - len(FIRST)) + b"\n\nFrom there\nit is a mile\n\n" + DATED + b"S: 2\n\nb\n"
    assert told(text) == [(at + 2, module.NO_DATE_NO_HEADER, b"From there")]


@pytest.mark.parametrize("more", [1, 2, 7, 64])
def test_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch, more: int) -> None:
    """The same is told, in the same order."""
    boxes = [b"From a\nSubject: s\n\nbody\n\nFrom it\n" * 60, b"x\nFrom y\n" * 200]
    boxes += [text * 4 for _, text in generate(40, seed=5)]
    for text in boxes:
        read, froms = (lambda count, place, text=text: text[place : place + count]), [0]
        monkeypatch.setattr(module, "BLOCK", 1 << 18)
        whole = list(text_lines(read, len(text), froms))
        monkeypatch.setattr(module, "BLOCK", AHEAD + BEHIND + more)
        assert list(text_lines(read, len(text), froms)) == whole


def test_a_file_that_shrinks_meanwhile() -> None:
    text = FIRST + b"\nFrom there\n" * 1000
    read = lambda count, place: text[place : place + count][:500]  # noqa: E731 - as short as that
    assert list(text_lines(read, len(text), [0])) == []


# What is told, and the same mailbox with that mended: the line separates then.
REASONS = [
    (module.NO_DATE, FIRST + b"\nFrom the station: go\n\n", FIRST + b"\n" + DATED + b"\n"),
    (module.NO_DATE_NO_HEADER, FIRST + b"\nFrom there\nit is a mile\n", FIRST + b"\nFrom there\nit: is a mile\n"),
    (module.NO_DATE_NO_BLANK, FIRST + b"From there\nS: 1\n", FIRST + b"\nFrom there\nS: 1\n"),
    (module.NO_DATE_NO_BLANK, FIRST + b"From there\nS: 1\n", FIRST + DATED + b"S: 1\n"),
    (module.NO_BLANK_NO_HEADER, FIRST + DATED + b"text\n", FIRST + b"\n" + DATED + b"text\n"),
    (module.NO_BLANK_NO_HEADER, FIRST + DATED + b"text\n", FIRST + DATED + b"S: text\n"),
    (module.BEFORE_FROM, FIRST + b"\n" + DATED + b"From x\n\n", FIRST + b"\n" + DATED + b">From x\n\n"),
    (module.AT_THE_END, FIRST + b"\n" + DATED, FIRST + b"\n" + DATED + b"S: 1\n"),
    (module.AT_THE_END, FIRST + b"\nFrom x", FIRST + b"\nFrom x\nS: 1\n"),
    (module.BEHIND_FIRST, b"From x\n" + DATED + b"S: 1\n", b"From x\n\n" + DATED + b"S: 1\n"),
    (module.TOO_LONG, FIRST + b"\nFrom " + b"x" * 1000 + b"\nS: 1\n", FIRST + b"\nFrom " + b"x" * 900 + b"\nS: 1\n"),
]


@pytest.mark.parametrize(("reason", "text", "mended"), REASONS)
def test_the_reason_is_the_reason(reason: str, text: bytes, mended: bytes) -> None:
    assert told(text)[0][1] == reason
    assert len(scanned(mended).froms) == len(scanned(text).froms) + 1
