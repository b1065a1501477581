"""The capability list (RFC 2449 section 5): what the server can beyond what RFC 1939 demands, and what it is.

In TRANSACTION the list is that of a client which could log in: RFC 2449 lets one ask once, and TLS begins before the
login alone (RFC 2595 section 4).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from popad.protocol.dialogue import Reply

from popad import __version__
from popad.protocol.replies import listing

LOGIN, ENCRYPTION = "USER", "STLS"  # where the client may log in as it is; where it may begin TLS
SASL = "SASL"  # RFC 5034: with the mechanisms that it may use as it is
CAPABILITIES = (
    # Commands that RFC 1939 leaves optional, or that came after it.
    "UIDL",
    "TOP",
    "RESP-CODES",
    "AUTH-RESP-CODE",  # RFC 3206
    "PIPELINING",
    "EXPIRE NEVER",
    "UTF8 USER",  # RFC 6856 section 2
    "LANG",  # section 3
    f"IMPLEMENTATION popad-{__version__}",
)


def capability_list(*, may_log_in: bool = True, may_encrypt: bool = False, sasl: "Sequence[str]" = ()) -> "Reply":
    """The answer to CAPA. `sasl`: the names of the mechanisms."""
    now = [*([LOGIN] if may_log_in else []), *([ENCRYPTION] if may_encrypt else [])]
    if sasl:
        now.append(" ".join((SASL, *sasl)))
    return listing("capability list", [*now, *CAPABILITIES])
