"""What an mbox holds, read line by line and as plainly as can be: what the fuzz targets compare popad with."""


class Message:
    """A message: where its From line begins, where its data begins, and the data."""

    def __init__(self, place: int, start: int, data: bytes) -> None:
        self.place = place
        self.start = start
        self.data = data

    @property
    def wire(self) -> bytes:
        """As it is sent, before dots are stuffed: every line with CRLF."""
        return b"".join(line.removesuffix(b"\n").removesuffix(b"\r") + b"\r\n" for line in whole_lines(self.data))


def whole_lines(text: bytes) -> list[bytes]:
    """The lines, each with its LF; the last one gets the LF that it lacks, and a CR before that LF is none of its."""
    lines = [line + b"\n" for line in text.split(b"\n")]
    last = lines.pop()
    # A CR that ends the file ends no line: it is sent as it stands, and CRLF behind it.
    return lines if last == b"\n" else [*lines, last[:-1] + b"\r\n"]


def messages(text: bytes) -> list[Message] | None:
    """popa3d's rules, CRLF being a line end as well. None where the file is refused."""
    found: list[Message] = []
    place = 0
    before = b"\n"  # the line before: the file's first line may be a separator
    for line in split(text):
        if line.startswith(b"From ") and before in (b"\n", b"\r\n"):
            # Behind a From line, one more makes the message between them one without data: refused below.
            found.append(Message(place, place + len(line), b""))
        elif not found:
            return None
        else:
            found[-1].data += line
            before = line
        place += len(line)
    if any(not message.data for message in found):
        return None
    for message in found:
        message.data = stripped(message.data)
    return found


def split(text: bytes) -> list[bytes]:
    """`text` behind each LF."""
    lines = [line + b"\n" for line in text.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line]


def stripped(data: bytes) -> bytes:
    """Without the blank line at the end, if that is not the one that ends the header."""
    lines = split(data)
    blank = [number for number, line in enumerate(lines) if line in (b"\n", b"\r\n")]
    if len(blank) > 1 and blank[-1] == len(lines) - 1:
        lines.pop()
    return b"".join(lines)
