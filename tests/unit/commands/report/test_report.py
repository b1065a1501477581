"""commands/report/report.py: `popad report` as an administrator calls it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from popad.commands.command import main
from popad.commands.report import catalog
from tests.support.entries import REMOTE, as_journal, as_lines, history
from tests.support.here import CHECKOUT
from tests.support.serving import POPAD


@pytest.fixture(autouse=True)
def catalog_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog.read, "__defaults__", (str(CHECKOUT / "packaging/popad.catalog"),))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    path = tmp_path / "lines"
    path.write_bytes(as_lines(history(), monkeypatch, tmp_path / "log"))
    return str(path)


def figures(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["report", "--json", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


@pytest.mark.skipif(not os.path.exists(REMOTE), reason="needs systemd-journal-remote")
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--since", "@1790000002", "--until", "@1790000015.5"],
        ["--user", "alice"],
        ["--user", "nobody"],
        ["--address", "192.0.2.0/24"],
    ],
)
def test_lines_and_the_journal_give_the_same_figures(
    options: list[str], log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_journal(history(), tmp_path / "journal")
    of_lines = figures(capsys, "--logfmt", log, *options)
    assert of_lines == figures(capsys, "--directory", str(tmp_path / "journal"), *options)
    assert (of_lines["entries"] == 0) == ("nobody" in options)


def test_text(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--logfmt", log]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{len(history())} entries, 2026-09-2")
    assert "Logins that failed, by address\n  address    logins\n  192.0.2.7       4\n" in said
    assert "\nupdate-failed: 2, the last 2026-09-2" in said


def test_lines_without_times(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("event=login-passed user=alice\nTraceback\n")
    assert main(["report", "--logfmt", str(path), "--since", "-1h"]) == 0
    said = capsys.readouterr().out
    assert "1 lines are no entries" in said
    assert "1 entries have no time, and are not counted with --since or --until." in said
    assert main(["report", "--logfmt", str(path)]) == 0
    assert "The lines have no times" in capsys.readouterr().out


def test_from_standard_input() -> None:
    said = subprocess.run(
        [*POPAD, "report", "--logfmt", "-"],
        input=b"event=reloaded\n" * 3,
        cwd=CHECKOUT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    assert said.startswith("3 entries\n")


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (["--since", "soon"], "--since: 'soon' is not a moment, as yesterday"),
        (["--until", ""], "--until: '' is not a moment"),
        (["--address", "example.org"], "--address: 'example.org' is not an address or a network"),
        (["--logfmt", "-", "--directory", "/d"], "do not go together"),
    ],
)
def test_how_it_is_not_called(options: list[str], wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *options]) == 2
    assert wrong in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--logfmt", "--directory"])
def test_what_cannot_be_read(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", option, "/nonexistent"]) == 1
    assert capsys.readouterr().err.startswith("popad report: ")


def test_a_page(log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "page.html"
    assert main(["report", "--logfmt", log, "--html", str(path)]) == 0
    assert capsys.readouterr().out == ""
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert main(["report", "--logfmt", log, "--html", str(tmp_path / "nonexistent/page.html")]) == 1
    assert "nonexistent" in capsys.readouterr().err
