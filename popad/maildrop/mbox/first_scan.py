"""The first scan of a mailbox of which nothing is known: its messages now, their CRC perhaps later.

The CRC of a large mailbox is computed by another process while the client already has its answer (parallel.py). What
that buys: the first login to a mailbox of 100 MB with 20,000 messages takes 120 ms and not 159 (popa3d: 101). It costs
the cases below: the other process may die, the disk may fail, and the mailbox may change before the CRC is known.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.maildrop.mbox.file import Signature
    from popad.maildrop.mbox.parallel import File, Summing

from popad.errors import MaildropChanged, MaildropUnreadable
from popad.maildrop.mbox import parallel
from popad.maildrop.mbox.crc import crc_of
from popad.maildrop.mbox.scan import Scan, hide_internal_data


class FirstScan:
    """The messages of the first `size` octets, and who will know their CRC."""

    def __init__(self, file: "File", size: int, max_messages: int, reliable: bool) -> None:
        """`reliable`: whether a change from now on is seen. Else the CRC must be that of the octets that are scanned.

        Raises MaildropUnavailable, OSError.
        """
        self.file = file
        self.summing: Summing | None = None
        self.missing = False  # the other process has said nothing, and the CRC could not be computed here yet
        self.lost = ""  # why it will never be known
        if reliable:
            self.messages, self.summing = parallel.scan(file, size, max_messages)
        else:
            self.messages = Scan(file.read, size, max_messages).run()
        hide_internal_data(self.messages, file.read)

    @property
    def is_under_way(self) -> bool:
        """Whether the other process computes the CRC, or has done so and was not asked yet."""
        return self.summing is not None

    @property
    def is_done(self) -> bool:
        """Whether know_crc() need not wait."""
        return self.summing is None or self.summing.is_done()

    def know_crc(self, seen: "Signature") -> None:
        """Wait for the CRC; `seen` is how the file looked when it was scanned. Raises MaildropUnreadable, and
        MaildropChanged where the file was changed before the CRC was known, which may be that of anything then.
        """
        summing, self.summing = self.summing, None
        if summing or self.missing:
            self.missing = True
            try:
                said = summing.end() if summing else None
                crc, looks = said or (crc_of(self.file.read, 0, self.messages.end), self.file.look())
            except OSError as error:
                raise MaildropUnreadable(str(error)) from error
            self.missing = False
            self.messages.crc = crc
            if looks != seen:
                self.lost = "it was changed while it was read for the first time"
        if self.lost:
            raise MaildropChanged(self.lost)
