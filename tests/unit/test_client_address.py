"""Whose request it is, whatever was forged before it came to a proxy of ours."""

from ipaddress import ip_address, ip_network

import pytest

from hitcounter.client_address import MAX_FORWARDED, MAX_HOPS, NOBODY, AddressSet, Clients, packed

PROXIES = ("10.0.0.0/8", "2001:db8:1::/48", "127.0.0.1/32")
CLIENTS = Clients(map(ip_network, PROXIES))


def found(peer: str, forwarded: str) -> str:
    """Find a client; name its address, and say where it is no visitor's."""
    client = CLIENTS.find(peer, forwarded)
    address = str(ip_address(client.address)) if client.address else ""
    return address if client.is_visitor else f"no visitor: {address}"


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("198.51.100.7", "198.51.100.7"),
        # nginx and Cloudflare append to what was forged, HAProxy adds a line.
        ("1.2.3.4, 198.51.100.7", "198.51.100.7"),
        ("127.0.0.1,198.51.100.7", "198.51.100.7"),
        ("1.2.3.4,198.51.100.7, 10.9.9.9,10.1.1.1", "198.51.100.7"),
        ("198.51.100.7:51234", "198.51.100.7"),
        ('"[2001:db8::7]:51234"', "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        # All of ours: the one that is farthest away.
        ("10.0.0.5, 10.0.0.4", "10.0.0.5"),
        # What is no address hides all before it.
        ("1.2.3.4, unknown, 10.0.0.4", "10.0.0.4"),
        ("1.2.3.4, _hid, 198.51.100.7", "198.51.100.7"),
        ("1.2.3.4, ", "no visitor: 127.0.0.1"),
        ("1.2.3.4, unix:", "no visitor: 127.0.0.1"),
        ("1.2.3.4, 01.2.3.4", "no visitor: 127.0.0.1"),
        ("1.2.3.4, 127.1", "no visitor: 127.0.0.1"),
        ("1.2.3.4, 1.2.3.4\0", "no visitor: 127.0.0.1"),
        ("1.2.3.4, ١.2.3.4", "no visitor: 127.0.0.1"),
        ("1.2.3.4, \udcff", "no visitor: 127.0.0.1"),
        ("1.2.3.4, [::1", "::1"),
        ("", "no visitor: 127.0.0.1"),
    ],
)
def test_the_last_hop_that_is_no_proxy_of_ours_is_the_visitor(forwarded: str, address: str) -> None:
    assert found("127.0.0.1", forwarded) == address
    assert found("::ffff:127.0.0.1", forwarded) == address


def test_what_is_far_away_is_not_looked_at() -> None:
    assert found("10.0.0.1", "1.2.3.4," + "10.0.0.2," * MAX_HOPS + "10.0.0.3") == "10.0.0.2"
    # The cut goes through an address, which would read as another one.
    kept = "8.51.100.7,".ljust(MAX_FORWARDED - len("10.0.0.2")) + "10.0.0.2"
    assert found("10.0.0.1", kept) == "8.51.100.7"
    assert found("10.0.0.1", f"19{kept}") == "10.0.0.2"


def test_nobody_but_a_proxy_of_ours_is_believed() -> None:
    client = CLIENTS.find("203.0.113.9", "198.51.100.7")
    assert (client.address, client.is_visitor) == (packed("203.0.113.9"), True)


@pytest.mark.parametrize("peer", ["127.0.0.2", "172.18.0.1", "192.168.1.1", "fd00::1", "::1"])
def test_a_private_address_that_forwards_is_a_proxy_that_nobody_named(peer: str) -> None:
    client = CLIENTS.find(peer, "198.51.100.7")
    assert (client.is_visitor, client.is_unnamed_proxy) == (False, True)
    assert CLIENTS.find(peer, "").is_visitor


def test_a_socket_without_addresses_is_nobody() -> None:
    assert CLIENTS.find("", "198.51.100.7") is NOBODY
    assert not CLIENTS.is_proxy("")


def test_a_visitor_has_an_address_or_a_network_of_version_6() -> None:
    assert CLIENTS.find("203.0.113.9", "").network == bytes((203, 0, 113, 9))
    assert CLIENTS.find("2001:db8::7", "").network == bytes.fromhex("20010db800000000")


def test_a_set_of_addresses_holds_those_of_its_networks_alone() -> None:
    some = AddressSet(map(ip_network, ("203.0.113.0/24", "2001:db8::/32", "::/0")))
    assert packed("203.0.113.255") in some
    assert packed("2001:db9::") in some
    assert packed("203.0.114.0") not in some
    assert b"" not in some
