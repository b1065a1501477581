"""commands/report/metrics.py: `popad metrics` as a timer calls it."""

import os
import re
import threading
from pathlib import Path

import pytest

from popad.commands.command import main
from popad.commands.report.state import alone
from tests.support.entries import REMOTE, as_journal, as_lines, history
from tests.support.patience import wait_until

pytestmark = pytest.mark.skipif(not os.path.exists(REMOTE), reason="needs systemd-journal-remote")


def entries(text: str) -> int:
    assert text.endswith("\n# EOF\n")
    return sum(map(int, re.findall(r"^popad_entries_total\{.*\} (\d+)$", text, re.M)))


def test_counters_only_grow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each entry counts once, also when the journal has forgotten it."""
    command = ["metrics", "--state", str(tmp_path / "state"), "--directory"]
    as_journal(history()[:10], tmp_path / "journal")
    for expected in (10, 10):
        assert main([*command, str(tmp_path / "journal")]) == 0
        assert entries(capsys.readouterr().out) == expected
    as_journal(history()[10:15], tmp_path / "journal")
    assert main([*command, str(tmp_path / "journal")]) == 0
    assert entries(capsys.readouterr().out) == 15
    as_journal(history()[15:17], tmp_path / "later")
    assert main([*command, str(tmp_path / "later")]) == 0
    assert entries(capsys.readouterr().out) == 17


def test_without_a_state_it_is_what_the_journal_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    as_journal(history(), tmp_path / "journal")
    for _ in range(2):
        assert main(["metrics", "--directory", str(tmp_path / "journal")]) == 0
        assert entries(capsys.readouterr().out) == len(history())


def test_of_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a container has them: the same counters as of a journal with these entries."""
    (tmp_path / "lines").write_bytes(as_lines(history(), monkeypatch, tmp_path / "log"))
    as_journal(history(), tmp_path / "journal")
    said = []
    for source in (["--logfmt", str(tmp_path / "lines")], ["--directory", str(tmp_path / "journal")]):
        assert main(["metrics", *source]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert entries(said[0]) == len(history())


@pytest.mark.parametrize("other", [["--state", "s"], ["--http"], ["--directory", "d"]])
def test_lines_alone(other: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """No cursor says where they go on."""
    assert main(["metrics", "--logfmt", "-", *other]) == 2
    assert f"--logfmt and {other[0]} do not go together" in capsys.readouterr().err


def test_a_file_for_node_exporter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    as_journal(history(), tmp_path / "journal")
    path = tmp_path / "popad.prom"
    assert main(["metrics", "--directory", str(tmp_path / "journal"), "--output", str(path)]) == 0
    assert capsys.readouterr().out == ""
    assert entries(path.read_text()) == len(history())


def test_what_is_not_shown_is_shown_the_next_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    as_journal(history(), tmp_path / "journal")
    command = ["metrics", "--directory", str(tmp_path / "journal"), "--state", str(tmp_path / "state")]
    assert main([*command, "--output", str(tmp_path / "nonexistent/popad.prom")]) == 1
    assert capsys.readouterr().err.startswith("popad metrics: ")
    assert main(command) == 0
    assert entries(capsys.readouterr().out) == len(history())


def test_a_state_that_is_none_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state").write_text("{}")
    assert main(["metrics", "--state", str(tmp_path / "state"), "--directory", str(tmp_path)]) == 1
    assert "not a state of popad metrics" in capsys.readouterr().err
    assert (tmp_path / "state").read_text() == "{}"


def test_runs_at_the_same_time_wait_for_one_another(tmp_path: Path) -> None:
    """What each reads of a large journal, the next need not read."""
    order = []

    def other() -> None:
        with alone(str(tmp_path / "state")):
            order.append("the other")

    with alone(str(tmp_path / "state")):
        waiting = threading.Thread(target=other)
        waiting.start()
        wait_until(lambda: re.search(rf"-> FLOCK .* {os.getpid()} ", Path("/proc/locks").read_text()))
        order.append("the first")
    waiting.join()
    assert order == ["the first", "the other"]
