"""What separates the messages of an mbox file: From_ lines, as programs write them, and no text that looks like one.

A From_ line is `From `, a sender (one word, or a quoted one; pipermail writes `user at host`, some write none) and a
date: asctime(3)'s, also without seconds, with a time zone before or behind the year, with `remote from` a host (UUCP),
or in the order of RFC 5322. It separates
 - behind a blank line (LF or CRLF), if it has a date;
 - behind a blank line, if it is `From ` and a word without a date, and a header field follows;
 - behind any other line, if it has a date and a header field, or a From_ line that was quoted (`>From `), follows.
It never does at the end of the file or before a line that begins with `From `: then it is text, like all else. What is
appended to a mailbox that ends in a line end can so never make a separator of a line that was there before.
The first line of a file always separates if it begins with `From `; the line behind it never does.

A letter may be full of lines that begin with `From `. A colon in this line or in the next has each that separates: so
those without are passed over, and what the others cost is little more than that of finding them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LF, CR, SPACE, F = b"\n\r F"
FROM = b"From "
# How a separator is looked for: short, as Python searches faster for less than six octets, and without what is frequent
# in text, as a search that meets an octet which is not in the word skips the whole word. Half the time.
QUICK = b"\nFrom"
EXACT = b"\n" + FROM  # where QUICK has found FEW lines in vain, the last without the space
FEW = 8
LONGEST_LINE = 1000  # octets of a From_ line: an address has 256 at most (RFC 5321 section 4.5.3.1.3), its line 1000
LONGEST_NAME = 128  # octets of a header field's name and its colon; the longest in use have 65
# What must be at hand to tell a separator from text: so much behind its beginning, so much before.
AHEAD = LONGEST_LINE + LONGEST_NAME + 2
BEHIND = 3
IN_NAME = bytes(octet for octet in range(33, 127) if octet != ord(":"))  # RFC 5322 section 3.6.8

WEEKDAYS = frozenset(b"mon tue wed thu fri sat sun".split())
MONTHS = frozenset(b"jan feb mar apr may jun jul aug sep oct nov dec".split())
SHORTEST_DATED = len(b"From Thu Jan 1 0:0 70\n")
# What almost all programs write behind a sender of one word, with any digits: told without cutting the line into words.
DIGITS = bytes.maketrans(b"123456789", b"000000000")
ASCTIMES = frozenset(
    b"%b%b %b %b 00:00:00 0000\n" % (space, day.title(), month.title(), number)
    for space in (b" ", b"  ")
    for day in WEEKDAYS
    for month in MONTHS
    for number in (b"00", b" 0")
)


def next_separator(text: bytes, search: int, complete: bool) -> tuple[int, int]:
    """The first of separators(); -1 and 0 where there is none."""
    return next(separators(text, search, complete), (-1, 0))


def separators(text: bytes, search: int, complete: bool) -> "Iterator[tuple[int, int]]":
    """Where each separator that begins behind `search` begins, and where the data behind it does.

    The last may have -1 as the second: `text` ends too soon to tell, which it does not if it is `complete`. The BEHIND
    octets before `search` must be in it, unless it is the beginning of a file.
    """
    quick, in_vain, end = QUICK, 0, len(text) - 1
    while (found := text.find(quick, search, end)) >= 0:
        place = search = found + 1
        if text[found + 5] == SPACE:
            start = 0
            if text[found - 1] == LF:  # as almost all are: told here, with few calls
                start = text.find(b"\n", place, place + LONGEST_LINE) + 1
                date = text[text.find(b" ", place + len(FROM)) : start]
                if date.translate(DIGITS) not in ASCTIMES or start > end or text[start] == F:
                    start = 0
            if start or (start := data_behind(text, place, complete)):
                yield place, start
                if start < 0:
                    return
                search = start
                quick, in_vain = QUICK, 0
                continue
        in_vain += 1
        if in_vain % FEW == 0:
            quick = QUICK if text[found + 5] == SPACE else EXACT
            colon = text.find(b":", place)
            line = text.rfind(b"\n", place, colon if colon >= 0 else len(text))
            search = max(text.rfind(b"\n", place, max(line, 0)), place)


def data_behind(text: bytes, place: int, complete: bool) -> int:
    """Where data begins behind the line at `place`, which begins with `From `; 0: it is no separator. -1: see above."""
    start = text.find(b"\n", place, place + LONGEST_LINE) + 1
    if not start:
        return 0 if complete or len(text) - place >= LONGEST_LINE else -1
    behind_blank = text[place - 2] == LF or (text[place - 2] == CR and text[place - 3] == LF)
    is_short = start - place < SHORTEST_DATED
    if (is_short and (not behind_blank or text.startswith(b"\n", start))) or text.startswith(FROM, start):
        return 0
    line = text[place + len(FROM) : start].strip()
    is_word = line.find(b" ") < 0
    if not line or (not is_word and (is_short or line.find(b":") < 0) and not line.startswith(b'"')):
        return 0  # neither a date nor one word
    header = begins_header(text, start, complete)
    if header < 0:
        return -1
    if header:
        if behind_blank and is_word:
            return start
    elif start == len(text) or is_short or not (behind_blank or text.startswith(b">From ", start)):
        return 0
    words = words_of(line)
    return start if is_dated(words) or (header and behind_blank and len(words) == 1) else 0


def blank_before(text: bytes, place: int) -> int:
    """The octets of the blank line before `place`; 0 where there is none."""
    if text[place - 1] != LF:
        return 0
    if text[place - 2] == LF:
        return 1
    return 2 if text.startswith(b"\n\r\n", place - 3) else 0


def begins_header(text: bytes, start: int, complete: bool) -> int:
    """1 if the line at `start` begins with the name of a header field, 0 if not (as a URL); -1: see above."""
    colon = text.find(b":", start, start + LONGEST_NAME)
    end = colon if colon >= 0 else start + LONGEST_NAME
    if colon == start or text[start:end].translate(None, IN_NAME):
        return 0
    if len(text) < (end if colon < 0 else colon + 3):
        return int(colon > 0) if complete else -1
    return int(colon > 0 and not text.startswith(b"//", colon + 1))


def words_of(line: bytes) -> list[bytes]:
    """The words behind `From `; a sender that begins with a quoted string is one, whatever is in the string."""
    if line.startswith(b'"'):
        line = b'"' + line.rpartition(b'"')[2]
    return [word for word in line.lower().split(b" ") if word]


def is_dated(words: list[bytes]) -> bool:
    """Whether these words of a From_ line are a sender, if any, and a date."""
    if len(words) < 5:
        return False
    return is_date(words) or is_date(words[1:]) or (words[1] == b"at" and is_date(words[3:]))


def is_date(words: list[bytes]) -> bool:
    """Whether these words are a weekday, and month, day, time, year, or day, month, year, time; with time zones."""
    if len(words) < 5 or words[0].removesuffix(b",") not in WEEKDAYS:
        return False
    zones: list[bytes] = []
    if words[1] in MONTHS:
        day, time, year, *behind = words[2:]
        while behind and len(zones) < 2 and not is_number(year, (2, 4)):
            zones.append(year)
            year, *behind = behind
    else:
        day, month, year, time, *behind = words[1:]
        if month not in MONTHS:
            return False
    if behind[-3:-1] in ([b"remote", b"from"], [b"forwarded", b"by"]):
        del behind[-3:]
    return (
        is_number(day, (1, 2))
        and is_number(year, (2, 4))
        and is_time(time)
        and len(behind) <= 2
        and all(zone[:1].isalpha() or zone[:1] in b"+-(" for zone in zones + behind)
    )


def is_number(word: bytes, lengths: tuple[int, int]) -> bool:
    """Whether a word is digits, of which there are so many."""
    return word.isdigit() and len(word) in lengths


def is_time(word: bytes) -> bool:
    """Hours and minutes, perhaps seconds."""
    parts = word.split(b":")
    return 2 <= len(parts) <= 3 and all(is_number(part, (1, 2)) for part in parts)


def begins(octets: bytes, place: int) -> bool:
    """Whether a From line begins at `place` of octets that were read with the line end before it, or from the start of
    the file.
    """
    return octets.startswith(FROM, place) and (not place or octets[place - 1] == LF)
