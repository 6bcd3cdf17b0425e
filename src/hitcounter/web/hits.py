"""The counting endpoints, and the one that reads the same numbers.

The hot path is `hits`: the body, the site, one commit shared with all who wait, the numbers.
"""

from base64 import b64decode

from aiohttp import web

from hitcounter.service import CountedSite, Service
from hitcounter.site import page_path, site_name
from hitcounter.web import requests
from hitcounter.web.answers import COMMON_HEADERS, numbers_answer

PIXEL = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
PIXEL_HEADERS = COMMON_HEADERS | {"Content-Type": "image/gif", "Cache-Control": "no-store"}


async def hits(service: Service, request: web.BaseRequest, name: str) -> web.Response:
    """Count one hit; answer the numbers with it."""
    lang = requests.language(requests.query(request.raw_path, ("lang",)))
    body = await requests.hit_body(request)
    counted = await _counting_site(service, request, name)
    path = requests.page(body.path, request.headers, counted.site)
    if requests.is_prefetch(request.headers):
        service.metrics.not_counted(name, "prefetch")
        return numbers_answer(await service.read(counted, path), "fresh", lang)
    return numbers_answer(await service.count(counted, path), "counted", lang)


async def pixel(service: Service, request: web.BaseRequest, name: str) -> web.Response:
    """Count one hit for a page without scripts; answer a picture of one pixel."""
    path = requests.query(request.raw_path, ("path",)).get("path")
    counted = await _counting_site(service, request, name)
    path = requests.page(path, request.headers, counted.site)
    if requests.is_prefetch(request.headers):
        service.metrics.not_counted(name, "prefetch")
    elif request.method == "GET":  # HEAD asks what GET would answer, and never counts
        await service.count(counted, path)
    return web.Response(body=PIXEL, headers=PIXEL_HEADERS)


async def counts(service: Service, request: web.BaseRequest, name: str) -> web.Response:
    """Answer the numbers; count nothing."""
    query = requests.query(request.raw_path, ("path", "lang"))
    lang = requests.language(query)
    path = page_path(query["path"]) if "path" in query else None
    numbers = await service.read(service.site(site_name(name)), path)
    return numbers_answer(numbers, "fresh", lang)


async def _counting_site(service: Service, request: web.BaseRequest, name: str) -> CountedSite:
    counted = service.known(name) or await service.admit(site_name(name))
    requests.check_origin(request.headers, counted.site)
    return counted
