"""commands/report/replacing.py: files that others read while they are written."""

import os
from pathlib import Path

import pytest

from popad.commands.report.replacing import replace


def full(_: int) -> None:
    raise OSError("full")


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_text("old")
    with path.open() as old:
        replace(str(path), "new")
        assert old.read() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644


def test_nothing_is_left_of_one_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        replace(str(path), "new")
    assert [each.name for each in tmp_path.iterdir()] == ["page"]
    assert path.read_text() == "old"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    (tmp_path / "page").symlink_to("other")
    replace(str(tmp_path / "page"), "new")
    assert (tmp_path / "other").read_text() == "other"
    assert (tmp_path / "page").read_text() == "new"


def test_standard_output_in_place_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    replace("-", "page")
    assert capsys.readouterr().out == "page"
