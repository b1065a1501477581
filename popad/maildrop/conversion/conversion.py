"""One maildrop to another format: `convert()`, as the user, with the settings in force."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from popad.maildrop.private import SharedDirectory
    from popad.settings import Settings

from popad.errors import MaildropChanged, MaildropUnavailable, MaildropUnreadable, MessageGone
from popad.maildrop.conversion.building import NotConverted
from popad.maildrop.conversion.moving import why_not
from popad.maildrop.conversion.report import Report
from popad.maildrop.conversion.to_maildir import to_maildir
from popad.maildrop.conversion.to_mbox import to_mbox

# What stores load when they need it: a user may not be able to read the program, as in a checkout below /root.
from popad.maildrop.maildir import former_ids  # noqa: F401
from popad.maildrop.mbox import header_ids  # noqa: F401

FORMATS = {("mbox", "maildir"), ("maildir", "mbox")}


def convert(
    source: str,
    target: str,
    settings: "Settings",
    state: "SharedDirectory",
    tell: "Callable[[int, int], None]",
    *,
    renames: bool = False,
    writes_flags: bool = False,
) -> Report:
    """Copy the maildrop `source` (SCHEME:PATH) to `target`, which has the other scheme and no message. The source stays
    as it is; `renames`: it is set aside when that is done. `tell`: see Report. Raises NotConverted.
    """
    (scheme, _, path), (_, _, place) = source.partition(":"), target.partition(":")
    report = Report(tell)
    if renames and (reason := why_not(path)):
        raise NotConverted(reason)
    try:
        if scheme == "mbox":
            to_maildir(path, place, settings, state, report, renames=renames)
        else:
            to_mbox(path, place, settings, state, report, renames=renames, writes_flags=writes_flags)
    except (MaildropUnavailable, MaildropChanged, MaildropUnreadable, MessageGone, OSError) as failure:
        raise NotConverted(str(failure)) from failure
    return report
