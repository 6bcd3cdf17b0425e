"""What comes in: every input is hostile until it has passed here."""

import asyncio
import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import msgspec
from aiohttp import hdrs, web
from multidict import CIMultiDictProxy, istr

from hitcounter.block import LANGUAGES
from hitcounter.config import Network
from hitcounter.errors import BadRequest, ForeignOrigin, UnnamedPage
from hitcounter.site import UNDECODED, Site, one_origin, page_path, referred_path

MAX_BODY_BYTES = 2048
MAX_SHOWN = 100  # characters of what came that an error repeats

# A header's name is found several times faster when its case is folded once.
_SEC_PURPOSE, _PURPOSE, _X_MOZ = istr("Sec-Purpose"), istr("Purpose"), istr("X-Moz")

_FORWARDED_PROTO = istr("X-Forwarded-Proto")
_WEIGHT = re.compile(r"[01](\.[0-9]{0,3})?")

Headers = CIMultiDictProxy[str]


class Target(NamedTuple):
    """What a path and its query ask for, as they came: nothing is checked yet."""

    site: str
    query: str


class Page(NamedTuple):
    """The page that a request is about: its path, or the reason why it has no name."""

    path: str | None = None
    reason: str | None = None


NO_PAGE = Page()

ID_PATTERN = r"^[A-Za-z0-9_-]{8,64}\Z"  # $ would let a newline pass


class HitBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The JSON that a hit may bring: its page, and an id that a retry repeats."""

    path: str | None = None
    id: Annotated[str, msgspec.Meta(pattern=ID_PATTERN)] | None = None


_NOTHING = HitBody()
_decode = msgspec.json.Decoder(HitBody).decode


async def hit_body(request: web.BaseRequest, timeout_s: float) -> HitBody:
    """Read the body of a hit: empty or JSON, also as text/plain, which needs no preflight."""
    content = request.content
    # It nearly always came with the headers: then no timer is needed.
    raw = content.read_nowait(-1) if content.is_eof() else await _slow_body(request, timeout_s)
    if len(raw) > MAX_BODY_BYTES:
        raise _too_large()
    if not raw:
        return _NOTHING
    headers = request.headers
    if not _is_json(headers.get(hdrs.CONTENT_TYPE, "")) or hdrs.CONTENT_ENCODING in headers:
        raise BadRequest("bad_content_type", "the body is plain JSON, or nothing", status=415)
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        shown = "".join(c if c.isprintable() else "?" for c in str(error)[:MAX_SHOWN])
        raise BadRequest("bad_json", f"the body is not as documented: {shown}") from None


@lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind in ("", "application/json", "text/plain")


async def _slow_body(request: web.BaseRequest, timeout_s: float) -> bytes:
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise _too_large()
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer is still to come
    raw = b""
    try:
        async with asyncio.timeout(timeout_s):
            while len(raw) <= MAX_BODY_BYTES and (part := await request.content.readany()):
                raw += part
    # Whoever went away sees no answer, and we log none; the last is of who did before we waited.
    except (TimeoutError, ConnectionError, RuntimeError):
        raise BadRequest("slow_body", "the body did not arrive in time", status=408) from None
    return raw


def _too_large() -> BadRequest:
    return BadRequest("too_large", f"the body has at most {MAX_BODY_BYTES} bytes", status=413)


def fields(target: Target, *allowed: str) -> dict[str, str]:
    """Read the query of a target; only `allowed` fields, each once."""
    if not target.query:
        return {}
    try:
        pairs = parse_qsl(target.query, keep_blank_values=True, errors=UNDECODED, max_num_fields=8)
    except ValueError:
        raise BadRequest("bad_query", "the query has few fields") from None
    found = dict(pairs)
    if len(found) < len(pairs) or not found.keys() <= set(allowed):
        raise BadRequest("bad_query", f"the query may hold, once: {', '.join(allowed)}")
    return found


def language(fields: Mapping[str, str]) -> str | None:
    """Give the language that a query asks for."""
    lang = fields.get("lang")
    if lang is not None and lang not in LANGUAGES:
        raise BadRequest("bad_lang", f"lang is one of {', '.join(LANGUAGES)}")
    return lang


def page_field(path: str | None) -> Page:
    """Give the page that a query or a body names."""
    if path is None:
        return NO_PAGE
    try:
        return Page(page_path(path))
    except UnnamedPage as unnamed:
        return Page(reason=unnamed.reason)


def page(named: Page, headers: Headers, site: Site) -> Page:
    """Give the page of a hit: the one it names, else the site's own page that it comes from."""
    referer = headers.get(hdrs.REFERER)
    return named if named != NO_PAGE or referer is None else Page(referred_path(referer, site))


def check_origin(headers: Headers, site: Site) -> None:
    """Refuse a browser on a page of another site; whoever is no browser can claim any origin."""
    if not site.origins:
        return
    origin = headers.get(hdrs.ORIGIN) or _origin_of(headers.get(hdrs.REFERER, ""))
    if origin and not site.admits(origin):
        raise ForeignOrigin("foreign_origin", "this page may not count for the site")


def _origin_of(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""


def our_origin(request: web.BaseRequest, proxies: tuple[Network, ...]) -> str:
    """Give our own address as the visitor sees it; safe to put into HTML."""
    scheme = "http"
    if _is_trusted(request.remote or "", proxies):
        # Each proxy adds to a list, in one header line or several: the first met the visitor.
        values = ",".join(request.headers.getall(_FORWARDED_PROTO, ())).lower().split(",")
        named = next((value.strip() for value in values if value.strip()), "")
        scheme = named if named in ("http", "https") else scheme
    host = request.headers.get(hdrs.HOST, "")
    return one_origin(f"{scheme}://{host}") or f"{scheme}://?"


def _is_trusted(remote: str, proxies: tuple[Network, ...]) -> bool:
    try:
        address = ip_address(remote)
    except ValueError:  # a socket that has no addresses
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in proxies)


@lru_cache(maxsize=64)
def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an `Accept-Encoding` takes gzip, and likes it as much as plain text."""
    weights: dict[str, float] = {}
    for item in accept_encoding.lower().split(","):
        coding, _, weight = item.partition(";")
        name, _, value = weight.partition("=")
        is_weight = name.strip() == "q" and _WEIGHT.fullmatch(value.strip())
        weights[coding.strip()] = float(value) if is_weight else 1.0
    rest = weights.get("*", 0.0)
    gzip = weights.get("gzip", weights.get("x-gzip", rest))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def is_prefetch(headers: Headers) -> bool:
    """Tell whether a browser only prepares for a visit that may never happen."""
    return (
        "prefetch" in headers.get(_SEC_PURPOSE, "").lower()
        or headers.get(_PURPOSE, "").lower() == "prefetch"
        or headers.get(_X_MOZ, "").lower() == "prefetch"
    )
