"""One entry as all that counts has it, wherever it was read; and which of them are wanted."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.sources import Network

from popad.sources import is_in


class Entry:
    """`when` in microseconds since 1970, 0 where nobody knows. The fields are those of journal.send(), as text."""

    __slots__ = ("fields", "when")

    def __init__(self, when: int, fields: dict[str, str]) -> None:
        self.when = when
        self.fields = fields


class Selection:
    """Which entries are wanted: from `since` to `until` (microseconds since 1970; 0: any), of a user, of addresses."""

    def __init__(
        self, since: int = 0, until: int = 0, user: str | None = None, address: "Network | None" = None
    ) -> None:
        self.since = since
        self.until = until
        self.user = user
        self.address = address
        self.undated = 0  # entries that were left out as nobody knows when they were written

    def wants(self, entry: Entry) -> bool:
        """Whether an entry is one of them."""
        if self.user is not None and entry.fields.get("user") != self.user:
            return False
        if self.address is not None and not is_in(entry.fields.get("rhost", ""), [self.address]):
            return False
        if not (self.since or self.until):
            return True
        if not entry.when:
            self.undated += 1
            return False
        return self.since <= entry.when and (not self.until or entry.when <= self.until)
