"""What large and odd mailboxes cost a session: seconds of processor, and the most memory, against a bound for each.

    python3 -m tests.hostile.sizes [--quick] [--json FILE] [CASE…]

Each case is a mailbox in memory (or with holes in it) and commands; --quick makes them a hundredth as large. Ends with
1 where a bound is passed. Times are printed, not judged: first what the client waits for, then the session's processor
time in all.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.serving import Client, Server, status_of

MB, GB, TB = 1 << 20, 1 << 30, 1 << 40
# MB that a session may have: itself, and a block of mail in three shapes.
FIXED = 48
# Octets a message: four numbers of 8, a mark, and while all are listed (a list of Python's integers, sets of them for
# twins) this much more.
LOADED, LISTED = 40, 400

POPA3DS_LIMIT = 2_097_152  # messages

Result = dict[str, Any]
Fill = Callable[[Path, int], int]


def write(path: Path, blocks: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        for block in blocks:
            file.write(block)


def many(message: Callable[[int], bytes]) -> Fill:
    """As many messages as asked for."""

    def fill(path: Path, count: int) -> int:
        write(
            path,
            (b"".join(message(number) for number in range(at, min(at + 1000, count))) for at in range(0, count, 1000)),
        )
        return count

    return fill


def tiny(number: int) -> bytes:
    return b"From a\nDate: %d\n\n\n" % number


def same(number: int) -> bytes:
    return b"From a\nDate: 1\n\nbody\n\n"


def same_header(number: int) -> bytes:
    return b"From a\nDate: 1\n\n%d\n\n" % number


TEXT = b"x" * 70 + b"\n"


def mails_of_100_kb(number: int) -> bytes:
    return b"From a\nDate: %d\n\n" % number + TEXT * 1477 + b"\n"


def one_message(path: Path, octets: int) -> int:
    text = TEXT * (MB // len(TEXT))
    write(path, iter([b"From a\nDate: 1\n\n", *[text] * (octets // len(text))]))
    return 1


def one_line(path: Path, octets: int) -> int:
    write(path, iter([b"From a\nDelivered-To: ", *[b"x" * MB] * (octets // MB), b"\n\nbody\n"]))
    return 1


def header_without_end(path: Path, octets: int) -> int:
    write(path, iter([b"From a\n", *[b"Delivered-To: a\n" * (MB // 16)] * (octets // MB)]))
    return 1


def from_line_without_end(path: Path, octets: int) -> int:
    write(path, iter([b"From ", *[b"x" * MB] * (octets // MB)]))
    return 1


def nuls(path: Path, octets: int) -> int:
    write(path, iter([b"From a\nDate: 1\n\n", *[bytes(MB)] * (octets // MB)]))
    return 1


def hole_from_the_start(path: Path, octets: int) -> int:
    path.touch()
    os.truncate(path, octets)
    return 0


def hole_behind_a_from_line(path: Path, octets: int) -> int:
    path.write_bytes(b"From a\nDate: 1\n\n")
    os.truncate(path, octets)
    return 0


class Case:
    """A mailbox of a size (messages or octets), and what a client asks of it; on disk where memory cannot hold it."""

    def __init__(self, fill: Fill, size: int, *commands: str, sparse: bool = False, listed: bool = True) -> None:
        self.fill = fill
        self.size = size
        self.commands = commands
        self.sparse = sparse
        self.listed = listed

    def bound(self, messages: int) -> float:
        """MB."""
        return FIXED + messages * (LOADED + LISTED * ("UIDL" in self.commands)) / MB


CASES = {
    "2 GB in messages of 100 KB": Case(many(mails_of_100_kb), 2 * GB // 105000, "UIDL", "RETR 1", "LIST"),
    "a message of 1 GB": Case(one_message, GB, "RETR 1"),
    "2 million tiny messages": Case(many(tiny), 2_000_000, "LIST", "UIDL"),
    "2 million equal messages": Case(many(same), 2_000_000, "UIDL"),
    "100,000 equal messages": Case(many(same), 100_000, "UIDL"),
    "100,000 equal headers": Case(many(same_header), 100_000, "UIDL"),
    "200,000 equal headers": Case(many(same_header), 200_000, "UIDL"),
    "a header line of 2 GB": Case(one_line, 2 * GB, "UIDL", "TOP 1 0"),
    "a header of 2 GB": Case(header_without_end, 2 * GB, "UIDL", "TOP 1 0"),
    "1 GB of NUL": Case(nuls, GB, "UIDL", "RETR 1"),
    "a From line of 2 GB": Case(from_line_without_end, 2 * GB, "UIDL", "RETR 1"),
    "a hole of 8 TB": Case(hole_from_the_start, 8 * TB, sparse=True),
    "8 TB behind a From line": Case(hole_behind_a_from_line, 8 * TB, sparse=True),
}


def drink(client: Client) -> int:
    """Read a multi-line answer without keeping it. Returns its octets."""
    tail, octets = b"", 0
    while not tail.endswith(b"\r\n.\r\n"):
        block = client.socket.recv(MB)
        if not block:
            raise EOFError("the session has ended")
        octets += len(block)
        tail = (tail + block)[-5:]
    return octets


def ask(client: Client, command: str) -> float:
    """Seconds until all of a multi-line answer is here."""
    begun = time.monotonic()
    client.send(command.encode() + b"\r\n")
    drink(client)
    return time.monotonic() - begun


def processor_seconds(pid: int) -> float:
    """What a process has used so far (proc(5): utime and stime, in ticks)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def measure(name: str, case: Case, size: int) -> Result:
    """One session. Its log is looked at where it is not let in."""
    with tempfile.TemporaryDirectory(prefix="popad-test-", dir=None if case.sparse else "/dev/shm") as place:
        os.chmod(place, 0o755)
        server = Server(Path(place))
        server.deliver(b"")
        messages = case.fill(server.mailbox, size)
        with server.session({"POPAD_MAX_MESSAGES": str(POPA3DS_LIMIT)}) as (client, process):
            client.socket.settimeout(1200)
            client.line()
            client.ask("USER alice")
            begun = time.monotonic()
            answer = client.ask("PASS secret").decode()
            seconds = {"login": time.monotonic() - begun}
            if answer.startswith("+OK"):
                for command in case.commands:
                    seconds[command] = ask(client, command)
            processor = processor_seconds(process.pid)
            peak = int(status_of(process.pid)["VmHWM"].split()[0]) / 1024
            client.send(b"QUIT\r\n")
            process.wait(60)
        reason = server.log[-1].get("reason", "")
    return {
        "case": name,
        "size": size,
        "answer": answer,
        "reason": reason,
        "seconds": {command: round(took, 3) for command, took in seconds.items()},
        "processor": processor,
        "peak_mb": round(peak, 1),
        "bound_mb": round(case.bound(messages), 1),
    }


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="tests.hostile.sizes")
    parser.add_argument("--quick", action="store_true", help="a hundredth of each size")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="; ".join(CASES))
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # gigabytes in memory must not stay behind
    results = []
    for name in asked.cases or CASES:
        case = CASES[name]
        result = measure(name, case, case.size // 100 if asked.quick else case.size)
        results.append(result)
        print(
            "{case:28} {peak_mb:7} MB of {bound_mb:6}  {processor:6.2f} s  {seconds}  {answer} {reason}".format(
                **result
            ),
            flush=True,
        )
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1) + "\n")
    return 1 if any(result["peak_mb"] > result["bound_mb"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
