"""auth/verdict.py: what is said of a login, there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.auth.verdict import MAX_GROUPS, NO_ID, PASSED, VERDICT_LIMITS, VERDICTS, Verdict, unpack_verdict

names = st.text(st.characters(blacklist_categories=["Cs"]), max_size=60)
of_all_kinds = st.builds(
    Verdict,
    st.sampled_from(VERDICTS),
    names,
    st.integers(0, 2**32 - 2),
    st.integers(0, 2**32 - 2),
    names,
    st.text(max_size=2000),
    st.lists(st.integers(0, 2**32 - 2), max_size=MAX_GROUPS),
    st.sampled_from(["", "USER", "SCRAM-SHA-256-PLUS"]),
)


def test_the_longest_verdict() -> None:
    """A path of the kernel's limit, and as many groups as there may be, each of 10 digits."""
    longest = Verdict(PASSED, "alice", 1, 1, "x" * 4096, groups=[NO_ID - 1] * MAX_GROUPS)
    assert all(len(field) <= limit for field, limit in zip(longest.pack(), VERDICT_LIMITS, strict=True))
    assert unpack_verdict([bytearray(field) for field in longest.pack()]).groups == longest.groups


@given(of_all_kinds)
def test_verdict_there_and_back(verdict: Verdict) -> None:
    fields = [bytearray(field) for field in verdict.pack()]
    assert all(len(field) <= limit for field, limit in zip(fields, VERDICT_LIMITS, strict=True))
    read = unpack_verdict(fields)
    assert {**vars(read), "reason": ""} == {**vars(verdict), "reason": ""}
    assert read.reason[:100].encode("utf-8", "replace") == fields[5][:400].decode("utf-8", "replace")[:100].encode()


@pytest.mark.parametrize(
    "fields",
    [
        [b"passed!", b"a", b"1", b"1", b"", b"", b"", b""],
        [b"", b"a", b"1", b"1", b"", b"", b"", b""],
        [b"passed", b"a", b"-1", b"1", b"", b"", b"", b""],
        [b"passed", b"a", b"1", b"", b"", b"", b"", b""],
        [b"passed", b"a", b"4294967295", b"1", b"", b"", b"", b""],  # (uid_t)-1
        [b"passed", b"a", b"1", b"9999999999", b"", b"", b"", b""],
        [b"passed", b"a", b"1x", b"1", b"", b"", b"", b""],
        [b"passed", b"\xff", b"1", b"1", b"", b"", b"", b""],
        [b"passed", b"a", b"1", b"1", b"\xff", b"", b"", b""],
        [b"passed", b"a", b"1"],
        [b"passed", b"a", b"1", b"1", b"", b"", b"8,"],
        [b"passed", b"a", b"1", b"1", b"", b"", b"8,-1"],
        [b"passed", b"a", b"1", b"1", b"", b"", b"8,4294967295"],  # (gid_t)-1
        [b"passed", b"a", b"1", b"1", b"", b"", b"00000000008", b""],
        [b"passed", b"a", b"1", b"1", b"", b"", b",".join([b"8"] * (MAX_GROUPS + 1)), b""],
        [b"passed", b"a", b"1", b"1", b"", b"", b"", b"A\nB"],
        [b"passed", b"a", b"1", b"1", b"", b"", b"", b"\xff"],
    ],
)
def test_what_is_no_verdict(fields: list[bytes]) -> None:
    with pytest.raises(ValueError):
        unpack_verdict([bytearray(field) for field in fields])
