"""SCALING.md: its sizes follow from the figures of PERFORMANCE.md, and it tells what the proxy's example has."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from tests.support.here import CHECKOUT

from .hosts import EXAMPLE

DOCUMENTS = CHECKOUT / "packaging/doc"
POLL, HALF = 300, 0.5  # seconds between two polls; of a core's time
SESSION = 2  # seconds that one takes
ENTRIES, CALLS = 4, 10  # of a session: in the journal, and in the store


def rows(name: str) -> dict[str, list[str]]:
    """All rows of a document's tables, by their first cell."""
    lines = (DOCUMENTS / name).read_text().splitlines()
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| "))
    return {first: others for first, *others in cells}


def numbers(cells: list[str]) -> list[float]:
    return [float(cell.split()[0].rstrip(";").replace(",", "")) for cell in cells]


def rounded(values: Iterable[float]) -> list[float]:
    """As the page has them: one decimal below ten, none above."""
    return [round(value, 1 if value < 10 else 0) for value in values]


def test_the_sizes_follow_from_the_figures() -> None:
    measured, sizes = rows("PERFORMANCE.md"), rows("SCALING.md")
    mailboxes = numbers(sizes["mailboxes"])
    (_, socket_tls), (plain, tls) = (numbers(measured[shape]) for shape in ("`popad.socket`", "`-D`"))
    memory = ("memory of a session that is logged in and waits (PSS)", "what TLS adds to it")
    of_one = sum(numbers(measured[row])[1] for row in memory) / 1000  # GB, of -D
    of_hash = re.search(r"With the (\d+) ms of PAM and yescrypt", (DOCUMENTS / "PERFORMANCE.md").read_text())
    assert of_hash
    hash_of_one = int(of_hash[1]) / 1000 / POLL / HALF
    dearest = [each * (1 / tls + hash_of_one) for each in mailboxes]
    at_once = [each / POLL * SESSION for each in mailboxes]
    expected = {
        "sessions a second": [each / POLL for each in mailboxes],
        "cores: `popad.socket`, POP3S": [each / socket_tls for each in mailboxes],
        "cores: `-D`, without TLS": [each / plain for each in mailboxes],
        "cores: `-D`, POP3S": [each / tls for each in mailboxes],
        "cores: `-D`, POP3S and yescrypt": dearest,
        "sessions at once, where one takes 2 s": at_once,
        "entries in the journal a second": [each / POLL * ENTRIES for each in mailboxes],
        "system calls in the store a second, where nothing is new": [each / POLL * CALLS for each in mailboxes],
    }
    for name, values in expected.items():
        assert numbers(sizes[name]) == rounded(values), name
    hosts = [
        math.ceil(round(cores / each, 6)) + 1
        for cores, each in zip(dearest, numbers(sizes["cores a host"]), strict=True)
    ]
    assert numbers(sizes["hosts for the dearest of `-D`, and one to spare"]) == hosts
    for told, count in zip(numbers(sizes["their memory, with TLS"]), at_once, strict=True):
        assert math.isclose(told, count * of_one, rel_tol=0.05)


def test_what_the_page_says_of_the_example() -> None:
    text = EXAMPLE.read_text()
    assert "timeout connect 1s" in text
    assert re.search(r"`timeout connect` \(1 s\)", (DOCUMENTS / "SCALING.md").read_text())
    manual = (CHECKOUT / "packaging/man/popad.8").read_text()
    limits = re.findall(r"sc_conn_(?:cur|rate)\(0\) gt (\d+)", text)
    assert f"{limits[1]} a minute, {limits[0]} at once" in manual
