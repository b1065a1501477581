"""POPAD_LOG=debug: what a user and popad say to each other after the login, in the journal.

Commands are shown whole, but for those that may carry a password; of an answer the first line is shown, and how long it
is: mail is nobody's business.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.protocol.dialogue import Peer
    from popad.session.context import Context

from popad import journal
from popad.values import COMMAND_OCTETS

SECRET = (b"PASS", b"AUTH", b"APOP", b"USER")  # a client that is confused may say them once more


class Traced:
    """A client whose words are noted."""

    def __init__(self, client: "Peer", session: "Context", ahead: bytes) -> None:
        """`ahead` is what it has sent before its login was answered."""
        self.client = client
        self.session = session
        self.begun = b""  # a line of which the end has not come
        self.hear(ahead)

    def read(self) -> bytes:
        data = self.client.read()
        self.hear(data)
        return data

    def write(self, data: bytes) -> None:
        if data:
            line, _, _ = data[: COMMAND_OCTETS + 1].partition(b"\r\n")
            self.session.log(journal.PROTOCOL, said=b"S: " + line, said_octets=len(data))
        self.client.write(data)

    def hear(self, data: bytes) -> None:
        """Note each line that is complete by now."""
        *lines, self.begun = (self.begun + data).split(b"\n")
        self.begun = self.begun[: COMMAND_OCTETS + 1]
        for line in lines:
            self.session.log(journal.PROTOCOL, said=b"C: " + shown(line))


def shown(line: bytes) -> bytes:
    """A command as it may be read by others."""
    verb, blank, _ = line[:COMMAND_OCTETS].removesuffix(b"\r").partition(b" ")
    return verb + b" ..." if blank and verb.upper() in SECRET else line[:COMMAND_OCTETS].removesuffix(b"\r")
