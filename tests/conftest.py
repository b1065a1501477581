"""What all test runs share: the hypothesis profiles, and where tests put mail. tests/run takes "ci", which tries the
same examples every time.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from popad.auth import guessing
from popad.maildrop.looked_at import SeenDirectory
from popad.maildrop.maildir.directories import Directories
from popad.maildrop.mbox import file
from tests.support import clock
from tests.support.serving import ALL, Server

# No deadline: on a machine with two busy cores a slow example says nothing about the code. No database: who runs the
# tests may not be who can write here; what fails is printed.
settings.register_profile("default", deadline=None, database=None, print_blob=True)
settings.register_profile(
    "ci", settings.get_profile("default"), derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(  # of tests/mutate: that a test fails says all, the smallest example is not looked for
    "mutants", settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("default")

# A shell has it ignored by what runs in the background, and so would all that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A directory that other users reach, unlike tmp_path: sessions give up being root."""
    path = Path(tempfile.mkdtemp(prefix="popad-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def quick_path() -> Iterator[Path]:
    """A directory for thousands of small mailboxes: in memory where there is one, as each update waits for the disk."""
    memory = "/dev/shm"
    path = Path(tempfile.mkdtemp(prefix="popad-test-", dir=memory if os.access(memory, os.W_OK) else None))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def still_clock() -> Iterator[None]:
    """No mailbox is touched within a tick of the clock: each change changes the size, or is not looked for."""
    with clock.not_waited_for():
        yield


@pytest.fixture
def server(public_path: Path) -> Server:
    """A server of one user's mailbox with three messages."""
    server = Server(public_path)
    server.deliver(ALL)
    return server


@pytest.fixture(autouse=True)
def descriptors_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A session's process ends with its mailbox. A test's goes on with the next test, and select(2) ends at 1,024."""
    opened: list[tuple[int, os.stat_result]] = []

    def note(*fds: int) -> None:
        opened.extend((fd, os.fstat(fd)) for fd in fds if fd >= 0)

    def open_mailbox(path: str, *access: int) -> int:
        fd = file.open_mailbox(path, *access)
        note(fd)
        return fd

    def noted(made: type, *names: str) -> None:
        real = made.__init__  # type: ignore[misc]  # each of them has its own

        def init(self: object, *arguments: object, **options: object) -> None:
            real(self, *arguments, **options)
            note(*(getattr(self, name) for name in names))

        monkeypatch.setattr(made, "__init__", init)

    monkeypatch.setattr("popad.maildrop.mbox.store.open_mailbox", open_mailbox)
    noted(Directories, "top", "new", "cur")
    noted(SeenDirectory, "fd")
    noted(guessing.Table, "fd")
    yield
    for fd, was in opened:
        with suppress(OSError):  # the test has closed it
            if os.path.samestat(os.fstat(fd), was):
                os.close(fd)


@pytest.fixture(autouse=True)
def only_documented_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who runs the tests may have settings of their own; a name that popad does not know is an error to it."""
    for name in [name for name in os.environ if name.startswith("POPAD_")]:
        monkeypatch.delenv(name)
