"""protocol/dialogue.py: dispatch by the table, answers collected, the ends. The tables here are made for the tests."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.errors import CommandRefused, MaildropChanged, MaildropUnreadable, PeerGone
from popad.protocol import dialogue
from popad.protocol.dialogue import (
    NAME,
    NUMBER,
    NUMBER_AND_LINES,
    OPTIONAL_NUMBER,
    REST,
    Command,
    converse,
    dispatch,
)
from popad.protocol.lines import Lines
from popad.values import COMMAND_OCTETS
from tests.support.peer import Peer


class State:
    """Keeps what the handlers were called with."""

    line_octets = COMMAND_OCTETS
    asks: Callable[[bytes], bytes] | None = None

    def __init__(self) -> None:
        self.over = False
        self.calls: list[tuple[object, ...]] = []
        self.failures: list[Exception] = []

    def meanwhile(self) -> None:
        """What a state does while the client is at work: here, nothing."""

    def failed(self, failure: Exception) -> None:
        self.failures.append(failure)

    def refused(self, text: str, _line: bytes) -> bytes:
        return b"-ERR %b\r\n" % text.encode()


def note(state: State, *arguments: object) -> bytes:
    state.calls.append(arguments)
    return b"+OK\r\n"


def leave(state: State) -> bytes:
    state.over = True
    return b"+OK bye\r\n"


TABLE = {
    b"NONE": Command(note),
    b"ONE": Command(note, NUMBER),
    b"MAYBE": Command(note, OPTIONAL_NUMBER),
    b"TWO": Command(note, NUMBER_AND_LINES),
    b"NAME": Command(note, NAME),
    b"REST": Command(note, REST),
    b"QUIT": Command(leave),
}


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        (b"NONE", ()),
        (b"none", ()),
        (b"nOnE", ()),
        (b"NONE ", ()),  # one space at the end is forgiven
        (b"ONE 1", (1,)),
        (b"ONE 1 ", (1,)),
        (b"ONE 0", (0,)),
        (b"ONE 01", (1,)),
        (b"ONE " + b"0" * 39 + b"1", (1,)),  # 40 characters
        (b"ONE 2147483647", (2147483647,)),
        (b"MAYBE", ()),
        (b"MAYBE ", ()),
        (b"MAYBE 7", (7,)),
        (b"TWO 1 0", (1, 0)),
        (b"TWO 1 0 ", (1, 0)),
        (b"TWO 1 2147483648", (1, 2147483648)),
        (b"TWO 1 99999999999999999999", (1, 99999999999999999999)),
        (b"NAME a", (b"a",)),
        (b"NAME a b", (b"a b",)),
        (b"NAME a  b  ", (b"a  b ",)),
        (b"NAME \xff\t%s", (b"\xff\t%s",)),
        (b"NAME " + b"a" * 40, (b"a" * 40,)),
        (b"REST a", (b"a",)),
        (b"REST  a b  ", (b" a b  ",)),
        (b"REST  ", (b" ",)),
        (b"REST " + b"a" * 248, (b"a" * 248,)),
    ],
)
def test_arguments_that_are_taken(line: bytes, arguments: tuple[object, ...]) -> None:
    state = State()
    assert dispatch(TABLE, state, line, 40) == b"+OK\r\n"
    assert state.calls == [arguments]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b" NONE",
        b"NONE\t",
        b"NONE\r",
        b"NONEX",
        b"NON",
        b"N\xd6NE",
        b"NONE x",
        b"NONE 1",
        b"NONE  ",
        b"ONE",
        b"ONE ",
        b"ONE  1",
        b"ONE 1  ",
        b"ONE 1 2",
        b"ONE x",
        b"ONE 1x",
        b"ONE -1",
        b"ONE +1",
        b"ONE \t1",
        b"ONE 1\t",
        b"ONE 0x1",
        b"ONE 1_0",
        b"ONE 1.0",
        b"ONE \xb2",  # superscript two in Latin-1
        b"ONE \xd9\xa1",  # Arabic one in UTF-8
        b"ONE 2147483648",
        b"ONE 4294967297",
        b"ONE 18446744073709551617",
        b"ONE " + b"0" * 40 + b"1",  # 41 characters
        b"MAYBE x",
        b"MAYBE 1 2",
        b"MAYBE  ",
        b"TWO",
        b"TWO ",
        b"TWO 1",
        b"TWO 1 ",
        b"TWO 1 2 3",
        b"TWO 1 x",
        b"TWO 1 -0",
        b"TWO 2147483648 0",
        b"NAME",
        b"NAME ",
        b"NAME  ",
        b"NAME  a",
        b"NAME " + b"a" * 41,
        b"REST",
        b"REST ",
    ],
)
def test_arguments_that_are_refused(line: bytes) -> None:
    state = State()
    with pytest.raises(CommandRefused) as refused:
        dispatch(TABLE, state, line, 40)
    assert state.calls == []
    assert refused.value.text.isascii()


def test_argument_limit_is_the_callers() -> None:
    state = State()
    dispatch(TABLE, state, b"NAME " + b"a" * 248, 248)
    with pytest.raises(CommandRefused):
        dispatch(TABLE, state, b"NAME aaaa", 3)
    assert state.calls == [(b"a" * 248,)]


@given(st.binary(max_size=60))
def test_any_line_is_answered_or_refused(line: bytes) -> None:
    state = State()
    try:
        assert dispatch(TABLE, state, line, 40) in (b"+OK\r\n", b"+OK bye\r\n")
    except CommandRefused as refused:
        assert refused.text
        assert state.calls == []


def test_answers_to_what_one_read_brings_go_out_in_one_write() -> None:
    peer = Peer(b"NONE\r\nBAD\r\nONE 1\r\nQUIT\r\n")
    converse(peer, Lines(), TABLE, State(), 40)
    assert peer.written == [b"+OK\r\n-ERR unknown command\r\n+OK\r\n+OK bye\r\n"]


def test_answers_go_out_before_the_next_read() -> None:
    """A client that waits for an answer before it goes on gets it, though a part of the next command is there."""

    class Waiting(Peer):
        def read(self) -> bytes:
            answers_at_read.append(b"".join(self.written))
            return super().read()

    answers_at_read: list[bytes] = []
    peer = Waiting(b"NONE\r\nNO", b"NE\r\nQU", b"IT\r\n")
    converse(peer, Lines(), TABLE, State(), 40)
    assert answers_at_read == [b"", b"+OK\r\n", b"+OK\r\n+OK\r\n"]


def test_lines_read_ahead_come_first() -> None:
    peer = Peer(b"IT\r\n")
    converse(peer, Lines(b"NONE\r\nQU"), TABLE, State(), 40)
    assert peer.received == b"+OK\r\n+OK bye\r\n"


def test_nothing_is_executed_after_the_end() -> None:
    state = State()
    lines = Lines()
    peer = Peer(b"QUIT\r\nNONE\r\n")
    converse(peer, lines, TABLE, state, 40)
    assert state.calls == []
    assert lines.rest() == b"NONE\r\n"


def test_a_line_too_long_has_one_answer() -> None:
    peer = Peer(b"NONE " + b"x" * 1000, b"x" * 70000, b"\r\nNONE\r\nQUIT\r\n")
    state = State()
    converse(peer, Lines(), TABLE, state, 40)
    assert peer.received == b"-ERR line too long\r\n+OK\r\n+OK bye\r\n"
    assert state.calls == [()]


def test_an_unterminated_last_line_is_never_executed() -> None:
    """RFC 1939 section 6: removal needs a complete QUIT; popa3d took the end of the stream for a line end."""
    state = State()
    with pytest.raises(PeerGone):
        converse(Peer(b"NONE\r\nQUIT"), Lines(), TABLE, state, 40)
    assert not state.over
    assert state.calls == [()]


def blocks(*parts: bytes, end: Exception | None = None) -> Iterator[bytes]:
    yield from parts
    if end:
        raise end


def test_a_long_answer_is_written_as_it_comes() -> None:
    big = [bytes([65 + number]) * 40000 for number in range(5)]
    table = TABLE | {b"BIG": Command(lambda state: blocks(b"+OK\r\n", *big))}
    peer = Peer(b"NONE\r\nBIG\r\nQUIT\r\n")
    converse(peer, Lines(), table, State(), 40)
    assert peer.received == b"+OK\r\n+OK\r\n" + b"".join(big) + b"+OK bye\r\n"
    assert max(map(len, peer.written)) <= dialogue.ENOUGH
    assert len(peer.written) > 2


ENOUGH = dialogue.ENOUGH


@pytest.mark.parametrize(
    ("answer", "writes"),
    [
        ((1000, ENOUGH - 1000, ENOUGH - 7, 7), (ENOUGH, ENOUGH)),
        ((1000, ENOUGH - 999, ENOUGH - 7, 7), (1000, ENOUGH - 999, ENOUGH)),
        ((1000, ENOUGH - 1000, ENOUGH - 7, 8), (ENOUGH, ENOUGH - 7, 8)),
    ],
)
def test_a_write_has_as_much_as_is_enough_and_no_more(answer: tuple[int, ...], writes: tuple[int, ...]) -> None:
    """At the beginning, after a read, and within an answer."""
    table = TABLE | {b"BIG": Command(lambda state: blocks(*(b"x" * octets for octets in answer)))}
    peer = Peer(b"BIG\r\n", b"QUIT\r\n")
    converse(peer, Lines(b"BIG\r\n"), table, State(), 40)
    assert [len(data) for data in peer.written if data] == [*writes, *writes, len(b"+OK bye\r\n")]


BEFORE = b"NONE\r\n" * 10_000  # as many answers as make one write, nearly


def sizes(parts: tuple[bytes, ...]) -> str:
    return "+".join(str(len(part)) for part in parts) or "nothing"


@pytest.mark.parametrize("failure", [MaildropChanged("so"), MaildropUnreadable("so")])
@pytest.mark.parametrize("before", [b"", b"NONE\r\n", BEFORE], ids=len)
@pytest.mark.parametrize(
    "parts",
    [(), (b"+OK\r\n",), (b"+OK\r\n", b"x" * 1000), (b"x" * 60_000,), (b"x" * ENOUGH,), (b"x" * 20_000, b"y")],
    ids=sizes,
)
def test_a_maildrop_that_fails_is_the_answer(failure: Exception, before: bytes, parts: tuple[bytes, ...]) -> None:
    """Nothing of the answer under way has left: what was collected of it is taken back, and the session goes on."""
    table = TABLE | {b"FAIL": Command(lambda state: blocks(*parts, end=failure))}
    peer = Peer(before + b"FAIL\r\nFAIL\r\nNONE\r\nQUIT\r\n")
    state = State()
    converse(peer, Lines(), table, state, 40)
    answers = peer.received.split(b"\r\n")[before.count(b"\n") :]
    assert [answer[:15] for answer in answers] == [b"-ERR [SYS/TEMP]"] * 2 + [b"+OK", b"+OK bye", b""]
    assert state.failures == [failure, failure]


@pytest.mark.parametrize("failure", [MaildropChanged("so"), MaildropUnreadable("so")])
@pytest.mark.parametrize("parts", [[b"x" * 60_000] * 3, [b"x" * 70_000], [b"x" * 70_000] * 2], ids=len)
def test_a_part_of_an_answer_that_has_left_gets_no_end(failure: Exception, parts: list[bytes]) -> None:
    table = TABLE | {b"BIG": Command(lambda state: blocks(b"+OK\r\n", *parts, end=failure))}
    peer = Peer(b"NONE\r\nBIG\r\nNONE\r\n")
    state = State()
    with pytest.raises(type(failure)):
        converse(peer, Lines(), table, state, 40)
    wire = peer.received
    assert wire.startswith(b"+OK\r\n+OK\r\nxxx")
    assert not wire.endswith(b"\n")
    assert (state.calls, state.failures) == ([()], [failure])


def test_a_state_may_end_with_a_refusal() -> None:
    """What comes behind is not looked at."""

    class Impatient(State):
        def refused(self, text: str, _line: bytes) -> bytes:
            self.over = True
            return b"-ERR enough\r\n"

    peer, state, lines = Peer(b"NONE\r\nBAD\r\nNONE\r\n"), Impatient(), Lines()
    converse(peer, lines, TABLE, state, 40)
    assert (peer.written, state.calls, lines.rest()) == ([b"+OK\r\n-ERR enough\r\n"], [()], b"NONE\r\n")


def test_a_handler_may_refuse() -> None:
    def refuse(state: State) -> bytes:
        raise CommandRefused("not now")

    peer = Peer(b"REFUSE\r\nQUIT\r\n")
    converse(peer, Lines(), TABLE | {b"REFUSE": Command(refuse)}, State(), 40)
    assert peer.written == [b"-ERR not now\r\n+OK bye\r\n"]


commands = st.lists(
    st.sampled_from([b"NONE\r\n", b"ONE 1\n", b"BAD\r\n", b"\r\n", b"TWO 1 2\r\n", b"NAME a\0\r\n", b"REST a b\r\n"]),
    max_size=8,
).map(lambda lines: b"".join([*lines, b"QUIT\r\n"]))


@given(commands, st.lists(st.integers(1, 30), max_size=10))
def test_pieces_do_not_matter(text: bytes, sizes: list[int]) -> None:
    """The octets of all answers are the same however the commands arrive (RFC 2449 section 6.6)."""
    whole = Peer(text)
    converse(whole, Lines(), TABLE, State(), 40)
    pieces = []
    rest = text
    for size in sizes:
        if rest[:size]:
            pieces.append(rest[:size])
        rest = rest[size:]
    cut = Peer(*pieces, *([rest] if rest else []))
    converse(cut, Lines(), TABLE, State(), 40)
    single = Peer(*(text[place : place + 1] for place in range(len(text))))
    converse(single, Lines(), TABLE, State(), 40)
    assert b"".join(cut.written) == b"".join(whole.written) == b"".join(single.written)


def test_a_state_has_its_time_when_all_is_written_and_nothing_has_come() -> None:
    peer = Peer(b"NONE\r\nNONE\r\n", b"NONE\r\n", b"QUIT\r\n")
    written: list[int] = []

    class Busy(State):
        def meanwhile(self) -> None:
            written.append(len(peer.received))

    converse(peer, Lines(), TABLE, Busy(), 40)
    assert written == [0, 10, 15]
