"""tests/mutate: a module's own tests against each mutant of the module; a table, and the mutants that survive.

cosmic-ray makes the mutants and not mutmut, which is as well kept and faster: mutmut changes nothing outside functions,
where popad's tables and limits are, and its mutants import mutmut in the processes that popad starts. cosmic-ray is
used as a library, as it drops no statement, and so that only the tests of one module run.

Nothing of this touches the checkout: all happens in a copy, in a mount and PID namespace with an empty /tmp.
"""

import argparse
import fcntl
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.here import CACHE, CHECKOUT, ROOT

PYTHON = "/usr/bin/python3"
SURVIVORS = Path(__file__).with_name("survivors.toml")
ASKED = 5  # percent of a module's mutants that may survive, beside those of which SURVIVORS says why
PLACE = "/srv"  # where the copy is while the tests run; tests/faults has its disks below /mnt

# The modules that decide who gets in, what runs as whom, and what is written into mailboxes; and the tests that tell
# of a mutant beside the module's own.
MODULES: dict[str, tuple[str, ...]] = {
    "auth/credentials": (),
    "auth/guessing": (),
    "auth/helper": (),
    "auth/identity": ("tests/unit/auth/test_helper.py",),
    "auth/saslprep": (),
    "auth/sasl/scram": (),
    "auth/verdict": (),
    "auth/verifiers": ("tests/unit/auth/test_credentials.py",),
    "maildrop/maildir/store": (),
    "maildrop/mbox/dotlock": (),
    "maildrop/mbox/index": (),
    "maildrop/mbox/locks": (),
    "maildrop/mbox/update": ("tests/faults",),
    "net/arrival": (),
    "net/proxy": (),
    "net/wrappers": (),
    "privsep/helpers": (),
    "privsep/identity": ("tests/unit/privsep/test_spawn.py",),
    "privsep/spawn": (),
    "protocol/dialogue": (),
    "protocol/lines": (),
    "protocol/sasl": (),
    "session/monitor": ("tests/hostile",),
}
# In a PID namespace popad does not judge PIDs in lock files. These mutants end no process.
WITH_THE_MACHINES_PIDS = {"maildrop/mbox/dotlock", "maildrop/mbox/update"}


class Mutant:
    """One change. `was` and `becomes` are the lines that differ, with single blanks and without comments."""

    def __init__(self, module: str, line: int, was: str, becomes: str, source: str) -> None:
        self.module = module
        self.line = line
        self.change = was, becomes
        self.source = source

    def __str__(self) -> str:
        return f"popad/{self.module}.py:{self.line}\n  - {self.change[0]}\n  + {self.change[1]}"


class Copy:
    """A copy of the checkout's files, where mutants take the place of a module."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.edits = 1_000_000_000  # seconds: a time that no other source had, so that no compiled file fits
        listed = subprocess.run(
            ["git", "-C", CHECKOUT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True,
            check=True,
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (CHECKOUT / name).is_file():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, path / name)

    def write(self, module: str, source: str) -> None:
        file = self.path / f"popad/{module}.py"
        file.write_text(source)
        self.edits += 1
        os.utime(file, (self.edits, self.edits))

    def passes(self, module: str, seconds: float | None, tests: Sequence[str], compiles: bool = False) -> bool:
        """Whether the tests pass within so many seconds. All that they have started is gone afterwards.

        A mutant that forks may end the tests early with the status of success, or have two processes of them.
        """
        unshare = ["unshare", "--mount"]
        if module not in WITH_THE_MACHINES_PIDS:
            unshare += ["--pid", "--fork", "--mount-proc", "--kill-child=KILL"]
        pytest = [
            PYTHON,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "--hypothesis-profile=mutants",
            "--tb=short",
        ]
        prepare = f"mount --bind {self.path} {PLACE} && mount -t tmpfs -o mode=1777 tmpfs /tmp && cd {PLACE} && exec"
        command = ["sh", "-c", f'{prepare} "$@"', "sh", *pytest, *tests]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        if not compiles:
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        process = subprocess.Popen(
            [*unshare, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            self.said = process.communicate(timeout=seconds)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            return False
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return process.returncode == 0 and len(re.findall(r"^\d+ passed", self.said, re.M)) == 1


@contextmanager
def a_copy() -> Iterator[Copy]:
    place = CACHE / "mutate"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as path:
        os.chmod(path, 0o755)  # tests become other users
        yield Copy(Path(path))


def environment() -> Path:
    """The Python of a virtual environment with what pyproject.toml asks for; made where it is missing."""
    wanted = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["dependency-groups"]["mutate"]
    version = subprocess.run([PYTHON, "--version"], capture_output=True, text=True, check=True).stdout
    key = hashlib.sha256("\n".join([*wanted, version]).encode()).hexdigest()[:12]
    place = CACHE / f"mutate-venv-{key}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "mutate-venv.lock", "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            subprocess.run([PYTHON, "-m", "venv", "--clear", place], check=True)
            pip = [str(place / "bin/pip"), "-q", "--disable-pip-version-check", "install", *wanted]
            subprocess.run(pip, check=True)
            (place / "complete").touch()
    return place / "bin/python"


def mutants_of(module: str, python: Path) -> list[Mutant]:
    command = [str(python), "-m", "tests.mutation.mutants", f"popad/{module}.py"]
    made = subprocess.run(command, capture_output=True, check=True, cwd=CHECKOUT)
    return [Mutant(module, *fields) for fields in json.loads(made.stdout)]


def own_tests(module: str) -> list[str]:
    directory, _, name = module.rpartition("/")
    found = sorted((CHECKOUT / "tests/unit" / directory).glob(f"test_{name}*.py"))
    return [str(path.relative_to(CHECKOUT)) for path in found]


def excused() -> dict[str, dict[tuple[str, str], str]]:
    """By module: the changes that nobody can see, and why."""
    entries = tomllib.loads(SURVIVORS.read_text())
    return {
        module: {(row["line"], becomes): row["why"] for row in rows for becomes in row["becomes"]}
        for module, rows in entries.items()
    }


def campaign(module: str, copy: Copy, chosen: Sequence[Mutant], why: Mapping[tuple[str, str], str]) -> list[Mutant]:
    """The mutants that survive. Those that nobody excuses are printed as they come."""
    file = copy.path / f"popad/{module}.py"
    original = file.read_text()
    tests = [own_tests(module), list(MODULES.get(module, ()))]
    limits = []
    for some in tests:
        begun = time.monotonic()
        if some and not copy.passes(module, None, some, compiles=True):
            sys.exit(f"{copy.said}\ntests/mutate: {module}: the tests do not pass without a mutant")
        limits.append(5 + 5 * (time.monotonic() - begun))
    survivors = []
    for number, mutant in enumerate(chosen, 1):
        copy.write(module, mutant.source)
        if all(copy.passes(module, limit, some) for some, limit in zip(tests, limits, strict=True) if some):
            survivors.append(mutant)
            if mutant.change not in why:
                print(mutant, flush=True)
        if sys.stderr.isatty():
            print(f"\r{module} {number} of {len(chosen)} ", end="", file=sys.stderr, flush=True)
    copy.write(module, original)
    return survivors


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("tests/mutate", description="Which changes of popad no test notices.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of popad/, as in {', '.join(MODULES)}")
    parser.add_argument("--sample", type=int, help="try so many mutants of each module (all)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (1)")
    parser.add_argument("--again", action="store_true", help="try only the mutants that survived the last time")
    options = parser.parse_args(arguments)
    if not ROOT:
        parser.error("needs root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends, and the copy goes
    python, reasons, wrong, rows = environment(), excused(), [], []
    with a_copy() as copy:
        for module in options.modules or MODULES:
            chosen = all_mutants = mutants_of(module, python)
            made = Counter(mutant.change for mutant in all_mutants)
            last = CACHE / "mutate" / f"{module.replace('/', '.')}.json"
            if options.again and last.exists():
                before = [tuple(change) for change in json.loads(last.read_text())]
                chosen = [mutant for mutant in chosen if mutant.change in before]
            if options.sample and options.sample < len(chosen):
                chosen = random.Random(options.seed).sample(chosen, options.sample)  # the tool's own dice
                chosen.sort(key=lambda mutant: mutant.line)
            print(f"-- {module}: {len(chosen)} of {len(all_mutants)} mutants", flush=True)
            why = reasons.get(module, {})
            survivors = campaign(module, copy, chosen, why)
            last.write_text(json.dumps([mutant.change for mutant in survivors]))
            killed = {mutant.change for mutant in chosen} - {mutant.change for mutant in survivors}
            wrong += [
                f"{module}: no mutant makes {line!r} {becomes!r}" for line, becomes in why if not made[line, becomes]
            ]
            wrong += [f"{module}: a test notices {change[1]!r}" for change in why if change in killed]
            real = [mutant for mutant in survivors if mutant.change not in why]
            rows.append((module, len(chosen), len(chosen) - len(survivors), len(survivors) - len(real), real))
    report(rows)
    for line in wrong:
        print(f"tests/mutation/survivors.toml: {line}")
    return 1 if wrong or any(len(real) * 100 > tried * ASKED for _, tried, _, _, real in rows) else 0


def report(rows: Sequence[tuple[str, int, int, int, list[Mutant]]]) -> None:
    print(f"\n{'module':24}{'mutants':>9}{'killed':>8}{'unseen':>8}{'survived':>10}")
    for module, tried, killed, unseen, real in rows:
        share = f"({len(real) * 100 / tried:.1f} %)" if tried else ""
        print(f"{module:24}{tried:9}{killed:8}{unseen:8}{len(real):10} {share}")


if __name__ == "__main__":
    sys.exit(main())
