"""The answers of one connection, one request after the other, in a task of its own.

aiohttp starts a further task for each request, which takes a tenth of all the time that a hit
takes, so this loop takes the place of its own. Whatever an answer fails at, the client is told, or
its connection ends.
"""

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp.streams import StreamReader
from aiohttp.web_server import Server

from hitcounter.errors import Refusal
from hitcounter.web.heads import Waiting
from hitcounter.web.request import Request
from hitcounter.web.responses import Response, refusal_answer
from hitcounter.web.sending import Sending
from hitcounter.web.timeouts import KEEPALIVE_S, LINGERING_S

log = logging.getLogger(__name__)

MAX_REPEATS = 1024  # in a second; 4 MB: a packet that is one request, as a whole, is short

Handle = Callable[[Request], Awaitable[Response]]
# Returns what to send; None once another look at the request is due.
Repeat = Callable[[], bytes | None]
# Tells how to answer what needs no more than a look at a head.
AtOnce = Callable[[Request], Repeat | None]


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all connections of a server: how long a client may take, and what they share.

    What `at_once` answers, no handler ever sees; `repeats` tells how to answer it without a parse
    when it comes again, by its address and bytes. `refusal_answer` answers what none can.
    """

    head_timeout_s: float
    send_timeout_s: float
    at_once: AtOnce = lambda _request: None
    refusal_answer: Callable[[Refusal], Response] = refusal_answer
    waiting: Waiting = field(default_factory=Waiting)
    repeats: dict[tuple[str, bytes], Repeat] = field(default_factory=dict)


class Answering(Sending):
    """Answers what the parser has queued."""

    # Ours, in the places where aiohttp's own would be.
    _messages: deque[Request | Refusal]  # type: ignore[assignment]
    _request_handler: Handle | None  # type: ignore[assignment]
    _current_request: Request | None  # type: ignore[assignment]

    def __init__(self, server: Server, terms: Terms, **options: Any) -> None:
        """End the connection when the client takes longer over a head, or over reading."""
        super().__init__(server, keepalive_timeout=KEEPALIVE_S, **options)
        self._terms = terms
        self._is_at_start = False  # of a request; the first begins with the connection
        self.line: OrderedDict[Any, None] | None = None  # in which it waits for its client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to answer, and start the deadline for the first request."""
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if peer else ""
        super().connection_made(transport)
        self._await_head()

    async def start(self) -> None:
        """Answer until one side ends the connection."""
        try:
            while not self._force_close and await self._answer_next():
                self._await_next()
                if self._messages:
                    await asyncio.sleep(0)  # of many in a packet, others have their turn in between
        except Exception:
            log.exception("cannot go on with a connection")
        finally:
            self._messages.clear()  # which know us: nobody has to look for the circle
            self.send()
            if self.transport is not None:
                self.transport.close()

    async def _answer_next(self) -> bool:
        """Answer the next request; return whether another may follow."""
        request = await self._next_request()
        self.send()
        handle = self._request_handler
        if handle is None:  # the client has left meanwhile
            return False
        self._take_up()
        if isinstance(request, Refusal):
            response = self._terms.refusal_answer(request)
            self.send_soon(response.as_bytes(time.time(), is_last=True))
            return False
        self._request_in_progress, self._current_request = True, request
        try:
            try:
                response = await handle(request)
            except Exception as error:
                response = self._failure(request, error)
            request.is_last = request.is_last or response.is_last
            self.send_soon(
                response.as_bytes(
                    time.time(), is_last=request.is_last, is_head=request.method == "HEAD"
                )
            )
            if self.writing_paused:
                await self._drain_helper()  # one who only asks cannot fill our memory
        except ConnectionError as error:
            error.__traceback__ = None  # a circle, which would keep the request and its answer
            return False
        finally:
            self._request_in_progress, self._current_request = False, None
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)
        self._keepalive = not request.is_last
        if not request.body.is_eof() and not self._force_close:
            await self._pass_over(request.body)
        return self._keepalive and not (self._close or self._force_close)

    def _queue(self, queued: Request | Refusal) -> None:
        self._messages.append(queued)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def _is_free(self) -> bool:
        """Return whether all that came before is answered, and was read by the client."""
        return self._waiter is not None and not self._waiter.done() and not self._paused

    def _has_answered(self, request: Request, packet: bytes) -> bool:
        """Answer a request that is here as a whole at once, if it may be and none waits."""
        repeat = self._terms.at_once(request) if self._is_free else None
        if repeat is None or not self._has_sent(repeat()):
            return False
        assert self._parser is not None
        self._parser.message_consumed()
        repeats = self._terms.repeats
        if len(repeats) >= MAX_REPEATS:
            repeats.clear()  # the newest are worth most, and to find the oldest takes longer
        repeats[self.peer, packet] = repeat
        return True

    def _has_repeated(self, packet: bytes) -> bool:
        """Answer a packet as it was answered before, if it may be and none waits."""
        repeat = self._terms.repeats.get((self.peer, packet)) if self._is_free else None
        return repeat is not None and self._has_sent(repeat())

    def _has_sent(self, answer: bytes | None) -> bool:
        if answer is None:
            return False
        self.send_soon(answer)
        self._is_at_start = True
        self._await_next()
        return True

    def _take_up(self) -> None:
        """Begin with the next request."""

    async def _next_request(self) -> Request | Refusal:
        if not self._messages:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        queued = self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        return queued

    async def _pass_over(self, body: StreamReader) -> None:
        """Let the rest of a body come that nobody has read, or make this the last request."""
        with suppress(Exception):  # which takes too long, or broke off
            async with asyncio.timeout(LINGERING_S):
                while not body.is_eof():
                    await body.readany()
        if not body.is_eof():
            self.close()

    def _wait(self) -> None:
        """Begin to wait for the client, behind those that have waited longer for theirs."""
        if self.line is not None:
            self.line.move_to_end(self)

    def _await_next(self) -> None:
        """Give the client its time to go on, which is shorter within a head."""
        self._wait()
        timeout_s = KEEPALIVE_S if self._is_at_start else self._terms.head_timeout_s
        self._next_keepalive_close_time = self._loop.time() + timeout_s
        if self._keepalive_handle is None:
            at = self._next_keepalive_close_time
            self._keepalive_handle = self._loop.call_at(at, self._process_keepalive)

    def _await_head(self) -> None:
        """Start the deadline for a head, from its first byte on."""
        if self._keepalive_handle is not None:  # which may be too late
            self._keepalive_handle.cancel()
            self._keepalive_handle = None
        self._await_next()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on with what was paused; aiohttp asks for that after every body."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def pause_writing(self) -> None:
        """Start the deadline for a client that does not read."""
        super().pause_writing()
        assert self.transport is not None
        self._wait()
        timeout_s = self._terms.send_timeout_s
        self._giving_up = self._loop.call_later(timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Cancel the deadline: the client reads again."""
        super().resume_writing()
        self._giving_up.cancel()

    def _failure(self, request: Request, error: Exception) -> Response:
        """Answer an error that no handler turned into an answer, and close the connection."""
        is_gone = self.transport is None or self.transport.is_closing()
        if is_gone and isinstance(error, ConnectionError):
            raise error
        if not isinstance(error, Refusal):
            log.error("cannot answer a request: %.20s", request.method, exc_info=error)
            error = Refusal("internal", "this is our fault; the log says more")
        response = self._terms.refusal_answer(error)
        response.is_last = True
        return response
