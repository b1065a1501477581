"""The fuzz targets without a fuzzer: every input of the corpus keeps its invariant. And a short run with one."""

import importlib
import json
import subprocess
from pathlib import Path

import pytest

from tests.fuzz import campaign

INPUTS = sorted(path for path in campaign.CORPUS.glob("*/*"))
RUN = Path(__file__).with_name("run")


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_corpus(path: Path) -> None:
    importlib.import_module(f"tests.fuzz.{path.parent.name}").try_one(path.read_bytes())


def test_each_target_has_a_corpus_and_says_its_invariant() -> None:
    assert {path.parent.name for path in INPUTS} == set(campaign.targets())
    for target in campaign.targets():
        assert importlib.import_module(f"tests.fuzz.{target}").__doc__, target


def test_a_short_run(tmp_path: Path) -> None:
    """Guided by coverage, 2 seconds a target. What it finds is in the cache, and on standard error."""
    done = subprocess.run([RUN, "--quick", "--json", tmp_path / "results"], capture_output=True, text=True)
    if done.returncode == campaign.NOT_POSSIBLE:
        pytest.skip(done.stdout.strip())
    results = json.loads((tmp_path / "results").read_text())
    assert [result["target"] for result in results] == campaign.targets()
    assert not any(result["findings"] for result in results), done.stderr
    assert all(result["inputs"] > 100 and result["edges"] > 1 for result in results), results
    assert done.returncode == 0, done.stderr
