"""The TLS helper: it has the keys, and no mail, no password at rest, and no network of its own. For each connection a
process of it does the handshake, says how that went, and relays.
"""

import socket
import ssl
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.privsep.channel import Channel
    from popad.settings import Settings

from popad import journal
from popad.errors import ContractBroken
from popad.net.encryption import REQUEST_LIMITS, Encryption
from popad.privsep.identity import become, close_all_but, get_nothing_new, hide_memory, leave_no_core_file
from popad.tls.certificates import DAY, Contexts, expiring, reason_of
from popad.tls.relay import Relay, end_stream, send

REQUEST_TIMEOUT = 10.0  # seconds; the session has everything at hand by then
CALLBACK_FAILED = "callback failed"  # in which Contexts.choose() has not been asked
RECORDS = 1 << 14  # octets read at a time in a handshake


class HandshakeFailed(Exception):
    """There is no TLS with this client; the text says why."""


class TlsHelper:
    """The helper with certificates and keys loaded: made once, before it forks."""

    def __init__(self, settings: "Settings", identity: tuple[int, int] | None = None) -> None:
        """`identity` (uid, gid) is who this process becomes when it has read the keys. Raises CertificateWrong."""
        self.settings = settings
        self.contexts = Contexts(settings)
        leave_no_core_file()
        if identity is not None:
            become(*identity)
        hide_memory()  # whoever takes a relay over can read no other of the same uid

    def warn(self) -> None:
        """What an administrator has to know of certificates that end soon."""
        for reason in expiring(self.contexts.certificates):
            journal.send(journal.CERTIFICATE_EXPIRES, reason=reason)

    def status(self) -> str:
        """What systemd shows."""
        days = [each.days_left or 0 for each in self.contexts.certificates]
        return f"certificates: {len(days)}, days left: {' '.join(map(str, days))}"

    def is_old(self) -> bool:
        """Whether its tickets are: who learns their key later can read the connections of one day."""
        return time.monotonic() - self.contexts.born > DAY

    def serve(self, channel: "Channel") -> None:
        """One connection. The process of it ends with it."""
        try:
            _, fds = channel.receive_with_descriptors(REQUEST_LIMITS, REQUEST_TIMEOUT, 2)
        except (TimeoutError, ContractBroken):
            return  # it asks nothing, or what nobody may ask
        close_all_but(channel.fileno(), *fds)
        client, plain = (socket.socket(fileno=fd) for fd in fds)
        get_nothing_new()
        # Python complains of a name (SNI) that is not ASCII, on standard error, in the words of whoever made it up.
        sys.unraisablehook = lambda _: None
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.contexts.first.wrap_bio(incoming, outgoing, server_side=True)
        try:
            self.shake_hands(tls, incoming, outgoing, client)
        except (HandshakeFailed, OSError, ssl.SSLError) as failure:
            reason = str(failure) if isinstance(failure, HandshakeFailed) else reason_of(failure)
            if self.contexts.refused:
                reason = f"no certificate is for {self.contexts.asked!a}"
            elif reason == CALLBACK_FAILED:
                reason = "the client asks for a name that is none"
            answered = say(channel, Encryption(reason=reason or "unknown"))
            refuse(client, outgoing.read() if answered else b"")
            return
        cipher = tls.cipher()
        answer = Encryption(
            tls.version() or "",
            cipher[0] if cipher else "",
            self.contexts.asked,
            bool(tls.session_reused),
            certified=self.contexts.certified(tls),
            binding=self.contexts.end_points.get(tls.context, b""),
        )
        if say(channel, answer):
            channel.close()
            Relay(tls, incoming, outgoing, client, plain).run()

    def shake_hands(
        self, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, client: socket.socket
    ) -> None:
        """The handshake, within POPAD_TLS_TIMEOUT. Raises HandshakeFailed, OSError, SSLError."""
        deadline = time.monotonic() + self.settings.tls_timeout
        client.setblocking(True)
        while True:
            is_done = True
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                is_done = False
            if outgoing.pending:
                client.settimeout(left(deadline))
                client.sendall(outgoing.read())
            if is_done:
                return
            client.settimeout(left(deadline))
            data = client.recv(RECORDS)
            if not data:
                raise HandshakeFailed("the client left")
            incoming.write(data)


def left(deadline: float) -> float:
    """Seconds until then. Raises HandshakeFailed when there are none."""
    if (seconds := deadline - time.monotonic()) <= 0:
        raise HandshakeFailed("timed out")
    return seconds


def say(channel: "Channel", answer: Encryption) -> bool:
    """Tell the session; whether it is there to hear."""
    try:
        channel.send(answer.pack())
    except OSError:
        return False
    return True


def refuse(client: socket.socket, alert: bytes) -> None:
    """Say why there is no TLS, in TLS's own words, and end."""
    try:
        client.setblocking(False)
        send(client, alert)
        end_stream(client)
        client.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has left
