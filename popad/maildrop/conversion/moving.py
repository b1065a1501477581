"""What is done to a source that was converted, if that is asked for: it gets another name. It is never changed."""

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.maildrop.conversion.report import Report

from popad.maildrop.conversion.building import Place, rename_to_free


def set_aside(path: str, report: "Report") -> str:
    """Rename a maildrop, durably, to its name with `.converted-` and the time behind it; the report has that path, or
    why it was not done. Returns where the maildrop is.
    """
    try:
        place = Place(path)
        try:
            name = f"{place.name}.converted-{time.strftime('%Y%m%dT%H%M%S')}"
            rename_to_free(place.name, name, place.fd)
            report.renamed = os.path.join(place.directory, name)
            os.fsync(place.fd)
        finally:
            place.close()
    except OSError as error:
        report.trouble = f"{path} was not renamed: {error.strerror}"
    return report.renamed or path


def why_not(path: str) -> str:
    """Why set_aside() would fail, as far as that can be told; "" where it would not."""
    directory = os.path.dirname(path.rstrip("/"))
    return "" if os.access(directory, os.W_OK | os.X_OK) else f"{directory}: no right to rename anything there"
