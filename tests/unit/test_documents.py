"""What CONTRIBUTING.md and the files for those who change popad say of the tree is true: paths, parts, versions."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.here import CHECKOUT

CONTRIBUTING = (CHECKOUT / "CONTRIBUTING.md").read_text()
RUN = (CHECKOUT / "tests/run").read_text()
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
LINTERS = PROJECT["dependency-groups"]["lint"]
PARTS = re.findall(r"^all_parts=\((.*)\)$", RUN, re.M)[0].split()
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]


def table(head: str) -> dict[str, str]:
    """The rows of the Markdown table whose first column has this head."""
    rows = CONTRIBUTING.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return {cells[1].strip(): cells[2].strip() for cells in (row.split("|") for row in rows)}


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name != "CHANGELOG.md"])
def test_documents_name_files_that_exist(document: str) -> None:
    text = (CHECKOUT / document).read_text()
    named = re.findall(r"\]\(([^):#]+)\)", text)
    named += re.findall(r"(?<![\w/<{.])((?:popad|tests|units|packaging)/[\w./-]*[\w/])", text)
    assert named
    assert [path for path in named if not (CHECKOUT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS[1:])
def test_readme_links_each_document(document: str) -> None:
    assert f"]({document})" in (CHECKOUT / "README.md").read_text()


def test_each_file_and_package_has_its_place() -> None:
    places = {place.strip("`") for place in table("place")}
    rooms = {
        str(path.relative_to(CHECKOUT)) + "/" * path.is_dir()
        for path in (CHECKOUT / "popad").iterdir()
        if path.name not in ("__init__.py", "__pycache__", "py.typed")
    }
    assert rooms <= places


def test_the_parts_are_those_of_tests_run() -> None:
    assert list(table("part")) == PARTS
    assert set(re.findall(r"^part_(\w+)\(\)", RUN, re.M)) == set(PARTS)
    for line in re.findall(r"^ +tests/run ((?!-)[a-z ]+?) *(?:#|$)", CONTRIBUTING, re.M):
        assert set(line.split()) <= set(PARTS)


def test_each_python_is_tried_or_named_as_one_that_is_not() -> None:
    supported = set(re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"])))
    tried = set(re.findall(r'"(3\.\d+)": "\w+"', (CHECKOUT / "tests/python").read_text()))
    untried = set(re.findall(r"^Python (3\.\d+) is tried by nothing", CONTRIBUTING, re.M))
    assert set(re.findall(r"SKIPPED Python (3\.\d+)", RUN)) == untried
    assert sorted([*tried, *untried]) == sorted(supported)


def test_a_python_that_is_not_tried_is_refused_by_name() -> None:
    asked = subprocess.run([CHECKOUT / "tests/python", "3.12", "-c", "pass"], capture_output=True, text=True)
    assert (asked.returncode, asked.stdout) == (2, "")
    assert asked.stderr == "tests/python: no Python 3.12; there are: 3.11 3.13\n"


def test_each_linter_has_one_exact_version() -> None:
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", linter) for linter in LINTERS)
    hooks = re.findall(r'"([\w-]+==[\d.]+)"', (CHECKOUT / ".pre-commit-config.yaml").read_text())
    assert set(hooks) == set(LINTERS)
    assert not re.search(r"==\d", RUN)


def test_tests_run_takes_the_linters_from_pyproject() -> None:
    """Its own function, as it stands, in the checkout."""
    function = RUN[RUN.index("tools_of_pyproject() {") :].partition("\n}\n")[0] + "\n}\ntools_of_pyproject\n"
    shown = subprocess.run(["bash", "-c", function], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == LINTERS


def test_the_workflow_calls_tests_run() -> None:
    workflow = (CHECKOUT / ".github/workflows/tests.yml").read_text()
    assert re.findall(r"^ +- run: (tests/run.*)$", workflow, re.M) == ["tests/run"]


def test_the_changelog_begins_with_what_is_not_released() -> None:
    heads = re.findall(r"^## (.*)$", (CHECKOUT / "CHANGELOG.md").read_text(), re.M)
    assert heads[0] == "[Unreleased]"


def test_the_project_is_described_for_an_index() -> None:
    project = PROJECT["project"]
    assert project["license"] == "ISC"
    assert [name for name in project["license-files"] if not (CHECKOUT / name).exists()] == []
    maintainer = re.search(r"^Maintainer: .* <(.*)>$", (CHECKOUT / "packaging/debian/control").read_text(), re.M)
    assert maintainer and project["authors"][0]["email"] == maintainer[1]


LONG_RUNS = ("bench/run", "faults/run", "race/run", "uids/run", "fuzz/run", "mutate")


def test_contributing_names_the_long_runs() -> None:
    named = set(re.findall(r"`tests/((?:\w+/)?(?:run|mutate))\b", CONTRIBUTING)) - {"run"}
    assert named == set(LONG_RUNS)


@pytest.mark.parametrize("name", LONG_RUNS)
def test_a_long_run_sets_itself_up(name: str) -> None:
    """Its help needs no package; whatever else it does begins with what tests/install has for it, and its time."""
    path = CHECKOUT / "tests" / name
    text = path.read_text()
    program = ["/usr/bin/python3", "-S", path] if text.startswith("#!/usr/bin/python3") else [path]
    done = subprocess.run([*program, "--help"], cwd=CHECKOUT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")
    ((part, time),) = re.findall(r'begin\("(\w+)", "([^"]+)"', text) or re.findall(
        r'tests/install (\w+) [^"]*"takes ([^"]+)"', text
    )
    assert f"[{part}]=" in (CHECKOUT / "tests/install").read_text()
    assert "minute" in time


def test_who_cannot_install_is_told_what_to_do(tmp_path: Path) -> None:
    """Without root and without sudo."""
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "dpkg-query").write_text("#!/bin/sh\nexit 1\n")
    for tool in ("id", "dpkg-query"):
        (tmp_path / tool).chmod(0o755)
    for tool in ("sh", "cat", "mktemp", "rm"):
        (tmp_path / tool).symlink_to(f"/bin/{tool}")
    installer = [str(CHECKOUT / "packaging/install-missing"), "gcc", "mandoc"]
    done = subprocess.run(installer, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("As root:\n  apt-get install --no-install-recommends gcc mandoc\n")
