"""What a session says of itself in one line: STATUS= of its unit, or what a session of the daemon shows. After the
login it is the word of a process of the user's, so it counts for that session alone.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

from popad.journal import printable

AUTHORIZATION, TRANSACTION = "authorization", "transaction"  # the states of RFC 1939
# session/context.py and session/postauth.py write these.
BEFORE_LOGIN: "Final" = re.compile(r"authorization, (?P<rhost>[0-9A-Fa-f.:]+(?:%\w+)?)(?:, (?P<tls>TLSv[0-9.]+))?")
AFTER_LOGIN: "Final" = re.compile(
    r"(?P<user>.+): (?P<messages>[0-9]{1,10}) messages(?:, (?P<deleted>[0-9]{1,10}) deleted)?"
    r"(?:, (?P<tls>TLSv[0-9.]+))?(?:, from (?P<rhost>[0-9A-Fa-f.:]+(?:%\w+)?))?",
    re.ASCII,
)


class Standing:
    """How a session stands by its own word. What it does not say is "" or None; `user` can be printed."""

    def __init__(self, line: str) -> None:
        self.state = self.user = self.rhost = self.tls = ""
        self.messages: int | None = None
        self.deleted: int | None = None
        if found := BEFORE_LOGIN.fullmatch(line):
            self.state = AUTHORIZATION
        elif found := AFTER_LOGIN.fullmatch(line):
            self.state = TRANSACTION
            self.user = printable(found["user"])
            self.messages, self.deleted = int(found["messages"]), int(found["deleted"] or 0)
        else:
            return
        self.rhost, self.tls = found["rhost"] or "", found["tls"] or ""
