"""protocol/sasl.py: exchanges as RFC 5034 has them, what the helper gets of them, and what is refused before."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.errors import CommandRefused
from popad.protocol import sasl
from popad.protocol.authorization import MAX_ERRORS, MAY_ENCRYPT, MAY_LOG_IN, TABLE, Authorization
from popad.protocol.dialogue import converse
from popad.protocol.lines import Lines
from popad.protocol.sasl import MECHANISMS, RESPONSE_OCTETS
from popad.values import ARGUMENT_OCTETS, COMMAND_OCTETS
from tests.support.peer import Peer

ALL = MAY_LOG_IN | sum(mechanism.may for mechanism in MECHANISMS.values())


class Helper:
    """An auth helper that asks what the test says, and keeps what it is told."""

    def __init__(self, *challenges: bytes | None) -> None:
        self.challenges = list(challenges)
        self.heard: list[tuple[bytes, ...]] = []

    def ask(self, *fields: bytes) -> bytes | None:
        self.heard.append(fields)
        return self.challenges.pop(0)

    def tell(self, *fields: bytes) -> None:
        self.heard.append(fields)


def b64(text: bytes) -> bytes:
    return base64.b64encode(text)


def said(*lines: bytes, may: int = ALL, helper: Helper | None = None) -> tuple[Authorization, list[bytes]]:
    """The state after these lines, and the answers; QUIT behind them."""
    state = Authorization(may, helper or Helper())
    peer = Peer(b"".join(line + b"\r\n" for line in (*lines, b"QUIT")))
    converse(peer, Lines(), TABLE, state, 40)
    return state, peer.received.split(b"\r\n")[:-1]


PLAIN = (b"PLAIN", b"", b"alice", b"secret")


@pytest.mark.parametrize(
    ("lines", "answers", "login"),
    [
        ([b"AUTH PLAIN", b64(b"\0alice\0secret")], [b"+ "], PLAIN),
        ([b"auth plain", b64(b"\0alice\0secret")], [b"+ "], PLAIN),
        ([b"AUTH PLAIN " + b64(b"\0alice\0secret")], [], PLAIN),
        ([b"AUTH PLAIN " + b64(b"bob\0alice\0secret")], [], (b"PLAIN", b"bob", b"alice", b"secret")),
        ([b"AUTH PLAIN " + b64("\0älice\0sécret".encode())], [], (b"PLAIN", b"", "älice".encode(), "sécret".encode())),
        (
            [b"AUTH LOGIN", b64(b"alice"), b64(b"a b ")],
            [b"+ VXNlciBOYW1lAA==", b"+ UGFzc3dvcmQA"],
            (b"LOGIN", b"alice", b"a b "),
        ),
        ([b"AUTH LOGIN " + b64(b"alice"), b64(b"x")], [b"+ UGFzc3dvcmQA"], (b"LOGIN", b"alice", b"x")),
        ([b"AUTH EXTERNAL", b""], [b"+ "], (b"EXTERNAL", b"")),
        ([b"AUTH EXTERNAL ="], [], (b"EXTERNAL", b"")),
        ([b"AUTH EXTERNAL " + b64(b"alice")], [], (b"EXTERNAL", b"alice")),
    ],
)
def test_an_exchange(lines: list[bytes], answers: list[bytes], login: tuple[bytes, ...]) -> None:
    state, heard = said(*lines)
    assert (state.login, state.over, state.is_decided) == (login, True, False)
    assert heard == answers


@pytest.mark.parametrize(
    "lines",
    [
        [b"AUTH PLAIN", b"*"],
        [b"AUTH PLAIN *"],
        [b"AUTH PLAIN", b"="],
        [b"AUTH PLAIN", b""],
        [b"AUTH PLAIN ="],
        [b"AUTH PLAIN", b64(b"alice\0secret")],
        [b"AUTH PLAIN", b64(b"\0alice\0secret\0")],
        [b"AUTH PLAIN", b64(b"\0\0secret")],
        [b"AUTH PLAIN", b64(b"\0alice\0secret")[:-1]],
        [b"AUTH PLAIN", b64(b"\0alice\0secret") + b"="],
        [b"AUTH PLAIN", b"!" + b64(b"\0alice\0secret")],
        [b"AUTH PLAIN", b" " + b64(b"\0alice\0secret")],
        [b"AUTH PLAIN", b"AGFsaWNlAHNlY3JldB=="],  # bits behind the end (RFC 4648 section 3.5)
        [b"AUTH PLAIN", b64(b"\0alice\0" + b"x" * (ARGUMENT_OCTETS + 1))],
        [b"AUTH PLAIN", b64(b"\0" + b"x" * (ARGUMENT_OCTETS + 1) + b"\0secret")],
        [b"AUTH PLAIN", b"A" * RESPONSE_OCTETS],
        [b"AUTH PLAIN", b64(b"\0alice\0secret") + b"\0"],
        [b"AUTH LOGIN", b64(b"alice"), b"*"],
        [b"AUTH LOGIN", b64(b""), b64(b"secret")],
        [b"AUTH LOGIN", b64(b"a\0b"), b64(b"secret")],
        [b"AUTH EXTERNAL " + b64(b"a\0b")],
        [b"AUTH SCRAM-SHA-256 " + b64(b"x,,n=alice,r=abc")],
        [b"AUTH SCRAM-SHA-256 " + b64(b"n,,n=alice")],
        [b"AUTH SCRAM-SHA-256 " + b64(b"n,,m=x,n=alice,r=abc")],  # a mandatory extension: there is none
        [b"AUTH SCRAM-SHA-256 " + b64(b"n,,n=al=ice,r=abc")],
        [b"AUTH SCRAM-SHA-256 " + b64(b"n,,n=al=2cice,r=abc")],
        [b"AUTH SCRAM-SHA-256 " + b64(b"n,,n=al\0ice,r=abc")],
        [b"AUTH SCRAM-SHA-256 " + b64(b"n,alice,n=alice,r=abc")],
        [b"AUTH SCRAM-SHA-256 " + b64(b"n,,n=alice,r=")],
        [b"AUTH SCRAM-SHA-256 " + b64(b"n,,n=alice,r=a b")],
        [b"AUTH SCRAM-SHA-256", b64(b"n,,n=alice,r=" + b"x" * 257)],
        [b"AUTH SCRAM-SHA-256 " + b64(b"n=x,,n=alice,r=abc")],
        [b"AUTH SCRAM-SHA-256 " + b64(b"p,,n=alice,r=abc")],
        [b"AUTH SCRAM-SHA-256 " + b64(b"p=,,n=alice,r=abc")],
        [b"AUTH SCRAM-SHA-256 " + b64(b"n=,,n=alice,r=abc")],
        [b"AUTH SCRAM-SHA-256 " + b64(b"n,a=,n=alice,r=abc")],
        [b"AUTH SCRAM-SHA-256", b64(b"n,,n=alice,r=abc,x=a\r\nb")],
        [b"AUTH CRAM-MD5"],
        [b"AUTH PLAIN x y"],
        [b"AUTH PLAIN  " + b64(b"\0alice\0secret")],
    ],
)
def test_an_error_is_no_attempt(lines: list[bytes]) -> None:
    """It counts as a bad command does, and the client may begin anew: nobody has looked at a password."""
    helper = Helper()
    state, answers = said(*lines, b"AUTH PLAIN " + b64(b"\0alice\0secret"), helper=helper)
    assert state.errors == 1, answers
    assert state.login == PLAIN
    assert sum(answer.startswith(b"-ERR") for answer in answers) == 1
    assert not helper.heard


def test_too_many_errors() -> None:
    state, answers = said(*[b"AUTH PLAIN", b"*"] * (MAX_ERRORS + 1))
    assert (state.over, state.login, state.errors) == (True, None, MAX_ERRORS)
    assert answers[-1] == b"-ERR cancelled; too many errors"


def test_without_a_mechanism_all_are_listed() -> None:
    """As clients ask that knew this before CAPA, in one answer of many lines."""
    assert said(b"AUTH")[1] == [b"+OK mechanisms", *MECHANISMS, b".", b"+OK bye"]
    some = MAY_LOG_IN | MECHANISMS[b"PLAIN"].may
    assert said(b"AUTH", may=some)[1] == [b"+OK mechanisms", b"PLAIN", b".", b"+OK bye"]
    assert said(b"AUTH", may=MAY_ENCRYPT)[1] == [b"+OK mechanisms", b".", b"+OK bye"]


@pytest.mark.parametrize("name", list(MECHANISMS))
def test_a_mechanism_that_may_not_be_used(name: bytes) -> None:
    state, answers = said(b"AUTH " + name, may=ALL & ~MECHANISMS[name].may)
    assert answers[0] == b"-ERR no such mechanism"
    state, answers = said(b"AUTH " + name, may=MAY_ENCRYPT)
    assert answers[0].startswith(b"-ERR [AUTH] no login without TLS")
    assert state.login is None


def test_only_in_an_exchange_a_line_may_be_longer() -> None:
    """RFC 5034 section 4: 12,288 octets of a response; a command has 255."""
    message = b64(b"\0" + b"a" * 249 + b"\0" + b"p" * 249)
    assert len(message) > COMMAND_OCTETS
    state, _ = said(b"AUTH PLAIN", message)
    assert state.login == (b"PLAIN", b"", b"a" * 249, b"p" * 249)
    state, answers = said(b"AUTH PLAIN " + message)
    assert (state.login, answers[0]) == (None, b"-ERR line too long")


def test_the_longest_response() -> None:
    longest = b"A" * (RESPONSE_OCTETS - 4)  # base64 comes in fours, and a line has an end
    assert said(b"AUTH PLAIN", longest)[1][1] == b"-ERR not a message of PLAIN"
    assert said(b"AUTH PLAIN", longest + b"AAAA")[1][1] == b"-ERR line too long"
    assert said(b"AUTH PLAIN", b"*", b"x" * COMMAND_OCTETS)[1][2] == b"-ERR line too long"


# -- SCRAM

FIRST = b"n,,n=al=2Cice,r=abc"
FIRST_FIELDS = (b"SCRAM-SHA-256", b"n", b"", b"", b"al,ice", b"abc", b"")
FINAL = b"c=biws,r=abcdef,p=cHJvb2Y="
FINAL_FIELDS = (sasl.FINAL, b"n,,", b"abcdef", b"", b"proof")


def test_scram() -> None:
    helper = Helper(b"r=abcdef,s=eA==,i=1", b"v=eA==")
    state, answers = said(b"AUTH SCRAM-SHA-256 " + b64(FIRST), b64(FINAL), b"", helper=helper)
    assert helper.heard == [FIRST_FIELDS, FINAL_FIELDS, (sasl.END_EXCHANGE,)]
    assert answers == [b"+ " + b64(b"r=abcdef,s=eA==,i=1"), b"+ " + b64(b"v=eA==")]
    assert (state.over, state.is_decided, state.login) == (True, True, None)


def test_scram_without_an_initial_response() -> None:
    helper = Helper(None)
    state, answers = said(b"AUTH SCRAM-SHA-256", b64(FIRST), helper=helper)
    assert helper.heard == [FIRST_FIELDS]
    assert (answers, state.is_decided) == ([b"+ "], True)


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (b"y,,n=a,r=b", (b"y", b"", b"", b"a", b"b", b"")),
        (b"n,a=c=3Dd,n=a,r=b", (b"n", b"", b"c=d", b"a", b"b", b"")),
        (b"p=tls-server-end-point,,n=a,r=b,x=1,y=2", (b"p", b"tls-server-end-point", b"", b"a", b"b", b"x=1,y=2")),
        (b"n,,n=,r=b", (b"n", b"", b"", b"", b"b", b"")),
    ],
)
def test_first_messages(message: bytes, fields: tuple[bytes, ...]) -> None:
    assert sasl.client_first(message) == fields


def test_a_wrong_proof_is_for_the_helper_to_refuse() -> None:
    helper = Helper(b"challenge", None)
    state, answers = said(b"AUTH SCRAM-SHA-256 " + b64(FIRST), b64(FINAL), helper=helper)
    assert (state.over, state.is_decided, len(answers)) == (True, True, 1)


@pytest.mark.parametrize("behind", [b"*", b"", b"!", b64(b"c=biws,r=abcdef"), b64(b"c=!,r=abcdef,p=cHJvb2Y=")])
def test_a_client_that_does_not_go_on(behind: bytes) -> None:
    """The helper hears of it, and the client may begin anew."""
    helper = Helper(b"challenge", b"challenge", None)
    begin = b"AUTH SCRAM-SHA-256 " + b64(FIRST)
    state, answers = said(begin, behind, begin, b64(FINAL), helper=helper)
    assert helper.heard == [FIRST_FIELDS, (sasl.CANCEL_EXCHANGE,), FIRST_FIELDS, FINAL_FIELDS]
    assert (state.errors, state.is_decided) == (1, True)
    assert answers[1].startswith(b"-ERR")


@pytest.mark.parametrize("behind", [b"*", b64(b"x")])
def test_a_client_that_does_not_believe_its_server(behind: bytes) -> None:
    helper = Helper(b"challenge", b"v=eA==")
    state, answers = said(b"AUTH SCRAM-SHA-256 " + b64(FIRST), b64(FINAL), behind, helper=helper)
    assert helper.heard[-1] == (sasl.CANCEL_EXCHANGE,)
    assert (state.is_decided, answers[2][:4], answers[3]) == (False, b"-ERR", b"+OK bye")


def test_a_client_that_has_gone() -> None:
    helper = Helper(b"challenge")
    state = Authorization(ALL, helper)
    state.exchange = sasl.Exchange(MECHANISMS[b"SCRAM-SHA-256"], helper)
    state.respond(b64(FIRST))
    state.end_exchange()
    assert helper.heard == [FIRST_FIELDS, (sasl.CANCEL_EXCHANGE,)]
    state.end_exchange()  # there is none


@given(st.lists(st.binary(max_size=60) | st.sampled_from([b"AUTH PLAIN", b"*", b"AUTH SCRAM-SHA-256 " + b64(FIRST)])))
def test_any_lines(lines: list[bytes]) -> None:
    """Each has an answer or ends the state; what the helper gets is within its limits."""
    state = Authorization(ALL, Helper(*[b"challenge"] * 1000))
    peer = Peer(b"".join(line.replace(b"\n", b"") + b"\r\n" for line in [*lines, b"*", b"QUIT"]))
    converse(peer, Lines(), TABLE, state, 40)
    assert state.over
    for fields in state.helper.heard if isinstance(state.helper, Helper) else ():
        assert all(len(field) <= sasl.MOST_OCTETS for field in fields)


@given(st.binary(max_size=200))
def test_base64_is_what_an_encoder_makes(octets: bytes) -> None:
    assert sasl.decoded(b64(octets)) == octets
    assert sasl.challenge_line(octets) == b"+ " + b64(octets) + b"\r\n"
    with pytest.raises(CommandRefused):
        sasl.decoded(b64(octets) + b"=")
