"""The verdict of a cluster's trial sees what must not be."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from .clients import Poll
from .verdict import Mail, judge, percentile, sessions, who_served

ONE, TWO = "one", "two"
LINE = "127.1.0.1:{port} [28/Nov/2026:09:00:43.434] pop3 popad/{server} 1/0/16 76 -- 2/2/1/0/{retries} 0/0"


def poll(
    began: float, outcome: str = "quit", *, ids: Mapping[int, str] = {}, deleted: bool = True, port: int = 1
) -> Poll:
    """A session of two seconds that fetched these messages, and deleted them."""
    marks = list(ids) if deleted else []
    made = Poll("user0", "127.1.0.1", port, began, 0.1, began + 2, outcome, quitting=True)
    made.ids, made.deleted = dict(ids), marks
    return made


def judged(polls: list[Poll], left: Mapping[int, int]) -> Mail:
    return judge({1: "user0"}, polls, left, dict(enumerate((ONE, TWO))))


@pytest.mark.parametrize(
    ("polls", "left", "wrong"),
    [
        ([poll(0, ids={1: "a"})], {}, {}),
        ([], {1: 1}, {}),
        ([], {}, {"lost": [1]}),
        ([poll(0, ids={1: "a"}, deleted=False)], {}, {"lost": [1]}),
        ([], {1: 2}, {"doubled": [1]}),
        ([poll(0, ids={1: "a"})], {1: 1}, {"doubled": [1]}),
        ([poll(0, ids={1: "a"}), poll(5, ids={1: "a"})], {}, {"doubled": [1]}),
        ([poll(0, ids={1: "a"}, deleted=False), poll(5, ids={1: "b"})], {}, {"moved": [1]}),
        ([poll(0, "gone", ids={1: "a"})], {}, {"undecided": 1}),
        ([poll(0, "gone", ids={1: "a"}), poll(5, ids={1: "a"})], {}, {}),
    ],
)
def test_a_message(polls: list[Poll], left: Mapping[int, int], wrong: dict[str, object]) -> None:
    mail = judged(polls, left)
    nothing: dict[str, object] = {"lost": [], "doubled": [], "moved": [], "undecided": 0}
    assert {name: getattr(mail, name) for name in nothing} == nothing | wrong


def test_sessions_by_what_the_proxy_has_logged() -> None:
    """Something happens to the first host at 1; what ended there is told from what ended elsewhere, and later."""
    polls = [
        poll(0, "gone", port=1),
        poll(0, "gone", port=2),
        poll(0, port=3),
        poll(4, "gone", port=4),
        poll(4, port=5),
    ]
    servers = [(ONE, "0"), (TWO, "0"), (TWO, "0"), (TWO, "0"), (TWO, "+1")]
    lines = [LINE.format(port=n, server=server, retries=again) for n, (server, again) in enumerate(servers, 1)]
    served, again = who_served(polls, lines)
    assert served == dict(enumerate(server for server, _ in servers))
    found = sessions(polls, served, again, ONE, (1, 1, 1, 9))
    assert (found.at_work, found.ended, found.others_at_work, found.turned_over) == (1, 1, 2, 1)
    assert [len(found.others_ended), len(found.refused)] == [1, 1]
    later = sessions(polls, served, again, TWO, (1, 3, 3, 9))  # it may happen behind the end of the one that is whole
    assert (later.at_work, later.ended) == (1, 1)


def test_percentile() -> None:
    assert [percentile(range(1, 101), rank) for rank in (50, 99, 100)] == [50, 99, 100]
    assert percentile([], 99) == 0
