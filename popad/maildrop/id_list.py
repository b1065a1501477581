"""The list of unique-ids that clients know from before a move: which of popad's own ids is replaced by which.

`popad migrate` and `popad convert` write it, and it counts for as long as it is there: for an mbox file in POPAD_STATE,
for a Maildir in itself, where all hosts of a shared store see it. A message that is not in it has popad's own id. Own
ids neither change nor pass on to another message, so what replaces them does not, either.
"""

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping
    from typing import IO

    from popad.maildrop.maildrop import Texts
    from popad.maildrop.private import PrivateFiles

from popad.errors import MaildropUnreadable
from popad.maildrop import sealed
from popad.maildrop.maildrop import hashed, is_id
from popad.maildrop.private import ForeignFile

PERMANENT = "SYS/PERM"
HEAD = "popad ids 1"
KIND = b"popad idlist1"  # goes into the digest: 16 octets at most
NAME = "popad-uidlist"  # in a Maildir
LONGEST_LINE = 142  # octets: two ids, a blank and a line end
LARGEST = LONGEST_LINE << 22  # octets: four million messages
UNKNOWN = "no id is known for it"
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def pack(ids: "Mapping[str, str]") -> bytes:
    """The file: a line `OWN GIVEN` for each message, behind the head."""
    return "".join([f"{HEAD}\n", *(f"{own} {given}\n" for own, given in ids.items())]).encode("ascii")


def unpack(content: bytes) -> dict[str, str]:
    """What pack() has made a file of. Raises ValueError for anything else: with other ids a client would fetch all its
    mail again.
    """
    head, *lines = content.decode("ascii").split("\n")
    if head != HEAD or not lines or lines.pop():
        raise ValueError("it is not a whole list")
    ids: dict[str, str] = {}
    for line in lines:
        own, _, given = line.partition(" ")
        if not is_id(own) or not is_id(given):
            raise ValueError(f"{line[:LONGEST_LINE]!a} is not two unique-ids")
        ids[own] = given
    if len(set(ids.values())) != len(lines):
        raise ValueError("an id is in it twice")
    return ids


def of_mbox(files: "PrivateFiles") -> dict[str, str]:
    """The list of an mbox file, empty where there is none. Raises MaildropUnreadable."""
    try:
        content = sealed.load(files, files.list, KIND, LARGEST)
        if content is None:
            raise ValueError("it is damaged")
        return unpack(bytes(content))
    except FileNotFoundError:
        return {}
    except (OSError, ForeignFile) as error:
        raise MaildropUnreadable(f"the list of ids: {error}") from error
    except ValueError as wrong:
        raise MaildropUnreadable(f"{files.list}: {wrong}", PERMANENT) from None


def store_for_mbox(files: "PrivateFiles", ids: "Mapping[str, str]") -> None:
    """Durably, in place of the list that there is. Raises OSError."""
    sealed.store(files, files.list, KIND, pack(ids), durable=True)


def of_maildir(directory: int) -> dict[str, str]:
    """The list of the Maildir with this descriptor, empty where there is none. Raises MaildropUnreadable."""
    try:
        with open(os.open(NAME, READ, dir_fd=directory), "rb", buffering=0) as file:
            return unpack(read_whole(file))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise MaildropUnreadable(f"{NAME}: {error}") from error
    except ValueError as wrong:
        raise MaildropUnreadable(f"{NAME}: {wrong}", PERMANENT) from None


def read_whole(file: "IO[bytes]") -> bytes:
    """Raises OSError, and ValueError for what is no plain file, or too large for a list."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
        raise ValueError("not a regular file of a list's size")
    blocks = []
    while block := file.read(1 << 20):
        blocks.append(block)
    return b"".join(blocks)


def store_in_maildir(directory: int, ids: "Mapping[str, str]") -> None:
    """Durably, in place of the list that there is. Raises OSError."""
    new = f"{NAME}.{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(new, flags, 0o600, dir_fd=directory), "wb") as file:
        try:
            file.write(pack(ids))
            file.flush()
            os.fsync(file.fileno())
            os.rename(new, NAME, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(new, dir_fd=directory)
            raise
    os.fsync(directory)


def of_messages(
    own: "Texts", said: "Iterable[str]", taken: "Container[str]" = ()
) -> tuple[dict[str, str], dict[int, str]]:
    """The list that gives each message what a former server has said of it, "" for nothing; and why some messages keep
    popad's own id, by their numbers from 0. Of messages with the same id the first has it; nobody gets one that is
    `taken`.
    """
    ids: dict[str, str] = {}
    why: dict[int, str] = {}
    holders: dict[str, int] = {}
    for index, given in enumerate(said):
        if not given:
            why[index] = UNKNOWN
        elif not is_id(given):
            why[index] = f"{given[:LONGEST_LINE]!a} is not fit for the protocol"
        elif given in taken:
            why[index] = f"a message that is gone had {given}"
        elif holders.setdefault(given, index) != index:
            why[index] = f"message {holders[given] + 1} has the same id, {given}"
        else:
            ids[own[index]] = given
    return ids, why


def add(given: dict[str, str], more: "Mapping[str, str]") -> None:
    """Also replace what `more` has, but for ids that are replaced already, or given to another message."""
    taken = set(given.values())
    for own, said in more.items():
        if said not in taken:
            given.setdefault(own, said)


def renewed(listed: "Mapping[str, str]", own: "Texts", said: "Iterable[str]") -> tuple[dict[str, str], dict[int, str]]:
    """The list that takes the place of `listed`, and why some messages keep what they have: what is said of a message
    that is there counts; what others had stays with them, there or gone.
    """
    there = {own[index] for index in range(len(own))}
    gone = {given for each, given in listed.items() if each not in there}
    ids, why = of_messages(own, said, gone)
    add(ids, listed)
    return ids, why


class Replaced:
    """Unique-ids, where some of them are replaced by those that clients know."""

    def __init__(self, own: "Texts", given: "Mapping[str, str]") -> None:
        """`own`: popad's; `given`: own ids and what replaces them."""
        self.own = own
        self.given = given
        self.taken = set(given.values())

    def __len__(self) -> int:
        return len(self.own)

    def __getitem__(self, index: int) -> str:
        own = self.own[index]
        if own in self.given:
            return self.given[own]
        while own in self.taken:  # by another message, there or gone
            own = hashed(own)
        return own
