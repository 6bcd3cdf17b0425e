"""The server: aiohttp's low-level one, with a bound on connections and protocols of our own.

With a handful of routes and one form of errors, aiohttp's application layer would only cost time
(docs/design.md has the figures).
"""

import asyncio
import math
import socket
from collections.abc import Callable
from contextlib import suppress

from aiohttp import http_parser, web_server
from aiohttp.web_protocol import RequestHandler

from hitcounter.errors import StartError
from hitcounter.web.answering import Handle, Terms
from hitcounter.web.connections import Connections, origin_of
from hitcounter.web.protocol import Connection

# Connections beyond the bound: whoever makes room for them ends some rounds of the loop later, and
# has one of the process's spare files until then.
MAX_BEYOND = 24


def require_c_parser() -> None:
    """Raise `StartError` where aiohttp has only its parser in Python, which lets more through."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise StartError(
            "aiohttp is installed without its C extension, or AIOHTTP_NO_EXTENSIONS is set: its"
            " parser in Python does not refuse all that it should"
        )


def _give_up_unread(transport: asyncio.Transport, timeout_s: float) -> None:
    """Let the kernel end a connection whose client takes nothing of what it holds for it."""
    socket_ = transport.get_extra_info("socket")
    if socket_ is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        with suppress(OSError):  # the client is gone already
            socket_.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, math.ceil(timeout_s * 1000)
            )


class Server(web_server.Server):
    """Hands the requests of all its connections to one handler."""

    def __init__(
        self, handle: Handle, terms: Terms, max_connections: int, refused: Callable[[], None]
    ) -> None:
        """Let `handle` answer; beyond `max_connections`, one is `refused`, an idle one first."""
        self._terms = terms
        self._refused = refused
        self._max_connections = max_connections
        self._open = Connections()
        self._n_files = 0  # of connections, also of those that make room and have not ended yet
        super().__init__(handle, access_log=None, auto_decompress=False)  # type: ignore[arg-type]

    def room(self) -> int:
        """Return how many connections may be made now."""
        return self._max_connections + MAX_BEYOND - self._n_files

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection; if there are too many, end the longest idle one, or else this."""
        super().connection_made(handler, transport)
        self._n_files += 1
        assert isinstance(handler, Connection)
        _give_up_unread(transport, self._terms.send_timeout_s)
        self._open.add(handler, origin_of(handler.peer))
        if len(self._open) > self._max_connections:
            self._refused()
            ended = self._open.take_longest_idle() or handler
            self._open.remove(ended)
            ended.drop()  # at once: what it asks from now on is not counted unanswered

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Let a connection go; its request may still be on its way."""
        super().connection_lost(handler, exc)
        self._n_files -= 1
        assert isinstance(handler, Connection)
        self._open.remove(handler)

    def __call__(self) -> RequestHandler:
        """Make the protocol of one connection."""
        return Connection(self, self._terms, loop=self._loop, **self._kwargs)
