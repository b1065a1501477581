"""SCRAM-SHA-256 as popad, Dovecot and GNU SASL hear it: python3 -m tests.peers.scram [--each 200] [--seed 1]

The same exchanges, most of them with a change in one message, each against all three: who accepts what. Needs root, and
Debian's libgsasl18; Dovecot is not installed. Everything listens on loopback. The exit status is 1 where popad accepts
what was changed in a way that matters, or refuses what the others accept.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import os
import random
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from popad.auth import credentials
from tests.support import dovecot, unpacked
from tests.support.daemon import daemon
from tests.support.patience import PATIENCE
from tests.support.scram import ScramClient, b64
from tests.support.serving import NAME, PASSWORD, Server

MECHANISM = "SCRAM-SHA-256"
Change = Callable[[random.Random, bytes], bytes]


def octet(rng: random.Random, message: bytes) -> bytes:
    """One octet is another one."""
    place = rng.randrange(len(message))
    return message[:place] + bytes([message[place] ^ rng.randrange(1, 256)]) + message[place + 1 :]


def cut(rng: random.Random, message: bytes) -> bytes:
    return message[: rng.randrange(len(message))]


def inserted(rng: random.Random, message: bytes) -> bytes:
    place = rng.randrange(len(message) + 1)
    return (
        message[:place]
        + rng.choice((b",", b"=", b"x", b"\0", b"\n", b" ", b"\xc3\xa4", b",m=x", b",e=x"))
        + message[place:]
    )


def part_of(rng: random.Random, message: bytes) -> bytes:
    """A part is missing, comes twice, or two have changed places."""
    parts = message.split(b",")
    first, second = rng.randrange(len(parts)), rng.randrange(len(parts))
    how = rng.randrange(3)
    if how == 0:
        parts.pop(first)
    elif how == 1:
        parts.insert(second, parts[first])
    else:
        parts[first], parts[second] = parts[second], parts[first]
    return b",".join(parts)


def other_case(rng: random.Random, message: bytes) -> bytes:
    place = rng.randrange(len(message))
    return message[:place] + message[place : place + 1].swapcase() + message[place + 1 :]


CHANGES: dict[str, Change] = {
    "an octet": octet,
    "cut short": cut,
    "inserted": inserted,
    "a part": part_of,
    "upper and lower case": other_case,
}


class Exchange:
    """What a client does: whole messages, changed before they are sent."""

    def __init__(self, rng: random.Random, kind: str) -> None:
        self.kind = kind
        self.seed = rng.random()
        self.nonce = b64(rng.randbytes(18))
        self.where = rng.choice(("first", "final"))
        self.gs2 = rng.choice((b"n,,", b"y,,", b"n,a=alice,"))
        self.password = PASSWORD
        if kind == "wrong password":
            self.password = "wrong"
        if kind == "other mail":
            self.gs2 = b"n,a=root,"
        if kind == "channel binding":
            self.gs2 = b"p=tls-server-end-point,,"

    def messages(self, ask: Callable[[bytes], bytes | None]) -> tuple[bool, bool]:
        """Play it: whether it was accepted, and whether what was sent differs from what a client sends."""
        rng = random.Random(self.seed)
        client = ScramClient(NAME, self.password, MECHANISM, self.gs2, nonce=self.nonce)
        first = client.first()
        sent = CHANGES[self.kind](rng, first) if self.kind in CHANGES and self.where == "first" else first
        differs = sent != first
        challenge = ask(sent)
        if challenge is None or challenge.count(b",") != 2:
            return False, differs
        try:
            final = client.final(challenge)
        except ValueError:
            return False, differs
        sent = CHANGES[self.kind](rng, final) if self.kind in CHANGES and self.where == "final" else final
        differs = differs or sent != final
        signature = ask(sent)
        return signature is not None and client.believes(signature), differs


def over_pop3(port: int) -> Callable[[Exchange], tuple[bool, bool]]:
    """popad's or Dovecot's."""

    def play(exchange: Exchange) -> tuple[bool, bool]:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as line, line.makefile("rwb") as lines:
            lines.readline()
            lines.write(f"AUTH {MECHANISM}\r\n".encode())
            lines.flush()
            lines.readline()

            def ask(message: bytes) -> bytes | None:
                lines.write(b64(message) + b"\r\n")
                lines.flush()
                answer = lines.readline()
                return base64.b64decode(answer[2:]) if answer.startswith(b"+ ") else None

            accepted, differs = exchange.messages(ask)
            if accepted:
                lines.write(b"\r\n")
                lines.flush()
                accepted = lines.readline().startswith(b"+OK")
            return accepted, differs

    return play


class GnuSasl:
    """A server of libgsasl."""

    AUTHID, AUTHZID, PASSWORD_, NO_CALLBACK, OK, MORE = 1, 2, 3, 51, 0, 1

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libgsasl.so.18")
        self.library.gsasl_property_fast.restype = ctypes.c_char_p
        self.context = ctypes.c_void_p()
        self.library.gsasl_init(ctypes.byref(self.context))
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
        self.callback = kind(self.answer)
        self.library.gsasl_callback_set(self.context, self.callback)

    def answer(self, _: int, session: int, what: int) -> int:
        """What it wants to know."""
        session_ = ctypes.c_void_p(session)
        name = self.library.gsasl_property_fast(session_, self.AUTHID)
        if what != self.PASSWORD_ or name != NAME.encode():
            return self.NO_CALLBACK
        self.library.gsasl_property_set(session_, self.PASSWORD_, PASSWORD.encode())
        return self.OK

    def play(self, exchange: Exchange) -> tuple[bool, bool]:
        session = ctypes.c_void_p()
        self.library.gsasl_server_start(self.context, MECHANISM.encode(), ctypes.byref(session))
        status = [self.MORE]

        def ask(message: bytes) -> bytes | None:
            out, size = ctypes.c_void_p(), ctypes.c_size_t()
            step = self.library.gsasl_step
            status[0] = step(session, message, ctypes.c_size_t(len(message)), ctypes.byref(out), ctypes.byref(size))
            if status[0] not in (self.OK, self.MORE) or not out.value:
                return None
            return ctypes.string_at(out.value, size.value)

        accepted, differs = exchange.messages(ask)
        # Whose mail it is, the program around the library has to look at.
        whose = self.library.gsasl_property_fast(session, self.AUTHZID)
        self.library.gsasl_finish(session)
        return accepted and status[0] == self.OK and whose in (None, b"", NAME.encode()), differs


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.peers.scram", description=__doc__)
    parser.add_argument("--each", type=int, default=200, help="exchanges with a change; 200 without it")
    parser.add_argument("--seed", type=int, default=1, help="for other ones; 1 without it")
    given = parser.parse_args()
    try:
        dovecot.require()
    except unpacked.Unavailable as reason:
        parser.error(str(reason))
    rng = random.Random(given.seed)
    kinds = [*CHANGES]
    exchanges = [Exchange(rng, kinds[number % len(kinds)]) for number in range(given.each)]
    more = ("right", "wrong password", "other mail", "channel binding")
    exchanges += [Exchange(rng, kind) for kind in more for _ in range(10)]
    wrong = 0
    counts: Counter[tuple[str, str, str]] = Counter()
    with tempfile.TemporaryDirectory(prefix="popad-test-") as text:
        os.chmod(text, 0o755)
        server = Server(Path(text))
        server.credentials.write_text(credentials.line(NAME, PASSWORD.encode(), 4096) + "\n")
        settings = {"POPAD_GUESS_DELAY": "0", "POPAD_MAX_SESSIONS_PER_SOURCE": "100000", "POPAD_MAX_SESSIONS": "100000"}
        with daemon(server, settings) as running, dovecot.dovecot(Path(text, "dovecot")) as port:
            gnu = GnuSasl()
            for exchange in exchanges:
                results: dict[str, tuple[bool, bool]] = {
                    "popad": over_pop3(running.ports[0])(exchange),
                    "Dovecot": over_pop3(port)(exchange),
                    "GNU SASL": gnu.play(exchange),
                }
                differs = results["popad"][1]
                for name, (passed, _) in results.items():
                    counts[exchange.kind, name, "accepted" if passed else "refused"] += 1
                ours, others = results["popad"][0], {results["Dovecot"], results["GNU SASL"]}
                wanted = exchange.kind == "right"
                may_pass = wanted or (exchange.kind in CHANGES and not differs)  # some changes change nothing
                # Each server has a nonce of its own, so that the same change may be none for another one.
                if ours is not may_pass or (not ours and others == {(True, differs)}):
                    wrong += 1
                    print(f"{exchange.kind}, {exchange.where}: {results}", file=sys.stderr)
    print(f"{'':24}{'popad':>16}{'Dovecot':>16}{'GNU SASL':>16}   accepted of all")
    for kind in (*CHANGES, *more):
        row = ""
        for name in ("popad", "Dovecot", "GNU SASL"):
            accepted, refused = (counts[kind, name, what] for what in ("accepted", "refused"))
            row += f"{f'{accepted} of {accepted + refused}':>16}"
        print(f"{kind:24}{row}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
