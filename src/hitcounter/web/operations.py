"""The pages for people who run or embed the service."""

import re
from collections.abc import Mapping
from html import escape
from importlib import resources
from ipaddress import ip_address
from typing import cast

from aiohttp import web
from prometheus_client.aiohttp import make_aiohttp_handler

from hitcounter.config import Network
from hitcounter.guard import level, promise
from hitcounter.service import Service
from hitcounter.web.answers import COMMON_HEADERS, json_answer

# The page runs only our own script, and shows nothing from elsewhere.
INDEX_CSP = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline';"
    " img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:\d{1,5})?|\[[0-9a-fA-F:]{2,45}\](:\d{1,5})?")


def _static(name: str) -> str:
    return resources.files("hitcounter.web").joinpath("static", name).read_text("utf-8")


def _headers(content_type: str, cache: str = "no-store", **more: str) -> Mapping[str, str]:
    return COMMON_HEADERS | {"Content-Type": content_type, "Cache-Control": cache} | more


class Operations:
    """The fixed pages, read once."""

    def __init__(self, service: Service) -> None:
        """Read the static files."""
        self._service = service
        self._index = _static("index.html")
        self._widget = _static("widget.js").encode()
        self._openapi = _static("openapi.yaml").encode()
        self._metrics = make_aiohttp_handler(service.metrics.of_all_workers())

    async def index(self, request: web.BaseRequest) -> web.Response:
        """Show the live block and the tag to copy."""
        text = self._index.replace("{{origin}}", escape(self._origin(request)))
        headers = _headers("text/html; charset=utf-8", **{"Content-Security-Policy": INDEX_CSP})
        return web.Response(body=text.encode(), headers=headers)

    def _origin(self, request: web.BaseRequest) -> str:
        scheme = "http"
        if _is_trusted(request.remote, self._service.config.trusted_proxies):
            forwarded = request.headers.get("X-Forwarded-Proto", "").lower()
            scheme = forwarded if forwarded in ("http", "https") else scheme
        host = request.headers.get("Host", "")
        return f"{scheme}://{host if _HOST.fullmatch(host) else 'localhost'}"

    async def widget(self, _request: web.BaseRequest) -> web.Response:
        """Serve the script to embed."""
        headers = _headers("text/javascript; charset=utf-8", cache="public, max-age=3600")
        return web.Response(body=self._widget, headers=headers)

    async def openapi(self, _request: web.BaseRequest) -> web.Response:
        """Serve the description of the HTTP contract."""
        return web.Response(body=self._openapi, headers=_headers("application/yaml"))

    async def metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer the metrics of all workers."""
        # The handler reads the headers and the query, which every request has.
        response = await self._metrics(cast(web.Request, request))
        response.headers.update(COMMON_HEADERS)
        return response

    async def healthz(self, _request: web.BaseRequest) -> web.Response:
        """Tell that this process serves."""
        return json_answer({"status": "ok"})

    async def readyz(self, _request: web.BaseRequest) -> web.Response:
        """Tell whether hits can be counted, and which promise the store keeps."""
        facts = await self._service.store_facts()
        return json_answer(
            {
                "status": "ready",
                "store": facts.name,
                "level": level(facts),
                "promise": promise(facts),
            }
        )


def _is_trusted(remote: str | None, proxies: tuple[Network, ...]) -> bool:
    return remote is not None and any(ip_address(remote) in network for network in proxies)
