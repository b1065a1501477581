"""The daemon while a setting is wrong and systemd holds its port: each client is told that it is not served, as one of
popad.socket is. To leave instead would have systemd start it again and again, and clients wait at a port that nobody
serves.
"""

import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket
    from collections.abc import Sequence

    from popad.errors import SettingWrong
else:
    import _signal as signal  # the C part, as in the other files of the daemon

from popad import journal
from popad.net.arrival import refuse_to_serve
from popad.net.connection import Connection, without_mapping
from popad.notify import Notifier

TICK = 1.0  # seconds: how often systemd is told that the loop turns
PAUSE = 10.0  # seconds between two entries about clients that were refused


def refuse_clients(listeners: "Sequence[socket.socket]", wrong: "SettingWrong", notifier: Notifier) -> bool:
    """Tell each client that comes, until SIGHUP asks for the settings to be read again (True), or until the daemon is
    told to stop (False).
    """
    told: list[int] = []
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for each in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(each, lambda number, _: told.append(number))
    for listener in listeners:
        listener.setblocking(False)
    journal.send(journal.SETTING_WRONG, reason=str(wrong))
    notifier.ready(f"serves nobody: {wrong}")
    said_at = time.monotonic()
    while not told:
        ready = select.select([reading, *(listener.fileno() for listener in listeners)], [], [], TICK)[0]
        notifier.alive()
        for listener in listeners:
            if listener.fileno() not in ready:
                continue
            try:
                accepted, address = listener.accept()
            except OSError:
                continue  # the client has left; or there is no descriptor, and it waits
            connection = Connection(accepted.detach(), without_mapping(str(address[0])), int(address[1]))
            is_said = time.monotonic() >= said_at + PAUSE
            refuse_to_serve(connection, wrong, is_said=is_said)
            if is_said:
                said_at = time.monotonic()
    signal.set_wakeup_fd(-1)
    os.close(reading)
    os.close(writing)
    return told[0] == signal.SIGHUP
