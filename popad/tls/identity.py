"""Who the TLS helper runs as where systemd has not chosen it."""

import os
import pwd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.settings import Settings

from popad.errors import SettingWrong


def tls_identity(settings: "Settings") -> tuple[int, int] | None:
    """uid and gid of POPAD_TLS_USER; None where popad is not root, and all processes share one uid. SettingWrong."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(settings.tls_user)
    except KeyError:
        raise SettingWrong("POPAD_TLS_USER", f"there is no user {settings.tls_user!a}") from None
    if entry.pw_uid == 0 or settings.tls_user == settings.user:
        raise SettingWrong("POPAD_TLS_USER", "must be neither root nor the preauth user")
    return entry.pw_uid, entry.pw_gid
