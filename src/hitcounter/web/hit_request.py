"""What comes in: every input is hostile until it has passed here."""

import asyncio
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from aiohttp import hdrs
from multidict import istr

from hitcounter.block import LANGUAGES, Wording
from hitcounter.client_address import Client
from hitcounter.errors import Refusal
from hitcounter.hit import HEAD, PREFETCH, Hit, Page, named_page
from hitcounter.robots import MAX_AGENT
from hitcounter.site import UNDECODED
from hitcounter.web.request import Headers, Request

MAX_BODY_BYTES = 2048
# Of a query; what shares links and pictures adds several to them.
MAX_FIELDS, MAX_PICTURE_FIELDS = 12, 64
MAX_PAGES = 100  # that one request may ask for
MAX_WANTED = 1024  # characters of what a preflight asks for
MAX_LANGUAGES = 64  # characters that tell visitors apart
MAX_SHOWN = 100  # characters of what came that an error repeats

# A header's name is found several times faster when its case is folded once.
_SEC_PURPOSE, _PURPOSE, _X_MOZ = istr("Sec-Purpose"), istr("Purpose"), istr("X-Moz")

_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_HEADER_NAMES = re.compile(rf"{_NAME}(?:[ \t]*,[ \t]*{_NAME})*")


class Target(NamedTuple):
    """What a path and its query ask for, as they came: nothing is checked yet."""

    site: str
    query: str


ID_PATTERN = r"^[A-Za-z0-9_-]{8,64}\Z"  # $ would let a newline pass


class HitBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The JSON that a hit may bring: its page, and an id that a retry repeats."""

    path: str | None = None
    id: Annotated[str, msgspec.Meta(pattern=ID_PATTERN)] | None = None


_NOTHING = HitBody()
_decode = msgspec.json.Decoder(HitBody).decode


async def hit_body(request: Request, timeout_s: float) -> HitBody:
    """Read the body of a hit: empty or JSON, also as text/plain, which needs no preflight."""
    body = request.body
    # It nearly always came with the headers: then no timer is needed.
    raw = body.read_nowait(-1) if body.is_eof() else await _slow_body(request, timeout_s)
    if len(raw) > MAX_BODY_BYTES:
        raise _too_large()
    if not raw:
        return _NOTHING
    headers = request.headers
    if not _is_json(headers.get(hdrs.CONTENT_TYPE, "")) or hdrs.CONTENT_ENCODING in headers:
        right = "Content-Type application/json or text/plain, and no Content-Encoding"
        raise Refusal("bad_content_type", f"a body is JSON: {right}")
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        shown = "".join(c if c.isprintable() else "?" for c in str(error)[:MAX_SHOWN])
        raise Refusal("bad_json", f"the body is not as documented: {shown}") from None


@lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind in ("", "application/json", "text/plain")


async def _slow_body(request: Request, timeout_s: float) -> bytes:
    if int(request.headers.get(hdrs.CONTENT_LENGTH, 0)) > MAX_BODY_BYTES:
        raise _too_large()
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version >= (1, 1):
        request.connection.send_soon(b"HTTP/1.1 100 Continue\r\n\r\n")
    raw = b""
    try:
        async with asyncio.timeout(timeout_s):
            while len(raw) <= MAX_BODY_BYTES and (part := await request.body.readany()):
                raw += part
    # Whoever went away sees no answer, and we log none; the last is of who did before we waited.
    except (TimeoutError, ConnectionError, RuntimeError) as error:
        error.__traceback__ = None  # a circle, which would keep the request and its head
        raise Refusal("slow_body", "the body did not arrive in time") from None
    return raw


def _too_large() -> Refusal:
    return Refusal("too_large", f"the body has at most {MAX_BODY_BYTES} bytes")


def fields(target: Target, *allowed: str) -> dict[str, str]:
    """Read the query of a target; only `allowed` fields, each once."""
    return _fields(_pairs(target, MAX_FIELDS), allowed)


def picture_fields(target: Target, *known: str) -> dict[str, str]:
    """Read the `known` fields of a query, each once; others may have been added on the way."""
    pairs = _pairs(target, MAX_PICTURE_FIELDS)
    return _fields([pair for pair in pairs if pair[0] in known], known)


def _pairs(target: Target, most: int) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            target.query, keep_blank_values=True, errors=UNDECODED, max_num_fields=most
        )
    except ValueError:
        raise Refusal("bad_query", f"the query has at most {most} fields") from None


def _fields(pairs: list[tuple[str, str]], allowed: tuple[str, ...]) -> dict[str, str]:
    found = dict(pairs)
    if len(found) < len(pairs) or not found.keys() <= set(allowed):
        raise Refusal("bad_query", f"the query may hold, once: {', '.join(allowed)}")
    return found


def switch(fields: Mapping[str, str], name: str, value: str) -> bool:
    """Return whether a query has a field that can hold nothing but this value."""
    if fields.get(name, value) != value:
        raise Refusal("bad_query", f"{name} is {value}, or not there")
    return name in fields


def language(fields: Mapping[str, str]) -> str | None:
    """Return the language that a query asks for."""
    lang = fields.get("lang")
    if lang is not None and lang not in LANGUAGES:
        raise Refusal("bad_lang", f"lang is one of {', '.join(LANGUAGES)}")
    return lang


@lru_cache(maxsize=64)  # every hit of the script asks for the same; what is refused is not kept
def wording(query: str) -> Wording:
    """Read the query of a hit."""
    return chosen_wording(fields(Target("", query), "lang", "labels"))


def chosen_wording(fields: Mapping[str, str]) -> Wording:
    """Return the wording that a query asks for."""
    has_short = switch(fields, "labels", "both")
    return Wording(language(fields), has_short)


def page_list(target: Target, query: tuple[str, ...]) -> tuple[list[Page], str | None]:
    """Return the pages and the language that a query asks for."""
    pairs = _pairs(target, MAX_PAGES + 1)
    lang = language(_fields([pair for pair in pairs if pair[0] != "path"], ("path", "lang")))
    pages = [named_page(path, query) for name, path in pairs if name == "path"]
    if not 1 <= len(pages) <= MAX_PAGES:
        raise Refusal("bad_query", f"name the pages: path, at most {MAX_PAGES} times")
    return pages, lang


def read(
    request: Request,
    client: Client,
    target: Target,
    path: str | None,
    id_: str | None,
    now_s: float,
) -> Hit:
    """Read a hit that arrived now; its `path` and id come from the body or the query."""
    headers = request.headers
    languages = headers.get(hdrs.ACCEPT_LANGUAGE, "")[:MAX_LANGUAGES]
    # All browsers send languages with the hits of the script; proxies get pictures without.
    is_browser = languages or request.method != "POST"
    return Hit(
        target.site,
        path,
        id_,
        now_s,
        headers.get(hdrs.REFERER),
        headers.get(hdrs.ORIGIN),
        HEAD if request.method == "HEAD" else PREFETCH if is_prefetch(headers) else "",
        client,
        headers.get(hdrs.USER_AGENT, "")[:MAX_AGENT] if is_browser else "",
        languages,
    )


def wanted_headers(headers: Headers) -> str:
    """Return the names of the headers that a preflight asks for, as monitors of a page add some.

    No answer depends on them, and there are no credentials, so all may be sent.
    """
    wanted = ",".join(headers.getall(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, ())).strip()
    is_list = len(wanted) <= MAX_WANTED and _HEADER_NAMES.fullmatch(wanted)
    return wanted if is_list else hdrs.CONTENT_TYPE


def holds(headers: Headers, version: str) -> bool:
    """Return whether a client holds a version already, whatever proxies made of its ETag."""
    held = headers.get(hdrs.IF_NONE_MATCH, "")
    return held == "*" or version in held


def is_prefetch(headers: Headers) -> bool:
    """Return whether a browser only prepares for a visit that may never happen."""
    return (
        "prefetch" in headers.get(_SEC_PURPOSE, "").lower()
        or headers.get(_PURPOSE, "").lower() == "prefetch"
        or headers.get(_X_MOZ, "").lower() == "prefetch"
    )
