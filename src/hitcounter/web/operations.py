"""The pages for people who embed the service, and what its proxies ask."""

import gzip
from base64 import b64encode
from hashlib import sha256, sha384
from importlib import resources

from aiohttp import web

from hitcounter.readiness import refusal
from hitcounter.service import Service
from hitcounter.site import site_name
from hitcounter.web import front_page, requests
from hitcounter.web.answers import COMMON_HEADERS, json_answer
from hitcounter.web.front_page import Choice, Script
from hitcounter.web.requests import Target


def _static(name: str) -> str:
    return resources.files("hitcounter.web").joinpath("static", name).read_text("utf-8")


def _headers(content_type: str, cache: str = "no-store") -> dict[str, str]:
    return COMMON_HEADERS | {"Content-Type": content_type, "Cache-Control": cache}


_JAVASCRIPT = "text/javascript; charset=utf-8"
_INDEX_SCRIPT = _static("index.js").encode()
_WIDGET = _static("widget.js").encode()
_WIDGET_GZIPPED = gzip.compress(_WIDGET, mtime=0)
_OPENAPI = _static("openapi.yaml").encode()
# Content management systems add one of these to a script's address; the answer is the same.
_VERSION_FIELDS = ("v", "ver")
# One address for each content: it can be kept for ever, and checked.
PINNED_WIDGET = f"/widget-{sha256(_WIDGET).hexdigest()[:12]}.js"
_PINNED = Script(PINNED_WIDGET, f"sha384-{b64encode(sha384(_WIDGET).digest()).decode()}")


async def index(service: Service, request: web.BaseRequest, target: Target) -> web.Response:
    """Show the live block, and what to copy for the options of the query."""
    fields = requests.fields(target, *front_page.FIELDS)
    look = front_page.chosen_look(fields)
    name = site_name(fields.get("site", front_page.first_site(service.config)))
    site = service.site(name).site
    origin = requests.our_origin(request, service.config.trusted_proxies)
    # A look at this page is no visit of anybody's site.
    choice = Choice(site, look, counts=name == front_page.DEMO and site.admits(origin))
    headers = _headers("text/html; charset=utf-8") | {"Content-Security-Policy": front_page.CSP}
    return web.Response(body=front_page.page(choice, origin, _PINNED).encode(), headers=headers)


async def index_script(
    _service: Service, _request: web.BaseRequest, _target: Target
) -> web.Response:
    """Serve the script of the front page."""
    return web.Response(body=_INDEX_SCRIPT, headers=_headers(_JAVASCRIPT))


async def widget(_service: Service, request: web.BaseRequest, target: Target) -> web.Response:
    """Serve the script to embed, as it is in this version."""
    requests.fields(target, *_VERSION_FIELDS)
    return _script(request, "public, max-age=3600")


async def pinned_widget(
    _service: Service, request: web.BaseRequest, target: Target
) -> web.Response:
    """Serve the same script under the address that never has another content."""
    requests.fields(target, *_VERSION_FIELDS)
    return _script(request, "public, max-age=31536000, immutable")


def _script(request: web.BaseRequest, cache: str) -> web.Response:
    headers = _headers(_JAVASCRIPT, cache) | {"Vary": "Accept-Encoding"}
    if _takes_gzip(request):
        headers |= {"Content-Encoding": "gzip"}
        return web.Response(body=_WIDGET_GZIPPED, headers=headers)
    return web.Response(body=_WIDGET, headers=headers)


def _takes_gzip(request: web.BaseRequest) -> bool:
    return requests.accepts_gzip(",".join(request.headers.getall("Accept-Encoding", ())))


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
