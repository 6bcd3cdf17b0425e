"""One connection: what aiohttp leaves open of HTTP, and how long a client may take.

aiohttp parses; we look at what it found once per packet, and closer only where a packet is not
one whole request, as those of browsers and proxies are. Nothing that is refused takes with it what
was asked before on the same connection, and after it nothing is a request.
"""

import asyncio
import logging
import re
from typing import Any

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _ErrInfo

from hitcounter.errors import BadRequest
from hitcounter.web.answers import error_answer

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 32 << 10
# An idle connection lives longer than in the pool of a proxy: nginx keeps it for 60 s.
KEEPALIVE_S = 75.0
_MAX_LINE_BYTES = 9 << 10  # aiohttp takes less
_END_OF_HEAD = b"\r\n\r\n"
_NOT_UNDERSTOOD = "this is not a request we understand"
_TOO_LONG = f"the head of a request, or what trails it, has at most {MAX_HEAD_BYTES} bytes"

# A request, or an error in place of it, and a body.
Queued = tuple[Any, StreamReader]


class _Deaf:
    """The parser of a connection on which nothing more is a request."""

    def feed_data(self, _data: bytes) -> tuple[tuple[Queued, ...], bool, bytes]:
        """Find nothing."""
        return (), False, b""

    def _ignore(self, _value: object = None) -> None:
        """Do nothing."""

    message_consumed = pause_reading = set_upgraded = _ignore


class Connection(web.RequestHandler):
    """Ends a connection that stands still, and answers what is not HTTP."""

    __slots__ = (
        "_giving_up",
        "_head_timeout_s",
        "_head_timer",
        "_held",
        "_in_body",
        "_is_at_start",
        "_last",
        "_n_unfinished",
        "_send_timeout_s",
        "_unread",
        "_waits_since",
    )

    def __init__(
        self, server: web.Server, head_timeout_s: float, send_timeout_s: float, **options: Any
    ) -> None:
        """End the connection when the client takes longer over a head, or over reading."""
        super().__init__(server, keepalive_timeout=KEEPALIVE_S, **options)
        self._head_timeout_s = head_timeout_s
        self._send_timeout_s = send_timeout_s
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread = b""  # while the queue is full
        self._last: Queued | None = None  # the request that came last
        self._in_body = False  # it is not here as a whole
        self._is_at_start = False  # nothing is unfinished, and no clock runs
        self._n_unfinished = 0  # bytes of a head, or of chunks and trailers
        self._held = b""  # the begin of an unfinished head is in here
        self._waits_since = 0.0  # for the client to go on

    @property
    def idle_since(self) -> float | None:
        """Return the loop's time since when we wait for the client; None if he waits for us."""
        is_idle = self._waiter is not None and not self._waiter.done()
        if not is_idle and not self._in_body and not self._paused:
            return None
        return max(self._next_keepalive_close_time - KEEPALIVE_S, self._waits_since)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the client a while for the first request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop the clock."""
        super().connection_lost(exc)
        self._stop_awaiting_head()

    async def start(self) -> None:
        """Answer, unless the client left before we began."""
        if self._manager is not None:
            await super().start()

    def drop(self) -> None:
        """End the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take a packet, behind each head anew: an error takes with it what is parsed with it."""
        self._unread += data
        while True:
            end = _end_of_head(self._unread, 0) or len(self._unread)
            part, self._unread = self._unread[:end], self._unread[end:]
            self._take(part)
            # While the queue is full, aiohttp reads nothing; it asks again when there is room.
            if not self._unread or len(self._messages) >= self._max_msg_queue_size:
                return

    def _take(self, data: bytes) -> None:
        """Let aiohttp parse; look closer at all but what is one whole request."""
        if self._in_body and self._is_too_much(data):
            self._refuse(431, is_of_last=True)
            return
        n_before = self._request_count
        super().data_received(data)
        if self._request_count == n_before:
            self._look_at_part(data)
            return
        if self._is_at_start:
            message, body = last = self._messages[-1]
            if type(message) is RawRequestMessage and body.is_eof() and len(data) <= MAX_HEAD_BYTES:
                end = len(message.method) + 1 + len(message.path)
                if data[end : end + 8] == b" HTTP/1.":  # so each space before it is a single one
                    self._last, self._held = last, data
                    return
        self._look_at_request(data)

    def _look_at_request(self, data: bytes) -> None:
        """Leave what aiohttp has queued, a request or an error, if it is right; else refuse it."""
        raw = self._held + data
        message, body = last = self._messages.pop()
        at, status = 0, 400
        if type(message) is RawRequestMessage:
            at, status = _judged(message, raw, _end_of_head(self._held, 0))
            # Not all of an unfinished head is held.
            if max(len(raw) - at, self._n_unfinished + len(data)) > MAX_HEAD_BYTES:
                status = status or 431
        self._stop_awaiting_head()
        if status:
            is_in_body = self._last is not None and not self._last[1].is_eof()
            self._refuse(status, is_of_last=is_in_body)
            return
        self._messages.append(last)
        self._last = last
        self._in_body = not body.is_eof()
        self._is_at_start = not self._in_body
        self._n_unfinished = 0
        self._waits_since = self._loop.time()
        self._held = raw[at:][-MAX_HEAD_BYTES:]

    def _look_at_part(self, data: bytes) -> None:
        """Bound what is no whole head yet, or a body."""
        if self._in_body:
            self._look_at_body(data)
        elif data:
            self._is_at_start = False
            if self._n_unfinished < _MAX_LINE_BYTES:  # what comes behind the first line is not held
                self._held += data[:_MAX_LINE_BYTES]
            self._await_head()
            self._n_unfinished += len(data)
            if self._n_unfinished > MAX_HEAD_BYTES:
                self._refuse(431, is_of_last=False)

    def _look_at_body(self, data: bytes) -> None:
        """See whether the body has ended."""
        assert self._last is not None
        if self._last[1].is_eof():
            self._in_body, self._is_at_start = False, True
            self._held, self._n_unfinished = data[-MAX_HEAD_BYTES:], 0

    def _is_too_much(self, data: bytes) -> bool:
        """Bound chunks and trailers; a body of known length is the handler's."""
        assert self._last is not None
        if self._last[0].chunked:
            self._n_unfinished += len(data)
        return self._n_unfinished > MAX_HEAD_BYTES

    def _refuse(self, status: int, *, is_of_last: bool) -> None:
        """Answer this to what came last, and take nothing more.

        If `is_of_last` request, whose body or trailers are wrong, this is its answer.
        """
        self._parser = _Deaf()  # type: ignore[assignment]
        self._held = b""
        last = self._last
        if is_of_last and last is not None:
            if self._messages and self._messages[-1] is last:
                self._messages.pop()
            else:
                self._fail(last[1], status)
                return
        self._messages.append((_ErrInfo(status, _refusal(status), ""), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, body: StreamReader, status: int) -> None:
        """Tell the handler, if it still reads, that the body will not come."""
        body.set_exception(_refusal(status))
        self.close()
        request = self._current_request
        if request is not None:
            request._message = request._message._replace(should_close=True)

    def _await_head(self) -> None:
        """Give the client a while to finish a head, from its first byte on."""
        if self._head_timer is None:
            self._waits_since = self._loop.time()
            self._head_timer = self._loop.call_later(self._head_timeout_s, self._end_head)

    def _stop_awaiting_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_head(self) -> None:
        self._head_timer = None
        if self._waiter is not None and not self._waiter.done():
            self.force_close()
        else:  # the answer to an earlier request is still to come
            self._await_head()

    def pause_writing(self) -> None:
        """Give the client a while to read what we have for him."""
        super().pause_writing()
        assert self.transport is not None
        self._waits_since = self._loop.time()
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
        is_gone = self.transport is None or self.transport.is_closing()
        if is_gone and isinstance(exc, ConnectionError):
            raise exc  # so that aiohttp forgets the request
        if isinstance(exc, BadRequest):
            response = error_answer(status, exc.code, exc.message)
        elif status < 500:
            response = error_answer(status, "bad_request", _NOT_UNDERSTOOD)
        else:
            log.error("cannot answer %s %.200r", request.method, request.raw_path, exc_info=exc)
            response = error_answer(status, "internal", "this is our fault; the log says more")
        response.force_close()
        return response


def _refusal(status: int) -> BadRequest:
    if status == 431:
        return BadRequest("head_too_large", _TOO_LONG, status=431)
    return BadRequest("bad_request", _NOT_UNDERSTOOD)


def _end_of_head(raw: bytes, start: int) -> int:
    """Return where the first head ends, or `start` where none does."""
    at = raw.find(_END_OF_HEAD, start)
    return start if at < 0 else at + len(_END_OF_HEAD)


def _judged(message: RawRequestMessage, raw: bytes, start: int) -> tuple[int, int]:
    """Return where in what came the head of a request begins, and the status that refuses it, or 0.

    It begins at `start` or somewhere behind, where the body before it ends.
    """
    method, target = message.method.encode(), message.path.encode()
    line = b"%b %b HTTP/1." % (method, target)
    if not raw.startswith(line, start):
        like = rb"%b +%b +[A-Z]+/" % (re.escape(method), re.escape(target))
        found = re.compile(like).search(raw, start)
        if found is None or not raw.startswith(line, found.start()):
            return start, 400  # another protocol or version, or doubled spaces
        start = found.start()
    return start, 0
