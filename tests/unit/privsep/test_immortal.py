"""privsep/immortal.py: on the Python that runs this. On both releases': tests/system/test_standalone.py."""

from __future__ import annotations

import sys

import pytest

from popad.privsep import immortal
from tests.support.forked import Forked

HAS_IMMORTAL_OBJECTS = sys.version_info >= (3, 12)


def test_what_is_loaded_is_not_counted_where_that_is_possible() -> None:
    def counted() -> None:
        assert immortal.make_all_immortal() == ""
        before = sys.getrefcount(immortal)
        more = [immortal] * 100
        after = sys.getrefcount(immortal)
        assert after - before == (0 if HAS_IMMORTAL_OBJECTS else len(more))

    process = Forked(counted)  # for good, so in a process of its own
    try:
        assert process.left() == 0
    finally:
        process.close()


@pytest.mark.parametrize(
    ("version", "flags", "why"),
    [
        ((3, 11), "", ""),  # it has none
        ((3, 14), "", "Python 3.14 is newer than what is known"),
        ((3, 13), "t", "Python 3.13t is built otherwise than Debian's"),  # objects begin with something else
    ],
)
def test_a_python_that_is_not_known(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int], flags: str, why: str
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(sys, "abiflags", flags)
    monkeypatch.setattr(immortal, "mark", lambda _: pytest.fail("nothing may be changed"))
    assert immortal.make_all_immortal() == why


def test_a_python_that_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.implementation, "name", "pypy")
    monkeypatch.setattr(sys, "version_info", (3, 13))
    assert immortal.make_all_immortal() == ""


def test_a_python_that_goes_on_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version says one thing, the try another: what is loaded is left as it is."""
    marked: list[object] = []
    monkeypatch.setattr(sys, "version_info", (3, 12))
    monkeypatch.setattr(immortal, "mark", marked.extend)
    assert immortal.make_all_immortal() == "Python 3.12 has counted an object that was not to be counted"
    assert len(marked) == 1
