"""What comes in: every input is hostile until it has passed here."""

import asyncio
from urllib.parse import parse_qsl, urlsplit

import msgspec
from aiohttp import StreamReader, web
from multidict import CIMultiDictProxy

from hitcounter.block import LANGUAGES
from hitcounter.errors import BadRequest, ForeignOrigin
from hitcounter.site import Site, page_path, referred_path

MAX_BODY_BYTES = 2048
BODY_TIMEOUT_S = 5.0

Headers = CIMultiDictProxy[str]


class HitBody(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON that a hit may bring."""

    path: str | None = None


_decode = msgspec.json.Decoder(HitBody).decode


async def hit_body(request: web.BaseRequest) -> HitBody:
    """Read the body of a hit: empty, or JSON (also as text/plain, which needs no preflight)."""
    raw = await _body(request)
    if not raw:
        return HitBody()
    kind = request.headers.get("Content-Type", "application/json").partition(";")[0].strip().lower()
    if kind not in ("application/json", "text/plain") or "Content-Encoding" in request.headers:
        raise BadRequest("bad_content_type", "the body is plain JSON, or nothing", status=415)
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest("bad_json", f"the body is not as documented: {error}") from None


async def _body(request: web.BaseRequest) -> bytes:
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise _too_large()
    content = request.content
    if content.is_eof():  # it came with the headers, as nearly always: no timer needed
        raw = content.read_nowait(-1)
    else:
        raw = await _slow_body(content)
    if len(raw) > MAX_BODY_BYTES:
        raise _too_large()
    return raw


async def _slow_body(content: StreamReader) -> bytes:
    raw = b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while len(raw) <= MAX_BODY_BYTES and (part := await content.readany()):
                raw += part
    except TimeoutError:
        raise BadRequest("slow_body", "the body did not arrive in time", status=408) from None
    return raw


def _too_large() -> BadRequest:
    return BadRequest("too_large", f"the body has at most {MAX_BODY_BYTES} bytes", status=413)


def query(target: str, allowed: tuple[str, ...]) -> dict[str, str]:
    """Read the query of a request target; only `allowed` names, each once."""
    text = target.partition("?")[2]
    if not text:
        return {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=8)
    except ValueError:
        raise BadRequest("bad_query", "the query is UTF-8, and has few fields") from None
    found = dict(pairs)
    if len(found) < len(pairs) or not found.keys() <= set(allowed):
        raise BadRequest(
            "bad_query", f"the query may hold, once: {', '.join(allowed) or 'nothing'}"
        )
    return found


def language(query: dict[str, str]) -> str | None:
    """Give the language that a query asks for."""
    lang = query.get("lang")
    if lang is not None and lang not in LANGUAGES:
        raise BadRequest("bad_lang", f"lang is one of {', '.join(LANGUAGES)}")
    return lang


def page(path: str | None, headers: Headers, site: Site) -> str | None:
    """Give the page of a hit: the path it names, else the site's own page that it comes from."""
    if path is not None:
        return page_path(path)
    referer = headers.get("Referer")
    return None if referer is None else referred_path(referer, site)


def check_origin(headers: Headers, site: Site) -> None:
    """Refuse a browser on a page of another site; whoever is no browser can claim any origin."""
    if not site.origins:
        return
    origin = headers.get("Origin") or _origin_of(headers.get("Referer", ""))
    if origin and not site.admits(origin):
        raise ForeignOrigin("foreign_origin", "this page may not count for the site")


def _origin_of(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def is_prefetch(headers: Headers) -> bool:
    """Tell whether a browser only prepares for a visit that may never happen."""
    return (
        "prefetch" in headers.get("Sec-Purpose", "")
        or headers.get("Purpose") == "prefetch"
        or headers.get("X-Moz") == "prefetch"
    )
