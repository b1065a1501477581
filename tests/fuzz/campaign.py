"""tests/fuzz/run: each target in a process of its own, as long as it is given; the inputs tried, and the findings.

atheris is installed into a virtual environment of the cache. Inputs that reach new code are kept in the cache, too: a
later run begins with them and with tests/fuzz/corpus. A finding is copied to fuzz/findings there, and belongs into the
corpus when it is mended: test_fuzz.py tries all of that in every test run.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.environment import environment
from tests.support.here import CACHE, CHECKOUT

CORPUS = Path(__file__).with_name("corpus")
ATHERIS = "atheris==3.0.0"
QUICK, USUAL = 2, 60  # seconds a target
LARGEST = 4096  # octets of an input: more than any parser's limit but the mbox's, whose block the target makes small
ONE_INPUT = 10  # seconds after which an input counts as a hang
MEMORY = 1024  # MB of a target's process
NOT_POSSIBLE = 77  # exit status, as automake's for a test that is skipped

Result = dict[str, object]


def targets() -> list[str]:
    """The files of this directory that say how one input is tried."""
    return sorted(
        path.stem for path in Path(__file__).parent.glob("*.py") if re.search("^def try_one", path.read_text(), re.M)
    )


def run(python: Path, target: str, seconds: int) -> Result:
    """Try inputs on a target for so many seconds, or until one breaks its invariant."""
    findings = CACHE / "fuzz/findings" / target
    findings.mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": seconds,
        "max_len": LARGEST,
        "timeout": ONE_INPUT,
        "rss_limit_mb": MEMORY,
        "print_final_stats": 1,
        "artifact_prefix": f"{findings}/",
    }
    words = [f"-{name}={value}" for name, value in options.items()]
    # A process that libFuzzer ends cleans nothing up. In memory: the mailbox of each input is a file.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryFile() as said, tempfile.TemporaryDirectory(prefix="popad-fuzz-", dir=memory) as work:
        # What earlier runs have found takes longer to read than a quick run has.
        grown = Path(work, "new") if seconds <= QUICK else CACHE / "fuzz/corpus" / target
        grown.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [python, "-m", "tests.fuzz.engine", target, *words, grown, CORPUS / target],
            cwd=CHECKOUT,
            env={**os.environ, "TMPDIR": work},
            stdout=said,
            stderr=said,
        )
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    tried = re.search(r"stat::number_of_executed_units: (\d+)", text) or re.search(r"Done (\d+) runs", text)
    found = re.findall(r"Test unit written to (\S+)", text)
    if done.returncode and not found:
        found = ["the target did not run"]
    if found:
        sys.stderr.write(text[text.find("=== Uncaught") :][-6000:])
    covered = re.findall(r"cov: (\d+)", text)
    return {
        "target": target,
        "inputs": int(tried.group(1)) if tried else 0,
        "edges": int(covered[-1]) if covered else 0,
        "seconds": seconds,
        "findings": found,
    }


def main(arguments: Sequence[str]) -> int:
    """The command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="tests/fuzz/run", description="Fuzz popad's parsers.")
    how_long = parser.add_mutually_exclusive_group()
    how_long.add_argument("--quick", action="store_const", dest="seconds", const=QUICK, help=f"--seconds {QUICK}")
    how_long.add_argument("--seconds", type=int, default=USUAL, metavar="N", help="for each target (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=" ".join(targets()))
    asked = parser.parse_args(arguments)
    if unknown := set(asked.targets) - set(targets()):
        parser.error(f"no target {' '.join(sorted(unknown))}; there are: {' '.join(targets())}")
    try:
        python = environment("fuzz", ATHERIS)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{ATHERIS} is not to be had: {error}")
        return NOT_POSSIBLE
    results = []
    # A quick run is somebody waiting; a long one goes on beside other work.
    with ThreadPoolExecutor(os.cpu_count() if asked.seconds <= QUICK else 1) as pool:
        for result in pool.map(lambda target: run(python, target, asked.seconds), asked.targets or targets()):
            results.append(result)
            print("{target:15} {inputs:10} inputs {edges:6} edges  findings: {findings}".format(**result), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1) + "\n")
    return 1 if any(result["findings"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
