"""A mail reader on Python's poplib: fetch_poplib.py PORT USER PASSWORD DIRECTORY SEEN keep|delete.

Stores each message whose unique-id is not in the file SEEN, with its CRLFs, and writes its unique-id there.
"""

import poplib
import sys
from pathlib import Path

port, user, password, directory, seen_file, wish = sys.argv[1:]
seen = Path(seen_file)
known = seen.read_text().split() if seen.exists() else []

pop = poplib.POP3("127.0.0.1", int(port), timeout=120)
pop.user(user)
pop.pass_(password)
count, octets = pop.stat()
listed = [line.split() for line in pop.uidl()[1]]
sizes = [int(line.split()[1]) for line in pop.list()[1]]
assert (count, octets) == (len(listed), sum(sizes)), "STAT and LIST disagree"
for number, unique_id in listed:
    if unique_id.decode() in known:
        continue
    lines = pop.retr(int(number))[1]
    message = b"".join(line + b"\r\n" for line in lines)
    assert len(message) == sizes[int(number) - 1], "LIST and RETR disagree"
    assert pop.top(int(number), 0)[1] == lines[: lines.index(b"") + 1], "TOP n 0 is not the header"
    Path(directory, unique_id.decode()).write_bytes(message)
    known.append(unique_id.decode())
    if wish == "delete":
        pop.dele(int(number))
pop.quit()
seen.write_text("\n".join(known))
