"""daemon/limits.py: the slots that sessions take, by a clock that the tests turn."""

from hypothesis import given
from hypothesis import strategies as st

from popad.daemon.limits import STRETCH, UNTOLD, Dropped, Slots

A, B = b"\x7f\x00\x00\x01", b"\x7f\x00\x00\x02"


def fill(slots: Slots, source: bytes, count: int, now: float, first: int = 1) -> None:
    for pid in range(first, first + count):
        assert slots.limit_reached(source, now) is None
        slots.started(pid, source, now)


def test_the_51st_of_a_source() -> None:
    slots = Slots(500, 50, 10)
    fill(slots, A, 50, 0)
    assert slots.limit_reached(A, 0) == "limit of 50 sessions of one source"
    assert slots.limit_reached(B, 0) is None


def test_the_501st_of_all() -> None:
    slots = Slots(500, 50, 10)
    for number in range(10):
        fill(slots, b"%d" % number, 50, 0, first=number * 50 + 1)
    assert slots.limit_reached(b"another", 0) == "limit of 500 sessions"


def test_a_slot_stays_taken_until_its_start_is_old_enough() -> None:
    slots = Slots(500, 1, 10)
    fill(slots, A, 1, 100)
    assert slots.ended(1, 101)
    assert slots.limit_reached(A, 109.9) is not None
    assert slots.taken == 1
    assert slots.limit_reached(A, 110) is None
    assert slots.taken == 0


def test_a_slot_of_an_old_session_is_free_when_it_ends() -> None:
    slots = Slots(500, 1, 10)
    fill(slots, A, 1, 100)
    assert slots.limit_reached(A, 1000) is not None
    assert slots.ended(1, 1000)
    assert slots.limit_reached(A, 1000) is None


def test_a_session_in_which_somebody_has_logged_in_gives_its_slot_back() -> None:
    slots = Slots(500, 1, 10)
    fill(slots, A, 1, 100)
    assert slots.ended(1, 101, is_known=True)
    assert slots.limit_reached(A, 101) is None
    assert slots.taken == 0
    assert not slots.of_source


def test_ended_sessions_keep_out_those_that_had_one() -> None:
    """And nobody else: a flood from many sources is not to be a lock."""
    slots = Slots(2, 2, 10)
    fill(slots, A, 1, 0)
    fill(slots, B, 1, 1, first=2)
    assert slots.ended(1, 2)
    assert slots.ended(2, 2)
    assert slots.limit_reached(A, 9) == "limit of 2 sessions"
    assert slots.limit_reached(b"another", 9) is None
    assert slots.limit_reached(A, 10) is None


def test_running_sessions_keep_out_everybody() -> None:
    slots = Slots(2, 2, 10)
    fill(slots, A, 2, 0)
    assert slots.limit_reached(b"another", 100) == "limit of 2 sessions"


def test_memory_is_bounded_however_many_sources_come() -> None:
    slots = Slots(5, 5, 10)
    for pid in range(5 * STRETCH):
        fill(slots, b"%d" % pid, 1, 0, first=pid + 1)
        slots.ended(pid + 1, 0)
    assert slots.limit_reached(b"another", 9) == "limit of 5 sessions"
    assert slots.limit_reached(b"another", 10) is None
    assert not slots.of_source


def test_a_process_that_was_no_session() -> None:
    slots = Slots(1, 1, 10)
    assert not slots.ended(7, 0)
    fill(slots, A, 1, 0)
    assert slots.ended(1, 0)
    assert not slots.ended(1, 0)


def test_limits_that_are_lowered_while_sessions_run() -> None:
    slots = Slots(5, 5, 10)
    fill(slots, A, 5, 0)
    slots.max_sessions, slots.max_per_source = 2, 1
    assert slots.limit_reached(A, 50) == "limit of 2 sessions"
    for pid in (1, 2, 3, 4):
        slots.ended(pid, 50)
    assert slots.limit_reached(B, 50) is None
    assert slots.limit_reached(A, 50) is not None


Step = tuple[str, int, float]
STEPS = st.lists(
    st.tuples(st.sampled_from(["start", "end", "end of a login"]), st.integers(0, 3), st.floats(0, 8)), max_size=60
)


@given(steps=STEPS)
def test_what_is_counted_is_what_is_there(steps: list[Step]) -> None:
    """Against the rule in plain words: a slot is taken while its process lives, and for 10 s where nobody logged in.

    With 4 sources, 6 slots in all and 3 of each.
    """
    slots = Slots(6, 3, 10)
    sessions: list[dict[str, object]] = []
    now, pid = 0.0, 0
    for what, which, passes in steps:
        now += passes
        source = b"%d" % which
        if what != "start":
            alive = [session for session in sessions if session["alive"]]
            if alive:
                one = alive[which % len(alive)]
                one["alive"] = False
                one["known"] = what != "end"
                assert slots.ended(int(str(one["pid"])), now, is_known=bool(one["known"]))
            continue
        taken = [s for s in sessions if s["alive"] or (not s["known"] and float(str(s["start"])) + 10 > now)]
        of_source = len([s for s in taken if s["source"] == source])
        running = len([s for s in taken if s["alive"]])
        refused = running >= 6 or (len(taken) >= 6 and of_source > 0) or of_source >= 3
        assert (slots.limit_reached(source, now) is not None) == refused
        assert slots.taken == len(taken)
        assert sum(slots.of_source.values()) == len(taken), "memory is for slots that are taken"
        if not refused:
            pid += 1
            slots.started(pid, source, now)
            sessions.append({"pid": pid, "source": source, "start": now, "alive": True, "known": False})


def test_the_journal_hears_of_drops_once_in_a_while() -> None:
    dropped = Dropped()
    assert dropped.due(0, 10) == {}
    dropped.count("192.0.2.1", "a limit")
    assert dropped.due(0, 10) == {"rhost": "192.0.2.1", "limit": "a limit", "dropped": 1}
    for number in range(3):
        dropped.count(f"192.0.2.{number}", "a limit")
    assert dropped.due(9.9, 10) == {}
    assert dropped.due(10, 10) == {"rhost": "192.0.2.2", "limit": "a limit", "dropped": 3}
    assert dropped.due(30, 10) == {}
    assert dropped.in_all == 4


def test_a_proxy_is_not_one_source_but_its_clients_are() -> None:
    slots = Slots(10, 2, 5)
    for pid in range(5):
        assert slots.limit_reached(UNTOLD, 0) is None
        slots.started(pid, UNTOLD, 0)
    assert [slots.moved(pid, b"client", 0) for pid in range(3)] == [None, None, "limit of 2 sessions of one source"]
    assert slots.of_source == {UNTOLD: 3, b"client": 2}
    for pid in range(5):
        slots.ended(pid, 1)
    assert slots.of_source == {b"client": 2}  # what a proxy looks for itself holds no slot, what a client does as ever
    slots.limit_reached(b"client", 6)
    assert not slots.of_source


def test_a_proxy_can_take_all_slots_and_no_more() -> None:
    slots = Slots(3, 2, 5)
    for pid in range(3):
        assert slots.limit_reached(UNTOLD, 0) is None
        slots.started(pid, UNTOLD, 0)
    assert slots.limit_reached(UNTOLD, 0) == "limit of 3 sessions"
