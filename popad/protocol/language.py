"""LANG (RFC 6856 section 3): in which language replies are. There is one."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.protocol.dialogue import Reply, State

from popad.errors import CommandRefused
from popad.protocol.replies import listing, ok

TAG, NAME = "en", "English"
DEFAULT = b"*"


def lang(_: "State", words: list[bytes]) -> "Reply":
    """Without an argument: which languages there are. Raises CommandRefused for one that there is not."""
    if not words:
        return listing("languages", [f"{TAG} {NAME}"])
    (wanted, *more) = words
    # Lookup (RFC 4647 section 3.4): who asks for en-GB gets en.
    if more or (wanted != DEFAULT and wanted.lower().partition(b"-")[0] != TAG.encode()):
        raise CommandRefused("no such language")
    return ok(f"{TAG} replies are in {NAME}")
