"""What goes out: the JSON of the contract, and one place that turns refusals into responses."""

import re
import time
from collections.abc import Sequence
from email.utils import formatdate
from functools import lru_cache
from itertools import repeat
from typing import Any

import msgspec
from aiohttp import web
from msgspec.structs import replace

from hitcounter.block import LANGUAGES, LINE_KEYS, Language, Wording, line_texts, number_text
from hitcounter.counting.numbers import Numbers, flood
from hitcounter.errors import STATUSES, MethodNotAllowed, Refusal, Unavailable
from hitcounter.hit import LIMITED
from hitcounter.site import Site
from hitcounter.web.sending import Sending

# Sites embed us from anywhere, and nothing here depends on who asks: no credentials, no reflection.
COMMON_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "Server": "hitcounter",
}
# Images show current numbers: the proxies of mail clients and code hosts must ask again.
PICTURE_HEADERS = COMMON_HEADERS | {
    "Cache-Control": "no-cache, no-store, must-revalidate, max-age=0",
    "Expires": "0",
}


def no_store(content_type: str) -> dict[str, str]:
    """Return the headers of what nobody may keep."""
    return COMMON_HEADERS | {"Cache-Control": "no-store", "Content-Type": content_type}


JSON_HEADERS = no_store("application/json")

_WEIGHT = re.compile(r"[01](\.[0-9]{0,3})?")


class Line(msgspec.Struct, gc=False):
    """One line of the block."""

    key: str
    label: str
    value: int
    text: str
    short: str | msgspec.UnsetType = msgspec.UNSET


class Widget(msgspec.Struct, gc=False):
    """The block in one language."""

    lang: str
    title: str
    lines: list[Line]


class PageTotal(msgspec.Struct, gc=False):
    """The pageviews of a page; null where the site stores no more pages, or it has no name."""

    path: str | None
    total: int | None
    reason: str | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET


class Answer(msgspec.Struct, gc=False):
    """The answer of hits and counts."""

    site: str
    timezone: str
    date: str
    today: int
    yesterday: int
    month: int
    year: int
    total: int
    page: PageTotal | msgspec.UnsetType
    state: str
    age_s: int | msgspec.UnsetType
    widget: Widget


_encode = msgspec.json.Encoder().encode

_HEADERS = "".join(f"{name}: {value}\r\n" for name, value in JSON_HEADERS.items())
_OK = f"HTTP/1.1 200 OK\r\n{_HEADERS}".encode()
# Not 429, which browsers show as an error of the page.
_LIMITED = _OK + b"Retry-After: 60\r\n"
_FLOODED = f"HTTP/1.1 429 Too Many Requests\r\n{_HEADERS}Retry-After: 2\r\n".encode()


class NumbersResponse(web.StreamResponse):
    """JSON, written in one piece behind a head that was laid out once.

    Every hit is answered by one of these. aiohttp lays the head out anew for each response, which
    takes a fifth of all the time that a hit takes.
    """

    def __init__(self, body: bytes, head: bytes = _OK) -> None:
        # That of the base is for heads that are laid out anew, and takes four times as long.
        self._json = body
        self._head = head
        self._is_last = False

    @property
    def keep_alive(self) -> bool:
        """Return whether the connection stays open."""
        return not self._is_last

    def force_close(self) -> None:
        """Make this the last answer of its connection."""
        self._is_last = True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write head and body."""
        connection = request.protocol
        assert isinstance(connection, Sending)
        self._is_last = self._is_last or not request.keep_alive
        head = _head(self._head, len(self._json), int(time.time()), is_last=self._is_last)
        connection.send_soon(head if request.method == "HEAD" else head + self._json)
        if connection.writing_paused:
            await request.writer.drain()  # one who only asks cannot fill our memory

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: all is written."""


def _head(begin: bytes, n_bytes: int, now_s: int, *, is_last: bool) -> bytes:
    return b"%bContent-Length: %d\r\nDate: %b\r\nConnection: %b\r\n\r\n" % (
        begin,
        n_bytes,
        _http_date(now_s),
        b"close" if is_last else b"keep-alive",
    )


@lru_cache(maxsize=1)
def _http_date(now_s: int) -> bytes:
    return formatdate(now_s, usegmt=True).encode()


def numbers_answer(numbers: Numbers, wording: Wording) -> NumbersResponse:
    """Answer the numbers of a site, with the block in the wording asked for."""
    site, age_s = numbers.site, numbers.age_s
    lang = wording.lang or site.lang
    words = LANGUAGES[lang]
    today, yesterday, month, year, total = values = numbers.values
    texts = line_texts(values, lang)
    answer = Answer(
        site.name,
        site.timezone.key,
        numbers.names.date,
        today,
        yesterday,
        month,
        year,
        total,
        _page(numbers),
        numbers.state,
        msgspec.UNSET if age_s is None else age_s,
        Widget(lang, words.title, _lines(words, wording.has_short, values, texts)),
    )
    return NumbersResponse(_encode(answer), _LIMITED if numbers.state == LIMITED else _OK)


def _page(numbers: Numbers) -> PageTotal | msgspec.UnsetType:
    path, reason = numbers.page
    if reason is not None:
        return PageTotal(None, None, reason)
    return msgspec.UNSET if path is None else PageTotal(path, numbers.page_total)


def _lines(
    words: Language, has_short: bool, values: Sequence[int], texts: Sequence[str]
) -> list[Line]:
    short = words.short_labels.values() if has_short else repeat(msgspec.UNSET)
    return list(map(Line, LINE_KEYS, words.labels.values(), values, texts, short))


def pages_answer(
    site: Site, state: str, pages: Sequence[PageTotal], lang: str | None
) -> web.Response:
    """Answer the totals of pages of a site, as numbers and as text in `lang` or else the site's."""
    lang = lang or site.lang
    shown = [
        page if page.total is None else replace(page, text=number_text(page.total, lang))
        for page in pages
    ]
    return json_answer({"site": site.name, "state": state, "lang": lang, "pages": shown})


def json_answer(content: Any, status: int = 200) -> web.Response:
    """Answer any JSON."""
    return web.Response(body=_encode(content), status=status, headers=JSON_HEADERS)


@lru_cache(maxsize=1)
def flood_answer(now_s: int) -> bytes:
    """Answer who sends a flood, with the same bytes for a second."""
    body = _encode(_error(flood()))
    return _head(_FLOODED, len(body), now_s, is_last=False) + body


def refusal_answer(refusal: Refusal) -> web.Response:
    """Answer a refusal, with what helps to do better."""
    response = json_answer(_error(refusal), STATUSES[refusal.code])
    if isinstance(refusal, Unavailable):
        response.headers["Retry-After"] = str(refusal.retry_after_s)
    elif isinstance(refusal, MethodNotAllowed):
        response.headers["Allow"] = refusal.allowed
    return response


def preflight_answer(methods: str, headers: str) -> web.Response:
    """Answer OPTIONS: what a browser may send from another origin."""
    preflight = {
        "Allow": methods,
        "Access-Control-Allow-Methods": methods,
        "Access-Control-Allow-Headers": headers,
        "Access-Control-Max-Age": "86400",
    }
    return web.Response(status=204, headers=COMMON_HEADERS | preflight)


def _error(refusal: Refusal) -> dict[str, dict[str, str]]:
    return {"error": {"code": refusal.code, "message": str(refusal)}}


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
