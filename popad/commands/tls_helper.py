"""`popad tls-helper`: the process that systemd starts to hold the keys of TLS."""

import _socket
import gc
import math
import select
import socket

from systemd.daemon import is_socket_unix

from popad.auth.loaded import Loaded
from popad.commands.helper_service import begin, start_afresh
from popad.errors import NotInvokedRight, SettingWrong
from popad.notify import Notifier
from popad.privsep import immortal, pool
from popad.sinks import standard_error
from popad.tls.certificates import CertificateWrong
from popad.tls.helper import TlsHelper
from popad.tls.identity import tls_identity

USAGE_STATUS = 2
UNIT = "popad-tls-helper.service"


def tls_helper() -> int:
    """Hand each connection to a process of its own, until told to end: those go on. Returns the exit status.

    Requests come over a socket of systemd's, or over the relay of a daemon that has started it as root: then it becomes
    POPAD_TLS_USER, and ends with the daemon. Raises SettingWrong.
    """
    try:
        sources, settings, fd = begin(UNIT)
    except NotInvokedRight as wrong:
        return complain(str(wrong))
    if fd is None or not is_socket_unix(fd, type=socket.SOCK_SEQPACKET, listening=-1):
        return complain("started by popad-tls-helper.socket or the daemon, not by hand")
    is_listening = bool(is_socket_unix(fd, type=socket.SOCK_SEQPACKET, listening=1))
    source = pool.Listener(fd) if is_listening else pool.RelaySource(_socket.socket(fileno=fd))
    try:
        helper = TlsHelper(settings, tls_identity(settings))
    except CertificateWrong as wrong:
        turn_away(source)
        raise SettingWrong("POPAD_TLS_CERTIFICATE", str(wrong)) from wrong
    helper.warn()
    loaded = Loaded()
    Notifier().ready(helper.status())
    gc.collect()
    immortal.make_all_immortal()
    gc.freeze()  # what is here now stays: no process of a connection need touch, and so copy, its pages
    gc.disable()  # and each is a short one, or only passes octets on
    ending = pool.Ending(sources.are_changed) if is_listening else None

    def is_outdated() -> bool:
        return helper.is_old() or loaded.is_outdated()

    while pool.serve_requests(source, helper.serve, math.inf, is_outdated, ending, 1):
        if not is_listening:
            return 0  # the daemon, which is root, starts another
        start_afresh(fd)
    return 0


def turn_away(source: "pool.Source") -> None:
    """Have those who wait hear at once that there is no TLS: else they would for as long as a handshake may take."""
    try:
        while select.select([source], [], [], 0)[0]:
            if channel := source.take():
                channel.close()
    except (pool.Exhausted, OSError):
        pass  # there are no more


def complain(text: str) -> int:
    """Say it on standard error. Returns the exit status."""
    standard_error.put(f"popad tls-helper: {text}\n".encode("utf-8", "backslashreplace"))
    return USAGE_STATUS
