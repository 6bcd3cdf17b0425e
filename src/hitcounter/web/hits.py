"""The counting endpoints, and the one that reads the same numbers.

The hot path is `hits`: the body, the site, one commit shared with all who wait, the numbers.
"""

from base64 import b64decode

from msgspec import UNSET

from hitcounter.client_address import Client
from hitcounter.counting.counter import Counter
from hitcounter.counting.numbers import Numbers, flood
from hitcounter.hit import Hit, named_page
from hitcounter.web import badge as picture
from hitcounter.web import hit_request, proxies
from hitcounter.web.hit_request import Target
from hitcounter.web.request import Request
from hitcounter.web.responses import (
    PICTURE_HEADERS,
    PageTotal,
    Response,
    numbers_answer,
    pages_answer,
    response,
)

PIXEL = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
PIXEL_HEADERS = PICTURE_HEADERS | {"Content-Type": "image/gif"}


async def hits(counter: Counter, request: Request, target: Target) -> Response:
    """Count one hit; answer the numbers with it."""
    client = _client(counter, request)
    wording = hit_request.wording(target.query)
    body = await hit_request.hit_body(request, counter.config.body_timeout_s)
    hit = hit_request.read(request, client, target, body.path, body.id, counter.clock())
    return numbers_answer(await counter.count(hit), wording)


def _client(counter: Counter, request: Request) -> Client:
    """Tell whose request it is; raise `Unavailable` before anything else of it is read."""
    if request.client is not None:
        return request.client
    client = proxies.client(request, counter.clients)
    if not counter.rules.admits(client):
        raise flood()
    return client


def _hit(counter: Counter, request: Request, target: Target, path: str | None) -> Hit:
    """Read a hit that asks for a picture."""
    client = _client(counter, request)
    return hit_request.read(request, client, target, path, None, counter.clock())


async def pixel(counter: Counter, request: Request, target: Target) -> Response:
    """Count one hit for a page without scripts; answer a picture of one pixel."""
    path = hit_request.picture_fields(target, "path").get("path")
    await counter.take(_hit(counter, request, target, path))
    return response(PIXEL, PIXEL_HEADERS)


async def badge(counter: Counter, request: Request, target: Target) -> Response:
    """Answer the block as a picture; count a hit only where the query says so."""
    fields = hit_request.picture_fields(target, *picture.LOOK_FIELDS, "count", "path")
    look, path = picture.look(fields), fields.get("path")
    if hit_request.switch(fields, "count", "1"):
        numbers = await counter.count(_hit(counter, request, target, path))
    else:
        numbers = await _read(counter, target, path)
    return response(picture.draw(numbers, look).encode(), picture.BADGE_HEADERS)


async def counts(counter: Counter, _request: Request, target: Target) -> Response:
    """Answer the numbers; count nothing."""
    fields = hit_request.fields(target, "path", "lang", "labels")
    wording = hit_request.chosen_wording(fields)
    return numbers_answer(await _read(counter, target, fields.get("path")), wording)


async def _read(counter: Counter, target: Target, path: str | None) -> Numbers:
    site = counter.sites.find_or_describe(target.site)
    return await counter.read(site, named_page(path, site.site.query))


async def pages(counter: Counter, _request: Request, target: Target) -> Response:
    """Answer the totals of many pages, as lists of articles show them; count nothing."""
    site = counter.sites.find_or_describe(target.site)
    asked, lang = hit_request.page_list(target, site.site.query)
    paths = [page.path for page in asked if page.path is not None]
    state, totals = await counter.read_pages(site, paths)
    found = dict(zip(paths, totals, strict=True))
    answered = [
        PageTotal(page.path, found.get(page.path or ""), page.reason or UNSET) for page in asked
    ]
    return pages_answer(site.site, state, answered, lang)
