"""What stands in the From_ line of an mbox besides `From `: who has sent the message, and when it was delivered."""

import calendar
import time

from popad.maildrop.mbox.separators import FROM, MONTHS, is_date, is_time, words_of

NOBODY = b"MAILER-DAEMON"  # of a message without a sender, as delivery programs write it
RETURN_PATH = b"return-path:"
LONGEST_SENDER = 256  # octets, RFC 5321 section 4.5.3.1.3
LATEST = 253402214400  # seconds: the last day of the year 9999
ORDER = {name: number for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
UNIVERSAL = (b"utc", b"gmt", b"ut", b"z")


def from_line(sender: bytes, when: int) -> bytes:
    """The line, with the time of this machine's zone, as delivery programs write it and readers take it."""
    return b"%b%b %b\n" % (FROM, sender, time.asctime(time.localtime(min(max(when, 0), LATEST))).encode("ascii"))


def sender_of(header_line: bytes) -> bytes:
    """The sender that a line of a header names (Return-Path), as one word; empty where it is another line."""
    if header_line[: len(RETURN_PATH)].lower() != RETURN_PATH:
        return b""
    address = header_line[len(RETURN_PATH) :].strip().removeprefix(b"<").removesuffix(b">")
    is_word = 0 < len(address) <= LONGEST_SENDER and all(0x21 <= octet <= 0x7E and octet != 0x22 for octet in address)
    return address if is_word else b""


def delivered_at(line: bytes) -> int | None:
    """The time in a From_ line, in seconds; None where it has none that can be understood.

    Without a zone that is a number or UTC it is the time of this machine's zone.
    """
    words = words_of(line[len(FROM) :].strip())
    for date in (words, words[1:], words[3:]):
        if is_date(date):
            return seconds_of(date)
    return None


def seconds_of(date: list[bytes]) -> int | None:
    """The time that the words of a date mean (separators.is_date): those of which there can be one each, in any order
    but for the day, which is beside the month.
    """
    month_at = next(place for place, word in enumerate(date) if word in MONTHS)
    day_at = month_at + 1 if month_at == 1 else 1
    others = [word for place, word in enumerate(date[:8]) if place not in (0, month_at, day_at)]
    clock = next(map(int, word.split(b":")) for word in others if is_time(word))
    year = next(int(word) for word in others if word.isdigit())
    if year < 100:
        year += 1900 if year >= 70 else 2000
    hour, minute, second = [*clock, 0][:3]
    moment = year, ORDER[date[month_at]], int(date[day_at]), hour, minute, second, 0, 0, -1
    zone = next((word for word in others if word in UNIVERSAL or is_offset(word)), b"")
    try:
        if not zone:
            found = int(time.mktime(moment))
        else:
            found = calendar.timegm(moment) - offset_of(zone)
    except (OverflowError, ValueError):
        return None
    return found if 0 <= found <= LATEST else None


def is_offset(word: bytes) -> bool:
    """Whether it is a zone in numbers, as +0200."""
    return len(word) == 5 and word[:1] in b"+-" and word[1:].isdigit()


def offset_of(zone: bytes) -> int:
    """Seconds east of Greenwich."""
    if not is_offset(zone):
        return 0
    seconds = int(zone[1:3]) * 3600 + int(zone[3:]) * 60
    return -seconds if zone.startswith(b"-") else seconds
