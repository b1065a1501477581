"""Exceptions, each named by what happens next. The human text is made where it is shown, never here."""


class SettingWrong(Exception):
    """popad does not start: the setting `name` has a value that cannot be used, or no setting has that name."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class NotInvokedRight(Exception):
    """popad does not start: nobody handed it a connection. The command line answers with the usage, exit status 2."""


class CommandRefused(Exception):
    """The command is answered with `-ERR text` and the session goes on."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class PeerGone(Exception):
    """The client closed or lost the connection: the session ends, nothing is removed."""


class PeerSilent(Exception):
    """The client neither sent nor read for too long: the session ends, nothing is removed."""


class MaildropChanged(Exception):
    """Another program changed messages that this session has shown: the command is answered `-ERR [SYS/TEMP]`, and so
    is each later one that needs more of the mailbox than what is known. QUIT removes nothing.

    Where a part of the answer has left, the connection ends instead.
    """

    code = "SYS/TEMP"


class MaildropUnreadable(Exception):
    """The maildrop cannot be read now (EIO, ESTALE, a lock that somebody keeps): the command is answered
    `-ERR [SYS/TEMP]`, and the next one tries again. What the session knows, and its marks, are as right as before.

    Where a part of the answer has left, the connection ends instead. `code` is SYS/PERM where an administrator has to
    do something first.
    """

    def __init__(self, reason: str = "", code: str = "SYS/TEMP") -> None:
        # Not IN-USE, which RFC 2449 section 8.1.2 keeps for logins; RFC 3206 has SYS for any command.
        super().__init__(reason)
        self.code = code


class MessageGone(Exception):
    """Another program has removed the message: the command is answered `-ERR [SYS/TEMP]`, and all other messages are as
    they were.

    Where a part of the answer has left, the connection ends instead.
    """

    code = "SYS/TEMP"


class MaildropUnavailable(Exception):
    """The maildrop cannot be opened or updated: the client is told `-ERR [code]`, the journal is told `reason`. It is
    the last answer of the session.

    `code` is a response code of RFC 2449 section 8 or RFC 3206: IN-USE, SYS/TEMP or SYS/PERM.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class ContractBroken(Exception):
    """A process of popad's own said what it may not say, or died before it said anything: the session ends at once."""
