"""How a fuzz input says where its octets are cut: so that one input is a text and a way for it to arrive."""

from collections.abc import Iterator


class Octets:
    """Takes an input apart from the front; behind its end everything is zero or empty."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def number(self) -> int:
        """The next octet."""
        self.place += 1
        return self.data[self.place - 1] if self.place <= len(self.data) else 0

    def numbers(self) -> list[int]:
        """A list of up to 15 numbers of 1 to 256."""
        return [self.number() + 1 for _ in range(self.number() % 16)]

    def rest(self) -> bytes:
        """All that has not been taken."""
        return self.data[self.place :]


def pieces(text: bytes, sizes: list[int]) -> Iterator[bytes]:
    """`text` in pieces of these sizes, over and over; in one where there are none."""
    place = number = 0
    while place < len(text):
        size = sizes[number % len(sizes)] if sizes else len(text)
        yield text[place : place + size]
        place += size
        number += 1
