"""maildrop/conversion/moving.py: another name for what was converted."""

import os
from pathlib import Path

import pytest

from popad.maildrop.conversion.moving import set_aside, why_not
from popad.maildrop.conversion.report import Report
from tests.support.maildirs import as_nobody


def report() -> Report:
    return Report(lambda done, count: None)


def test_set_aside(tmp_path: Path) -> None:
    (tmp_path / "mbox").write_bytes(b"x")
    said = report()
    assert set_aside(str(tmp_path / "mbox"), said) == said.renamed
    assert Path(said.renamed).read_bytes() == b"x"
    assert Path(said.renamed).name.startswith("mbox.converted-2")
    assert [str(path) for path in tmp_path.iterdir()] == [said.renamed]


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    said = report()
    assert set_aside(str(tmp_path / "mbox"), said) == str(tmp_path / "mbox")
    assert said.renamed == ""
    assert "was not renamed: No such file" in said.trouble


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_no_right(tmp_path: Path) -> None:
    assert why_not(str(tmp_path / "mbox")) == ""
    assert as_nobody(tmp_path, lambda: why_not(f"{tmp_path}/mbox")) == f"{tmp_path}: no right to rename anything there"
