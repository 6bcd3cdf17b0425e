"""The pages for people who embed the service, and what its proxies ask."""

from importlib import resources

from aiohttp import web

from hitcounter.readiness import refusal
from hitcounter.service import Service
from hitcounter.site import site_name
from hitcounter.web import front_page, requests
from hitcounter.web.answers import COMMON_HEADERS, json_answer
from hitcounter.web.front_page import Choice
from hitcounter.web.requests import Target
from hitcounter.web.scripts import CURRENT, JAVASCRIPT


def _static(name: str) -> str:
    return resources.files("hitcounter.web").joinpath("static", name).read_text("utf-8")


def _headers(content_type: str) -> dict[str, str]:
    return COMMON_HEADERS | {"Content-Type": content_type, "Cache-Control": "no-store"}


_INDEX_SCRIPT = _static("index.js").encode()
_OPENAPI = _static("openapi.yaml").encode()


async def index(service: Service, request: web.BaseRequest, target: Target) -> web.Response:
    """Show the live block, and what to copy for the options of the query."""
    fields = requests.fields(target, *front_page.FIELDS)
    look = front_page.chosen_look(fields)
    name = site_name(fields.get("site", front_page.first_site(service.config)))
    site = service.site(name).site
    proxies = service.config.trusted_proxies
    origin = requests.our_origin(request, proxies)
    # A look at this page is no visit of anybody's site.
    choice = Choice(site, look, counts=name == front_page.DEMO and site.admits(origin))
    server = origin + requests.our_path(request, proxies)
    headers = _headers("text/html; charset=utf-8") | {"Content-Security-Policy": front_page.CSP}
    return web.Response(body=front_page.page(choice, server, CURRENT).encode(), headers=headers)


async def index_script(
    _service: Service, _request: web.BaseRequest, _target: Target
) -> web.Response:
    """Serve the script of the front page."""
    return web.Response(body=_INDEX_SCRIPT, headers=_headers(JAVASCRIPT))


async def openapi(_service: Service, _request: web.BaseRequest, _target: Target) -> web.Response:
    """Serve the description of the HTTP contract."""
    return web.Response(body=_OPENAPI, headers=_headers("application/yaml"))


async def healthz(_service: Service, _request: web.BaseRequest, _target: Target) -> web.Response:
    """Tell that this process serves."""
    return json_answer({"status": "ok"})


async def readyz(service: Service, _request: web.BaseRequest, _target: Target) -> web.Response:
    """Tell in one word whether hits can be counted."""
    state = await service.readiness.answer()
    if refused := refusal(state):
        raise refused
    return json_answer({"status": state})
