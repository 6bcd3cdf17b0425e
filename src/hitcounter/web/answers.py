"""What goes out: the JSON of the contract, and one place that turns refusals into responses."""

from typing import Any

import msgspec
from aiohttp import web

from hitcounter.block import LANGUAGES, LINE_KEYS, grouped
from hitcounter.errors import Refusal, Unavailable
from hitcounter.service import Numbers

# Sites embed us from anywhere, and nothing here depends on who asks: no credentials, no reflection.
COMMON_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "Server": "hitcounter",
}
JSON_HEADERS = COMMON_HEADERS | {"Cache-Control": "no-store", "Content-Type": "application/json"}


class Line(msgspec.Struct):
    """One line of the block."""

    key: str
    label: str
    value: int
    text: str


class Widget(msgspec.Struct):
    """The block in one language."""

    lang: str
    title: str
    lines: list[Line]


class Page(msgspec.Struct):
    """The pageviews of a page; null where the site stores no more pages."""

    path: str
    total: int | None


class Answer(msgspec.Struct, omit_defaults=True):
    """The answer of hits and counts."""

    site: str
    timezone: str
    date: str
    today: int
    yesterday: int
    month: int
    year: int
    total: int
    page: Page | msgspec.UnsetType
    state: str
    widget: Widget


_encode = msgspec.json.Encoder().encode


def numbers_answer(numbers: Numbers, state: str, lang: str | None) -> web.Response:
    """Answer the numbers of a site, with the block in `lang` or else in the site's language."""
    site, lang = numbers.site, lang or numbers.site.lang
    words = LANGUAGES[lang]
    lines = [
        Line(key, words.labels[key], value, grouped(value, lang))
        for key, value in zip(LINE_KEYS, numbers.values, strict=True)
    ]
    today, yesterday, month, year, total = numbers.values
    page = msgspec.UNSET if numbers.path is None else Page(numbers.path, numbers.page_total)
    answer = Answer(
        site.name,
        site.timezone.key,
        numbers.date,
        today,
        yesterday,
        month,
        year,
        total,
        page,
        state,
        Widget(lang, words.title, lines),
    )
    return web.Response(body=_encode(answer), headers=JSON_HEADERS)


def json_answer(content: Any, status: int = 200) -> web.Response:
    """Answer any JSON."""
    return web.Response(body=_encode(content), status=status, headers=JSON_HEADERS)


def refusal_answer(refusal: Refusal) -> web.Response:
    """Answer a refusal with its status, and when to come back if that helps."""
    response = error_answer(refusal.status, refusal.code, refusal.message)
    if isinstance(refusal, Unavailable):
        response.headers["Retry-After"] = str(refusal.retry_after_s)
    return response


def error_answer(status: int, code: str, message: str) -> web.Response:
    """Answer an error."""
    return json_answer({"error": {"code": code, "message": message}}, status)
