"""No line of the credentials file, whatever it holds, takes another user's line away; each is a credential within its
limits, or an error that names the line.
"""

import os

from popad.auth import credentials, verifiers
from popad.auth.credentials import FileWrong
from popad.auth.saslprep import prepared
from tests.fuzz.cutting import Octets

SALT, KEY = "AAAAAAAAAAAAAAAAAAAAAA==", "A" * 43 + "="
GOOD = f"popad-fuzz {verifiers.SCHEME}$4096:{SALT}${KEY}:{KEY}"
WORDS = {
    "\x01": f"{verifiers.SCHEME}$4096:",
    "\x02": f"{SALT}$",
    "\x03": f"{KEY}:{KEY}",
    "\x04": " mbox:/var/mail/{user}",
    "\x05": f"bob {verifiers.SCHEME}$1:{SALT}${KEY}:{KEY} ",
}


def try_one(data: bytes) -> None:
    octets = Octets(data)
    behind = octets.number() % 2
    written = octets.rest()
    text = written.decode("utf-8", "ignore")
    for mark, word in WORDS.items():
        text = text.replace(mark, word)
    prepared(written)
    whole = f"{text}\n{GOOD}\n" if behind else f"{GOOD}\n{text}"
    usual, credentials.read = credentials.read, lambda path: (whole, (0,))
    try:
        names = [prepared(line.split()[0].encode()).decode() for line in whole.split("\n") if line.split()]
        users = credentials.Users("file")
        for name in dict.fromkeys(names):
            try:
                found, most = users.find(name), users.most
            except FileWrong as wrong:
                assert str(wrong).startswith("file:")
                assert name != "popad-fuzz" or names.count(name) > 1
                continue
            assert 1 <= most <= verifiers.MAX_ITERATIONS
            if found is None:
                assert name.startswith("#")
                continue
            assert 1 <= found.iterations <= most
            for each in found.by_scheme.values():
                assert len(each.salt) >= verifiers.LEAST_SALT
                assert len(each.stored_key) == len(each.server_key) in (20, 32)
                assert verifiers.parse(str(each)).iterations == each.iterations
            os.fsencode(found.maildrop)
            assert "\0" not in found.maildrop
    finally:
        credentials.read = usual
