"""commands/inspection/said.py: what the process that looks says, in fields that have an end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from popad.commands.inspection.said import LISTS, SHAPES, TEXT, Telling
from popad.privsep.channel import Channel, message_pair


@pytest.fixture
def channels() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = message_pair()
    yield Channel(ours), Channel(theirs)
    ours.close()
    theirs.close()


def heard(channel: Channel) -> list[list[bytes]]:
    found = []
    while channel.waits(0):
        found.append([bytes(field) for field in channel.receive_request(SHAPES, None)])
    return found


def test_each_list_has_a_shape() -> None:
    for name, columns in LISTS.items():
        assert len(SHAPES[name.encode()]) == len(columns)


@pytest.mark.parametrize(("most", "said"), [(None, 5), (2, 2), (0, 0)])
def test_a_list_is_said_as_far_as_it_is_wanted(channels: tuple[Channel, Channel], most: int | None, said: int) -> None:
    Telling(channels[0], most).rows("others", ((f"n{number}", "why") for number in range(5)))
    *rows, last = heard(channels[1])
    assert rows == [[b"others", b"n%d" % number, b"why"] for number in range(said)]
    assert last == [b"listed", b"others", b"5"]


def test_a_list_has_an_end_where_the_rest_cannot_be_read(channels: tuple[Channel, Channel]) -> None:
    def rows() -> Iterator[tuple[str, str]]:
        yield "n", "why"
        raise OSError

    with pytest.raises(OSError):
        Telling(channels[0], None).rows("others", rows())
    assert [kind for kind, *_ in heard(channels[1])] == [b"others", b"listed"]


def test_what_is_long_is_cut(channels: tuple[Channel, Channel]) -> None:
    telling = Telling(channels[0], None)
    telling.wrong("x" * 10000)
    telling.fact("name", "\udcff")
    assert heard(channels[1]) == [[b"wrong", b"x" * TEXT], [b"fact", b"name", b"\xff"]]


def test_how_far_it_is_is_said_from_time_to_time(channels: tuple[Channel, Channel]) -> None:
    telling = Telling(channels[0], None)
    for number in range(1000):
        telling.step(number, 1000)
    assert heard(channels[1]) == []
    telling.said -= 1
    telling.step(1, 2)
    assert heard(channels[1]) == [[b"step", b"1", b"2"]]
