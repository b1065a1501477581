"""packaging/demo on a machine that has what it needs: it fetches what it stored, shows the log, and leaves no trace."""

import pytest

from tests.support.here import CHECKOUT
from tests.support.machine import Machine, needs, tree

# Without a journal, as in a container: the demo's log lines come from standard error.
NO_JOURNAL = ["unshare", "--mount", "sh", "-ec", 'mount -t tmpfs none /run/systemd/journal; exec "$@"', "sh"]
AS_USER = ["setpriv", "--reuid=games", "--regid=games", "--clear-groups"]


@pytest.mark.skipif(bool(needs()), reason=needs())
@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_demo(release: str) -> None:
    with Machine(tree(release)) as machine:
        for part in ("popad", "packaging"):
            machine.copy(CHECKOUT / part, f"/checkout/{part}")
        users = (machine.root / "etc/passwd").read_text()
        for way, shown in (
            ([], "closed: 1 retrieved"),
            (NO_JOURNAL, "event=session-closed"),
            ([*NO_JOURNAL, *AS_USER], "event=one-identity"),
        ):
            said = machine.run([*way, "/checkout/packaging/demo", "--once"]).stdout
            assert "Treffen wir uns am Donnerstag? Im Café «Zum Jäger», 12 € für das Menü" in said
            assert "All three messages arrived as they were stored." in said
            assert shown in said
            assert "sha256 Fingerprint=" in said
            assert [path.name for path in (machine.root / "tmp").iterdir() if "demo" in path.name] == []
            assert machine.run(["ss", "--listening", "--tcp", "--no-header", "sport = :1110"]).stdout == ""
        assert (machine.root / "etc/passwd").read_text() == users
