"""The routes, and the server that answers every request, also the broken ones, in one form.

This sits on aiohttp's low-level server: with one dynamic route and one error format its
application layer would only cost time (docs/design.md has the figures).
"""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from hitcounter.errors import BadRequest, Refusal
from hitcounter.service import Service
from hitcounter.web.answers import COMMON_HEADERS, error_answer, refusal_answer
from hitcounter.web.hits import counts, hits, pixel
from hitcounter.web.operations import Operations

log = logging.getLogger(__name__)

KEEPALIVE_S = 75.0  # above the 60 s of common proxies, so that the proxy closes first
LINGERING_S = 1.0

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
SiteHandler = Callable[[Service, web.BaseRequest, str], Awaitable[web.StreamResponse]]

_SITE_TARGET = re.compile(r"/v1/sites/([^/?]*)/([a-z.]+)(?:\?.*)?", re.DOTALL)

# What stands behind /v1/sites/{site}/: the method that does it, and whether that counts a hit.
SITE_ROUTES: Mapping[str, tuple[str, SiteHandler, bool]] = {
    "hits": ("POST", hits, True),
    "counts": ("GET", counts, False),
    "pixel.gif": ("GET", pixel, True),
}


class App:
    """Finds who answers a request, and turns refusals into answers."""

    def __init__(self, service: Service) -> None:
        """Lay out the fixed routes."""
        pages = Operations(service)
        self._service = service
        self._pages: Mapping[str, Handler] = {
            "/": pages.index,
            "/widget.js": pages.widget,
            "/openapi.yaml": pages.openapi,
            "/metrics": pages.metrics,
            "/healthz": pages.healthz,
            "/readyz": pages.readyz,
        }
        self.is_draining = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        match = _SITE_TARGET.fullmatch(request.raw_path)
        try:
            response = await (
                self._site_answer(request, match[1], match[2])
                if match
                else self._page_answer(request)
            )
        except Refusal as refusal:
            response = refusal_answer(refusal)
        if self.is_draining:
            response.force_close()
        return response

    async def _site_answer(
        self, request: web.BaseRequest, name: str, what: str
    ) -> web.StreamResponse:
        route = SITE_ROUTES.get(what)
        if route is None:
            raise _not_found()
        method, handler, is_counting = route
        if request.method != method and not (method == "GET" and request.method == "HEAD"):
            return _other_method(request, method)
        try:
            return await handler(self._service, request, name)
        except Refusal as refusal:
            if is_counting:
                self._service.metrics.not_counted(name, refusal.code)
            raise

    async def _page_answer(self, request: web.BaseRequest) -> web.StreamResponse:
        handler = self._pages.get(request.raw_path.partition("?")[0])
        if handler is None:
            raise _not_found()
        if request.method not in ("GET", "HEAD"):
            return _other_method(request, "GET")
        return await handler(request)


def _not_found() -> BadRequest:
    return BadRequest("not_found", "there is nothing here; see /openapi.yaml", status=404)


def _other_method(request: web.BaseRequest, method: str) -> web.Response:
    allowed = f"{method}, OPTIONS" if method == "POST" else f"{method}, HEAD, OPTIONS"
    if request.method == "OPTIONS":
        preflight = {
            "Allow": allowed,
            "Access-Control-Allow-Methods": allowed,
            "Access-Control-Allow-Headers": "Content-Type",
            "Access-Control-Max-Age": "86400",
        }
        return web.Response(status=204, headers=COMMON_HEADERS | preflight)
    response = error_answer(405, "method_not_allowed", f"use {allowed}")
    response.headers["Allow"] = allowed
    return response


class _Protocol(web.RequestHandler):
    """Answers what is not HTTP, and what we failed at, in the form of all other errors."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer an error that no handler turned into an answer, and close the connection."""
        if status < 500:
            response = error_answer(
                status, "bad_request", "this is not a request that we understand"
            )
        else:
            log.error(
                "cannot answer %s %.200r: %s",
                request.method,
                request.raw_path,
                message,
                exc_info=exc,
            )
            response = error_answer(status, "internal", "this is our fault; the log says more")
        response.force_close()
        return response


class Server(web.Server):
    """aiohttp's low-level server, with our own form of errors."""

    def __init__(self, app: App) -> None:
        """Serve an app."""
        super().__init__(
            app.handle,
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGERING_S,
            auto_decompress=False,
        )

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of one connection."""
        return _Protocol(self, loop=self._loop, **self._kwargs)
