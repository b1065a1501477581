"""What a file's name says of a message: `BASE:2,FLAGS`, where BASE is `TIME.UNIQUE.HOST`, perhaps with sizes behind it.

Names are text as os.fsdecode() makes it: any octets but "/" and NUL.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

from popad.maildrop.maildrop import hashed, is_id

INFO, VERSION = ":", "2,"  # what stands between the base and the flags
SEEN, TRASHED = "S", "T"
SIZE, WIRE_SIZE = "S=", "W="  # octets of the file; on the wire, each line end as CRLF (Maildir++, Dovecot)
MOST_DIGITS = 18
NO_TIME = 1 << 62  # behind all that say when they were delivered


def base_of(name: str) -> str:
    """What stays the same as long as the message is there, whatever is done to its flags."""
    return name.partition(INFO)[0]


def flags_of(name: str) -> str:
    """The flags of mail readers, a letter each; none where the name has none, or in another form."""
    info = name.partition(INFO)[2]
    return info[len(VERSION) :] if info.startswith(VERSION) else ""


def seen_name(name: str) -> str:
    """The name of a message that has been read, with the flags that it had. They stand in the order of ASCII."""
    flags = "".join(sorted({*flags_of(name), SEEN}))
    return f"{base_of(name)}{INFO}{VERSION}{flags}"


def order_of(base: str) -> tuple[int, str]:
    """When it was delivered, as the name has it, and what makes it unique: no two bases have the same place."""
    seconds = base.partition(".")[0]
    known = seconds.isascii() and seconds.isdigit() and len(seconds) <= MOST_DIGITS
    return int(seconds) if known else NO_TIME, base


def order_for(names: "Iterable[str]") -> "Callable[[str], tuple[int, str] | str]":
    """A key for sorting these names by the order of their bases: the bases themselves where all have a time of ten
    digits (until the year 2286), which takes less memory and time.
    """
    if all(name[10:11] == "." and name[:10].isdigit() and name[:10].isascii() for name in names):
        return base_of
    return lambda name: order_of(base_of(name))


def size_in(base: str, which: str) -> int:
    """A size that the name has, SIZE or WIRE_SIZE; -1 where it has none."""
    for part in base.split(",")[1:]:
        digits = part[len(which) :]
        if part.startswith(which) and digits.isascii() and digits.isdigit() and len(digits) <= MOST_DIGITS:
            return int(digits)
    return -1


def unique_id(base: str) -> str:
    """The unique-id: the base, or a hash where RFC 1939 has no room for it. The same on each host, and of a backup."""
    return base if is_id(base) else hashed(base)
