"""Handshakes that are none, against the TLS helper: mutated ClientHellos, split and doubled records, sudden ends.

    python3 -m tests.hostile.handshakes [--count N] [--seed N]

Each has a process of the helper, as a real connection has. There is an answer each time, and nothing is left: no
process, no descriptor in the helper, no word on its standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import select
import signal
import socket
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from popad.errors import ContractBroken
from popad.net.encryption import LIMITS, unpack
from popad.privsep import pool, spawn
from popad.privsep.channel import Channel, message_pair, send_descriptor
from popad.settings import Settings
from popad.tls import helper
from popad.tls.helper import TlsHelper
from tests.support.certificates import HOST, Pair, make, settings
from tests.support.patience import PATIENCE

AT_ONCE = 32
LONG = 1  # seconds that a handshake may take: one that waits for more is ended by it


def client_hello(version: ssl.TLSVersion) -> bytes:
    """The first record of a client."""
    context = ssl.create_default_context()
    context.maximum_version = version
    back = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), back, server_hostname=HOST).do_handshake()
    return back.read()


HELLOS = [client_hello(version) for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]


def made_up(chance: random.Random) -> list[bytes]:
    """Something like a ClientHello, in the pieces that it is sent in."""
    octets = bytearray(chance.choice(HELLOS))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        place = chance.randrange(len(octets) + 1)
        how = chance.randrange(8)
        if how == 0:
            octets[place : place + 1] = bytes([chance.randrange(256)])
        elif how == 1:
            octets[place : place + 2] = chance.choice((0, 1, 255, 256, 16384, 65535)).to_bytes(2, "big")
        elif how == 2:
            del octets[place : place + chance.randrange(1, 64)]
        elif how == 3:
            octets[place:place] = chance.randbytes(chance.randrange(1, 64))
        elif how == 4:
            octets[place:place] = octets[place : place + chance.randrange(1, 300)]
        elif how == 5:
            del octets[place:]
        elif how == 6:  # another record: an alert, a change of ciphers, data
            octets += bytes([chance.choice((20, 21, 22, 23, 24)), 3, chance.randrange(5), 0, 2]) + chance.randbytes(2)
        elif len(octets) > 9:  # the same handshake in two records
            cut = chance.randrange(6, len(octets))
            body = octets[5:]
            parts = body[: cut - 5], body[cut - 5 :]
            octets = bytearray(b"".join(octets[:3] + len(part).to_bytes(2, "big") + part for part in parts))
    pieces, rest = [], bytes(octets)
    for _ in range(chance.choice((0, 0, 0, 1, 2, 5))):
        cut = chance.randrange(len(rest) + 1)
        pieces.append(rest[:cut])
        rest = rest[cut:]
    return [*pieces, rest]


class Helper:
    """A helper that runs, and the relay to it."""

    def __init__(self, pair: Pair) -> None:
        made = TlsHelper(Settings(settings(pair) | {"POPAD_TLS_TIMEOUT": str(LONG)}))
        helper.refuse.__globals__["end_stream"] = lambda client: client.shutdown(socket.SHUT_WR)
        self.relay, end = message_pair()
        self.words = tempfile.TemporaryFile()  # noqa: SIM115 - close() looks what is in it

        def role() -> None:
            self.relay.close()
            os.dup2(self.words.fileno(), 2)
            pool.serve_requests(pool.RelaySource(end), made.serve, math.inf, requests=1)

        self.pid = spawn.spawn(role)
        end.close()

    def children(self) -> list[str]:
        return Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def close(self) -> None:
        self.relay.close()
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)
        self.words.seek(0)
        said = self.words.read()
        self.words.close()
        assert said == b"", said[:2000]


class Tried:
    """One connection under way."""

    def __init__(self, helper: Helper, pieces: list[bytes], leaves: bool) -> None:
        ours, theirs = message_pair()
        self.channel = Channel(ours)
        self.client, inside = socket.socketpair()
        self.plain, other = socket.socketpair()
        send_descriptor(helper.relay, b"\0", theirs.fileno())
        theirs.close()
        self.channel.send([b"192.0.2.7"], inside.fileno(), other.fileno())
        inside.close()
        other.close()
        for piece in pieces:
            with contextlib.suppress(OSError):
                self.client.send(piece)
        if leaves:
            with contextlib.suppress(OSError):
                self.client.shutdown(socket.SHUT_WR)

    def outcome(self) -> str:
        try:
            answer = unpack(self.channel.receive(LIMITS, PATIENCE))
        except ContractBroken:
            return "died"
        except TimeoutError:
            return "hangs"
        finally:
            for each in (self.client, self.plain, self.channel):
                each.close()
        return "TLS" if answer.is_up else answer.reason


@contextlib.contextmanager
def running() -> Iterator[Helper]:
    with tempfile.TemporaryDirectory(prefix="popad-test-") as place:
        made = Helper(make(Path(place)))
        try:
            yield made
        finally:
            made.close()


def play(count: int, seed: int) -> Counter[str]:
    """How many there were of each outcome. AssertionError where one has none, or something is left."""
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    with running() as made:
        before = made.descriptors()
        for begin in range(0, count, AT_ONCE):
            number = min(AT_ONCE, count - begin)
            batch = [(made_up(chance), chance.random() < 0.997) for _ in range(number)]
            tried = [Tried(made, *each) for each in batch]
            for each, octets in zip(tried, batch, strict=True):
                outcome = each.outcome()
                assert outcome not in ("died", "hangs"), (outcome, octets)
                outcomes[outcome] += 1
        deadline = time.monotonic() + PATIENCE
        while made.children():
            assert time.monotonic() < deadline, "processes are left"
            select.select([], [], [], 0.05)
        last = Tried(made, [], True)  # the helper learns who has gone when it is asked again
        assert last.outcome() == "the client left"
        assert made.descriptors() <= before + 2
    return outcomes


def main() -> None:
    """Fuzz, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of all chances (a new one)")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    began = time.monotonic()
    for outcome, number in play(asked.count, asked.seed).most_common():
        print(f"{number:8} {outcome}")
    print(f"{asked.count} in {time.monotonic() - began:.0f} s; each had an answer, nothing was left")


if __name__ == "__main__":
    main()
