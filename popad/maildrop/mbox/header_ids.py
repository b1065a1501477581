"""The unique-ids that another POP3 server has left in the headers of an mbox file: believed once, and never written.

qpopper: `X-UIDL:`. Dovecot, and c-client before it (UW ipop3d): a number in `X-UID:`, growing from message to message,
and in the first message `X-IMAPbase: <validity> <last number>`; where c-client's internal data is the first, `X-IMAP:`.

Who sends mail can write such lines, too. And an id that is read from them each time can pass on: of two messages with
the same one the first has it, until it is removed. So the first listing makes a list of what is there (id_list.py),
durably, before its answer leaves; from then on the list counts, and what comes later has popad's own ids.
"""

from itertools import chain, islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from popad.maildrop.maildrop import Texts
    from popad.maildrop.mbox.store import Mbox

from popad.maildrop import id_list
from popad.maildrop.maildir.former_ids import DOVECOT, VARIABLE, filled, is_number
from popad.maildrop.uidl import LF, header_pieces

QPOPPER = "qpopper"
# Characters: qpopper makes 20 of them, or 32 hexadecimal digits (before version 3), and takes no others for its own.
QPOPPERS_SHORTEST, QPOPPERS_LONGEST = 11, 32
UIDL, UID, BASES = b"x-uidl:", b"x-uid:", (b"x-imapbase:", b"x-imap:")


def listed_once(mbox: "Mbox", former: tuple[str, str], own: "Texts") -> tuple[dict[str, str], str]:
    """The list of what is there, `own` replaced by the ids of the server `former` (POPAD_UIDL), and why it is not kept,
    if so. Raises what Mbox.alone() raises.

    Where another session was quicker, its list counts.
    """
    while True:
        ids, _ = id_list.of_messages(own, said(mbox, former))
        if not mbox.check():
            break
    if len(mbox.messages.ids) < len(mbox.messages.starts):
        return ids, ""  # which message has which of popad's own ids could not be kept, which the journal says
    failure = ""

    def write() -> bool:
        nonlocal failure
        try:
            if not mbox.files.directory.has(mbox.files.list):
                id_list.store_for_mbox(mbox.files, ids)
        except OSError as error:
            failure = f"the list of ids: {error}"
        return not failure

    return (id_list.of_mbox(mbox.files), "") if mbox.alone(write) else (ids, failure)


def said(mbox: "Mbox", former: tuple[str, str]) -> "Iterator[str]":
    """What the server has left in each message's header; "" where that is no id. Raises what Mbox.header() raises."""
    server, template = former
    headers = map(mbox.header, range(len(mbox.messages.starts)))
    if server != DOVECOT:
        return of_qpopper(headers)
    froms = mbox.messages.froms
    if not froms or not froms[0]:
        return of_dovecot(headers, template)
    internal = header_pieces(mbox.blocks(0, froms[0]))  # which is no message
    return islice(of_dovecot(chain([internal], headers), template), 1, None)


def of_qpopper(headers: "Iterable[Iterable[bytes]]") -> "Iterator[str]":
    """Of each message, given as uidl.header_pieces() gives it: the first that can be one of qpopper's."""
    for pieces in headers:
        values = (value for _, value in fields(pieces, UIDL))
        yield next((value for value in values if QPOPPERS_SHORTEST <= len(value) <= QPOPPERS_LONGEST), "")


def of_dovecot(headers: "Iterable[Iterable[bytes]]", template: str) -> "Iterator[str]":
    """Of each message, the same. A number counts that Dovecot or c-client can have given, as they see it: there is a
    validity before it, it is larger than that of the message before, and not larger than the last one given.
    """
    makes_ids = not {"f", "g"} & {variable["what"] for variable in VARIABLE.finditer(template)}  # a Maildir's
    validity = last = given = 0
    for index, pieces in enumerate(headers):
        number = 0
        for name, value in fields(pieces, UID, *(BASES if index == 0 else ())):
            if name in BASES:
                words = value.split()[:2]
                if not validity and len(words) == 2 and all(map(is_number, words)):
                    validity, last = map(int, words)
            elif not number and validity and is_number(value) and given < int(value) <= last:
                given = number = int(value)
        yield filled(template, number, validity, "", "") if number and makes_ids else ""


def fields(pieces: "Iterable[bytes]", *names: bytes) -> "Iterator[tuple[bytes, str]]":
    """The lines of a header with these names (lower case, with the colon), and their values. What a continuation has
    is left out: these servers write none.
    """
    begins_line = True
    for piece in pieces:
        if begins_line:
            for name in names:
                if piece[: len(name)].lower() == name:
                    yield name, piece[len(name) :].strip(b" \t\r\n").decode("latin-1")
        begins_line = piece[-1] == LF
