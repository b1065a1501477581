"""Whatever a client says in AUTH, each line has one answer, an exchange that ends early is told to the helper, and what
the helper gets is within its limits.
"""

from popad.auth.sasl import table
from popad.auth.sasl.scram import LAST_SHAPES, SECOND_SHAPES
from popad.protocol.authorization import MAY_LOG_IN, TABLE, Authorization
from popad.protocol.dialogue import converse
from popad.protocol.lines import Lines
from popad.protocol.sasl import MECHANISMS
from tests.fuzz.cutting import Octets, pieces
from tests.support.peer import Peer

MAY = MAY_LOG_IN | sum(mechanism.may for mechanism in MECHANISMS.values())
SHAPES = {**table.SHAPES, **SECOND_SHAPES, **LAST_SHAPES}


class Helper:
    """Asks for as long as the input says, and looks at each message."""

    def __init__(self, octets: Octets) -> None:
        self.octets = octets
        self.open = False

    def ask(self, *fields: bytes) -> bytes | None:
        self.tell(*fields)
        self.open = bool(self.octets.number() % 4)
        return b"r=abc,s=eA==,i=1" if self.open else None

    def tell(self, *fields: bytes) -> None:
        limits = SHAPES[fields[0]]
        assert len(fields) == len(limits) + 1
        assert all(len(field) <= most for field, most in zip(fields[1:], limits, strict=True))
        self.open = fields[0] not in LAST_SHAPES


def try_one(data: bytes) -> None:
    octets = Octets(data)
    helper, sizes = Helper(octets), octets.numbers()
    state = Authorization(MAY, helper)
    peer = Peer(*pieces(octets.rest() + b"\r\n*\r\nQUIT\r\n", sizes))
    lines = Lines()
    try:
        converse(peer, lines, TABLE, state, 249)
    finally:
        state.end_exchange()
    assert state.over
    assert not helper.open or state.is_decided
    answers = peer.received.split(b"\r\n")
    assert all(answer.decode("ascii").isprintable() for answer in answers)
    if state.login:
        limits = table.SHAPES[state.login[0]]
        assert all(len(field) <= most for field, most in zip(state.login[1:], limits, strict=True))
