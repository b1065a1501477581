"""maildrop/private.py: names that nobody else can take, a key that nobody else reads, and files that are believed."""

import fcntl
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from popad.errors import MaildropUnavailable
from popad.maildrop import private as state_module
from popad.maildrop.private import (
    ENOUGH,
    KEY,
    RESERVE,
    RESERVE_OCTETS,
    SPARE,
    ForeignFile,
    SharedDirectory,
    of_indexes,
    of_updates,
)
from popad.privsep import spawn
from popad.privsep.channel import Channel
from tests.support.descriptors import descriptors
from tests.support.here import ROOT
from tests.support.marks import needs_root
from tests.support.patience import PATIENCE

NOBODY, OTHER = 65534, 1


@pytest.fixture
def path(public_path: Path) -> Path:
    path = public_path / "state"
    path.mkdir()
    path.chmod(0o1733)
    return path


@contextmanager
def state_at(path: Path) -> Iterator[SharedDirectory]:
    state = SharedDirectory(str(path))
    try:
        yield state
    finally:
        os.close(state.fd)


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """The effective uid decides what files may be opened."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


# -- the key


def test_key_is_made_once_and_for_one_user(path: Path) -> None:
    with state_at(path) as first, state_at(path) as second:
        assert first.key == second.key
        assert len(first.key) == 32
        assert any(first.key)
    assert [entry.name for entry in path.iterdir()] == [KEY]
    assert stat.S_IMODE((path / KEY).stat().st_mode) == 0o600


def test_keys_differ(path: Path, tmp_path: Path) -> None:
    with state_at(path) as one, state_at(tmp_path) as other:
        assert one.key != other.key


@pytest.mark.parametrize("uid", [pytest.param(0, marks=needs_root), NOBODY])
def test_a_key_made_meanwhile_counts(path: Path, monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    """Two sessions find no key: both end with the one that got its name first."""
    real = os.fsync
    theirs = bytes(range(32))

    def fsync(fd: int) -> None:
        if not (path / KEY).exists():
            (path / KEY).touch(0o600)
            (path / KEY).write_bytes(theirs)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    if ROOT:
        os.chown(path, uid, uid)
        os.seteuid(uid)
    try:
        with state_at(path) as state:
            assert state.key == theirs
    finally:
        os.seteuid(os.getuid())
    assert [entry.name for entry in path.iterdir()] == [KEY]


@needs_root
@pytest.mark.parametrize("look", [1, 2])
def test_a_key_that_another_host_makes_counts(path: Path, monkeypatch: pytest.MonkeyPatch, look: int) -> None:
    """It comes behind one of the looks that find none, as on a file system where no lock of that host is seen here."""
    real, theirs, missing = os.lstat, bytes(range(32)), 0

    def lstat(name: str, **more: int) -> os.stat_result:
        nonlocal missing
        try:
            return real(name, **more)
        except FileNotFoundError:
            missing += 1
            if missing == look:
                (path / KEY).touch(0o600)
                (path / KEY).write_bytes(theirs)
            raise

    monkeypatch.setattr(os, "lstat", lstat)
    with state_at(path) as state:
        assert (path / KEY).read_bytes() == state.key
        assert state.key == theirs or missing < look
    assert [entry.name for entry in path.iterdir()] == [KEY]


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_key_of_another_length_is_not_believed(path: Path, content: bytes) -> None:
    (path / KEY).touch(0o600)
    (path / KEY).write_bytes(content)
    with pytest.raises(OSError, match="not of 32 octets"):
        SharedDirectory(str(path))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_know_is_not_believed(path: Path, mode: int) -> None:
    (path / KEY).write_bytes(bytes(32))
    (path / KEY).chmod(mode)
    with pytest.raises(OSError, match="not a file of this user alone"):
        SharedDirectory(str(path))


@needs_root
@pytest.mark.parametrize("make", ["file", "directory", "symlink"])
def test_what_a_user_put_in_the_keys_place_keeps_nobody_out(path: Path, make: str) -> None:
    """The directory is open to every user, and there is no key before the first session."""
    place = path / KEY
    if make == "file":
        place.write_bytes(bytes(32))
        place.chmod(0o600)
    elif make == "directory":
        place.mkdir()
        (place / "not empty").touch()
    else:
        place.symlink_to("/etc/passwd")
    os.chown(place, OTHER, OTHER, follow_symlinks=False)
    with state_at(path) as state:
        assert any(state.key)
    made = place.lstat()
    assert stat.S_ISREG(made.st_mode)
    assert made.st_uid == 0
    with state_at(path) as again:
        assert again.key == state.key


# What a user may do again and again to the name of a key that is not there yet.
def make_a_file() -> None:
    os.close(os.open(KEY, os.O_CREAT | os.O_EXCL, 0o600))


def make_a_directory() -> None:
    os.mkdir(KEY)
    os.mkdir(f"{KEY}/not-empty")


def make_a_symlink() -> None:
    os.symlink("/etc/passwd", KEY)


def make_a_directory_and_nothing() -> None:
    os.mkdir(KEY)
    os.rmdir(KEY)


def make_a_file_and_a_directory() -> None:
    make_a_file()
    os.unlink(KEY)
    os.mkdir(KEY)
    os.rmdir(KEY)


ATTACKS = [make_a_file, make_a_directory, make_a_symlink, make_a_directory_and_nothing, make_a_file_and_a_directory]


@contextmanager
def attacked(path: Path, attack: Callable[[], None]) -> Iterator[None]:
    """A user's process does so, as fast as it can."""
    reading, writing = os.pipe()
    attacker = os.fork()
    if not attacker:
        os.chdir(path)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        with suppress(OSError):
            attack()
        os.write(writing, b"x")
        while True:
            with suppress(OSError):
                attack()
    os.read(reading, 1)
    try:
        yield
        assert os.waitpid(attacker, os.WNOHANG) == (0, 0)
    finally:
        os.kill(attacker, signal.SIGKILL)
        os.waitpid(attacker, 0)
        os.close(reading)
        os.close(writing)


@needs_root
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_user_who_is_always_there_first(public_path: Path, attack: Callable[[], None]) -> None:
    """5 of 5 directories have a key, one key for all sessions, and it stays."""

    def session(channel: Channel) -> None:
        place = of_updates(str(path))
        channel.send([place.key if isinstance(place, SharedDirectory) else place.reason.encode()])

    for number in range(5):
        path = public_path / str(number)
        path.mkdir()
        path.chmod(0o1733)
        with attacked(path, attack):
            sessions = [spawn.with_channel(session) for _ in range(3)]
            keys = {bytes(each.channel.receive([200], PATIENCE)[0]) for each in sessions}
            assert [each.end() for each in sessions] == [0, 0, 0]
            (key,) = keys
            assert len(key) == 32, key
            with state_at(path) as state:
                assert state.key == key
        assert (path / KEY).read_bytes() == key
        assert (path / KEY).stat().st_uid == 0


@needs_root
def test_a_lock_that_is_never_let_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a session of a user who was taken over: it has the directory open. Nothing is waited for without an end."""
    monkeypatch.setattr(state_module, "PATIENCE", 0.05)
    holder = os.open(path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    assert isinstance(of_updates(str(path)), MaildropUnavailable)
    os.close(holder)
    with state_at(path) as state:
        assert any(state.key)


def test_no_descriptor_is_left_where_the_key_is_not_believed(path: Path) -> None:
    (path / KEY).touch(0o600)
    before = descriptors()
    with pytest.raises(OSError, match="not of 32 octets"):
        SharedDirectory(str(path))
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("make", ["symlink", "fifo", "directory"])
def test_a_key_that_is_no_file(path: Path, make: str) -> None:
    if make == "symlink":
        (path / "elsewhere").touch(0o600)
        (path / "elsewhere").write_bytes(bytes(32))
        (path / KEY).symlink_to(path / "elsewhere")
    elif make == "fifo":
        os.mkfifo(path / KEY, 0o600)
    else:
        (path / KEY).mkdir(0o700)
    with pytest.raises(OSError):
        SharedDirectory(str(path))


@pytest.mark.parametrize("make", ["missing", "file", "fifo"])
def test_what_is_no_state_directory(tmp_path: Path, make: str) -> None:
    path = tmp_path / "state"
    if make == "file":
        path.touch()
    elif make == "fifo":
        os.mkfifo(path)
    with pytest.raises(OSError):
        SharedDirectory(str(path))


# -- names


@needs_root
def test_nobody_can_know_another_users_name(path: Path) -> None:
    """Whoever takes it first keeps that user's deletions from happening. Without the key it cannot be computed."""
    with state_at(path) as root:
        theirs = root.files_of("/var/mail/alice").names[0]
        with as_user(NOBODY), state_at(path) as state:
            assert state.key != root.key
            # The name of what the attacker asks for begins with another uid, and ends in another hash.
            assert state.files_of("/var/mail/alice").names[0].partition("-")[2] != theirs.partition("-")[2]
            with pytest.raises(PermissionError):
                (path / KEY).read_bytes()
            with pytest.raises(PermissionError):
                os.listdir(path)


def test_names_are_of_the_user_and_the_mailbox(path: Path, tmp_path: Path) -> None:
    with state_at(path) as state:
        one = state.files_of("/var/mail/alice")
        assert one.names[0].startswith(f"{os.geteuid()}-")
        assert one.names[0] == state.files_of("/var/mail/alice").names[0]
        assert one.names[0] != state.files_of("/var/mail/alicf").names[0]
        assert "/" not in one.names[0]
        assert one.mailbox == "/var/mail/alice"


def test_two_ways_to_a_mailbox_are_one_name(path: Path, tmp_path: Path) -> None:
    """Debian has /var/spool/mail, a symlink. But not the mailbox's own: a symlink there is refused."""
    (tmp_path / "mail").mkdir()
    (tmp_path / "spool").symlink_to("mail")
    (tmp_path / "mail/link").symlink_to("alice")
    with state_at(path) as state:
        name = state.files_of(f"{tmp_path}/mail/alice").names[0]
        assert state.files_of(f"{tmp_path}/spool/alice").names[0] == name
        assert state.files_of(f"{tmp_path}/mail/link").names[0] != name


def test_any_path_has_a_name(path: Path) -> None:
    with state_at(path) as state:
        for mailbox in ("/" + "ä" * 2000, "/var/mail/\udcff", "/var/mail/a b\nc"):
            assert len(state.files_of(mailbox).names[0]) < 100


# -- files


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[int]:
    """One that is open: a journal is looked for under the name of the file, too."""
    fd = os.open(tmp_path / "mailbox", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_a_file_there_and_gone(path: Path, mailbox: int) -> None:
    with state_at(path) as state:
        journal = state.files_of("/m")
        assert not journal.exists(mailbox)
        name, fd = journal.create()
        assert name == journal.names[0]
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
        assert journal.exists(mailbox)
        with pytest.raises(FileExistsError):
            journal.create()
        os.write(fd, b"text")
        os.close(fd)
        fd = journal.open(name)
        assert os.pread(fd, 9, 0) == b"text"
        os.close(fd)
        journal.put_away(name)
        assert not journal.exists(mailbox)
        with pytest.raises(FileNotFoundError):
            journal.open(name)


def test_what_was_put_away_is_the_next_journal(path: Path, mailbox: int) -> None:
    """No room needs to be found for it."""
    with state_at(path) as state:
        journal = state.files_of("/m")
        inodes = set()
        for several in (False, True):
            journal.names_of(mailbox)
            name, fd = journal.create(several)
            assert name == (journal.names_of_file if several else journal.names)[0]
            assert [entry.name for entry in path.iterdir() if entry.name != KEY] == [name]
            inodes.add(os.fstat(fd).st_ino)
            os.close(fd)
            journal.put_away(name)
            assert [entry.name for entry in path.iterdir() if entry.name != KEY] == [journal.spare]
        assert len(inodes) == 1


def test_room_is_made_once(path: Path) -> None:
    with state_at(path) as state:
        journal = state.files_of("/m")
        journal.keep_room()
        made = (path / journal.spare).stat()
        assert (made.st_size, stat.S_IMODE(made.st_mode)) == (SPARE, 0o600)
        assert made.st_blocks * 512 >= SPARE
        journal.keep_room()
        assert (path / journal.spare).stat().st_mtime_ns == made.st_mtime_ns
        os.truncate(path / journal.spare, 100)  # all that there was when it was made
        journal.keep_room()
        assert (path / journal.spare).stat().st_blocks * 512 >= SPARE


@needs_root
def test_the_reserve_is_there_while_there_is_room_and_given_up_when_there_is_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tend(state: SharedDirectory, free: int) -> None:
        disk = os.statvfs_result((1, 1, 0, 0, free, 0, 0, 0, 0, 255))
        monkeypatch.setattr(os, "fstatvfs", lambda fd: disk)
        state.tend_reserve()

    with state_at(path) as state:
        with as_user(NOBODY):
            tend(state, ENOUGH)
        assert not (path / RESERVE).exists()
        for free in (ENOUGH, ENOUGH, SPARE):
            tend(state, free)
            made = (path / RESERVE).stat()
            assert (made.st_size, stat.S_IMODE(made.st_mode), made.st_uid) == (RESERVE_OCTETS, 0o600, 0)
            assert made.st_blocks * 512 >= RESERVE_OCTETS
        for free in (SPARE - 1, 0, ENOUGH - 1):
            tend(state, free)
            assert not (path / RESERVE).exists()
        (path / RESERVE).symlink_to("elsewhere")  # by a user
        for free in (ENOUGH, 0):
            tend(state, free)
        assert not os.path.lexists(path / RESERVE)
        assert not (path / "elsewhere").exists()


def test_a_spare_that_is_no_file_of_the_user_is_not_used(path: Path, tmp_path: Path, mailbox: int) -> None:
    with state_at(path) as state:
        journal = state.files_of("/m")
        (tmp_path / "precious").write_bytes(b"precious")
        (path / journal.spare).symlink_to(tmp_path / "precious")
        journal.keep_room()
        name, fd = journal.create()
        os.write(fd, b"text")
        os.close(fd)
        assert (path / name).read_bytes() == b"text"
        assert (tmp_path / "precious").read_bytes() == b"precious"
        journal.put_away(name)
        assert not journal.exists(mailbox)


@needs_root
def test_a_spare_of_another_user_does_not_keep_a_journal_in_place(path: Path, mailbox: int) -> None:
    """It cannot be replaced in a sticky directory."""
    with state_at(path) as state, as_user(NOBODY):
        journal = state.files_of("/m")
        with as_other(path / journal.spare):
            name, fd = journal.create()
            os.close(fd)
            journal.put_away(name)
            assert not journal.exists(mailbox)


def test_a_file_has_the_same_name_under_each_of_its_own(path: Path, tmp_path: Path, mailbox: int) -> None:
    os.link(tmp_path / "mailbox", tmp_path / "other")
    with state_at(path) as state:
        fd = os.open(tmp_path / "other", os.O_RDONLY)
        another = os.open(tmp_path / "another", os.O_RDONLY | os.O_CREAT)
        one, other = (state.files_of(f"/{name}") for name in "ab")
        assert one.names_of(mailbox)[2:] == other.names_of(fd)[2:]
        assert not set(one.names_of(mailbox)[:2]) & set(other.names_of(fd)[:2])
        assert not set(state.files_of("/c").names_of(another)) & set(one.names_of(mailbox))
        os.close(fd)
        os.close(another)


def test_descriptors_are_not_inherited_by_programs(path: Path) -> None:
    with state_at(path) as state:
        _, fd = state.files_of("/m").create()
        assert not os.get_inheritable(fd)
        assert not os.get_inheritable(state.fd)
        os.close(fd)


@pytest.mark.parametrize("make", ["symlink", "dangling", "fifo", "directory", "hard link", "open to others", "others"])
def test_what_is_not_believed_and_kept(path: Path, mailbox: int, make: str) -> None:
    if make == "others" and not ROOT:
        pytest.skip("needs root: gives a file away")
    with state_at(path) as state:
        journal = state.files_of("/m")
        name = journal.names[0]
        place = path / name
        (path / "elsewhere").write_bytes(b"precious")
        (path / "elsewhere").chmod(0o600)
        if make == "symlink":
            place.symlink_to(path / "elsewhere")
        elif make == "dangling":
            place.symlink_to("nowhere")
        elif make == "fifo":
            os.mkfifo(place, 0o600)
        elif make == "directory":
            place.mkdir()
        elif make == "hard link":
            os.link(path / "elsewhere", place)
        else:
            place.touch(0o600 if make == "others" else 0o666)
            place.chmod(0o600 if make == "others" else 0o620)
            if make == "others":
                os.chown(place, OTHER, OTHER)
        assert journal.exists(mailbox)
        with pytest.raises(ForeignFile, match=name):
            journal.open(name)
        assert journal.keep(name) == f"{name}.kept1"
        assert os.path.lexists(path / f"{name}.kept1")
        assert not journal.exists(mailbox)
    assert (path / "elsewhere").read_bytes() == b"precious"


def test_each_kept_file_has_a_name_of_its_own(path: Path, mailbox: int) -> None:
    with state_at(path) as state:
        journal = state.files_of("/m")
        kept = set()
        for content in (b"1", b"2", b"3"):
            (path / journal.names[0]).write_bytes(content)
            kept.add(journal.keep(journal.names[0]))
        assert {(path / name).read_bytes() for name in kept} == {b"1", b"2", b"3"}
        assert not journal.exists(mailbox)


@needs_root
def test_another_users_file_stays_where_it_is(path: Path, mailbox: int) -> None:
    with state_at(path) as state, as_user(NOBODY):
        journal = state.files_of("/m")
        name, other = journal.names
        with as_other(path / name):
            assert journal.keep(name) == name
            assert (path / name).exists()
            # In this session it does not count any more; the next one sees it, and the second name.
            assert not journal.exists(mailbox)
            assert journal.create()[0] == other
            assert state.files_of("/m").exists(mailbox)
            assert journal.keep(other) == f"{other}.kept1"


@needs_root
def test_both_names_taken(path: Path, mailbox: int) -> None:
    """Then there is no update, and no endless search for a name."""
    with state_at(path) as state, as_user(NOBODY):
        journal = state.files_of("/m")
        first, second = journal.names
        with as_other(path / first), as_other(path / second):
            assert [journal.keep(name) for name in (first, second)] == [first, second]
            assert journal.exists(mailbox)
            with pytest.raises(FileExistsError):
                journal.create()


@contextmanager
def as_other(place: Path) -> Iterator[None]:
    os.seteuid(0)
    place.touch(0o666)
    os.chown(place, OTHER, OTHER)
    os.seteuid(NOBODY)
    yield


@needs_root
def test_the_directory_opened_by_root_serves_the_user(path: Path) -> None:
    """Create, make durable and remove: though the user may not even list the directory."""
    with state_at(path) as state, as_user(NOBODY):
        journal = state.files_of("/m")
        name, fd = journal.create()
        os.close(fd)
        state.sync()
        assert (path / name).stat().st_uid == NOBODY
        journal.put_away(name)


# -- as a session opens them


def test_a_directory_that_is_not_there(path: Path) -> None:
    """Without the one no mailbox is served, as a half-moved one could not be told; without the other all are."""
    missing = str(path / "missing")
    refused = of_updates(missing)
    assert isinstance(refused, MaildropUnavailable)
    assert refused.code == "SYS/TEMP"
    assert refused.reason.startswith("POPAD_STATE: ")
    assert of_indexes(missing) is None
    assert of_indexes("") is None


def test_a_directory_that_is_there(path: Path) -> None:
    for opened in (of_updates(str(path)), of_indexes(str(path))):
        assert isinstance(opened, SharedDirectory)
        os.close(opened.fd)
