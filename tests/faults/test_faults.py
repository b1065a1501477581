"""The fault matrix in short: nothing is lost, and the harness would have seen it. The whole of it: tests/faults/run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.broken import BROKEN
from tests.faults.broken_conversions import BROKEN as BROKEN_CONVERSIONS
from tests.faults.interposer import preloaded
from tests.faults.judge import compare, split
from tests.faults.mailboxes import message
from tests.faults.power import File
from tests.support.here import CACHE, CHECKOUT, ROOT

CAN_BUILD = shutil.which("gcc") and os.access(CACHE if CACHE.exists() else CACHE.parent, os.W_OK)
pytestmark = pytest.mark.skipif(not CAN_BUILD, reason="needs gcc and a cache to write to, for the interposer")
SECTIONS = {"deaths", "recoveries", "power loss", "errors", "Maildirs"}
SECTIONS |= {"conversions", "conversion errors", "conversion power"}


def test_nothing_is_lost_doubled_or_damaged(tmp_path: Path) -> None:
    report = tmp_path / "report"
    run = [sys.executable, str(CHECKOUT / "tests/faults/run"), "--quick", "--json", str(report)]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(report.read_text())
    assert (counts["lost"], counts["doubled"], counts["damaged"]) == (0, 0, 0)
    sections = counts["servers"]["popad"]
    assert set(sections) >= SECTIONS | ({"full disks", "sessions"} if ROOT else set())
    assert all(section["points"] > 0 for section in sections.values())
    assert counts["crash_points"] == sum(section["points"] for section in sections.values())


def broken(name: str, module: str = "broken") -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.faults.{module}", name],
        cwd=CHECKOUT,
        env={"PATH": os.defpath, **preloaded()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("name", BROKEN)
def test_the_harness_sees_what_is_broken(name: str) -> None:
    counts = broken(name)
    assert counts["points"] > 0
    assert (counts["bad"] == 0) == (name == "nothing")


@pytest.mark.parametrize("name", BROKEN_CONVERSIONS)
def test_the_harness_sees_conversions_that_are_broken(name: str) -> None:
    counts = broken(name, "broken_conversions")
    assert counts["points"] > 0
    assert (counts["bad"] == 0) == (name == "nothing")


# -- the judge, and the model of a disk

ONE, TWO, THREE = (message(name, b"body %b\n" % name.encode()) for name in ("one", "two", "three"))


@pytest.mark.parametrize(
    ("content", "counts"),
    [
        (ONE + TWO, (0, 0, 0)),
        (ONE + TWO + THREE, (0, 0, 0)),
        (ONE + TWO[:-1], (0, 0, 0)),  # a blank line is no part of a message
        (ONE, (1, 0, 0)),
        (b"", (2, 0, 0)),
        (ONE + TWO + TWO, (0, 1, 0)),
        (ONE + TWO + THREE + THREE, (0, 1, 0)),
        (ONE + TWO[:-5], (0, 0, 1)),
        (ONE[:20] + ONE + TWO, (0, 0, 1)),
        (ONE + TWO + b"\0garbage", (0, 0, 1)),
        (ONE + TWO + b"From x\n\ngarbage\n\n", (0, 0, 1)),
    ],
)
def test_judge(content: bytes, counts: tuple[int, int, int]) -> None:
    assert compare(content, [ONE, TWO], allowed=[THREE]) == counts


def test_split() -> None:
    assert split(ONE + TWO) == [ONE, TWO]
    assert split(b"no From line\n\n" + ONE) == [b"no From line\n\n", ONE]
    assert split(b"") == []


def test_disk_sectors_and_sizes_are_apart() -> None:
    file = File(b"a" * 1000, 1000)
    file.write(500, b"b" * 600)  # two sectors' ends and a third
    assert (file.pieces(), file.sizes()) == (3, 1)
    assert file.content([False] * 3, 0) == b"a" * 1000
    assert file.content([True, False, False], 0) == b"a" * 500 + b"b" * 12 + b"a" * 488
    assert file.content([False, False, True], 1) == b"a" * 1000 + bytes(24) + b"b" * 76
    file.make_durable(file.content([True] * 3, 1))
    assert file.content([], 0) == b"a" * 500 + b"b" * 600


def test_disk_what_was_cut_off_does_not_come_back() -> None:
    file = File(b"a" * 100, 100)
    file.resize(10)
    file.write(10, b"b" * 20)
    assert file.content([False], 2) == b"a" * 10 + bytes(20)
    assert file.content([False], 1) == b"a" * 10
    assert file.content([False], 0) == b"a" * 100
