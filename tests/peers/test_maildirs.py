"""The same Maildirs as popad, Dovecot and Courier serve them (maildirs.py, shorter)."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import maildirs
from tests.peers.maildir_differences import COURIER, DOVECOT, POPAD
from tests.support.generated import as_layout, put
from tests.support.layouts import LAYOUTS, SERVERS, Layout
from tests.support.unpacked import Unavailable

EACH, SEED = 20, 1939


@pytest.fixture(scope="module")
def comparison() -> Iterator[maildirs.Comparison]:
    with tempfile.TemporaryDirectory(prefix="popad-test-", dir="/var/tmp") as text:
        os.chmod(text, 0o755)
        try:
            with maildirs.servers(Path(text)) as running:
                yield running
        except Unavailable as reason:
            pytest.skip(str(reason))


def test_messages_sizes_octets_and_ids(comparison: maildirs.Comparison) -> None:
    assert len(LAYOUTS) >= 50
    assert maildirs.compare(comparison, EACH, SEED) == 0, comparison.problems


@pytest.mark.parametrize("server", [POPAD, DOVECOT, COURIER])
def test_a_difference_would_be_seen(
    comparison: maildirs.Comparison, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = maildirs.Comparison.prepare

    def with_other_mail(self: maildirs.Comparison, layout: Layout) -> None:
        prepare(self, layout)
        put(self.places[server], SERVERS[0])

    monkeypatch.setattr(maildirs.Comparison, "prepare", with_other_mail)
    monkeypatch.setattr(comparison, "problems", [])
    comparison.compare(as_layout("one", [("new", "1600000000.x", b"Subject: x\n\nx\n")]))
    # What popad's copy has is what the others are compared with.
    for other in (DOVECOT, COURIER) if server == POPAD else (server,):
        assert any(f"one: {other}: has" in problem for problem in comparison.problems)
