"""sources.py: which addresses are one source."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.sources import is_in, network, source_of


def test_ipv4_is_the_full_address() -> None:
    assert source_of("192.0.2.7", 64) == bytes([192, 0, 2, 7])
    assert source_of("192.0.2.7", 1) == bytes([192, 0, 2, 7])
    assert source_of("192.0.2.7", 64) != source_of("192.0.2.8", 64)


def test_ipv4_on_a_dual_stack_socket_is_ipv4() -> None:
    assert source_of("::ffff:192.0.2.7", 64) == source_of("192.0.2.7", 64)


def test_a_network_of_ipv6_is_one_source() -> None:
    assert source_of("2001:db8::1", 64) == source_of("2001:db8::ffff:ffff:ffff:ffff", 64)
    assert source_of("2001:db8::1", 64) != source_of("2001:db8:0:1::1", 64)
    assert source_of("2001:db8::1", 128) != source_of("2001:db8::2", 128)
    assert source_of("2001:db8:0:1::1", 48) == source_of("2001:db8:0:2::1", 48)


def test_an_interface_is_not_part_of_the_source() -> None:
    assert source_of("fe80::1%eth0", 64) == source_of("fe80::2%eth1", 64)


@pytest.mark.parametrize("text", ["", "unknown", "1.2.3", "1:2", "x\udcff"])
def test_what_is_no_address_is_a_source_of_its_own(text: str) -> None:
    assert source_of(text, 64) == text.encode("utf-8", "surrogateescape")


@given(address=st.ip_addresses(v=6), prefix=st.integers(1, 128))
def test_as_the_standard_library_has_networks(address: ipaddress.IPv6Address, prefix: int) -> None:
    if address.ipv4_mapped is None:
        network = ipaddress.IPv6Network((address, prefix), strict=False)
        assert source_of(str(address), prefix) == network.network_address.packed


# -- networks of a setting


@pytest.mark.parametrize(
    ("address", "text", "inside"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.8", "192.0.2.7", False),
        ("192.0.2.255", "192.0.2.0/24", True),
        ("192.0.3.0", "192.0.2.0/24", False),
        ("203.0.113.1", "0.0.0.0/0", True),
        ("::ffff:192.0.2.7", "192.0.2.0/24", True),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("192.0.2.7", "::/0", False),
        ("2001:db8::1", "0.0.0.0/0", False),
        ("2001:db8:1::1", "2001:db8::/32", True),
        ("fe80::1%eth0", "fe80::/10", True),
        ("unknown", "0.0.0.0/0", False),
        ("", "::/0", False),
    ],
)
def test_whether_an_address_is_in_a_network(address: str, text: str, inside: bool) -> None:
    assert is_in(address, [network("198.51.100.1"), network(text)]) is inside


@given(address=st.ip_addresses(), of=st.ip_addresses(), bits=st.integers(0, 128))
def test_networks_as_the_standard_library_has_them(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, of: ipaddress.IPv4Address | ipaddress.IPv6Address, bits: int
) -> None:
    whole = ipaddress.ip_network((of, min(bits, of.max_prefixlen)), strict=False)
    for one in (address, of):
        if getattr(of, "ipv4_mapped", None) or getattr(one, "ipv4_mapped", None):
            continue  # to popad an IPv4 address
        assert is_in(str(one), [network(str(whole))]) == (one in whole)
