"""Maildirs as programs leave them, and as nobody should: names, flags, contents and what stands beside the messages."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

TIME = 1_600_000_000
FULL_NAME = 255  # octets of a file's name, on all file systems of Linux


def mail(number: int, body: bytes = b"text\n", line_end: bytes = b"\n") -> bytes:
    """A message that differs from the others."""
    header = b"Received: from x\nDate: Thu, 1 Jan 1970 00:00:00 +0000\nSubject: message-%d\n\n" % number
    return header.replace(b"\n", line_end) + body


@dataclass(frozen=True)
class Layout:
    """A Maildir: its files by their paths, and what is to be done once they are there.

    `by`: this server has served it before it is compared, and leaves what it leaves.
    """

    name: str
    files: dict[str, bytes]
    more: Callable[[Path], None] = field(default=lambda _: None)
    by: str = ""


def named(name: str, *paths: str, more: dict[str, bytes] | None = None, by: str = "") -> Layout:
    """Messages of these names; {size} and {wire} are filled in."""
    files: dict[str, bytes] = {}
    for number, path in enumerate(paths):
        content = mail(number)
        files[path.replace("{size}", str(len(content))).replace("{wire}", str(len(content) + content.count(b"\n")))] = (
            content
        )
    return Layout(name, files | (more or {}), by=by)


def holding(name: str, *contents: bytes) -> Layout:
    """Messages of these contents, half of them read."""
    places = ("new/{}.M{}P1.host", "cur/{}.M{}P1.host:2,S")
    return Layout(name, {places[n % 2].format(TIME + n, n): content for n, content in enumerate(contents)})


FOLDER = {f"{{}}/{part}/1600000100.M1P1.host{info}": mail(100) for part, info in (("cur", ":2,S"), ("new", ""))}


def folders(*names: str) -> dict[str, bytes]:
    """Subfolders with mail in them, which is none of the inbox."""
    files = {path.format(name): content for name in names for path, content in FOLDER.items()}
    return files | {f"{name}/maildirfolder": b"" for name in names}


SERVERS = [
    named("qmail", *(f"new/{TIME + n}.{3000 + n}.host" for n in range(3))),
    named("qmail, read", f"cur/{TIME}.3000.host:2,S", f"cur/{TIME + 1}.3001.host:2,RS", f"new/{TIME + 2}.3002.host"),
    named("Postfix", *(f"new/{TIME + n}.Vfe03I1f4a{n}M{n}12345.host" for n in range(3)), "tmp/1600000009.P1.host"),
    named("Exim", *(f"new/{TIME + n}.H{n}12345P345{n}.host.example.org" for n in range(3))),
    named("Exim, maildir_tag", *(f"new/{TIME + n}.H{n}12345P345{n}.host,S={{size}}" for n in range(3))),
    named(
        "Exim, maildir_use_size_file",
        *(f"new/{TIME + n}.H{n}12345P345{n}.host,S={{size}}" for n in range(3)),
        more={"maildirsize": b"1000000S,1000C\n     246     3\n"},
    ),
    named("OpenSMTPD", *(f"new/{TIME + n}.{n:08x}a1b2c3d4.host" for n in range(3))),
    named("procmail", f"new/{TIME}.3452_0.host", f"new/{TIME}.3452_1.host", "new/msg.aBcD"),
    named("maildrop", *(f"new/{TIME + n}.M{n}P3452V000000000000FE03I0001F4A{n}_0.host,S={{size}}" for n in range(3))),
    named(
        "dovecot-lda",
        f"new/{TIME}.M1P2.host,S={{size}},W={{wire}}",
        f"cur/{TIME + 1}.M2P2.host,S={{size}},W={{wire}}:2,S",
    ),
    named(
        "Dovecot, served before",
        f"new/{TIME}.M1P2.host,S={{size}},W={{wire}}",
        f"cur/{TIME + 1}.M2P2.host:2,S",
        by="Dovecot",
    ),
    named(
        "Dovecot, keywords",
        f"cur/{TIME}.M1P2.host,S={{size}}:2,Sab",
        f"cur/{TIME + 1}.M2P2.host:2,FSzaa",
        more={"dovecot-keywords": b"0 $Label1\n1 NonJunk\n25 last\n", "subscriptions": b"V\t2\n\nSent\n"},
        by="Dovecot",
    ),
    named(
        "Dovecot, folders", f"cur/{TIME}.M1P2.host:2,S", more=folders(".Sent", ".Trash", ".Archive.2020"), by="Dovecot"
    ),
    named("Dovecot, folders of LAYOUT=fs", f"cur/{TIME}.M1P2.host:2,S", more=folders("Sent", "Archive/2020")),
    named(
        "Dovecot, Sieve and ACLs beside",
        f"cur/{TIME}.M1P2.host:2,S",
        more={"dovecot-acl": b"owner lrwstipekxa\n", ".dovecot.sieve": b"keep;\n", "dovecot-acl-list": b""},
    ),
    named(
        "Courier, served before", f"new/{TIME}.M1P2V0I0_0.host,S={{size}}", f"cur/{TIME + 1}.x.host:2,S", by="Courier"
    ),
    named(
        "Courier, IMAP beside",
        f"cur/{TIME}.M1P2V0I0_0.host,S={{size}}:2,S",
        f"cur/{TIME + 1}.M2P2V0I0_0.host,S={{size}}:2,",
        more={
            "courierimapuiddb": b"1 1600000000 3\n1 1600000000.M1P2V0I0_0.host,S=95\n",
            "courierimapsubscribed": b"INBOX.Sent\n",
            "courierimapkeywords/:list": b"$Label1\n\n",
            "courierimaphieracl/INBOX": b"owner aceilrstwx\n",
            "maildirsize": b"1000000S\n95 1\n",
        },
        by="Courier",
    ),
    named("Courier, folders", f"cur/{TIME}.x.host:2,S", more=folders(".Sent", ".Drafts", ".Trash"), by="Courier"),
    named("Courier, a quota that is used up", f"cur/{TIME}.x.host:2,S", more={"maildirsize": b"10S,1C\n1000 50\n"}),
    named("both have served it", f"new/{TIME}.M1P1.host", f"cur/{TIME + 1}.M2P1.host:2,S", by="Dovecot Courier"),
]
CLIENTS = [
    named("getmail", *(f"new/{TIME + n}.M{n}P3452Q{n}.host" for n in range(3))),
    named(
        "offlineimap",
        *(f"cur/{TIME}_{n}.3452.host,U={n + 1},FMD5=7e33429f656f1e6e9d79b29c3f82c57e:2,{'FS'[:n]}" for n in range(3)),
    ),
    named(
        "mbsync",
        *(f"cur/{TIME}.3452_{n}.host,U={n + 1}:2,S" for n in range(3)),
        more={".uidvalidity": b"1600000000\n3\n", ".mbsyncstate": b"FarUidValidity 1\n"},
    ),
    named("mu4e", f"cur/{TIME}.3452_1.host,U=1:2,S", more={".noindex": b"", ".noupdate": b"", "cur/.noindex": b""}),
    named("mutt", *(f"cur/{TIME + n}.R1234567890123456{n:03}.host:2,S" for n in range(3)), f"new/{TIME}.3452_7.host"),
    named("neomutt", f"cur/{TIME}.R12345678.host:2,DFRS", f"cur/{TIME + 1}.R12345679.host:2,P"),
    named(
        "KMail",
        f"cur/{TIME}.3452.AbCdE:2,S",
        f"new/{TIME + 1}.3452.fGhIj",
        more={
            **{f".INBOX.index{end}": b"# KMail-Index V1506\n\0\0\0\0" for end in ("", ".ids", ".sorted")},
            ".INBOX.directory/sub/cur/x": mail(9),
        },
    ),
    named(
        "Evolution",
        f"cur/{TIME}.3452_1.host:2,S",
        f"cur/{TIME + 1}.3452_2.host!2,S",
        more={"..maildir++": b"maildir++ 1\n", ".cmeta": b"\0", "folders.db": b"SQLite format 3\0", ".ibex.index": b""},
    ),
    named(
        "Thunderbird", f"cur/{TIME}000.eml", f"cur/{TIME}123456.eml", f"cur/{TIME + 1}.x", more={"../INBOX.msf": b"//"}
    ),
    named("Windows", f"cur/{TIME}.M1P1.host;2,S", f"cur/{TIME + 1}.M2P1.host;2,RS", f"cur/{TIME + 2}.M3P1.host-2,S"),
    named("vfat of mutt and others", f"cur/{TIME}.M1P1.host!2,S", f"cur/{TIME + 1}.M2P1.host_2,F"),
    named("a desktop's files", "new/desktop.ini", f"new/{TIME}.M1P1.host", more={".DS_Store": b"\0", "new/._x": b"\0"}),
    named("an editor's copy", f"cur/{TIME}.M1P1.host:2,S", f"cur/{TIME}.M1P1.host~"),
]
NAMES = [
    named("escaped hosts", rf"new/{TIME}.1.ho\057st\072x", rf"cur/{TIME + 1}.2.a\072b:2,S"),
    named("far future", "new/4102444800.M1P1.host", "new/9999999999.M1P1.host", "new/99999999999.M1P1.host"),
    named("time of twenty digits", f"new/{'9' * 20}.x", "new/18446744073709551616.x", "new/1600000000.x"),
    named("before 2001", "new/999999999.1.host", "new/0.1.host", "new/1.1.host", "cur/00000000001.1.host:2,S"),
    named("no time", "new/msg.1", "new/README", "cur/hello:2,S", "cur/:2,S"),
    named("no numbers", "new/-5.x", "new/0x10.x", "new/1e9.x", "new/\u0661\u0662.x", "new/.hidden.x"),
    named("digits alone", "new/1", "new/2", "new/10", "cur/1600000000:2,S"),
    named(
        "flags unknown",
        *(f"cur/{TIME + n}.x:2,{flags}" for n, flags in enumerate(("ABCXYZ", "PRS", "SSS", "sf", "S1"))),
    ),
    named("flags out of order", f"cur/{TIME}.x:2,SRF", f"cur/{TIME + 1}.x:2,S,F", f"cur/{TIME + 2}.x:2,S "),
    named(
        "other infos", *(f"cur/{TIME + n}.x{info}" for n, info in enumerate((":1,S", ":3,S", ":", ":2", ":2,", ":S")))
    ),
    named("two infos", f"cur/{TIME}.x:2,S:2,F", f"cur/{TIME + 1}.x:2,:2,S"),
    named("flags in new", f"new/{TIME}.x:2,S", f"new/{TIME + 1}.x:2,", f"new/{TIME + 2}.x:2,F"),
    named("trashed", f"cur/{TIME}.x:2,T", f"cur/{TIME + 1}.x:2,ST", f"cur/{TIME + 2}.x:2,S", f"new/{TIME + 3}.x:2,T"),
    named("UTF-8", f"new/{TIME}.\u00e4\u20ac.host", f"cur/{TIME + 1}.\u4e2d\u6587.host:2,S"),
    named("octets that are no text", f"new/{TIME}.\udcff\udcfe.host", f"cur/{TIME + 1}.\udce4.host:2,S"),
    named("blanks", f"new/{TIME}.a b.host", f"cur/{TIME + 1}.a  b\tc.host:2,S", "new/ x", f"new/{TIME + 2}.x "),
    named("controls", f"new/{TIME}.a\x01b", f"cur/{TIME + 1}.\x7f:2,S", f"new/{TIME + 2}.a\rb"),
    named("line ends", f"new/{TIME}.a\nb", f"cur/{TIME + 1}.a\n:2,S", f"new/{TIME + 2}.x"),
    named("punctuation", f"new/{TIME}.'\"\\$`*?[]{{}}|<>&;()!#%^~", f"new/{TIME + 1}.+=@,", f"new/{TIME + 2}.%s%n%08x"),
    named("71 octets and more", f"new/{TIME}.{'x' * 59}", f"new/{TIME}.{'x' * 60}", f"cur/{TIME}.{'x' * 200}:2,S"),
    named(
        "as long as a name can be", f"new/{TIME}.{'y' * (FULL_NAME - 11)}", f"cur/{TIME}.{'z' * (FULL_NAME - 15)}:2,S"
    ),
    named("case alone", f"new/{TIME}.abc", f"new/{TIME}.ABC", f"new/{TIME}.aBc"),
    named("one the beginning of another", f"new/{TIME}.a", f"new/{TIME}.a,S={{size}}", f"new/{TIME}.ab"),
    named("sizes in other orders", f"new/{TIME}.x,W={{wire}},S={{size}}", f"new/{TIME + 1}.x,Q=1,S={{size}},U=3"),
    named("sizes that are none", f"new/{TIME}.x,S=", f"new/{TIME + 1}.x,S=abc,W=-1", f"new/{TIME + 2}.x,S={'9' * 30}"),
    named("sizes behind the colon", f"cur/{TIME}.x:2,S,S={{size}}", f"cur/{TIME + 1}.x:2,S=1"),
    named("a size too small", f"new/{TIME}.x,S=10", f"cur/{TIME + 1}.x,S=20:2,S"),
    named("a size too large", f"new/{TIME}.x,S=100000", f"cur/{TIME + 1}.x,S=20000:2,S"),
    named("a size on the wire too small", f"new/{TIME}.x,S={{size}},W=10"),
    named("a size on the wire too large", f"new/{TIME}.x,S={{size}},W=100000"),
    named("one base in new and cur", f"new/{TIME}.x", f"cur/{TIME}.x:2,S", f"new/{TIME + 1}.x"),
    named("one base twice in cur", f"cur/{TIME}.x:2,", f"cur/{TIME}.x:2,S", f"cur/{TIME}.x"),
]
CONTENTS = [
    holding("CRLF", mail(0, b"text\r\n", b"\r\n"), mail(1, b"a\r\nb\r\n", b"\r\n"), mail(2)),
    holding("both line ends", mail(0, b"a\r\nb\nc\r\n"), mail(1, b"a\nb\n", b"\r\n")),
    holding("no final line end", mail(0, b"text"), mail(1, b"text\r\ntext", b"\r\n"), mail(2, b"\nx")),
    holding("a header alone", b"Subject: 1\n", b"Subject: 2\n\n", b"Subject: 3"),
    holding("no header", b"\nbody\n", b"body\n", b"\n", b"\n\n\n"),
    holding("empty", b"", mail(1), b""),
    holding("NUL octets", mail(0, b"a\0b\n"), mail(1, b"\0\0\0"), b"\0" * 100),
    holding("all octets", mail(0, bytes(octet for octet in range(1, 256) if octet != 13) + b"\n")),
    holding("bare CR", mail(0, b"a\rb\n"), mail(1, b"a\r\r\nb\r\r\n"), mail(2, b"a\r"), mail(3, b"\r\n\r")),
    holding("dots", mail(0, b".\n..\n.x\n.\r\n"), mail(1, b"."), mail(2, b"x\n.")),
    holding("long lines", mail(0, b"x" * 5000 + b"\n"), mail(1, b"y" * 100_000 + b"\n"), mail(2, b"z" * 65536)),
    holding("a line of an mbox in front", b"From a@b Thu Jan  1 00:00:00 1970\n" + mail(0), b">From x\n" + mail(1)),
    holding("large", mail(0, b"a line of text\n" * 100_000), mail(1, b"." * 1_000_000)),
    holding("many", *(mail(number) for number in range(300))),
    holding("sparse", mail(0, b"\0" * 200_000 + b"\n")),
    holding("line ends around a block", *(mail(n, b"x" * n + b"\r\n\n") for n in range(8100, 8210, 7))),
]


def beside(name: str, more: Callable[[Path], None]) -> Layout:
    """One message, and what is no plain file."""
    return Layout(name, named("", f"new/{TIME}.M1P1.host", f"cur/{TIME + 1}.M2P1.host:2,S").files, more)


def directories_within(place: Path) -> None:
    for part in ("new", "cur"):
        (place / part / "1600000005.directory").mkdir()
        (place / part / "1600000005.directory" / "1600000006.x").write_bytes(mail(6))


def links(place: Path) -> None:
    (place / "tmp/outside").write_bytes(mail(7))
    (place / f"cur/{TIME + 7}.link:2,S").symlink_to("../tmp/outside")


def link_to_nothing(place: Path) -> None:
    (place / f"cur/{TIME + 7}.link:2,S").symlink_to("../tmp/none")


def hard_links(place: Path) -> None:
    os.link(place / f"cur/{TIME + 1}.M2P1.host:2,S", place / f"cur/{TIME + 7}.another:2,")


def fifo_and_socket(place: Path) -> None:
    os.mkfifo(place / f"cur/{TIME + 7}.fifo:2,S")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(place / f"cur/{TIME + 8}.socket:2,S"))


def cur_is_a_link(place: Path) -> None:
    (place / "cur").rename(place / "elsewhere")
    (place / "cur").symlink_to("elsewhere")


def all_of_it_is_a_link(place: Path) -> None:
    shutil.rmtree(place.with_name("elsewhere"), ignore_errors=True)
    place.rename(place.with_name("elsewhere"))
    place.symlink_to("elsewhere")


def no_new(place: Path) -> None:
    for path in (place / "new").iterdir():
        path.unlink()
    (place / "new").rmdir()


def no_tmp(place: Path) -> None:
    (place / "tmp").rmdir()


def hidden(place: Path) -> None:
    for name in (".nfs0000000000000001", ".x.swp", "..x"):
        (place / "cur" / name).write_bytes(mail(8))


def unreadable(place: Path) -> None:
    (place / f"cur/{TIME + 1}.M2P1.host:2,S").chmod(0)


def times_of_files(place: Path) -> None:
    os.utime(place / f"cur/{TIME + 1}.M2P1.host:2,S", (0, 0))
    os.utime(place / f"new/{TIME}.M1P1.host", (2**33, 2**33))


FILES = [
    beside("directories within", directories_within),
    beside("a link to a message", links),
    beside("a link to nothing", link_to_nothing),
    beside("hard links", hard_links),
    beside("a FIFO and a socket", fifo_and_socket),
    beside("cur is a link", cur_is_a_link),
    beside("the Maildir is a link", all_of_it_is_a_link),
    beside("no new", no_new),
    beside("no tmp", no_tmp),
    beside("hidden files", hidden),
    beside("a message that cannot be read", unreadable),
    beside("times of files", times_of_files),
]
LAYOUTS = [*SERVERS, *CLIENTS, *NAMES, *CONTENTS, *FILES]
