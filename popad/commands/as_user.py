"""What a command does with a user's mail: in a child that has become that user for good, never as root."""

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from popad.auth.identity import Owner
    from popad.privsep.channel import Channel

from popad.errors import ContractBroken
from popad.privsep import spawn
from popad.privsep.identity import Prctl, become, end_with_the_parent

# Seconds without a word of such a child. Longer than any lock, disk or old server takes; but the user may stop it, and
# would have the command wait for ever.
MOST_QUIET = 600.0


def is_possible(owner: "Owner") -> bool:
    """Whether this process can be that user: root can be anybody, others who they are."""
    return os.geteuid() in (0, owner.uid)


def begin(owner: "Owner", work: "Callable[[Channel], object]", *, outlives: bool = False) -> spawn.Child:
    """A child that is that user and does `work` with its end of a channel. Raises OSError.

    It is killed when this process ends, unless it `outlives` it, as one that has to clean up.
    """
    parent = os.getpid()
    Prctl.load()

    def as_that_user(channel: "Channel") -> None:
        become(owner.uid, owner.gid, owner.groups)
        if not outlives:
            end_with_the_parent()
            if os.getppid() != parent:
                return  # it has ended already
        try:
            work(channel)
        except BrokenPipeError:
            pass  # who has asked for it is gone

    return spawn.with_channel(as_that_user)


def receive(
    channel: "Channel",
    shapes: "Mapping[bytes, Sequence[int]]",
    each: float,
    wait: "Callable[[], object]" = lambda: None,
) -> list[bytearray]:
    """The child's next word (Channel.receive_request), with a call of `wait` each so many seconds until it comes.

    Raises ContractBroken, also where nothing has come for MOST_QUIET.
    """
    last = time.monotonic() + MOST_QUIET
    while not channel.waits(each):
        if time.monotonic() > last:
            raise ContractBroken(f"it has said nothing for {MOST_QUIET:g} seconds")
        wait()
    return channel.receive_request(shapes, None)


def readable(field: bytes | bytearray) -> str:
    """Text that such a child has said, as it may be printed: a mailbox or another server may have made it up."""
    text = field.decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def number(field: bytes | bytearray) -> int:
    """A number that such a child has said. Raises ContractBroken."""
    if not field.isdigit():
        raise ContractBroken("a number that is none")
    return int(field)
