"""The counting endpoints, and the one that reads the same numbers.

The hot path is `hits`: the body, the site, one commit shared with all who wait, the numbers.
"""

from base64 import b64decode

from aiohttp import web
from msgspec import UNSET

from hitcounter.counting.counter import CountedSite, Counter
from hitcounter.site import site_name
from hitcounter.web import badge as picture
from hitcounter.web import hit_request
from hitcounter.web.hit_request import Target
from hitcounter.web.responses import (
    PICTURE_HEADERS,
    NumbersResponse,
    Page,
    numbers_answer,
    pages_answer,
)

PIXEL = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
PIXEL_HEADERS = PICTURE_HEADERS | {"Content-Type": "image/gif"}


async def hits(service: Counter, request: web.BaseRequest, target: Target) -> NumbersResponse:
    """Count one hit; answer the numbers with it."""
    wording = hit_request.wording(target.query)
    body = await hit_request.hit_body(request, service.config.body_timeout_s)
    page = _named(service, target, body.path)
    is_prefetch = hit_request.is_prefetch(request.headers)
    counted = await _site(service, request, target, counts=not is_prefetch)
    page = hit_request.page(page, request.headers, counted.site)
    if is_prefetch:
        service.metrics.not_counted(target.site, "prefetch")
        return numbers_answer(await service.read(counted, page.path), wording, page.reason)
    return numbers_answer(await service.count(counted, page.path, body.id), wording, page.reason)


async def pixel(service: Counter, request: web.BaseRequest, target: Target) -> web.Response:
    """Count one hit for a page without scripts; answer a picture of one pixel."""
    page = _named(service, target, hit_request.picture_fields(target, "path").get("path"))
    is_prefetch = hit_request.is_prefetch(request.headers)
    counts = request.method == "GET" and not is_prefetch  # HEAD asks only what GET would answer
    counted = await _site(service, request, target, counts=counts)
    if is_prefetch:
        service.metrics.not_counted(target.site, "prefetch")
    if counts:
        page = hit_request.page(page, request.headers, counted.site)
        await service.count(counted, page.path)
    return web.Response(body=PIXEL, headers=PIXEL_HEADERS)


async def badge(service: Counter, request: web.BaseRequest, target: Target) -> web.Response:
    """Answer the block as a picture; count a hit only where the query says so."""
    fields = hit_request.picture_fields(target, *picture.LOOK_FIELDS, "count", "path")
    look = picture.look(fields)
    page = _named(service, target, fields.get("path"))
    if not picture.wants_count(fields):
        numbers = await service.read(service.site(site_name(target.site)), page.path)
    else:
        is_prefetch = hit_request.is_prefetch(request.headers)
        counts = request.method == "GET" and not is_prefetch
        counted = await _site(service, request, target, counts=counts)
        if is_prefetch:
            service.metrics.not_counted(target.site, "prefetch")
        page = hit_request.page(page, request.headers, counted.site)
        numbers = await (service.count if counts else service.read)(counted, page.path)
    return web.Response(body=picture.draw(numbers, look).encode(), headers=picture.BADGE_HEADERS)


async def counts(service: Counter, _request: web.BaseRequest, target: Target) -> NumbersResponse:
    """Answer the numbers; count nothing."""
    fields = hit_request.fields(target, "path", "lang", "labels")
    wording = hit_request.chosen_wording(fields)
    page = _named(service, target, fields.get("path"))
    numbers = await service.read(service.site(site_name(target.site)), page.path)
    return numbers_answer(numbers, wording, page.reason)


async def pages(service: Counter, _request: web.BaseRequest, target: Target) -> web.Response:
    """Answer the totals of many pages, as lists of articles show them; count nothing."""
    site = service.site(site_name(target.site))
    asked, lang = hit_request.page_list(target, site.site.query)
    paths = [page.path for page in asked if page.path is not None]
    state, totals = await service.read_pages(site, paths)
    found = dict(zip(paths, totals, strict=True))
    answered = [Page(page.path, found.get(page.path or ""), page.reason or UNSET) for page in asked]
    return pages_answer(site.site, state, answered, lang)


def _named(service: Counter, target: Target, path: str | None) -> hit_request.Page:
    """Give the page that a request names; only a declared site has parameters of its own."""
    known = service.known(target.site)
    return hit_request.page_field(path, known.site.query if known else ())


async def _site(
    service: Counter, request: web.BaseRequest, target: Target, *, counts: bool
) -> CountedSite:
    """Find the site of a hit; only one that `counts`, and whose input is checked, registers it."""
    counted = service.known(target.site)
    if counted is None:
        name = site_name(target.site)
        counted = await service.admit(name) if counts else service.site(name)
    hit_request.check_origin(request.headers, counted.site)
    return counted
