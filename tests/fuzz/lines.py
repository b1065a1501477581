"""However the octets of a client are cut, and wherever another process reads on, the same lines and refusals come out,
and never more than a command line and one read are in memory.
"""

from popad.errors import CommandRefused
from popad.protocol.lines import Lines
from popad.values import COMMAND_OCTETS
from tests.fuzz.cutting import Octets, pieces

TOO_LONG, NUL = "line too long", "NUL in a command"


def expected(text: bytes, limit: int = COMMAND_OCTETS) -> list[bytes | str]:
    """The lines of a client: octets, or why one is refused."""
    found: list[bytes | str] = []
    for line in text.split(b"\n")[:-1]:
        if len(line) >= limit:
            found.append(TOO_LONG)
        elif b"\0" in line:
            found.append(NUL)
        elif line.endswith(b"\r"):
            found.append(line[:-1])
        else:
            found.append(line)
    return found


def try_one(data: bytes) -> None:
    octets = Octets(data)
    hand_over = octets.number()  # the number of the piece behind which another process reads on
    sizes = octets.numbers()
    text = octets.rest() * (1 + 15 * (hand_over & 1))  # some are long: fuzzers like short ones
    lines = Lines()
    found: list[bytes | str] = []
    for number, piece in enumerate(pieces(text, sizes)):
        lines.feed(piece)
        assert len(lines.buffer) <= COMMAND_OCTETS + len(piece)
        while True:
            try:
                line = lines.take()
            except CommandRefused as refused:
                found.append(refused.text)
                continue
            if line is None:
                break
            found.append(line)
        if number == hand_over >> 1 and not lines.dropping:
            lines = Lines(lines.rest())
    assert found == expected(text), (found, expected(text))
