"""How long a refusal takes for a name that exists, one that does not, root, and a right password that has expired.

    python3 -m tests.hostile.timing [--count N] [--delay] [--json FILE] [pam | file | challenge | proof]

Real sessions with the warm helper, clients that wait for the answer to PASS, names in random order, some at once, as
each refusal takes seconds. pam: pam_unix with yescrypt and Debian's stack, in a mount namespace with users of its own
(root only); --delay: with pam_unix's own delay after a failure, which libpam is told not to wait for. file: the
credentials file, one line of it dearer than the others. challenge: the same file, from AUTH SCRAM-SHA-256 to the
question, one client at a time; proof: from a wrong proof to the refusal.

Prints the medians, and against the known name: the chance that one try with the other name takes longer than one with
the known (0.5: no difference), and the two-sided p of the rank-sum test (Mann-Whitney, normal approximation) and of
Welch's t-test, without the slowest hundredth of each.
"""

import argparse
import base64
import json
import math
import os
import random
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from popad.auth import credentials, verifiers
from popad.session import monitor
from tests.support.here import CHECKOUT
from tests.support.scram import ScramClient, b64
from tests.support.serving import NAME, POPAD_WITHOUT_JOURNAL, PYTHON, Server, handed_over

UNKNOWN, REFUSED, EXPIRED = "alicia", "root", "expired"
KINDS = {"known": NAME, "unknown": UNKNOWN, "root": REFUSED, "expired": EXPIRED}  # an account of PAM's
RIGHT, WRONG = "secret", "wrong password"
AT_ONCE = 4
SALT = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$"  # yescrypt with Debian's cost
SHADOW = "import crypt; print(crypt.crypt('secret', '{salt}'))"

Times = dict[str, list[float]]


Attempt = Callable[[Server, dict[str, str], str], float]


def try_out(server: Server, settings: dict[str, str], count: int, attempt: Attempt, at_once: int) -> Times:
    """Seconds that an attempt takes, so many for each name."""
    names = [name for name in KINDS.values() if name != EXPIRED or settings]
    times: Times = {name: [] for name in names}
    path = str(server.path / "auth.sock")
    given = {**settings, "POPAD_AUTH_SOCKET": path, "POPAD_GUESS_DELAY": "0"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(path)
        listening.listen()
        helper = subprocess.Popen(
            handed_over(listening, *POPAD_WITHOUT_JOURNAL, "auth-helper"),
            cwd=CHECKOUT,
            env={"PATH": os.defpath, **server.settings, **given},
            pass_fds=[listening.fileno()],
        )
        try:
            attempt(server, given, NAME)  # what is done once
            tried = random.sample(names * count, len(names) * count)
            with ThreadPoolExecutor(at_once) as clients:
                for name, took in zip(
                    tried, clients.map(lambda name: attempt(server, given, name), tried), strict=True
                ):
                    times[name].append(took)
        finally:
            helper.terminate()
            helper.wait()
    return times


def password(server: Server, settings: dict[str, str], name: str) -> float:
    """From PASS to the refusal."""
    with server.session(settings) as (client, _):
        client.line()
        client.ask(f"USER {name}")
        begun = time.perf_counter()
        answer = client.ask(f"PASS {RIGHT if name == EXPIRED else WRONG}")
        took = time.perf_counter() - begun
    if answer + b"\r\n" != monitor.WRONG:
        raise RuntimeError(f"{name}: {answer!r}")
    return took


def challenge(server: Server, settings: dict[str, str], name: str) -> float:
    """From AUTH to the question."""
    with server.session(settings) as (client, _):
        client.line()
        first = b64(ScramClient(name, WRONG).first()).decode()
        begun = time.perf_counter()
        answer = client.ask(f"AUTH SCRAM-SHA-256 {first}")
        took = time.perf_counter() - begun
        client.ask("*")
    if not answer.startswith(b"+ "):
        raise RuntimeError(f"{name}: {answer!r}")
    return took


def proof(server: Server, settings: dict[str, str], name: str) -> float:
    """From a wrong proof to the refusal."""
    with server.session(settings) as (client, _):
        client.line()
        scram = ScramClient(name, WRONG)
        answer = client.ask(f"AUTH SCRAM-SHA-256 {b64(scram.first()).decode()}")
        final = b64(scram.final(base64.b64decode(answer[2:]))).decode()
        begun = time.perf_counter()
        answer = client.ask(final)
        took = time.perf_counter() - begun
    if answer + b"\r\n" != monitor.WRONG:
        raise RuntimeError(f"{name}: {answer!r}")
    return took


def t_test(known: Sequence[float], other: Sequence[float]) -> float:
    """The two-sided p of no difference between the means; of so many tries that the normal distribution will do."""
    few = [sorted(times)[: len(times) - len(times) // 100] for times in (known, other)]
    error = math.sqrt(sum(statistics.variance(times) / len(times) for times in few))
    return math.erfc(abs(statistics.mean(few[0]) - statistics.mean(few[1])) / error / math.sqrt(2))


def rank_sum(known: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """The chance that one of `other` is greater than one of `known`, and the two-sided p of no difference."""
    greater = sum((b > a) + (a == b) / 2 for a in known for b in other)
    n, m = len(known), len(other)
    deviation = math.sqrt(n * m * (n + m + 1) / 12)
    return greater / (n * m), math.erfc(abs(greater - n * m / 2) / deviation / math.sqrt(2))


def with_file(count: int, attempt: Attempt, at_once: int) -> Times:
    """The user's line costs 4,096 iterations, another's 20,000: every answer has to cost that."""
    with tempfile.TemporaryDirectory(prefix="popad-test-") as place:
        os.chmod(place, 0o755)
        server = Server(Path(place))
        lines = [(NAME, verifiers.LEAST_ITERATIONS), (REFUSED, verifiers.LEAST_ITERATIONS), ("bob", 20_000)]
        server.credentials.write_text(
            "".join(credentials.line(name, b"secret", iterations) + "\n" for name, iterations in lines)
        )
        return try_out(server, {}, count, attempt, at_once)


def with_pam(count: int, delay: bool) -> Times:
    """In a mount namespace: this program again, with --inside."""
    with tempfile.TemporaryDirectory(prefix="popad-test-") as text:
        place = Path(text)
        place.chmod(0o755)
        hashed = subprocess.run(
            [PYTHON, "-W", "ignore", "-c", SHADOW.format(salt=SALT)], capture_output=True, check=True, text=True
        ).stdout.strip()
        users = "".join(f"{name}:x:{61000 + n}:61000::/nonexistent:/bin/sh\n" for n, name in enumerate((NAME, EXPIRED)))
        (place / "passwd").write_text(Path("/etc/passwd").read_text() + users)
        (place / "shadow").write_text(f"root:{hashed}:1::::::\n{NAME}:{hashed}:1::::::\n{EXPIRED}:{hashed}:1:::::1:\n")
        (place / "shadow").chmod(0o600)
        (place / "pam.d").mkdir()
        (place / "pam.d/popad").write_text(
            f"auth [success=1 default=ignore] pam_unix.so nullok{'' if delay else ' nodelay'}\n"
            "auth requisite pam_deny.so\nauth required pam_permit.so\n"
            "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\n"
            "account requisite pam_deny.so\naccount required pam_permit.so\n"
        )
        binds = "; ".join(f"mount --bind {place / name} /etc/{name}" for name in ("passwd", "shadow", "pam.d"))
        again = shlex.join([PYTHON, "-m", "tests.hostile.timing", "--inside", text, "--count", str(count), "pam"])
        shell = f"{binds}; exec {again}"
        inside = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", shell]
        done = subprocess.run(inside, cwd=CHECKOUT, stdout=subprocess.PIPE, check=True)
    times: Times = json.loads(done.stdout)
    return times


def report(what: str, times: Times) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for kind, name in KINDS.items():
        if name not in times:
            continue
        chance, p = rank_sum(times[NAME], times[name]) if name != NAME else (0.5, 1.0)
        t = t_test(times[NAME], times[name]) if name != NAME else 1.0
        median = statistics.median(times[name]) * 1000
        rows[kind] = {"median_ms": median, "chance_longer": chance, "p": p, "p_of_t": t}
        print(f"{what:12} {kind:8} median {median:8.2f} ms  longer {chance:.3f}  p {p:.3g}  p of t {t:.3g}", flush=True)
    return {"what": what, "count": len(times[NAME]), **rows}


# How it is tried, and how many at once.
SOURCES: dict[str, tuple[Attempt, int]] = {
    "file": (password, AT_ONCE),
    "pam": (password, AT_ONCE),
    "challenge": (challenge, 1),
    "proof": (proof, 4 * AT_ONCE),  # they wait for half a second
}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="tests.hostile.timing")
    parser.add_argument("--count", type=int, default=200, help="tries for each name")
    parser.add_argument("--delay", action="store_true", help="with pam_unix's own delay")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("sources", nargs="*", choices=(*SOURCES, []), default=[])
    asked = parser.parse_args()
    if asked.inside:
        json.dump(try_out(Server(asked.inside), {"POPAD_AUTH": "pam"}, asked.count, password, AT_ONCE), sys.stdout)
        return
    results = []
    for source in asked.sources or SOURCES:
        if source == "pam":
            times = with_pam(asked.count, asked.delay)
        else:
            attempt, at_once = SOURCES[source]
            times = with_file(asked.count, attempt, at_once)
        results.append(report(source, times))
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
