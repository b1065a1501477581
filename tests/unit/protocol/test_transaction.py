"""protocol/transaction.py on a real mbox: what commands answer, count and leave behind. RFC 1939 sections 5 to 7.

The dialogues that a client sees are in transcripts/; here is what they do not show.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from popad.errors import CommandRefused, MaildropChanged, MaildropUnavailable, MaildropUnreadable
from popad.maildrop.maildrop import Maildrop
from popad.maildrop.mbox import store
from popad.maildrop.private import SharedDirectory
from popad.protocol import authorization, dialogue, transaction
from popad.protocol.transaction import TABLE, Transaction

ONE = b"From a\nDate: 1\nSubject: one\n\nbody\n\n"
TWO = b"From b\nDate: 2\nSubject: two\n\n.dot\nline\n"
THREE = b"From c\nDate: 3\n\n\n"

Opened = Callable[..., Transaction]


@pytest.fixture
def opened(quick_path: Path, tmp_path: Path, still_clock: None) -> Opened:
    """Open a mailbox of these octets. No other program changes it: the clock need not move on."""

    def open_it(content: bytes = ONE + TWO + b"\n" + THREE) -> Transaction:
        path = quick_path / "mailbox"
        path.write_bytes(content)
        return Transaction(
            Maildrop(store.Mbox(str(path), SharedDirectory(str(tmp_path)).files_of(str(path)), 1, 10, 0))
        )

    return open_it


def answer(state: Transaction, line: str) -> bytes:
    reply = dialogue.dispatch(TABLE, state, line.encode(), 40)
    return reply if isinstance(reply, bytes) else b"".join(reply)


def test_retr(opened: Opened) -> None:
    state = opened()
    wire = answer(state, "RETR 2")
    assert wire == b"+OK 37 octets\r\nDate: 2\r\nSubject: two\r\n\r\n..dot\r\nline\r\n.\r\n"


def test_top(opened: Opened) -> None:
    assert answer(opened(), "TOP 2 1") == b"+OK top of message\r\nDate: 2\r\nSubject: two\r\n\r\n..dot\r\n.\r\n"


def test_list_and_stat_agree_and_leave_out_what_is_deleted(opened: Opened) -> None:
    state = opened()
    assert answer(state, "LIST") == b"+OK 3 messages (79 octets)\r\n1 31\r\n2 37\r\n3 11\r\n.\r\n"
    answer(state, "DELE 2")
    assert answer(state, "STAT") == b"+OK 2 42\r\n"
    assert answer(state, "LIST").split(b"\r\n")[1:] == [b"1 31", b"3 11", b".", b""]
    assert [line.split()[0] for line in answer(state, "UIDL").split(b"\r\n")[1:3]] == [b"1", b"3"]


@pytest.mark.parametrize("command", ["RETR {}", "TOP {} 1", "DELE {}", "LIST {}", "UIDL {}"])
@pytest.mark.parametrize("number", ["0", "4", "2", "2147483647"])
def test_no_such_message(opened: Opened, command: str, number: str) -> None:
    state = opened()
    answer(state, "DELE 2")
    with pytest.raises(CommandRefused):
        answer(state, command.format(number))
    assert (state.maildrop.last, state.maildrop.remaining, state.retrieved, state.topped) == (2, 2, 0, 0)


@pytest.mark.parametrize(
    ("commands", "last"),
    [
        ("", 0),
        ("RETR 2", 2),
        ("RETR 2,RETR 1", 2),
        ("DELE 1", 1),
        ("TOP 3 1,LIST 3,UIDL 3,STAT,NOOP", 0),
        ("RETR 3,RSET", 0),
        ("RETR 3,RSET,DELE 1", 1),
    ],
)
def test_last(opened: Opened, commands: str, last: int) -> None:
    """RFC 1460: the highest number accessed; by RETR or DELE, as popa3d counts."""
    state = opened()
    for command in filter(None, commands.split(",")):
        answer(state, command)
    assert answer(state, "LAST") == b"+OK %d\r\n" % last


# -- the answer made ahead --------------------------------------------------------------------------------------------

MANY = b"".join(b"From a\nDate: %d\n\n.body %d\n\n" % (number, number) for number in range(1, 7))


def retrieve(state: Transaction, *numbers: int) -> list[bytes]:
    """RETR each, with the pause behind it in which the client is at work."""
    answers = []
    for number in numbers:
        answers.append(answer(state, f"RETR {number}"))
        state.meanwhile()
    return answers


def ahead(state: Transaction) -> int:
    """The message that is ready, 0 for none."""
    return state.ahead[0] if state.ahead else 0


@pytest.mark.parametrize(
    ("retrieved", "expected"),
    [
        ([], 0),
        ([1], 0),
        ([3], 0),
        ([3, 3], 0),
        ([1, 2], 3),
        ([4, 5], 6),
        ([5, 4, 5], 6),
        ([5, 6], 0),
        ([1, 2, 4], 0),
        ([1, 2, 4, 5], 6),
        ([6, 5, 4], 0),
    ],
)
def test_which_answer_is_made_ahead(opened: Opened, retrieved: list[int], expected: int) -> None:
    """Of the next one, for a client that has taken two in a row."""
    state = opened(MANY)
    retrieve(state, *retrieved)
    assert ahead(state) == expected


def test_an_answer_made_ahead_is_the_same(opened: Opened) -> None:
    with_pauses, without = opened(MANY), opened(MANY)
    numbers = [1, 2, 3, 4, 3, 4, 5, 6]
    assert retrieve(with_pauses, *numbers) == [answer(without, f"RETR {number}") for number in numbers]
    assert with_pauses.retrieved == without.retrieved == len(numbers)
    assert with_pauses.maildrop.last == without.maildrop.last == 6


def test_a_message_that_is_deleted_is_not_made_ahead_and_not_given(opened: Opened) -> None:
    state = opened(MANY)
    answer(state, "DELE 3")
    retrieve(state, 1, 2)
    assert ahead(state) == 0
    answer(state, "RSET")
    retrieve(state, 1, 2)
    answer(state, "DELE 3")
    with pytest.raises(CommandRefused):
        answer(state, "RETR 3")


def test_a_long_message_is_not_made_ahead(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    state = opened(MANY)
    monkeypatch.setattr(transaction, "MOST_AHEAD", state.maildrop.octets(3) - 1)
    retrieve(state, 1, 2)
    assert ahead(state) == 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_message_that_changes_is_not_given(opened: Opened, quick_path: Path, when: str) -> None:
    """Neither what was read before nor what is there now, when the client asks."""
    state = opened(MANY)
    answers = retrieve(state, 1, 2) if when == "after" else [answer(state, f"RETR {number}") for number in (1, 2)]
    assert len(answers) == 2
    (quick_path / "mailbox").write_bytes(MANY.replace(b"body 3", b"BODY 3"))
    state.meanwhile()  # says nothing: nobody has asked
    with pytest.raises(MaildropChanged):
        answer(state, "RETR 3")


def test_a_mailbox_that_is_touched_is_not_looked_at_again_and_again(
    opened: Opened, quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client can make pauses for nothing; and to look closer takes the lock, which somebody may have.

    Nor is what is read there given.
    """
    state = opened(MANY)
    for number in (1, 2):
        answer(state, f"RETR {number}")
    (quick_path / "mailbox").write_bytes(MANY.replace(b"body 3", b"BODY 3"))
    looks: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(store.Mbox, "verify", lambda _: looks.append("closer"))
        for _ in range(10):
            state.meanwhile()
    assert looks == []
    with pytest.raises(MaildropChanged):
        answer(state, "RETR 3")


@pytest.mark.parametrize("command", ["RETR 1", "TOP 1 0", "UIDL", "NOOP", "RSET"])
def test_what_was_there_for_a_moment_is_not_given(opened: Opened, quick_path: Path, command: str) -> None:
    """Read ahead while it was there; the closer look finds all as it was, whichever command takes it."""
    state = opened(MANY)
    for number in (1, 2):
        answer(state, f"RETR {number}")
    path = quick_path / "mailbox"
    path.write_bytes(MANY.replace(b"body 3", b"BODY 3"))
    state.meanwhile()
    assert ahead(state) == 3
    path.write_bytes(MANY)
    os.utime(path, ns=(1, 1))  # the clock has moved on
    answer(state, command)
    assert b"..body 3\r\n" in answer(state, "RETR 3")


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_name("moved")),
        lambda path: os.truncate(path, 1),
        lambda path: path.write_bytes(b"From x\n\n" + MANY),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_mailbox_that_goes_while_an_answer_is_ahead(
    opened: Opened, quick_path: Path, change: Callable[[Path], None], when: str
) -> None:
    state = opened(MANY)
    answer(state, "RETR 1")
    answer(state, "RETR 2")
    if when == "before":
        change(quick_path / "mailbox")
    state.meanwhile()
    if when == "after":
        change(quick_path / "mailbox")
    with pytest.raises(MaildropChanged):
        answer(state, "RETR 3")


def test_quit_with_an_answer_ahead(opened: Opened, quick_path: Path) -> None:
    state = opened(MANY)
    retrieve(state, 1, 2)
    answer(state, "DELE 3")
    assert answer(state, "QUIT") == b"+OK bye\r\n"
    assert (quick_path / "mailbox").read_bytes() == MANY.replace(b"From a\nDate: 3\n\n.body 3\n\n", b"")


def test_mail_that_arrives_does_not_matter(opened: Opened, quick_path: Path) -> None:
    state = opened(MANY)
    retrieve(state, 1, 2)
    assert ahead(state) == 3
    with (quick_path / "mailbox").open("ab") as mailbox:
        mailbox.write(THREE)
    assert b"..body 3\r\n" in answer(state, "RETR 3")


def test_rset_takes_all_marks_off(opened: Opened) -> None:
    state = opened()
    answer(state, "DELE 1")
    answer(state, "DELE 3")
    assert answer(state, "RSET").startswith(b"+OK ")
    assert answer(state, "STAT") == b"+OK 3 79\r\n"


def test_counts_for_the_journal(opened: Opened) -> None:
    state = opened()
    for command in ("RETR 1", "RETR 1", "RETR 3", "TOP 1 0", "DELE 2"):
        answer(state, command)
    assert (state.retrieved, state.topped, state.updated) == (3, 1, False)


def test_quit_updates(opened: Opened, quick_path: Path) -> None:
    state = opened()
    answer(state, "DELE 2")
    assert answer(state, "QUIT").startswith(b"+OK")
    assert (state.over, state.updated, state.update_failure) == (True, True, None)
    assert (quick_path / "mailbox").read_bytes() == ONE + THREE


def test_what_has_no_answer_is_not_counted(opened: Opened, quick_path: Path) -> None:
    """Neither for the journal nor as accessed, which LAST shows."""
    state = opened()
    (quick_path / "mailbox").write_bytes(b"")
    for command in ("RETR 1", "TOP 1 0"):
        with pytest.raises(MaildropChanged):
            answer(state, command)
    assert (state.retrieved, state.topped, answer(state, "LAST")) == (0, 0, b"+OK 0\r\n")


@pytest.mark.parametrize("failure", [MaildropChanged("so"), MaildropUnreadable("so")])
def test_what_the_journal_hears_of(opened: Opened, failure: MaildropChanged | MaildropUnreadable) -> None:
    """Of what could not be answered; a QUIT that cannot read is an update that failed."""
    heard: list[object] = []
    state = opened()
    state.notice = heard.append
    answer(state, "DELE 1")
    state.failed(failure)

    def fail(marks: bytearray) -> None:
        raise failure

    state.maildrop.store.remove = fail  # type: ignore[attr-defined]  # an mbox's, here
    assert answer(state, "QUIT") == b"-ERR [SYS/TEMP] some deleted messages not removed\r\n"
    if isinstance(failure, MaildropUnreadable):
        assert (heard, state.update_failure) == ([failure], failure)
    else:
        assert ([str(each) for each in heard], state.update_failure) == (["so", "so"], None)
    assert not state.updated


def test_quit_that_cannot_update(opened: Opened, quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 1939 section 6: -ERR where messages were not removed."""
    state = opened()
    answer(state, "DELE 2")

    def no_space(fd: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", no_space)
    assert answer(state, "QUIT") == b"-ERR [SYS/TEMP] some deleted messages not removed\r\n"
    assert (state.over, state.updated) == (True, False)
    assert isinstance(state.update_failure, MaildropUnavailable)
    assert (quick_path / "mailbox").read_bytes() == ONE + TWO + b"\n" + THREE


@pytest.mark.parametrize("command", ["RETR 1", "TOP 1 2147483647", "TOP 1 0"])
def test_a_change_while_a_message_is_read(opened: Opened, quick_path: Path, command: str) -> None:
    """The look at the mailbox behind what was read, also where TOP does not read to the message's end."""
    state = opened(b"From a\nSubject: large\n\n" + b"body\n" * 100_000)
    store = state.maildrop.store  # type: ignore[attr-defined]  # an mbox's, here
    read = store.read

    def read_and_truncate(count: int, offset: int) -> bytes:
        octets: bytes = read(count, offset)
        os.truncate(quick_path / "mailbox", 400_000)
        return octets

    store.read = read_and_truncate
    with pytest.raises(MaildropChanged):
        answer(state, command)


def test_an_empty_maildrop(opened: Opened) -> None:
    state = opened(b"")
    assert answer(state, "STAT") == b"+OK 0 0\r\n"
    assert answer(state, "LIST") == b"+OK 0 messages (0 octets)\r\n.\r\n"
    assert answer(state, "UIDL").endswith(b"\r\n.\r\n")
    assert answer(state, "QUIT").startswith(b"+OK")


def test_capa_is_the_same_in_both_states(opened: Opened) -> None:
    before = b"".join(authorization.capa(authorization.Authorization()))  # type: ignore[arg-type]  # it looks at nothing of it
    assert sorted(answer(opened(), "CAPA").splitlines()) == sorted(before.splitlines())


def test_table_has_the_commands_of_the_state() -> None:
    assert {verb.decode() for verb in TABLE} == set(
        "STAT LIST UIDL RETR TOP DELE LAST RSET NOOP CAPA LANG QUIT".split()
    )
    assert TABLE[b"QUIT"].handler is transaction.quit_
