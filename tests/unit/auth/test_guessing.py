"""auth/guessing.py: what wrong passwords cost, by a clock that the tests turn, and between processes."""

import fcntl
import os
from collections.abc import Callable

import pytest

from popad.auth import guessing
from popad.auth.guessing import ROW_OCTETS, ROWS, TRIED_MEMORY, WAYS, Guesses, Table

HOME, OTHER = b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02"


def new() -> bytes:
    """A password that nobody has tried."""
    return os.urandom(8)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guesses(clock: Clock) -> Guesses:
    return Guesses(15, 300, clock)


def test_the_first_login_does_not_wait(guesses: Guesses) -> None:
    assert guesses.put_off(HOME, b"alice", new(), True) == 0


def test_delays_double_up_to_the_longest(guesses: Guesses) -> None:
    assert [guesses.put_off(HOME, b"alice", new(), False) for _ in range(7)] == [1, 2, 4, 8, 15, 15, 15]


def test_a_source_that_tries_many_names(guesses: Guesses) -> None:
    assert [guesses.put_off(HOME, b"user%d" % number, new(), False) for number in range(5)] == [1, 2, 4, 8, 15]


def test_many_sources_that_try_one_name(guesses: Guesses) -> None:
    assert [guesses.put_off(b"%d" % number, b"alice", new(), False) for number in range(5)] == [1, 2, 4, 8, 15]


def test_others_are_not_concerned(guesses: Guesses) -> None:
    for _ in range(9):
        guesses.put_off(HOME, b"alice", new(), False)
    assert guesses.put_off(OTHER, b"bob", new(), True) == 0
    assert guesses.put_off(OTHER, b"carol", new(), False) == 1


def test_a_good_login_behind_the_same_address(guesses: Guesses) -> None:
    """It waits as long as the source does, and adds nothing."""
    for _ in range(3):
        guesses.put_off(HOME, b"alice", new(), False)
    assert guesses.put_off(HOME, b"bob", new(), True) == 4
    assert guesses.put_off(HOME, b"bob", new(), True) == 4


def test_a_good_login_makes_its_name_forgotten_and_not_its_source(guesses: Guesses) -> None:
    """Else whoever has one account could guess at the others without a pause."""
    for _ in range(3):
        guesses.put_off(HOME, b"alice", new(), False)
    assert guesses.put_off(OTHER, b"alice", new(), True) == 4
    assert guesses.put_off(OTHER, b"alice", new(), True) == 0
    assert guesses.put_off(HOME, b"bob", new(), False) == 8


def test_forgotten_after_a_while(guesses: Guesses, clock: Clock) -> None:
    for _ in range(5):
        guesses.put_off(HOME, b"alice", new(), False)
    clock.now += 299
    assert guesses.put_off(HOME, b"alice", new(), True) == 15
    clock.now += 2  # the good login did not make it younger
    assert guesses.put_off(HOME, b"alice", new(), True) == 0
    assert guesses.put_off(HOME, b"alice", new(), False) == 1


def test_a_wrong_password_starts_the_while_anew(guesses: Guesses, clock: Clock) -> None:
    for _ in range(4):
        guesses.put_off(HOME, b"alice", new(), False)
        clock.now += 200
    assert guesses.put_off(HOME, b"alice", new(), False) == 15


def test_forgotten_as_soon_on_a_machine_that_has_been_up_for_long() -> None:
    """Times are kept in four octets: as seconds since the start of the machine they would be half a minute wrong."""
    clock = Clock()
    clock.now = 1_000_000_040.0
    guesses = Guesses(15, 300, clock)
    guesses.put_off(HOME, b"alice", new(), False)
    clock.now += 299
    assert guesses.put_off(HOME, b"bob", new(), True) == 1
    clock.now += 2
    assert guesses.put_off(HOME, b"bob", new(), True) == 0


def test_never() -> None:
    guesses = Guesses(0, 300, Clock())
    assert [guesses.put_off(HOME, b"alice", new(), False) for _ in range(5)] == [0] * 5


def test_a_name_is_not_a_source(guesses: Guesses) -> None:
    for _ in range(4):
        guesses.put_off(HOME, b"alice", new(), False)
    assert guesses.put_off(b"alice", HOME, new(), True) == 0


def test_a_source_that_has_guessed_for_long(guesses: Guesses) -> None:
    """No overflow, of the power or of the place that holds the count."""
    entry = guessing.ENTRY
    guesses.put_off(HOME, b"alice", new(), False)
    places = [
        place for place in range(0, ROWS * ROW_OCTETS, entry.size) if entry.unpack_from(guesses.wrong.octets, place)[2]
    ]
    assert len(places) == 2
    for place in places:
        whose, _, last = entry.unpack_from(guesses.wrong.octets, place)
        entry.pack_into(guesses.wrong.octets, place, whose, 0xFFFFFFFF, last)
    assert guesses.put_off(HOME, b"alice", new(), False) == 15
    assert guesses.put_off(HOME, b"alice", new(), True) == 15


@pytest.fixture
def one_row(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Table:
    """A table in which all come into one row."""

    class OneRow:
        def __init__(self, what: bytes, digest_size: int, key: bytes) -> None:
            self.what = what

        def digest(self) -> bytes:
            return bytes(8) + self.what.rjust(8, b"\0")[-8:]

    monkeypatch.setattr(guessing, "blake2b", OneRow)
    return Table(300, clock)


def test_the_table_has_a_fixed_size_and_the_oldest_goes(clock: Clock, one_row: Table) -> None:
    """The fifth takes the place of the one that guessed longest ago."""
    table = one_row
    for number in range(WAYS):
        clock.now += 1
        assert table.count(b"%d" % number, 1) == 1
    assert table.count(b"0", 1) == 2  # now 1 is the oldest
    clock.now += 1
    assert table.count(b"new", 1) == 1
    assert [table.count(b"%d" % number, 0) for number in range(WAYS)] == [2, 0, 1, 1]
    assert os.fstat(table.fd).st_size == ROWS * ROW_OCTETS == len(table.octets)


def test_the_oldest_goes_however_often_it_came(clock: Clock, one_row: Table) -> None:
    for number in (0, 0, *range(WAYS), WAYS):
        clock.now += 1
        one_row.count(b"%d" % number, 1)
    assert [one_row.count(b"%d" % number, 0) for number in range(WAYS + 1)] == [0, *[1] * WAYS]


def test_many_sources_at_once(clock: Clock) -> None:
    """A botnet of 3,000: nobody is left out, for the table has room for four times as many."""
    table = Table(300, clock)
    sources = [number.to_bytes(4, "big") for number in range(3000)]
    for source in sources:
        table.count(source, 1)
    kept = sum(table.count(source, 0) == 1 for source in sources)
    assert kept > 2950


# -- the same wrong password again


def test_the_same_wrong_password_is_no_further_guess(guesses: Guesses, clock: Clock) -> None:
    """A forgotten phone that asks every minute: its network waits for one guess, for as long as one is remembered."""
    waits = []
    for _ in range(20):
        waits.append(guesses.put_off(HOME, b"alice", b"the old one", False))
        clock.now += 60
    assert waits == [1] * 5 + [0] * 15
    assert guesses.put_off(HOME, b"bob", new(), True) == 0


def test_several_forgotten_phones(guesses: Guesses, clock: Clock) -> None:
    """Twenty that ask every ten minutes, so that there is always one within POPAD_GUESS_MEMORY: counted once each."""
    waits = []
    for _ in range(3):
        for phone in range(20):
            waits.append(guesses.put_off(HOME, b"user%d" % phone, b"the old one", False))
            clock.now += 30
    assert (waits[19], waits[-1]) == (15, 0)
    assert guesses.put_off(HOME, b"bob", new(), True) == 0


def test_a_repetition_waits_for_what_there_was(guesses: Guesses) -> None:
    """It tells nothing that a further guess would not have to wait for; nor does it add to it."""
    for _ in range(3):
        guesses.put_off(HOME, b"alice", new(), False)
    assert guesses.put_off(HOME, b"alice", b"again", False) == 8
    assert [guesses.put_off(HOME, b"alice", b"again", False) for _ in range(3)] == [8] * 3
    assert guesses.put_off(HOME, b"alice", new(), False) == 15


@pytest.mark.parametrize(
    ("source", "name", "password"),
    [(OTHER, b"alice", b"old"), (HOME, b"bob", b"old"), (HOME, b"alice", b"old "), (HOME, b"aliceo", b"ld")],
)
def test_what_is_another_guess(guesses: Guesses, source: bytes, name: bytes, password: bytes) -> None:
    """The same password for another name above all."""
    guesses.put_off(HOME, b"alice", b"old", False)
    before = guesses.wrong.count(b"source " + source, 0)
    guesses.put_off(source, name, password, False)
    assert guesses.wrong.count(b"source " + source, 0) == before + 1


def test_a_repetition_is_forgotten_after_a_day_without_one(guesses: Guesses, clock: Clock) -> None:
    guesses.put_off(HOME, b"alice", b"old", False)
    clock.now += TRIED_MEMORY - 10
    assert guesses.put_off(HOME, b"alice", b"old", False) == 0
    clock.now += TRIED_MEMORY - 10
    assert guesses.put_off(HOME, b"alice", b"old", False) == 0
    clock.now += TRIED_MEMORY + 10
    assert guesses.put_off(HOME, b"alice", b"old", False) == 1


def test_no_password_is_kept(guesses: Guesses) -> None:
    guesses.put_off(HOME, b"alice", b"a password typed in plain", False)
    for table in (guesses.wrong, guesses.tried):
        assert b"typed" not in table.octets[:]
        assert b"alice" not in table.octets[:]


def test_a_trusted_source_has_no_guesses_of_its_own(guesses: Guesses) -> None:
    """A web mail: the names are slowed down, and nobody waits for others."""
    for number in range(9):
        guesses.put_off(HOME, b"user%d" % number, new(), False, trusted=True)
    assert guesses.put_off(HOME, b"bob", new(), True, trusted=True) == 0
    assert [guesses.put_off(HOME, b"alice", new(), False, trusted=True) for _ in range(5)] == [1, 2, 4, 8, 15]
    assert guesses.put_off(OTHER, b"alice", new(), True) == 15


def in_child(role: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            role()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return pid


def test_processes_share_it(guesses: Guesses) -> None:
    """The helper's children each judge one login: 20 at once, none lost."""
    children = [in_child(lambda: guesses.put_off(HOME, b"alice", new(), False)) for _ in range(20)]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 20
    assert guesses.wrong.count(b"source " + HOME, 0) == 20


def is_locked(guesses: Guesses) -> bool:
    """Whether another process would have to wait, even for a shared lock: ours must be exclusive."""
    pid = in_child(lambda: fcntl.lockf(guesses.wrong.fd, fcntl.LOCK_SH | fcntl.LOCK_NB))
    return os.waitpid(pid, 0)[1] != 0


@pytest.mark.parametrize("fails", [False, True])
def test_one_process_at_a_time(guesses: Guesses, clock: Clock, fails: bool) -> None:
    """From the first look into the tables to the last, and no longer."""
    locked = []

    def look() -> float:
        locked.append(is_locked(guesses))
        if fails:
            raise InterruptedError
        return clock.now

    guesses.wrong.clock = guesses.tried.clock = look
    if fails:
        with pytest.raises(InterruptedError):
            guesses.put_off(HOME, b"alice", new(), False)
    else:
        guesses.put_off(HOME, b"alice", new(), False)
    assert locked == [True] * (1 if fails else 3)
    assert not is_locked(guesses)


def test_a_child_that_dies_holding_the_lock(guesses: Guesses) -> None:
    def die() -> None:
        guesses.wrong.clock = lambda: os._exit(0)
        guesses.put_off(HOME, b"alice", new(), False)

    os.waitpid(in_child(die), 0)
    assert guesses.put_off(HOME, b"alice", new(), False) == 1
