"""The counting endpoints, and the one that reads the same numbers.

The hot path is `hits`: the body, the site, one commit shared with all who wait, the numbers.
"""

from base64 import b64decode

from aiohttp import web

from hitcounter.service import CountedSite, Service
from hitcounter.site import page_path, site_name
from hitcounter.web import requests
from hitcounter.web.answers import COMMON_HEADERS, numbers_answer
from hitcounter.web.requests import Target

PIXEL = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
PIXEL_HEADERS = COMMON_HEADERS | {"Content-Type": "image/gif", "Cache-Control": "no-store"}


async def hits(service: Service, request: web.BaseRequest, target: Target) -> web.Response:
    """Count one hit; answer the numbers with it."""
    lang = requests.language(requests.fields(target, "lang"))
    path = await requests.hit_path(request)
    counted = await _counting_site(service, request, target)
    path = requests.page(path, request.headers, counted.site)
    if requests.is_prefetch(request.headers):
        service.metrics.not_counted(target.site, "prefetch")
        return numbers_answer(await service.read(counted, path), "fresh", lang)
    return numbers_answer(await service.count(counted, path), "counted", lang)


async def pixel(service: Service, request: web.BaseRequest, target: Target) -> web.Response:
    """Count one hit for a page without scripts; answer a picture of one pixel."""
    path = requests.fields(target, "path").get("path")
    counted = await _counting_site(service, request, target)
    path = requests.page(path, request.headers, counted.site)
    if requests.is_prefetch(request.headers):
        service.metrics.not_counted(target.site, "prefetch")
    elif request.method == "GET":  # HEAD asks what GET would answer, and never counts
        await service.count(counted, path)
    return web.Response(body=PIXEL, headers=PIXEL_HEADERS)


async def counts(service: Service, _request: web.BaseRequest, target: Target) -> web.Response:
    """Answer the numbers; count nothing."""
    fields = requests.fields(target, "path", "lang")
    lang = requests.language(fields)
    path = page_path(fields["path"]) if "path" in fields else None
    numbers = await service.read(service.site(site_name(target.site)), path)
    return numbers_answer(numbers, "fresh", lang)


async def _counting_site(service: Service, request: web.BaseRequest, target: Target) -> CountedSite:
    counted = service.known(target.site) or await service.admit(site_name(target.site))
    requests.check_origin(request.headers, counted.site)
    return counted
