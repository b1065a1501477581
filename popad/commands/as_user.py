"""What a command does with a user's mail: in a child that has become that user for good, never as root."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from popad.auth.identity import Owner
    from popad.privsep.channel import Channel

from popad.errors import ContractBroken
from popad.privsep import spawn
from popad.privsep.identity import become


def is_possible(owner: "Owner") -> bool:
    """Whether this process can be that user: root can be anybody, others who they are."""
    return os.geteuid() in (0, owner.uid)


def begin(owner: "Owner", work: "Callable[[Channel], object]") -> spawn.Child:
    """A child that is that user and does `work` with its end of a channel. Raises OSError."""

    def as_that_user(channel: "Channel") -> None:
        become(owner.uid, owner.gid, owner.groups)
        try:
            work(channel)
        except BrokenPipeError:
            pass  # who has asked for it is gone

    return spawn.with_channel(as_that_user)


def readable(field: bytes | bytearray) -> str:
    """Text that such a child has said, as it may be printed: a mailbox or another server may have made it up."""
    text = field.decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def number(field: bytes | bytearray) -> int:
    """A number that such a child has said. Raises ContractBroken."""
    if not field.isdigit():
        raise ContractBroken("a number that is none")
    return int(field)
