"""The unique-ids that another POP3 server has given, as it left them in the Maildir: read, and never written.

Dovecot: `dovecot-uidlist`, and the format that its pop3_uidl_format has. Courier: `courierpop3dsizelist`, versions 2
and 3. Messages that came later have ids of popad's own.
"""

import os
import re
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

from popad.errors import MaildropUnreadable
from popad.maildrop.maildir.directories import PERMANENT, code_of
from popad.maildrop.maildir.names import base_of, unique_id
from popad.maildrop.maildrop import is_id

DOVECOT, COURIER = "dovecot", "courier"
FILES = {DOVECOT: "dovecot-uidlist", COURIER: "courierpop3dsizelist"}
LONGEST_LINE = 4096  # characters: a name, and a dozen fields
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# Of pop3_uidl_format: zeros in front, a width, hexadecimal digits, and what: unique number, validity of all, name.
VARIABLE = re.compile(r"%(?P<zero>0?)(?P<width>[0-9]{0,2})(?P<hexadecimal>X?)(?P<what>[uvfg%])")
COURIERS_HEAD = re.compile(r"/([23]) [0-9]+(?: ([0-9]+))?$")
COURIERS_LINE = re.compile(r"(?P<name>.+) [0-9]+ (?P<number>[0-9]{1,10}):(?P<validity>[0-9]{1,10})(?::[0-9]+)?$")


def read(directory: int, server: str, template: str, most: int) -> dict[str, str]:
    """The ids that replace popad's own, all different; nothing where the server has left none. `directory`: a
    descriptor of the Maildir; `most`: messages.

    Of messages that the server gave the same id the first has it, there or gone. Raises MaildropUnreadable for a file
    that is there and cannot be understood: with other ids a client would fetch all its mail again.
    """
    name = FILES[server]
    ids: dict[str, str] = {}
    given: set[str] = set()
    try:
        with opened(name, directory) as file:
            head = file.readline(LONGEST_LINE).rstrip("\n")
            found = dovecots(head, file, template) if server == DOVECOT else couriers(head, file)
            for count, (base, said) in enumerate(found):
                if count >= 2 * most:
                    raise ValueError(f"more than {2 * most} lines, the limit is {most} messages")
                if is_id(said) and said not in given:
                    ids[unique_id(base)] = said
                    given.add(said)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise MaildropUnreadable(f"{name}: {error.strerror}", code_of(error)) from error
    except ValueError as wrong:
        raise MaildropUnreadable(f"{name}: {wrong}", PERMANENT) from None
    return ids


def opened(name: str, directory: int) -> "IO[str]":
    """As text; octets that are no UTF-8 as in names of files. Raises OSError, MaildropUnreadable."""
    fd = os.open(name, READ, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise MaildropUnreadable(f"{name}: not a regular file", PERMANENT)
    return open(fd, encoding="utf-8", errors="surrogateescape", newline="\n")


def lines_of(file: "IO[str]") -> "Iterator[str]":
    """Line by line; what is longer than a line of these files can be comes in pieces."""
    while line := file.readline(LONGEST_LINE):
        yield line.rstrip("\n")


def dovecots(head: str, file: "IO[str]", template: str) -> "Iterator[tuple[str, str]]":
    """Bases and ids of `3 V<validity> N<next> ...`, and a line `<number> <fields> :<name>` for each message; version 1
    has no letters and no colon. A field P is an id that was given to this message alone. Raises ValueError.
    """
    version, *fields = head.split(" ")
    if version == "3":
        validity = next((field[1:] for field in fields if field.startswith("V")), "")
    elif version == "1" and len(fields) >= 2:
        validity = fields[0]
    else:
        raise ValueError(f"version {version[:40]!a} is not known")
    if not is_number(validity):
        raise ValueError("it does not say which validity its numbers have")
    for line in lines_of(file):
        front, colon, name = line.partition(" :") if version == "3" else line.partition(" ")
        number, *extensions = front.split(" ")
        if not colon or not is_number(number) or not name:
            continue
        own = [field[1:] for field in extensions if field.startswith("P")]
        guid = next((field[1:] for field in extensions if field.startswith("G")), base_of(name))
        yield base_of(name), own[0] if own else filled(template, int(number), int(validity), base_of(name), guid)


def filled(template: str, number: int, validity: int, base: str, guid: str) -> str:
    """An id as Dovecot makes it of the format."""

    def value(match: re.Match[str]) -> str:
        what = match["what"]
        if what == "%":
            return "%"
        if what in "fg":
            return base if what == "f" else guid
        text = f"{number if what == 'u' else validity:{'x' if match['hexadecimal'] else 'd'}}"
        return text.rjust(int(match["width"] or 0), "0" if match["zero"] else " ")

    return VARIABLE.sub(value, template)


def couriers(head: str, file: "IO[str]") -> "Iterator[tuple[str, str]]":
    """Bases and ids of `/<version> <next> <validity>`, and a line `<name> <octets> <number>:<validity>` for each
    message. Raises ValueError.
    """
    if not COURIERS_HEAD.match(head):
        raise ValueError(f"{head[:40]!a} is not a version that is known")
    for line in lines_of(file):
        if match := COURIERS_LINE.match(line):
            base, number, validity = base_of(match["name"]), int(match["number"]), int(match["validity"])
            if not number:
                yield base, escaped(base)
            else:
                yield base, f"UID{number}-{validity}" if validity else f"UID{number}"


def escaped(base: str) -> str:
    """The id of a message that has no number: Courier's first form."""
    octets = os.fsencode(base)
    return "".join(
        chr(octet) if 0x21 <= octet <= 0x7E and chr(octet) not in "'\"+" else f"+{octet:02X}" for octet in octets
    )


def is_number(text: str) -> bool:
    """Decimal digits, not too many."""
    return text.isascii() and text.isdigit() and len(text) <= 10
