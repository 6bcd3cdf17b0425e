"""What each kind of setting is made from, whether a flag, the environment or a file says it.

A parser takes the name of the setting and what was said. Where that is wrong, it raises
`ConfigError`, which names the setting, what was seen and what would be right.
"""

import re
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from hitcounter.block import LANGUAGES
from hitcounter.client_address import Network
from hitcounter.errors import ConfigError, Refusal
from hitcounter.site import host_name, one_origin, origin_host, site_name
from hitcounter.store import url as store_url

_ZONE = re.compile(r"(%[A-Za-z0-9_.-]+)?")  # which network a link-local address is in
_SURROGATE = re.compile("[\ud800-\udfff]")
_PARAMETER = re.compile(r"[A-Za-z0-9_.\[\]-]{1,32}")
_MAX_PARAMETERS = 8
_SHORTEST_WORD = 3

Parser = Callable[[str, Any], Any]


def text(name: str, value: Any) -> str:
    """Accept any text."""
    if not isinstance(value, str):
        raise ConfigError(f"{name}: {value!r} is not text")
    if _SURROGATE.search(value):  # a byte of the command line or the environment
        raise ConfigError(f"{name}: {value!r} is not UTF-8")
    return value


def _filled(name: str, value: Any) -> str:
    filled = text(name, value)
    if not filled.strip():
        raise ConfigError(f"{name}: is empty; without it, the default holds")
    return filled


def path(name: str, value: Any) -> Path:
    """Return a path, with a tilde expanded."""
    said = _filled(name, value)
    try:
        expanded = Path(said).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{name}: {said!r}: {error}") from None
    if "\0" in said:
        raise ConfigError(f"{name}: {said!r} is not a path")
    return expanded


def host(name: str, value: Any) -> str:
    """Return the one spelling of a host name or an address."""
    said = _filled(name, value)
    address, percent, network = said.removeprefix("[").removesuffix("]").partition("%")
    spelled = host_name(address) or host_name(f"[{address}]").strip("[]")
    try:
        spelled.encode("idna")  # as Python does when it looks the name up
    except UnicodeError:
        spelled = ""
    if not spelled or not _ZONE.fullmatch(percent + network):
        raise ConfigError(f"{name}: {said!r} is not a host name or an address")
    return f"{spelled}{percent}{network}"


def whole(least: int, most: int = 10**9) -> Parser:
    """Make a parser of whole numbers within bounds."""

    def parse(name: str, value: Any) -> int:
        try:
            number = value if type(value) is int else int(text(name, value))
        except ValueError:
            raise ConfigError(f"{name}: {value!r} is not a whole number") from None
        if not least <= number <= most:
            raise ConfigError(f"{name}: {number} is not between {least} and {most}")
        return number

    return parse


port = whole(0, 65535)


def boolean(name: str, value: Any) -> bool:
    """Return whether something is wanted."""
    said = {True: True, False: False, "true": True, "false": False}
    if type(value) not in (bool, str) or value not in said:
        raise ConfigError(f"{name}: {value!r} is not true or false")
    return said[value]


def one_of(*words: str) -> Parser:
    """Make a parser of a word that is one of a few."""

    def parse(name: str, value: Any) -> str:
        if value not in words:
            raise ConfigError(f"{name}: {value!r} is not {' or '.join(words)}")
        return str(value)

    return parse


def port_or_off(name: str, value: Any) -> int | None:
    """Return a port; None where it is `off`."""
    return None if value == "off" else int(port(name, value))


def seconds(name: str, value: Any) -> float:
    """Return a time of up to an hour."""
    try:
        number = float(value) if type(value) in (int, float) else float(text(name, value))
    except (ValueError, OverflowError):
        raise ConfigError(f"{name}: {value!r} is not a number of seconds") from None
    if not 0 < number <= 3600:
        raise ConfigError(f"{name}: {value!r} is not between 0 and 3600 seconds")
    return number


def zone(name: str, value: Any) -> ZoneInfo:
    """Return the time zone of an IANA name."""
    try:
        return ZoneInfo(text(name, value))
    except (KeyError, ValueError, OSError):
        if not available_timezones():
            raise ConfigError(f"{name}: this machine knows no time zones: install tzdata") from None
        raise ConfigError(f"{name}: {value!r} is not an IANA time zone") from None


def lang(name: str, value: Any) -> str:
    """Accept a language that the block is written in."""
    said = text(name, value)
    if said not in LANGUAGES:
        raise ConfigError(f"{name}: {said!r} is not one of {', '.join(LANGUAGES)}")
    return said


def _list(name: str, value: Any) -> list[str]:
    items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ConfigError(f"{name}: {value!r} is not a list of texts")
    return [item for item in items if item]


def words(name: str, value: Any) -> tuple[str, ...]:
    """Return texts of at least three characters: shorter ones are in everything."""
    said = tuple(text(name, item) for item in _list(name, value))
    for word in said:
        if len(word) < _SHORTEST_WORD:
            raise ConfigError(f"{name}: {word!r} has fewer than {_SHORTEST_WORD} characters")
    return said


def hosts(name: str, value: Any) -> tuple[str, ...]:
    """Return the one spelling of each of several hosts."""
    return tuple(host(name, item) for item in _list(name, value))


def site_names(name: str, value: Any) -> tuple[str, ...]:
    """Return the one spelling of each of several names of sites."""
    try:
        return tuple(site_name(item) for item in _list(name, value))
    except Refusal as error:
        raise ConfigError(f"{name}: {error}") from None


def networks(name: str, value: Any) -> tuple[Network, ...]:
    """Return networks that are written as CIDRs."""
    try:
        return tuple(_network(item) for item in _list(name, value))
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None


def _network(cidr: str) -> Network:
    """Read a network; one of IPv4 addresses that are written as IPv6 ones is one of IPv4."""
    network = ip_network(cidr)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < 96:
        return network
    return ip_network((mapped, network.prefixlen - 96))


def origins(name: str, value: Any) -> frozenset[str]:
    """Return the one spelling of each of several origins or hosts."""
    spelled = {said: one_origin(said) for said in _list(name, value)}
    for said, origin in spelled.items():
        # A host alone stands for every scheme and port.
        if not origin or ("://" not in origin and origin != origin_host(origin)):
            raise ConfigError(f"{name}: {said!r} is not like https://www.example.vn or a host")
    return frozenset(spelled.values())


def parameters(name: str, value: Any) -> tuple[str, ...]:
    """Return the names of query parameters, in the order in which a page's name has them."""
    names = _list(name, value)
    for said in names:
        if not _PARAMETER.fullmatch(said):
            raise ConfigError(f"{name}: {said!r} is not the name of a parameter, like id")
    if not len(set(names)) == len(names) <= _MAX_PARAMETERS:
        raise ConfigError(f"{name}: at most {_MAX_PARAMETERS} parameters, each once")
    return tuple(names)


def redis_url(name: str, value: Any) -> str:
    """Accept the URL of a store; a message repeats nothing of it, as it may carry a password."""
    fault = store_url.fault(value) if isinstance(value, str) else store_url.FORM
    if fault:
        raise ConfigError(f"{name}: {fault}")
    return str(value)
