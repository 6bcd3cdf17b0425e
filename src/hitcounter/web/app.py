"""The routes, and the server that answers every request, also the broken ones, in one form.

This sits on aiohttp's low-level server: with a handful of routes and one form of errors, its
application layer would only cost time (docs/design.md has the figures).
"""

import asyncio
import math
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from typing import NamedTuple

from aiohttp import http_parser, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from hitcounter.errors import BadRequest, MethodNotAllowed, Refusal, StartError
from hitcounter.service import Service
from hitcounter.site import site_in_path
from hitcounter.web import hits, operations, requests, scripts
from hitcounter.web.answers import preflight_answer, refusal_answer
from hitcounter.web.connections import Connections, origin_of
from hitcounter.web.protocol import Connection, Waiting
from hitcounter.web.requests import Target

_NOTHING = "there is nothing here; openapi.yaml says what there is"
_METRICS = "metrics are for operators, where operations_host and operations_port say"

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

MAX_REMEMBERED = 256  # characters of a target


def _always(_target: Target) -> bool:
    return True


def _never(_target: Target) -> bool:
    return False


def _if_asked(target: Target) -> bool:
    return "count=1" in target.query.split("&")


Handler = Callable[[Service, web.BaseRequest, Target], Awaitable[web.StreamResponse]]


def _in_turn(handler: Handler) -> Handler:
    """Let a handler that takes as long as many hits answer one request at a time.

    Then hits pass between them, however many clients ask, and only one is in memory. Whoever leaves
    has no turn: or else who asks and leaves, over and over, keeps it from all others.
    """

    async def answer(
        service: Service, request: web.BaseRequest, target: Target
    ) -> web.StreamResponse:
        assert isinstance(request.protocol, Connection)
        request.protocol.is_given_up_when_left = True
        async with service.turn:
            await asyncio.sleep(0)  # the loop goes round once for each, also where nothing waits
            return await handler(service, request, target)

    return answer


class Route(NamedTuple):
    """Who answers, to which method, and whether a target asks there to count a hit."""

    method: str
    handler: Handler
    is_counting: Callable[[Target], bool] = _never

    @property
    def allowed(self) -> str:
        """List the methods for the headers that tell them."""
        return "GET, HEAD, OPTIONS" if self.method == "GET" else f"{self.method}, OPTIONS"


# Below /v1/sites/{site}/
SITE_ROUTES: Mapping[str, Route] = {
    "hits": Route("POST", hits.hits, _always),
    "counts": Route("GET", hits.counts),
    "pages": Route("GET", _in_turn(hits.pages)),
    "pixel.gif": Route("GET", hits.pixel, _always),
    "badge.svg": Route("GET", hits.badge, _if_asked),
}
ROUTES: Mapping[str, Route] = {
    "/": Route("GET", _in_turn(operations.index)),
    "/index.js": Route("GET", operations.index_script),
    "/widget.js": Route("GET", partial(scripts.serve, scripts.CURRENT, scripts.AN_HOUR)),
    **{
        path: Route("GET", partial(scripts.serve, script, scripts.FOR_EVER))
        for path, script in scripts.PINNED.items()
    },
    "/openapi.yaml": Route("GET", operations.openapi),
    "/healthz": Route("GET", operations.healthz),
    "/readyz": Route("GET", operations.readyz),
}

_AUTHORITY = re.compile(r"\Ahttps?://[^/?#]*(?:/|(?=\?)|\Z)", re.IGNORECASE)
_SITE_PATH = re.compile(r"/v1/sites/([^/?]*)/([^/?]*)(?:\?(.*))?", re.DOTALL)


def _resolve(raw_path: str) -> tuple[Route | None, Target]:
    # Long ones are not remembered: who sends them must not fill the memory.
    is_short = len(raw_path) <= MAX_REMEMBERED
    return _resolved(raw_path) if is_short else _resolved.__wrapped__(raw_path)


@lru_cache(maxsize=2048)
def _resolved(raw_path: str) -> tuple[Route | None, Target]:
    if not raw_path.startswith("/"):  # as a proxy may ask
        raw_path = _AUTHORITY.sub("/", raw_path, count=1)
    match = _SITE_PATH.fullmatch(raw_path)
    if match:
        return SITE_ROUTES.get(match[2]), Target(site_in_path(match[1]), match[3] or "")
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
            return preflight_answer(route.allowed, requests.wanted_headers(request.headers))
        raise MethodNotAllowed(route.allowed)


def _give_up_unread(transport: asyncio.Transport, timeout_s: float) -> None:
    """Let the kernel end a connection whose client takes nothing of what it holds for him."""
    socket_ = transport.get_extra_info("socket")
    if socket_ is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        with suppress(OSError):  # the client is gone already
            socket_.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, math.ceil(timeout_s * 1000)
            )


class Server(web.Server):
    """aiohttp's low-level server, with a bound on connections and protocols of our own."""

    protocol: type[Connection] = Connection

    def __init__(
        self,
        handle: Handle,
        refused: Callable[[], None],
        max_connections: int,
        head_timeout_s: float,
        send_timeout_s: float,
    ) -> None:
        """Let `handle` answer; beyond `max_connections`, one is `refused`, an idle one first."""
        self._refused = refused
        self._max_connections = max_connections
        self._timeouts_s = head_timeout_s, send_timeout_s
        self._open = Connections()
        self._waiting = Waiting()
        super().__init__(handle, access_log=None, auto_decompress=False)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection; if there are too many, end the longest idle one, or else this."""
        super().connection_made(handler, transport)
        assert isinstance(handler, Connection)
        _give_up_unread(transport, self._timeouts_s[1])
        peer = transport.get_extra_info("peername")
        now = self._loop.time()
        self._open.add(handler, origin_of(peer[0]) if peer else "", now)
        if len(self._open) > self._max_connections:
            self._refused()
            ended = self._open.take_longest_idle(now) or handler
            self._open.remove(ended)
            self._loop.call_soon(ended.drop)

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Let a connection go; its request may still be on its way."""
        super().connection_lost(handler, exc)
        assert isinstance(handler, Connection)
        self._open.remove(handler)

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        assert isinstance(protocol, Connection)
        protocol.take_up()
        if message.upgrade:  # also CONNECT: what comes then is no HTTP
            message = message._replace(should_close=True)
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop)

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of one connection."""
        return self.protocol(
            self, self._waiting, *self._timeouts_s, loop=self._loop, **self._kwargs
        )
