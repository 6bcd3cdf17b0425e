"""The routes, and the server that answers every request, also the broken ones, in one form.

This sits on aiohttp's low-level server: with a handful of routes and one form of errors, its
application layer would only cost time (docs/design.md has the figures).
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from aiohttp import http_parser, web

from hitcounter.errors import BadRequest, MethodNotAllowed, Refusal, StartError
from hitcounter.service import Service
from hitcounter.web import hits, operations
from hitcounter.web.answers import error_answer, preflight_answer, refusal_answer
from hitcounter.web.requests import Target

log = logging.getLogger(__name__)

# Also how long a client may take over its headers. A proxy should close idle connections sooner.
KEEPALIVE_S = 20.0
LINGERING_S = 1.0

_NOTHING = "there is nothing here; see /openapi.yaml"
_METRICS = "metrics are for operators, where operations_host and operations_port say"

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def _always(_target: Target) -> bool:
    return True


def _never(_target: Target) -> bool:
    return False


def _if_asked(target: Target) -> bool:
    return "count=1" in target.query.split("&")


class Route(NamedTuple):
    """Who answers, to which method, and whether a target asks there to count a hit."""

    method: str
    handler: Callable[[Service, web.BaseRequest, Target], Awaitable[web.StreamResponse]]
    is_counting: Callable[[Target], bool] = _never

    @property
    def allowed(self) -> str:
        """List the methods for the headers that tell them."""
        return "GET, HEAD, OPTIONS" if self.method == "GET" else f"{self.method}, OPTIONS"


# Below /v1/sites/{site}/
SITE_ROUTES: Mapping[str, Route] = {
    "hits": Route("POST", hits.hits, _always),
    "counts": Route("GET", hits.counts),
    "pixel.gif": Route("GET", hits.pixel, _always),
    "badge.svg": Route("GET", hits.badge, _if_asked),
}
ROUTES: Mapping[str, Route] = {
    "/": Route("GET", operations.index),
    "/index.js": Route("GET", operations.index_script),
    "/widget.js": Route("GET", operations.widget),
    operations.PINNED_WIDGET: Route("GET", operations.pinned_widget),
    "/openapi.yaml": Route("GET", operations.openapi),
    "/healthz": Route("GET", operations.healthz),
    "/readyz": Route("GET", operations.readyz),
}

_SITE_PATH = re.compile(r"/v1/sites/([^/?]*)/([^/?]*)(?:\?(.*))?", re.DOTALL)


@lru_cache(maxsize=2048)
def _resolve(raw_path: str) -> tuple[Route | None, Target]:
    if raw_path.startswith(("http://", "https://")):  # as a proxy may ask
        raw_path = "/" + raw_path.partition("://")[2].partition("/")[2]
    match = _SITE_PATH.fullmatch(raw_path)
    if match:
        return SITE_ROUTES.get(match[2]), Target(match[1], match[3] or "")
    path, _, query = raw_path.partition("?")
    return ROUTES.get(path), Target("", query)


def require_c_parser() -> None:
    """Raise `StartError` where aiohttp has only its parser in Python, which lets more through."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise StartError(
            "aiohttp is installed without its C extension, or AIOHTTP_NO_EXTENSIONS is set: its"
            " parser in Python does not refuse all that it should"
        )


class App:
    """Finds who answers a request, and turns refusals into answers."""

    def __init__(self, service: Service) -> None:
        """Answer for a service; once `is_draining`, every answer is the last of its connection."""
        self.metrics = service.metrics
        self.is_draining = False
        self._service = service

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        route, target = _resolve(request.raw_path)
        try:
            if route is not None and request.method == route.method:
                response = await route.handler(self._service, request, target)
            else:
                response = await self._other_answer(route, request, target)
        except Refusal as refusal:
            if route is not None and route.is_counting(target):
                self.metrics.not_counted(target.site, refusal.code)
            response = refusal_answer(refusal)
        if self.is_draining:
            response.force_close()
        return response

    async def _other_answer(
        self, route: Route | None, request: web.BaseRequest, target: Target
    ) -> web.StreamResponse:
        if route is None:
            is_metrics = request.raw_path.partition("?")[0] == "/metrics"
            raise BadRequest("not_found", _METRICS if is_metrics else _NOTHING, status=404)
        if request.method == "HEAD" and route.method == "GET":
            return await route.handler(self._service, request, target)
        if request.method == "OPTIONS":
            return preflight_answer(route.allowed)
        raise MethodNotAllowed(route.allowed)


class Protocol(web.RequestHandler):
    """One connection: ends it where the client does not read, and answers what is not HTTP."""

    __slots__ = ("_giving_up", "_send_timeout_s")

    def __init__(self, server: "Server", send_timeout_s: float, **options: Any) -> None:
        """End the connection when the client has not read for `send_timeout_s`."""
        super().__init__(server, **options)
        self._send_timeout_s = send_timeout_s

    def pause_writing(self) -> None:
        """Give the client a while to read what we have for him."""
        super().pause_writing()
        assert self.transport is not None
        self._giving_up = self._loop.call_later(self._send_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: he reads."""
        super().resume_writing()
        self._giving_up.cancel()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 -- it repeats what the client sent
    ) -> web.StreamResponse:
        """Answer an error that no handler turned into an answer, and close the connection."""
        if status < 500:
            response = error_answer(status, "bad_request", "this is not a request we understand")
        else:
            log.error("cannot answer %s %.200r", request.method, request.raw_path, exc_info=exc)
            response = error_answer(status, "internal", "this is our fault; the log says more")
        response.force_close()
        return response


class Server(web.Server):
    """aiohttp's low-level server, with a bound on connections and our own form of errors."""

    protocol: type[Protocol] = Protocol

    def __init__(
        self,
        handle: Handle,
        refused: Callable[[], None],
        max_connections: int,
        send_timeout_s: float,
    ) -> None:
        """Let `handle` answer; whoever connects beyond `max_connections` is `refused`."""
        self._refused = refused
        self._max_connections = max_connections
        self._send_timeout_s = send_timeout_s
        self._n_connections = 0
        super().__init__(
            handle,
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGERING_S,
            auto_decompress=False,
        )

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection, or end it at once."""
        super().connection_made(handler, transport)
        self._n_connections += 1
        if self._n_connections > self._max_connections:
            self._refused()
            transport.abort()

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Let a connection go; its request may still be on its way."""
        super().connection_lost(handler, exc)
        self._n_connections -= 1

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of one connection."""
        return self.protocol(self, self._send_timeout_s, loop=self._loop, **self._kwargs)
