"""What the proxies in front of us say of the visitor: believed only of those that are named."""

import re

from aiohttp import hdrs
from multidict import istr

from hitcounter.client_address import Client, Clients
from hitcounter.site import one_origin
from hitcounter.web.request import Request

MAX_PREFIX = 200
_FORWARDED_FOR = istr("X-Forwarded-For")
_FORWARDED_PROTO, _FORWARDED_PREFIX = istr("X-Forwarded-Proto"), istr("X-Forwarded-Prefix")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")


def client(request: Request, clients: Clients) -> Client:
    """Return whose request it is."""
    # HAProxy adds a line of its own: the first one is the forger's.
    said = ",".join(request.headers.getall(_FORWARDED_FOR, ()))
    return clients.find(request.connection.peer, said)


def our_origin(request: Request, clients: Clients) -> str:
    """Return our own origin as the visitor sees it; safe to put into HTML."""
    said = _forwarded(request, clients, _FORWARDED_PROTO).lower()
    scheme = said if said in ("http", "https") else "http"
    host = request.headers.get(hdrs.HOST, "")
    return one_origin(f"{scheme}://{host}") or f"{scheme}://?"


def our_path(request: Request, clients: Clients) -> str:
    """Return the path below which a proxy serves us, like `/dem`; safe to put into HTML."""
    said = _forwarded(request, clients, _FORWARDED_PREFIX).rstrip("/")
    return said if len(said) <= MAX_PREFIX and _PREFIX.fullmatch(said) else ""


def _forwarded(request: Request, clients: Clients, name: istr) -> str:
    """Return what the first proxy says; nothing where the last one is not trusted."""
    if not clients.is_proxy(request.connection.peer):
        return ""
    # Each proxy adds to a list, in one header line or several: the first met the visitor.
    values = ",".join(request.headers.getall(name, ())).split(",")
    return next((value.strip() for value in values if value.strip()), "")
