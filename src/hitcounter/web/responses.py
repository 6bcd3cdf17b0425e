"""What goes out: the JSON of the contract, and one place that turns refusals into responses."""

import re
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from itertools import repeat
from typing import Any

import msgspec
from msgspec.structs import replace

from hitcounter.block import LANGUAGES, LINE_KEYS, Wording, line_texts, number_text
from hitcounter.counting.numbers import Numbers, flood
from hitcounter.errors import STATUSES, MethodNotAllowed, Refusal, Unavailable
from hitcounter.hit import LIMITED
from hitcounter.outcomes import COUNTED, STORED
from hitcounter.site import Site

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
    widget: Widget | msgspec.Raw


_encode = msgspec.json.Encoder().encode


class Response(msgspec.Struct, gc=False):
    """An answer: the first lines of its head, and its body, if it may have one.

    These lines are the same for every hit, and laid out once.
    """

    head: bytes
    body: bytes | None
    is_last: bool = False  # of its connection

    def as_bytes(self, now_s: float, *, is_last: bool, is_head: bool = False) -> bytes:
        """Return what to send at a time, to HEAD or another method."""
        date = _http_date(int(now_s))
        connection = b"close" if is_last else b"keep-alive"
        if self.body is None:
            return b"%bDate: %b\r\nConnection: %b\r\n\r\n" % (self.head, date, connection)
        return b"%bContent-Length: %d\r\nDate: %b\r\nConnection: %b\r\n\r\n%b" % (
            self.head,
            len(self.body),
            date,
            connection,
            b"" if is_head else self.body,
        )


@lru_cache(maxsize=1)
def _http_date(now_s: int) -> bytes:
    return formatdate(now_s, usegmt=True).encode()


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{''.join(lines)}".encode()


def response(body: bytes | None, headers: Mapping[str, str], status: int = 200) -> Response:
    """Answer anything; a body that is None is none, and not an empty one."""
    return Response(_head(status, headers), body)


_OK = _head(200, JSON_HEADERS)
# Not 429, which browsers show as an error of the page.
_LIMITED = _OK + b"Retry-After: 60\r\n"
_FLOODED = _head(429, JSON_HEADERS) + b"Retry-After: 2\r\n"


def numbers_answer(numbers: Numbers, wording: Wording) -> Response:
    """Answer the numbers of a site, with the block in the wording asked for."""
    site, age_s = numbers.site, numbers.age_s
    lang = wording.lang or site.lang
    today, yesterday, month, year, total = values = numbers.values
    # A hit that is acknowledged changes them; others are often answered what was answered before.
    widget = _widget if numbers.state in (COUNTED, STORED) else _kept_widget
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
        widget(lang, wording.has_short, tuple(values)),
    )
    return Response(_LIMITED if numbers.state == LIMITED else _OK, _encode(answer))


def _page(numbers: Numbers) -> PageTotal | msgspec.UnsetType:
    path, reason = numbers.page
    if reason is not None:
        return PageTotal(None, None, reason)
    return msgspec.UNSET if path is None else PageTotal(path, numbers.page_total)


def _widget(lang: str, has_short: bool, values: tuple[int, ...]) -> Widget:
    words, texts = LANGUAGES[lang], line_texts(values, lang)
    short = words.short_labels.values() if has_short else repeat(msgspec.UNSET)
    lines = map(Line, LINE_KEYS, words.labels.values(), values, texts, short)
    return Widget(lang, words.title, list(lines))


@lru_cache(maxsize=512)  # 700 B each
def _kept_widget(lang: str, has_short: bool, values: tuple[int, ...]) -> msgspec.Raw:
    return msgspec.Raw(_encode(_widget(lang, has_short, values)))


def pages_answer(site: Site, state: str, pages: Sequence[PageTotal], lang: str | None) -> Response:
    """Answer the totals of pages of a site, as numbers and as text in `lang` or else the site's."""
    lang = lang or site.lang
    shown = [
        page if page.total is None else replace(page, text=number_text(page.total, lang))
        for page in pages
    ]
    return json_answer({"site": site.name, "state": state, "lang": lang, "pages": shown})


def json_answer(
    content: Any, status: int = 200, headers: Mapping[str, str] = JSON_HEADERS
) -> Response:
    """Answer any JSON."""
    return response(_encode(content), headers, status)


@lru_cache(maxsize=1)
def flood_answer(now_s: int) -> bytes:
    """Answer who sends a flood, with the same bytes for a second."""
    return Response(_FLOODED, _encode(_error(flood()))).as_bytes(now_s, is_last=False)


def refusal_answer(refusal: Refusal, headers: Mapping[str, str] = JSON_HEADERS) -> Response:
    """Answer a refusal, with what helps to do better."""
    if isinstance(refusal, Unavailable):
        headers = {**headers, "Retry-After": str(refusal.retry_after_s)}
    elif isinstance(refusal, MethodNotAllowed):
        headers = {**headers, "Allow": refusal.allowed}
    return json_answer(_error(refusal), STATUSES[refusal.code], headers)


def preflight_answer(methods: str, headers: str) -> Response:
    """Answer OPTIONS: what a browser may send from another origin."""
    preflight = {
        "Allow": methods,
        "Access-Control-Allow-Methods": methods,
        "Access-Control-Allow-Headers": headers,
        "Access-Control-Max-Age": "86400",
    }
    return response(None, COMMON_HEADERS | preflight, 204)


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
