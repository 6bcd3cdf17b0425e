"""Whose request it is: an address that no header can forge.

Each proxy appends the address of whoever asked it to `X-Forwarded-For`, behind what that one said
itself. So we walk it from its end, and the first hop that is no proxy of ours is the visitor.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from socket import AF_INET, AF_INET6, inet_pton

Network = IPv4Network | IPv6Network

MAX_FORWARDED = 1024  # characters, the last ones
MAX_HOPS = 16
_IPV4_MAPPED = b"\0" * 10 + b"\xff\xff"
# From where no visitor of a public site comes, but a proxy in front of us does.
_PRIVATE = """
    127.0.0.0/8 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 169.254.0.0/16 100.64.0.0/10
    ::1/128 fc00::/7 fe80::/10
"""


@dataclass(slots=True, eq=False)  # a frozen one takes four times as long to make
class Client:
    """An address of 4 or 16 bytes; unless it `is_visitor`, it is a proxy's that tells of nobody."""

    address: bytes
    is_visitor: bool
    is_unnamed_proxy: bool = False

    @property
    def network(self) -> bytes:
        """Return what one visitor has to themselves: an IPv4 address, or an IPv6 /64."""
        return self.address if len(self.address) == 4 else self.address[:8]


NOBODY = Client(b"", is_visitor=False)


class AddressSet:
    """The addresses of networks; to look one up takes a microsecond."""

    def __init__(self, networks: Iterable[Network]) -> None:
        """Hold all addresses of the networks."""
        networks = list(networks)
        self._hosts = {one.network_address.packed for one in networks if one.num_addresses == 1}
        self._networks = [
            (network.max_prefixlen // 8, int(network.netmask), int(network.network_address))
            for network in networks
            if network.num_addresses > 1
        ]

    def __contains__(self, address: bytes | None) -> bool:
        if address is None:
            return False
        if address in self._hosts:
            return True
        size, number = len(address), int.from_bytes(address)
        for n_bytes, mask, start in self._networks:  # a loop, as `any` takes twice the time
            if size == n_bytes and number & mask == start:
                return True
        return False


_PRIVATE_ADDRESSES = AddressSet(map(ip_network, _PRIVATE.split()))


class Clients:
    """Tells visitors apart, behind the proxies that are named."""

    def __init__(self, proxies: Iterable[Network]) -> None:
        """Believe what these `proxies` say of who asked them."""
        self._proxies = AddressSet(proxies)
        self._peer = lru_cache(maxsize=4096)(self._seen_as)

    def find(self, peer: str, forwarded: str) -> Client:
        """Find whose request it is: the other end of its connection, and all `X-Forwarded-For`."""
        client, unnamed = self._peer(peer)
        if not forwarded:
            return client
        return unnamed or self._behind(client.address, forwarded)

    def is_proxy(self, peer: str) -> bool:
        """Return whether a proxy that is named has this address."""
        return packed(peer) in self._proxies

    def _seen_as(self, peer: str) -> tuple[Client, Client | None]:
        """Tell who asks without `X-Forwarded-For`, and who with it, if that does not tell."""
        address = packed(peer)
        if address is None:  # a socket that has no addresses
            return NOBODY, NOBODY
        if address in self._proxies:
            return Client(address, is_visitor=False), None
        visitor = Client(address, is_visitor=True)
        is_private = address in _PRIVATE_ADDRESSES
        return visitor, Client(address, False, is_unnamed_proxy=True) if is_private else visitor

    def _behind(self, proxy: bytes, forwarded: str) -> Client:
        """Walk back from a proxy of ours, which is all that is known where it says nothing."""
        hops = forwarded[-MAX_FORWARDED:].split(",")
        if len(forwarded) > MAX_FORWARDED:
            del hops[0]  # which is cut
        found = proxy
        for hop in hops[: -MAX_HOPS - 1 : -1]:
            address = packed(hop)
            if address is None:
                break
            found = address
            if address not in self._proxies:
                break
        return Client(found, found is not proxy)


def packed(text: str) -> bytes | None:
    """Read an address as proxies write it, with quotes, a port or a zone; None where it is none.

    One of IPv4 that is written as IPv6 is one of IPv4.
    """
    try:
        return inet_pton(AF_INET, text.strip())
    except (OSError, ValueError):
        text = text.strip(' \t"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = inet_pton(AF_INET6 if ":" in text else AF_INET, text.partition("%")[0])
    except (OSError, ValueError):
        return None
    return address.removeprefix(_IPV4_MAPPED)
