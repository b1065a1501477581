"""maildrop/maildir/former_ids.py: files as Dovecot and Courier leave them, and as nobody should."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.errors import MaildropUnreadable
from popad.maildrop.maildir import former_ids
from popad.maildrop.maildir.former_ids import COURIER, DOVECOT, FILES
from popad.maildrop.maildir.names import unique_id
from popad.values import DOVECOTS_FORMAT
from tests.support.maildirs import Mail, ids

MOST = 1000  # messages
DOVECOTS = """3 V1600000000 N4 G0123456789abcdef
1 :1600000001.M1P1.host
2 W123 S100 :1600000002.M2P2.host,S=100:2,S
3 Pown-id Gsome-guid :1600000003.M3P3.host
4 Gsome-guid :1600000004.M4P4.host
x :1600000005.M5P5.host
5
"""
COURIERS = """/3 5 1600000000
1600000001.M1P1.host 120 1:1600000000:0
1600000002.M2P2.host,S=100:2,S 120 2:0:1
1600000003.M3P3.ho+st 120 0:0:0
nonsense
1600000004.M4P4.host 120 4:1600000000
"""


def read(place: Path, server: str, text: str, template: str = DOVECOTS_FORMAT) -> dict[str, str]:
    (place / FILES[server]).write_bytes(text.encode("utf-8", "surrogateescape"))
    directory = os.open(place, os.O_RDONLY)
    try:
        return former_ids.read(directory, server, template, MOST)
    finally:
        os.close(directory)


def test_dovecots(tmp_path: Path) -> None:
    assert read(tmp_path, DOVECOT, DOVECOTS) == {
        "1600000001.M1P1.host": "000000015f5e1000",
        "1600000002.M2P2.host,S=100": "000000025f5e1000",
        "1600000003.M3P3.host": "own-id",
        "1600000004.M4P4.host": "000000045f5e1000",
    }


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("%08Xu%08Xv", "000000045f5e1000"),
        ("%v.%u", "1600000000.4"),
        ("%08Xv%08Xu", "5f5e100000000004"),
        ("UID%u-%v", "UID4-1600000000"),
        ("%f", "1600000004.M4P4.host"),
        ("%g", "some-guid"),
        ("%5u%%", ""),  # with blanks, which the protocol has no room for: popad's own
        ("%Xu", "4"),
    ],
)
def test_formats(tmp_path: Path, template: str, said: str) -> None:
    assert read(tmp_path, DOVECOT, DOVECOTS, template).get("1600000004.M4P4.host", "") == said


def test_the_first_version_of_dovecots(tmp_path: Path) -> None:
    found = read(tmp_path, DOVECOT, "1 1600000000 3\n1 1600000001.M1P1.host\n2 1600000002.M2P2.host:2,S\n")
    assert found == {"1600000001.M1P1.host": "000000015f5e1000", "1600000002.M2P2.host": "000000025f5e1000"}


def test_couriers(tmp_path: Path) -> None:
    assert read(tmp_path, COURIER, COURIERS) == {
        "1600000001.M1P1.host": "UID1-1600000000",
        "1600000002.M2P2.host,S=100": "UID2",
        "1600000003.M3P3.ho+st": "1600000003.M3P3.ho+2Bst",
        "1600000004.M4P4.host": "UID4-1600000000",
    }
    assert read(tmp_path, COURIER, COURIERS.replace("/3 5", "/2 5"))


def test_couriers_names_are_as_files_have_them(tmp_path: Path) -> None:
    """As Courier has written it: blanks, colons, octets that are no text, numbers in a name, a line end in one."""
    written = (
        "/3 26 1795844788\n lead:2, 20 1:1795844788:0\na 5 6:2, 21 2:1795844788:0\n"
        "1600000004.\udcff\udcfe:2, 21 10:1795844788:0\n1600000007.a;2,S 21 13:1795844788:0\n"
        "1600000010.x:2,S:2,F 21 16:1795844788:1\n1600000017.nl\nnext:2, 21 25:1795844788:0\n"
    )
    numbers = {
        " lead": 1,
        "a 5 6": 2,
        "1600000004.\udcff\udcfe": 10,
        "1600000007.a;2,S": 13,
        "1600000010.x": 16,
        "next": 25,
    }
    assert read(tmp_path, COURIER, written) == {
        unique_id(base): f"UID{number}-1795844788" for base, number in numbers.items()
    }


def test_a_server_that_has_left_nothing(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    assert former_ids.read(directory, DOVECOT, DOVECOTS_FORMAT, MOST) == {}
    os.close(directory)


@pytest.mark.parametrize(
    ("server", "text"),
    [
        (DOVECOT, ""),
        (DOVECOT, "2 V1 N1\n"),
        (DOVECOT, "3 N1\n"),
        (DOVECOT, "3 Vx\n1 :a\n"),
        (COURIER, "/1 5\n"),
        (COURIER, ""),
    ],
)
def test_a_file_that_is_not_understood(tmp_path: Path, server: str, text: str) -> None:
    """Other ids would have a client fetch all its mail again: it hears of an error instead."""
    with pytest.raises(MaildropUnreadable) as failure:
        read(tmp_path, server, text)
    assert failure.value.code == "SYS/PERM"


@pytest.mark.parametrize("what", ["link", "fifo", "directory"])
def test_a_file_that_is_none(tmp_path: Path, what: str) -> None:
    path = tmp_path / FILES[DOVECOT]
    if what == "link":
        path.symlink_to("/etc/passwd")
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    directory = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(MaildropUnreadable):
        former_ids.read(directory, DOVECOT, DOVECOTS_FORMAT, MOST)
    os.close(directory)


@given(st.text(st.sampled_from("13 VN:/aPGW,S=\n\udcff9-"), max_size=80), st.sampled_from([DOVECOT, COURIER]))
def test_any_file(tmp_path_factory: pytest.TempPathFactory, text: str, server: str) -> None:
    head = {DOVECOT: "3 V1 N1\n", COURIER: "/3 1 1\n"}[server]
    for whole in (text, head + text):
        try:
            found = read(tmp_path_factory.mktemp("ids"), server, whole)
        except MaildropUnreadable:
            continue
        assert all(1 <= len(said) <= 70 and said.isascii() and said.isprintable() for said in found.values())


def test_what_clients_know_stays_and_what_is_new_has_an_id_of_its_own(tmp_path: Path) -> None:
    """And nothing is written to what the other server has left."""
    mail = Mail(tmp_path)
    for number in range(1, 5):
        mail.deliver(name=f"160000000{number}.M{number}P{number}.host")
    (mail.path / FILES[DOVECOT]).write_text(DOVECOTS + "9 Pown-id :1600000009.M9P9.host\n")
    mail.deliver(name="1600000009.M9P9.host")
    mail.deliver(name="1600000010.new.host")
    before = (mail.path / FILES[DOVECOT]).read_bytes()
    with mail.opened(former=(DOVECOT, DOVECOTS_FORMAT)) as store:
        assert ids(store) == [
            "000000015f5e1000",
            "1600000002.M2P2.host",  # a file of another name than the one that is known
            "own-id",
            "000000045f5e1000",
            "1600000009.M9P9.host",  # an id that another message has
            "1600000010.new.host",
        ]
        (mail.path / FILES[DOVECOT]).write_text("4\n")
        with pytest.raises(MaildropUnreadable):
            ids(store)
    (mail.path / FILES[DOVECOT]).write_bytes(before)
    with mail.opened(former=(COURIER, "")) as store:
        assert ids(store)[0] == "1600000001.M1P1.host"


def test_messages_that_the_server_gave_the_same_id(tmp_path: Path) -> None:
    """The first has it, and keeps it when it is gone: a client would take the second for one that it has."""
    mail = Mail(tmp_path)
    lines = "1 Gthe-guid :1600000001.a\n2 Gthe-guid :1600000002.b\n"
    (mail.path / FILES[DOVECOT]).write_text(f"3 V1600000000 N4 G0123\n{lines}")
    mail.deliver(name="1600000001.a")
    mail.deliver(name="1600000002.b")
    with mail.opened(former=(DOVECOT, "%g")) as store:
        assert ids(store) == ["the-guid", "1600000002.b"]
        store.remove(bytearray([1, 0]))
    with mail.opened(former=(DOVECOT, "%g")) as store:
        assert ids(store) == ["1600000002.b"]


def test_a_name_that_is_the_id_of_another_message(tmp_path: Path) -> None:
    mail = Mail(tmp_path)
    (mail.path / FILES[COURIER]).write_text("/2 5 9\n1600000001.a 5 7:9:0\n")
    mail.deliver(name="1600000001.a")
    mail.deliver(name="UID7-9")
    with mail.opened(former=(COURIER, "")) as store:
        first, second = ids(store)
        assert first == "UID7-9"
        assert second != first
        store.remove(bytearray([1, 0]))
    with mail.opened(former=(COURIER, "")) as store:
        assert ids(store) == [second]


def test_a_list_of_more_messages_than_there_may_be(tmp_path: Path) -> None:
    text = "/2 5 9\n" + "".join(f"{number} 5 {number + 1}:9\n" for number in range(2 * MOST))
    assert len(read(tmp_path, COURIER, text)) == 2 * MOST
    with pytest.raises(MaildropUnreadable):
        read(tmp_path, COURIER, text + "one-more 5 1:9\n")


def test_a_number_that_no_server_has_given(tmp_path: Path) -> None:
    assert read(tmp_path, COURIER, f"/2 5 9\na 5 {'9' * 4000}:9\nb 5 8:9\n") == {"b": "UID8-9"}
