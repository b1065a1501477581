"""SASLprep (RFC 4013): so that one name or password typed in two ways is one."""


def prepared(octets: bytes) -> bytes:
    """What RFC 4616 and RFC 5802 have both sides do to a name and a password.

    What it does not allow stays as it was typed: such a password works where it is sent as it was set.
    """
    if octets.isascii():
        return octets
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets
    import stringprep  # and 1 MB of tables, for those who need them
    import unicodedata

    mapped = "".join(
        " " if stringprep.in_table_c12(mark) else mark for mark in text if not stringprep.in_table_b1(mark)
    )
    normal = unicodedata.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
        stringprep.in_table_a1,
    )
    right_to_left = [stringprep.in_table_d1(mark) for mark in normal]
    mixed = any(right_to_left) and not (
        right_to_left[0] and right_to_left[-1] and not any(stringprep.in_table_d2(mark) for mark in normal)
    )
    if not normal or mixed or any(forbids(mark) for mark in normal for forbids in prohibited):
        return octets
    return normal.encode("utf-8")
