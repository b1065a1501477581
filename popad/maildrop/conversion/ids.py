"""The list of unique-ids for a maildrop that was converted: so that clients hear the ids that they know."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from popad.maildrop.maildrop import Texts

from popad.maildrop import id_list
from popad.maildrop.uidl import text_of

GONE = "gone-"  # how an id begins that no message has: what stands behind it in the list is given to none


def all_of(texts: "Texts") -> list[str]:
    """The ids of all messages."""
    return [texts[index] for index in range(len(texts))]


def merged(own: "Sequence[str]", shown: "Sequence[str]", *earlier: "Mapping[str, str]") -> dict[str, str]:
    """The list for messages with these ids of popad's own in the new maildrop and these that clients know. What
    `earlier` lists have for messages that are gone stays in it: such an id must not pass on to another message.
    """
    given = dict(zip(own, shown, strict=True))
    for each in earlier:
        id_list.add(given, each)
    return {one: said for one, said in given.items() if one != said}


def of_gone(shown: "Sequence[str]", given: "Mapping[str, str]", taken: "Iterable[int]") -> dict[str, str]:
    """A list of the ids of messages that are gone: those of the list `given`, and those of an mbox's memory."""
    there = set(shown)
    gone = {own: said for own, said in given.items() if said not in there}
    texts = map(text_of, taken)
    id_list.add(gone, {f"{GONE}{text}": text for text in texts if text not in there})
    return gone
