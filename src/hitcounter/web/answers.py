"""What goes out: the JSON of the contract, and one place that turns refusals into responses."""

from typing import Any

import msgspec
from aiohttp import web

from hitcounter.block import LANGUAGES, LINE_KEYS, grouped
from hitcounter.errors import MethodNotAllowed, Refusal, Unavailable
from hitcounter.service import Numbers

# Sites embed us from anywhere, and nothing here depends on who asks: no credentials, no reflection.
COMMON_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "Server": "hitcounter",
}
JSON_HEADERS = COMMON_HEADERS | {"Cache-Control": "no-store", "Content-Type": "application/json"}


_encode = msgspec.json.Encoder().encode


def _template(lang: str) -> str:
    """Lay out the answer of hits and counts in one language, with what varies left open.

    Filling in a template takes half the time of encoding the answer, which every hit pays for.
    """
    words = LANGUAGES[lang]
    lines = [
        f'{{"key":"{key}","label":{_json(words.labels[key])},"value":%d,"text":"%s"}}'
        for key in LINE_KEYS
    ]
    return (
        '{"site":"%s","timezone":"%s","date":"%s",'
        '"today":%d,"yesterday":%d,"month":%d,"year":%d,"total":%d%s,"state":"%s",'
        f'"widget":{{"lang":"{lang}","title":{_json(words.title)},"lines":[{",".join(lines)}]}}}}'
    )


def _json(text: str) -> str:
    return _encode(text).decode().replace("%", "%%")


_TEMPLATES = {lang: _template(lang) for lang in LANGUAGES}


def numbers_answer(numbers: Numbers, state: str, lang: str | None) -> web.Response:
    """Answer the numbers of a site, with the block in `lang` or else in the site's language."""
    site = numbers.site
    lang = lang or site.lang
    today, yesterday, month, year, total = numbers.values
    # Names of sites, zones, dates and states hold nothing that JSON would escape; paths may.
    answer = _TEMPLATES[lang] % (
        site.name,
        site.timezone.key,
        numbers.date,
        *numbers.values,
        "" if numbers.path is None else _page(numbers.path, numbers.page_total),
        state,
        today,
        grouped(today, lang),
        yesterday,
        grouped(yesterday, lang),
        month,
        grouped(month, lang),
        year,
        grouped(year, lang),
        total,
        grouped(total, lang),
    )
    return web.Response(body=answer.encode(), headers=JSON_HEADERS)


def _page(path: str, total: int | None) -> str:
    return ',"page":{"path":%s,"total":%s}' % (  # noqa: UP031 -- as the template
        _encode(path).decode(),
        "null" if total is None else total,
    )


def json_answer(content: Any, status: int = 200) -> web.Response:
    """Answer any JSON."""
    return web.Response(body=_encode(content), status=status, headers=JSON_HEADERS)


def refusal_answer(refusal: Refusal) -> web.Response:
    """Answer a refusal with its status, and with what helps to do better."""
    response = error_answer(refusal.status, refusal.code, refusal.message)
    if isinstance(refusal, Unavailable):
        response.headers["Retry-After"] = str(refusal.retry_after_s)
    elif isinstance(refusal, MethodNotAllowed):
        response.headers["Allow"] = refusal.allowed
    return response


async def preflight_answer(allowed: str) -> web.Response:
    """Answer OPTIONS: what a browser may send from another origin."""
    preflight = {
        "Allow": allowed,
        "Access-Control-Allow-Methods": allowed,
        "Access-Control-Allow-Headers": "Content-Type",
        "Access-Control-Max-Age": "86400",
    }
    return web.Response(status=204, headers=COMMON_HEADERS | preflight)


def error_answer(status: int, code: str, message: str) -> web.Response:
    """Answer an error."""
    return json_answer({"error": {"code": code, "message": message}}, status)
