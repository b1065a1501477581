"""The capability list (RFC 2449 section 5): what the server can beyond what RFC 1939 demands, and what it is.

The same in AUTHORIZATION and TRANSACTION: a client that asks once knows for both.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.protocol.dialogue import Reply

from popad import __version__
from popad.protocol.replies import listing

CAPABILITIES = (
    # Commands that RFC 1939 leaves optional, or that came after it.
    "USER",
    "UIDL",
    "TOP",
    "RESP-CODES",
    "AUTH-RESP-CODE",  # RFC 3206
    "PIPELINING",
    "EXPIRE NEVER",
    f"IMPLEMENTATION popad-{__version__}",
)


def capability_list() -> "Reply":
    """The answer to CAPA."""
    return listing("capability list", CAPABILITIES)
