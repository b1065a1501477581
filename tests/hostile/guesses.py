"""How many guesses a minute do clients have who guess, and how long do good users behind the same address wait?

    python3 -m tests.hostile.guesses [--minutes N]

Clients on a clock of its own, with the tables of the helper: each opens as many connections at once as popad -D has for
a source by default (50), and opens the next when one ends. A session waits for its verdict whether its client is there
or not, so who hangs up early gains no connection by it; and who has an account mixes in good logins.

one password, many names        from one source
many passwords, one name        from each of 100 sources, each with as many connections
own account, hanging up early   many passwords for many names from one source, each second login a good one of his own
forgotten devices               five that ask with an old password each minute, and how long a neighbour waits
"""

import argparse
import heapq
import itertools
from collections.abc import Callable, Iterator

from popad.auth.guessing import Guesses
from popad.settings import TABLE

AT_ONCE = int(TABLE["POPAD_MAX_SESSIONS_PER_SOURCE"].default)
LONGEST = float(TABLE["POPAD_GUESS_DELAY"].default)
MEMORY = float(TABLE["POPAD_GUESS_MEMORY"].default)
REFUSED_SOONEST, PASSED_SOONEST = 0.5, 0.05  # seconds: of the credentials file, which is the faster source

Attempt = tuple[bytes, bytes, bytes, bool]  # source, name, password, whether it is right


class Play:
    """The tables, on a clock that the clients turn."""

    def __init__(self) -> None:
        self.now = 0.0
        self.guesses = Guesses(LONGEST, MEMORY, lambda: self.now)

    def takes(self, attempt: Attempt) -> float:
        """Seconds from PASS to the verdict."""
        source, name, password, right = attempt
        waits = self.guesses.put_off(source, name, password, right)
        return max(waits, PASSED_SOONEST if right else REFUSED_SOONEST)

    def guesses_a_minute(self, clients: list[Iterator[Attempt]], minutes: int) -> list[int]:
        """Wrong passwords that are tried in each minute; every client has AT_ONCE connections."""
        begun = [0] * minutes
        free = [(0.0, number, client) for number, client in enumerate(clients * AT_ONCE)]
        while free[0][0] < minutes * 60:
            self.now, number, client = free[0]
            attempt = next(client)
            begun[int(self.now // 60)] += not attempt[3]
            heapq.heapreplace(free, (self.now + self.takes(attempt), number, client))
        return begun


def address(number: int) -> bytes:
    return number.to_bytes(4, "big")


def one_password_many_names() -> list[Iterator[Attempt]]:
    return [((address(1), b"user%d" % number, b"123456", False) for number in itertools.count())]


def many_passwords_one_name(sources: int = 100) -> list[Iterator[Attempt]]:
    def client(source: bytes) -> Iterator[Attempt]:
        return ((source, b"alice", b"%b %d" % (source, number), False) for number in itertools.count())

    return [client(address(number)) for number in range(sources)]


def own_account() -> list[Iterator[Attempt]]:
    """He would hang up on each verdict that is not there at once: if right passwords came sooner he would know."""

    def client() -> Iterator[Attempt]:
        for number in itertools.count():
            yield address(1), b"mallory", b"his own", True
            yield address(1), b"user%d" % (number % 1000), b"%d" % number, False

    return [client()]


def neighbours_wait(minutes: int, devices: int = 5, every: float = 60.0) -> list[float]:
    """Seconds that a good login waits at the end of each minute, behind the address of forgotten devices."""
    play = Play()
    waits = []
    for minute in range(minutes):
        for device in range(devices):
            play.now = minute * 60 + device * every / devices
            play.takes((address(1), b"user%d" % device, b"the old one", False))
        waits.append(play.guesses.put_off(address(1), b"neighbour", b"right", True))
    return waits


CLIENTS: dict[str, Callable[[], list[Iterator[Attempt]]]] = {
    "one password, many names": one_password_many_names,
    "many passwords, one name, 100 sources": many_passwords_one_name,
    "own account, hanging up early": own_account,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=10)
    minutes = parser.parse_args().minutes
    for name, clients in CLIENTS.items():
        print(f"{name}: {Play().guesses_a_minute(clients(), minutes)} guesses a minute")
    print(f"5 forgotten devices: a neighbour waits {neighbours_wait(minutes)} s, minute by minute")


if __name__ == "__main__":
    main()
