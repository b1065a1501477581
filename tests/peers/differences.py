"""Every difference between popad and popa3d that a client or the mailbox file can show, and what popad does instead.

"Instead" is put as a rewriting: popad answers a mailbox and a script as popa3d answers the rewritten ones. So the table
is checked against popa3d itself, and a difference applies to a session exactly if its rewriting changes something.

Five have no rewriting: CAPA, which popa3d does not know, the answer to a second USER, identical unique-ids, that of a
message without a header that popa3d looks at (Comparison.learn_ids), and a mailbox of one From line alone, which has a
message of no octets. Texts behind +OK and -ERR are popad's own and not compared. What another program does to the
mailbox is in test_popa3d.py (CHANGES).
"""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.mboxes import messages, split
from tests.support.peers import Mailbox

COMMAND_OCTETS = 255
POPA3D_ARGUMENT = 40  # octets
NO_COMMAND = b"?\r"
MAX_ERRORS = 10
ARGUMENT = 40  # octets, popa3d's
MOST_LINES = b"2147483647"
GOOD_USER = re.compile(rb"(?i)^USER ([!-~]{1,40})(?= ?\r?\n)")
TEXT = b"Fr\1m "  # as long as `From `; changed back in what popa3d answers
INTERNAL = b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA"


def same(octets: bytes) -> bytes:
    return octets


def with_final_lf(mailbox: bytes) -> bytes:
    return mailbox + b"\n" if mailbox and not mailbox.endswith(b"\n") else mailbox


def crlf_as_lf(mailbox: bytes) -> bytes:
    return mailbox.replace(b"\r\n", b"\n")


def blank_crlf_as_lf(mailbox: bytes) -> bytes:
    return re.sub(rb"^\r\n", b"\n", mailbox, flags=re.MULTILINE)


def separated(mailbox: bytes) -> bytes:
    """Text that begins with `From ` is made another text, and a separator without a blank line before it gets one."""
    if not (found := messages(mailbox)):
        return mailbox
    made: list[bytes] = []
    place, separators = 0, {message.place for message in found}
    for line in split(mailbox):
        if place not in separators:
            made.append(re.sub(rb"^From ", TEXT, line))
        elif place and made[-1] not in (b"\n", b"\r\n"):
            made += b"\n", line
        else:
            made.append(line)
        place += len(line)
    return b"".join(made)


def without_internal_data(mailbox: bytes) -> bytes:
    found = messages(mailbox) or []
    header = found[0].data.partition(b"\n\n")[0].split(b"\n") if found else []
    if INTERNAL not in header or not any(re.match(rb"X-IMAP: \d+ \d+", line) for line in header):
        return mailbox
    return mailbox[found[1].place :] if len(found) > 1 else b""


def complete_lines(script: bytes) -> bytes:
    return script[: script.rfind(b"\n") + 1]


def no_overlong_lines(script: bytes) -> bytes:
    return b"\n".join(NO_COMMAND if len(line) >= COMMAND_OCTETS else line for line in script.split(b"\n"))


def digits_only(script: bytes) -> bytes:
    return re.sub(rb"(?im)^(LIST|UIDL|RETR|DELE|TOP)( \d+)? [\t\v\f\r]*[-+\t\v\f\r]\d.*$", NO_COMMAND, script)


def short_names(script: bytes) -> bytes:
    """A name that popa3d takes for one that it does not: neither server has a user of either name."""

    def short(line: re.Match[bytes]) -> bytes:
        command, name, end = line.groups()
        return line[0] if len(name) <= POPA3D_ARGUMENT and b" " not in name else command + b"?" + end

    return re.sub(rb"(?im)^(USER )([^ \n\0][^\n\0]*?)( ?\r?)$", short, script)


def lines_that_fit(script: bytes) -> bytes:
    def fits(found: re.Match[bytes]) -> bytes:
        return found[1] + (MOST_LINES if int(found[2]) > int(MOST_LINES) and len(found[2]) <= ARGUMENT else found[2])

    return re.sub(rb"(?im)^(TOP 0*\d{1,10} )(\d+)(?= ?\r?$)", fits, script)


def before_the_login(script: bytes) -> tuple[list[bytes], list[bytes]]:
    """The lines up to the first PASS that has a password, that one among them, and the others."""
    lines = script.splitlines(keepends=True)
    login = [number for number, line in enumerate(lines) if re.match(rb"(?i)PASS [^\r\n]", line)]
    end = login[0] + 1 if login else len(lines)
    return lines[:end], lines[end:]


def last_name(script: bytes) -> bytes:
    before, others = before_the_login(script)
    names = [found[1] for line in before if (found := GOOD_USER.match(line))]
    return b"".join([*(GOOD_USER.sub(b"USER " + names[-1], line) if names else line for line in before), *others])


def ten_errors(script: bytes) -> bytes:
    before, others = before_the_login(script)
    errors = itertools.accumulate(not re.match(rb"(?i)(USER|PASS|QUIT|CAPA)\b", line) for line in before)
    kept = [line for line, count in zip(before, errors, strict=True) if count <= MAX_ERRORS]
    return b"".join([*kept, *(others if len(kept) == len(before) else ())])


@dataclass(frozen=True)
class Difference:
    name: str
    popad: str
    mailbox: Callable[[bytes], bytes] = same
    script: Callable[[bytes], bytes] = same
    # Where the octets that make the unique-ids are rewritten differently.
    ids: Callable[[bytes], bytes] | None = None

    def rewrite(self, mailbox: Mailbox, script: bytes, for_ids: bool = False) -> tuple[Mailbox, bytes]:
        how = self.ids if for_ids and self.ids else self.mailbox
        return how(mailbox) if isinstance(mailbox, bytes) else mailbox, self.script(script)

    def applies(self, mailbox: Mailbox, script: bytes) -> bool:
        return self.rewrite(mailbox, script) != (mailbox, script)


# In this order: a CR at the end of a file without a final LF stays a bare CR.
REWRITTEN = (
    Difference(
        "CRLF mailbox",
        "separators and the end of the header are seen at CRLF too, and CRLF is sent and counted as one line end; the "
        "unique-id is made of the lines as they are stored",
        mailbox=crlf_as_lf,
        ids=blank_crlf_as_lf,
    ),
    Difference(
        "no final LF",
        "the size counts the line end that is sent; the unique-id is what it is when the next delivery has added it",
        mailbox=with_final_lf,
    ),
    Difference(
        "what separates",
        "a From_ line with a date, or before a header field, behind a blank line, or both; popa3d: any line that "
        "begins with `From ` behind a blank line; two of them together, or one at the end, and it refuses the mailbox",
        mailbox=separated,
    ),
    Difference(
        "internal data of c-client",
        "a first message with X-IMAP and the subject of a folder's internal data is no mail, and stays",
        mailbox=without_internal_data,
    ),
    Difference(
        "unterminated command",
        "not executed: a removal needs a complete QUIT (RFC 1939 section 6)",
        script=complete_lines,
    ),
    Difference(
        "overlong command",
        "over 255 octets (RFC 2449): one error, nothing of it is executed; popa3d cuts it to 127 and executes that",
        script=no_overlong_lines,
    ),
    Difference(
        "number that is not digits",
        "an error; popa3d's strtol takes a sign and white space before the digits",
        script=digits_only,
    ),
    Difference(
        "more lines than fit",
        "TOP with more lines than 2147483647 has all of them; an error of popa3d",
        script=lines_that_fit,
    ),
    Difference(
        "long name, name with spaces",
        "a user's name is the rest of the line, up to 255 octets with it (RFC 1939 asks for at least 40 octets)",
        script=short_names,
    ),
    Difference(
        "another name",
        "the last one counts; popa3d keeps the first",
        script=last_name,
    ),
    Difference(
        "ten errors before the login",
        "the end of the connection; popa3d has none",
        script=ten_errors,
    ),
)
CAPA = "CAPA"
USER_AGAIN = "USER again"
TWINS = "identical unique-ids"
NO_HEADER = "no header for a unique-id"
NO_HEADERS_ID = b"d98c1dd404b2008f"  # popa3d's, of all such messages
NAMES = (*(difference.name for difference in REWRITTEN), CAPA, USER_AGAIN, TWINS, NO_HEADER)
