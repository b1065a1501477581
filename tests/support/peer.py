"""A client without a connection, for what converses with one."""

from collections.abc import Callable

from popad.errors import PeerGone


class Peer:
    """Hands out pieces, lets others act in between, then is gone; `written` has an item a write."""

    def __init__(self, *steps: bytes | Callable[[], None]) -> None:
        self.steps = iter(steps)
        self.written: list[bytes] = []

    def read(self) -> bytes:
        for step in self.steps:
            if isinstance(step, bytes):
                return step
            step()
        raise PeerGone

    def write(self, data: bytes | bytearray, /) -> None:
        if data:
            self.written.append(bytes(data))

    @property
    def received(self) -> bytes:
        return b"".join(self.written)
