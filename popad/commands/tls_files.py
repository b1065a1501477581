"""The certificates and keys that the settings name, for `popad check`."""

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

from popad.commands.paths import is_below
from popad.commands.units import SOCKET
from popad.settings import Settings
from popad.tls.certificates import DIRECTORY, CertificateWrong, Contexts, expiring, why_incomplete


def wrong_tls(settings: Settings, shapes: "list[str]") -> "Iterator[str]":
    """What keeps clients from TLS, or will soon; and who can read a key. `shapes`: those of the units that serve."""
    if not settings.tls_certificate:
        if settings.tls_key:
            yield "POPAD_TLS_KEY: names keys, and POPAD_TLS_CERTIFICATE no certificate"
        if settings.plaintext == "tls":
            yield "POPAD_PLAINTEXT: nobody can log in: there is no TLS without POPAD_TLS_CERTIFICATE"
        return
    for path in settings.tls_key or settings.tls_certificate:
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            if os.geteuid() == 0 or not isinstance(error, PermissionError):
                yield f"POPAD_TLS_KEY: {error}"
        else:
            if stat.S_IMODE(mode) & 0o077 and not is_hidden(path):
                yield f"POPAD_TLS_KEY: others may read {path} (chmod go=)"
    if SOCKET in shapes:
        for path in (*settings.tls_certificate, *settings.tls_key):
            if not is_below(path, DIRECTORY):
                where = f"popad-tls-helper.service has what is in {DIRECTORY} alone"
                yield f"POPAD_TLS_CERTIFICATE: {where}: move {path} there"
    if os.geteuid() != 0:
        return
    try:
        contexts = Contexts(settings)
    except CertificateWrong as wrong:
        yield f"POPAD_TLS_CERTIFICATE: {wrong}"
    else:
        for reason in expiring(contexts.certificates):
            counts = "try-restart popad-tls-helper" if SOCKET in shapes else "reload popad"
            yield f"POPAD_TLS_CERTIFICATE: {reason}: renew it, then systemctl {counts}"
        for each in contexts.certificates:
            if each.days_left is not None and (reason := why_incomplete(each.chain, each.key)):
                yield f"POPAD_TLS_CERTIFICATE: {each.chain}: {reason}"


def is_hidden(path: str) -> bool:
    """Whether a directory above it keeps others out."""
    while (path := os.path.dirname(path)) != "/":
        if not os.stat(path).st_mode & 0o001:
            return True
    return False


def described(settings: Settings) -> "Iterator[str]":
    """A line for each certificate: whose it is, and how long. Nothing where that cannot be told."""
    try:
        for each in Contexts(settings).certificates if settings.tls_certificate else ():
            names = " ".join(sorted(each.names)) or "no name"
            yield f"{each.chain}: {names}, {'ended' if each.days_left is None else f'{each.days_left} days left'}"
    except CertificateWrong:
        return
