"""The pages for people who run or embed the service."""

import re
from importlib import resources
from ipaddress import ip_address

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from hitcounter.config import Network
from hitcounter.guard import level, promise
from hitcounter.service import Service
from hitcounter.web.answers import COMMON_HEADERS, json_answer
from hitcounter.web.requests import Target

# The page runs only our own script, and shows nothing from elsewhere.
INDEX_CSP = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline';"
    " img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:\d{1,5})?|\[[0-9a-fA-F:]{2,45}\](:\d{1,5})?")


def _static(name: str) -> str:
    return resources.files("hitcounter.web").joinpath("static", name).read_text("utf-8")


def _headers(content_type: str, cache: str = "no-store") -> dict[str, str]:
    return COMMON_HEADERS | {"Content-Type": content_type, "Cache-Control": cache}


_INDEX = _static("index.html")
_WIDGET = _static("widget.js").encode()
_OPENAPI = _static("openapi.yaml").encode()


async def index(service: Service, request: web.BaseRequest, _target: Target) -> web.Response:
    """Show the live block and the tag to copy."""
    origin = _origin(request, service.config.trusted_proxies)
    headers = _headers("text/html; charset=utf-8") | {"Content-Security-Policy": INDEX_CSP}
    return web.Response(body=_INDEX.replace("{{origin}}", origin).encode(), headers=headers)


def _origin(request: web.BaseRequest, proxies: tuple[Network, ...]) -> str:
    """Give our own address as the visitor sees it; safe to put into HTML."""
    forwarded = request.headers.get("X-Forwarded-Proto", "").lower()
    is_forwarded = forwarded in ("http", "https") and _is_trusted(request.remote, proxies)
    host = request.headers.get("Host", "")
    return f"{forwarded if is_forwarded else 'http'}://{host if _HOST.fullmatch(host) else '?'}"


async def widget(_service: Service, _request: web.BaseRequest, _target: Target) -> web.Response:
    """Serve the script to embed."""
    headers = _headers("text/javascript; charset=utf-8", cache="public, max-age=3600")
    return web.Response(body=_WIDGET, headers=headers)


async def openapi(_service: Service, _request: web.BaseRequest, _target: Target) -> web.Response:
    """Serve the description of the HTTP contract."""
    return web.Response(body=_OPENAPI, headers=_headers("application/yaml"))


async def metrics(service: Service, _request: web.BaseRequest, _target: Target) -> web.Response:
    """Answer the metrics of all workers, in the one format that every Prometheus reads."""
    # The client library's own handler negotiates, and fails on what a visitor writes as a version.
    body = generate_latest(service.metrics.of_all_workers())
    response = web.Response(body=body, headers=_headers(CONTENT_TYPE_PLAIN_0_0_4))
    response.enable_compression()
    return response


async def healthz(_service: Service, _request: web.BaseRequest, _target: Target) -> web.Response:
    """Tell that this process serves."""
    return json_answer({"status": "ok"})


async def readyz(service: Service, _request: web.BaseRequest, _target: Target) -> web.Response:
    """Tell whether hits can be counted, and which promise the store keeps."""
    facts = await service.store_facts()
    return json_answer(
        {"status": "ready", "store": facts.name, "level": level(facts), "promise": promise(facts)}
    )


def _is_trusted(remote: str | None, proxies: tuple[Network, ...]) -> bool:
    return remote is not None and any(ip_address(remote) in network for network in proxies)
