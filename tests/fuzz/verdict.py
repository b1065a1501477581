"""A verdict of the helper is one that pack() can have made, with an identity that setresuid(2) can take on and a
maildrop that open(2) can be asked for; or it is refused.
"""

from popad import settings
from popad.auth import helper, nss
from tests.fuzz.cutting import Octets


def try_one(data: bytes) -> None:
    octets = Octets(data)
    which = (*helper.VERDICTS, octets.rest()[:16])[octets.number() % (len(helper.VERDICTS) + 1)]
    fields = [which]
    for limit in helper.VERDICT_LIMITS[1:]:
        field = octets.rest()[: min(octets.number(), limit)]
        octets.place += len(field)
        fields.append(field)
    try:
        verdict = helper.unpack_verdict([bytearray(field) for field in fields])
    except ValueError:
        return
    assert verdict.which in helper.VERDICTS
    assert 0 <= verdict.uid < helper.NO_ID
    assert 0 <= verdict.gid < helper.NO_ID
    assert len(verdict.groups) <= nss.MAX_GROUPS
    assert all(0 <= group < helper.NO_ID for group in verdict.groups)
    again = helper.unpack_verdict([bytearray(field) for field in verdict.pack()])
    assert vars(again) == {**vars(verdict), "reason": again.reason}
    try:
        settings.maildrop_of_user(verdict.maildrop)
    except ValueError:
        return
    assert "\0" not in verdict.maildrop
