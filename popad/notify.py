"""What systemd is told of a session: that it is ready, what it does, how much longer it may live. Silent elsewhere."""

import _socket
import os
import time

# RuntimeMaxSec= of the unit is put off by each command, but not by every one: a message costs PID 1 more than a
# command costs the session. What is put off is so much longer than this pause that the pause does not matter.
PAUSE = 10.0


class Library:
    """The notification socket as sdnotify has it, which brings the socket module (4 to 5 ms)."""

    def __init__(self) -> None:
        import sdnotify

        self.notifier = sdnotify.SystemdNotifier()
        self.socket: _socket.socket | None = self.notifier.socket

    def send(self, message: bytes) -> None:
        # It encodes in Latin-1; made of UTF-8 octets, the text arrives as the UTF-8 that systemd expects.
        self.notifier.notify(message.decode("latin-1"))


class Direct:
    """The same for a session, which pays for its own start. (A test holds it against what the library sends.)"""

    def __init__(self) -> None:
        self.socket: _socket.socket | None = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        address = os.environ["NOTIFY_SOCKET"]
        try:
            self.socket.connect("\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            self.socket.close()
            self.socket = None

    def send(self, message: bytes) -> None:
        if self.socket:
            try:
                self.socket.send(message)
            except OSError:
                pass  # as the library: what systemd does not hear does not end a session


class Notifier:
    """The notification socket of this unit, if it has one."""

    def __init__(self, way: type[Library] | type[Direct] = Library) -> None:
        self.last_status = ""
        self.put_off_at = float("-inf")
        self.alive_at = float("-inf")
        self.watchdog = watchdog_seconds()
        self.systemd = way() if os.environ.get("NOTIFY_SOCKET") else None

    def close(self) -> None:
        """For a child of the process that systemd listens to."""
        if self.systemd and self.systemd.socket:
            self.systemd.socket.close()
        self.systemd = None

    def tell(self, *assignments: str, waits: bool = True) -> None:
        """Send assignments of sd_notify(3) in one message. Not `waits`: it is lost where systemd has not yet read the
        ones before, which may take as long as a hanging machine hangs.
        """
        if self.systemd and self.systemd.socket:
            self.systemd.socket.setblocking(waits)
            self.systemd.send("\n".join(assignments).encode("utf-8", "replace"))

    def ready(self, status: str, lives: float = 0) -> None:
        """The service is up; where `lives` is given, it has so many seconds until it must say more (put_off)."""
        self.last_status = status
        self.tell("READY=1", f"STATUS={status}", *([until(lives)] if lives else []))

    def status(self, status: str) -> None:
        """Say what the session does, if that is news; nobody has to hear it."""
        if status != self.last_status:
            self.last_status = status
            self.tell(f"STATUS={status}", waits=False)

    def reloading(self) -> None:
        """The settings are being read again; ready() ends it."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def alive(self) -> None:
        """The loop turns: keep the watchdog quiet, if the unit has one."""
        now = time.monotonic()
        if self.watchdog and now >= self.alive_at + self.watchdog / 4:
            self.alive_at = now
            self.tell("WATCHDOG=1", waits=False)

    def put_off(self, seconds: float) -> None:
        """The session lives: let it live `seconds` more from now on."""
        now = time.monotonic()
        if now >= self.put_off_at + PAUSE:
            self.put_off_at = now
            self.tell(until(seconds))


def until(seconds: float) -> str:
    """The assignment that lets the service live so long from now on, and some time to end by itself."""
    return f"EXTEND_TIMEOUT_USEC={int((seconds + 2 * PAUSE) * 1_000_000)}"


def watchdog_seconds() -> float:
    """WatchdogSec= of the unit, 0 where there is none for this process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    usec = os.environ.get("WATCHDOG_USEC", "")
    return int(usec) / 1_000_000 if usec.isascii() and usec.isdigit() else 0.0
