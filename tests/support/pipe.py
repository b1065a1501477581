"""A pipe that can be full, and read without a wait: for what is written to standard error."""

import contextlib
import os


class Pipe:
    """Both ends."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def fill(self) -> None:
        """Until not an octet fits, from a description of its own."""
        fd = os.open(f"/proc/self/fd/{self.writing}", os.O_WRONLY | os.O_NONBLOCK)
        for size in (65536, 1):
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(fd, b"x" * size)
        os.close(fd)

    def read(self) -> bytes:
        """All that is in it."""
        fd = os.open(f"/proc/self/fd/{self.reading}", os.O_RDONLY | os.O_NONBLOCK)
        octets = b""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(fd, 65536):
                octets += piece
        os.close(fd)
        return octets

    def close(self) -> None:
        for fd in (self.reading, self.writing):
            with contextlib.suppress(OSError):
                os.close(fd)
