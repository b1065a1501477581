"""Files that others read while they are written."""

import os
import tempfile

READABLE = 0o644


def replace(path: str, content: str, mode: int = READABLE) -> None:
    """Replace a file in one step; - is standard output. Raises OSError."""
    if path == "-":
        print(content, end="")
        return
    directory = os.path.dirname(path) or "."
    fd, unfinished = tempfile.mkstemp(prefix=".", suffix=".unfinished", dir=directory)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise
