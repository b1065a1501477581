"""Three messages for clients that need no more than to fetch them."""

NAMES = ("first", "second", "third")
MAIL = b"".join(
    b"From a@example.org Thu Jan  1 00:00:00 1970\nFrom: a@example.org\nDate: Thu, 1 Jan 1970 00:00:00 +0000\n"
    b"Message-ID: <%(name)b@example.org>\nSubject: %(name)b\n\nbody of the %(name)b\n\n" % {b"name": name.encode()}
    for name in NAMES
)
