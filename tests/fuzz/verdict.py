"""A verdict of the helper is one that pack() can have made, with an identity that setresuid(2) can take on and a
maildrop that open(2) can be asked for; or it is refused.
"""

from popad import values
from popad.auth import verdict as verdicts
from tests.fuzz.cutting import Octets


def try_one(data: bytes) -> None:
    octets = Octets(data)
    which = (*verdicts.VERDICTS, octets.rest()[:16])[octets.number() % (len(verdicts.VERDICTS) + 1)]
    fields = [which]
    for limit in verdicts.VERDICT_LIMITS[1:]:
        field = octets.rest()[: min(octets.number(), limit)]
        octets.place += len(field)
        fields.append(field)
    try:
        verdict = verdicts.unpack_verdict([bytearray(field) for field in fields])
    except ValueError:
        return
    assert verdict.which in verdicts.VERDICTS
    assert 0 <= verdict.uid < verdicts.NO_ID
    assert 0 <= verdict.gid < verdicts.NO_ID
    assert len(verdict.groups) <= verdicts.MAX_GROUPS
    assert all(0 <= group < verdicts.NO_ID for group in verdict.groups)
    again = verdicts.unpack_verdict([bytearray(field) for field in verdict.pack()])
    assert vars(again) == {**vars(verdict), "reason": again.reason}
    try:
        values.maildrop_of_user(verdict.maildrop)
    except ValueError:
        return
    assert "\0" not in verdict.maildrop
