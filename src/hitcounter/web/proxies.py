"""What the proxies in front of us say of the visitor: believed only of those that are named."""

import re
from ipaddress import ip_address

from aiohttp import hdrs, web
from multidict import istr

from hitcounter.setting_parsers import Network
from hitcounter.site import one_origin

MAX_PREFIX = 200
_FORWARDED_PROTO, _FORWARDED_PREFIX = istr("X-Forwarded-Proto"), istr("X-Forwarded-Prefix")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")


def our_origin(request: web.BaseRequest, proxies: tuple[Network, ...]) -> str:
    """Return our own origin as the visitor sees it; safe to put into HTML."""
    said = _forwarded(request, proxies, _FORWARDED_PROTO).lower()
    scheme = said if said in ("http", "https") else "http"
    host = request.headers.get(hdrs.HOST, "")
    return one_origin(f"{scheme}://{host}") or f"{scheme}://?"


def our_path(request: web.BaseRequest, proxies: tuple[Network, ...]) -> str:
    """Return the path below which a proxy serves us, like `/dem`; safe to put into HTML."""
    said = _forwarded(request, proxies, _FORWARDED_PREFIX).rstrip("/")
    return said if len(said) <= MAX_PREFIX and _PREFIX.fullmatch(said) else ""


def _forwarded(request: web.BaseRequest, proxies: tuple[Network, ...], name: istr) -> str:
    """Return what the first proxy says; nothing where the last one is not trusted."""
    if not _is_trusted(request.remote or "", proxies):
        return ""
    # Each proxy adds to a list, in one header line or several: the first met the visitor.
    values = ",".join(request.headers.getall(name, ())).split(",")
    return next((value.strip() for value in values if value.strip()), "")


def _is_trusted(remote: str, proxies: tuple[Network, ...]) -> bool:
    try:
        address = ip_address(remote)
    except ValueError:  # a socket that has no addresses
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in proxies)
