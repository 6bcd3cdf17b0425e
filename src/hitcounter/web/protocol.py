"""One connection: what aiohttp leaves open of HTTP, and how long a client may take.

aiohttp parses; it gets each head and each body apart, and we look at what it found in them. Nothing
that is refused takes with it what was asked before on the same connection, and after it nothing is
a request.
"""

from collections import deque
from typing import Any

from aiohttp import hdrs
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from hitcounter.errors import Refusal
from hitcounter.web.answering import Answering
from hitcounter.web.heads import (
    END_OF_HEAD,
    LONG_HEAD_BYTES,
    MAX_HEAD_BYTES,
    end_of_head,
    has_line_of,
    is_whole,
    refusal,
    tail_of,
)
from hitcounter.web.request import Request

_MAX_LINE_BYTES = 9 << 10  # aiohttp takes less
_PART_BYTES = 256  # as which even a blank line counts, as it costs no less to take


class Connection(Answering):
    """Ends a connection that stands still, and answers what is not HTTP."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._is_deaf = False  # nothing that comes is a request any more
        self._unread = b""  # while the queue is full
        self._last: Request | None = None  # which is not here as a whole
        self._n_left = 0  # bytes of its body still to come, if it said how many
        self._n_unfinished = 0  # bytes so far of a head, or of chunks and trailers
        self._held = b""  # the begin of an unfinished head
        self._tail = b""  # the end of what is unfinished, as the end of a head may come in parts
        self._sizes = deque[int]()  # of the requests in the queue
        self._n_current = 0  # bytes of the request that was taken up last
        self._n_counted = 0  # bytes of ours that the server knows to be waiting

    @property
    def is_idle(self) -> bool:
        """Return whether we wait for the client, and it not for us."""
        has_answered = self._waiter is not None and not self._waiter.done()
        return has_answered or self._last is not None or self._paused

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop where nobody else needs the end of a request, or of a body that is passed over."""
        request = self._current_request
        if self._task_handler and (request is None or request.is_given_up_when_left):
            self._task_handler.cancel()
        super().connection_lost(exc)
        self._last = None  # whose body knows us: nobody has to look for the circle
        self._count_waiting()

    def drop(self) -> None:
        """End the connection at once."""
        self.send()
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Let aiohttp parse in parts: an error takes with it what is parsed with it."""
        # The answers before may be slow to leave, and what comes is endless.
        if self._is_deaf or self._close or self._force_close:
            return
        is_behind = self._held or self._last or self._unread or self._messages
        if not is_behind and is_whole(data):  # as most requests come
            if not self._has_repeated(data):
                self._parse_head(data)
            return
        if self._terms.waiting.is_too_much(self._n_counted + len(data)):
            self._is_deaf = True
            self.drop()
            return
        self._unread += data
        self._take_unread()
        self._count_waiting()

    def _take_unread(self) -> None:
        at = 0
        while not self._is_deaf:
            # Where what begins there ends: a head, what may be one in chunks, or a body.
            end = at + self._n_left if self._n_left else end_of_head(self._unread, at, self._tail)
            part = self._unread[at:end]
            self._take_of_body(part) if self._last else self._take_of_head(part)
            at = end
            # While the queue is full, nothing is read; aiohttp asks again when there is room.
            if len(self._messages) >= self._max_msg_queue_size:
                if not self._buffer_paused:
                    self._pause_reading_for_buffer()
                break
            if at >= len(self._unread):
                break
        self._unread = self._unread[at:]

    def _take_up(self) -> None:
        """Begin with the next request, whose head stays in memory until the one after it."""
        n_before, self._n_current = self._n_current, self._sizes.popleft() if self._sizes else 0
        if n_before or self._n_current:
            self._count_waiting()

    def _count_waiting(self) -> None:
        """Add up what waits here and elsewhere."""
        is_open = self.transport is not None
        n_waiting = sum(self._sizes) + self._n_unfinished + len(self._unread)
        n_bytes = is_open and self._n_current + n_waiting
        self._terms.waiting.n_bytes += n_bytes - self._n_counted
        self._n_counted = n_bytes

    def _take_of_head(self, data: bytes) -> None:
        """Take a head, or some of it; a whole one is a request, or else refused."""
        if self._is_too_much(data):
            self._refuse(431)
            return
        if self._n_unfinished > LONG_HEAD_BYTES:
            self._max_msg_queue_size = 1  # whoever sends such may wait for each answer
        self._parse_head(data)

    def _parse_head(self, data: bytes) -> None:
        parsed = self._parsed(data)
        if parsed is not None:
            self._judge(*parsed, self._held + data)
        elif data:
            self._tail = tail_of(self._tail + data)
            if len(self._held) < _MAX_LINE_BYTES:
                self._held += data[:_MAX_LINE_BYTES]
            if self._is_at_start:
                self._is_at_start = False
                self._await_head()

    def _parsed(self, data: bytes) -> tuple[Any, StreamReader] | None:
        """Let aiohttp parse a part; return the head that ends there, or an error, and a body."""
        assert self._parser is not None
        try:
            messages, is_upgraded, _ = self._parser.feed_data(data)
        except HttpProcessingError as error:
            return error.with_traceback(None), EMPTY_PAYLOAD  # which knows who called us
        self._is_deaf = is_upgraded  # what comes then is no HTTP
        return messages[0] if messages else None

    def _judge(self, message: Any, body: StreamReader, head: bytes) -> None:
        """Queue a request if its first line is right."""
        # An error; another protocol or version; or a first line with more than one space in a row.
        if type(message) is not RawRequestMessage or not has_line_of(message, head):
            self._refuse(400)
            return
        size_bytes, self._n_unfinished = self._n_unfinished, 0  # 0 of what is small and came alone
        if not self._is_at_start:
            self._begin_anew()
        request = Request.of(message, body, self)
        if body.is_eof():
            # One at a time: of many in a packet, others have their turn in between.
            if not self._unread and self._has_answered(request, head):
                return
        else:
            self._last, self._is_at_start = request, False
            self._n_left = 0 if message.chunked else int(message.headers[hdrs.CONTENT_LENGTH])
            self._wait()
        self._sizes.append(size_bytes)
        self._queue(request)

    def _take_of_body(self, data: bytes) -> None:
        """Take some of a body, whose errors and whose size the last request has to answer for."""
        assert self._last is not None
        if self._n_left:
            self._n_left -= len(data)
            if self._sizes:
                self._sizes[-1] += len(data)
        elif self._is_too_much(data):
            self._refuse(431)
            return
        if self._parsed(data) is not None:
            self._refuse(400)
        elif self._last.body.is_eof():
            self._begin_anew()
        elif not self._n_left:
            self._tail = tail_of(self._tail + data)

    def _begin_anew(self) -> None:
        self._last, self._is_at_start = None, True
        self._held, self._tail, self._n_unfinished = b"", b"", 0

    def _is_too_much(self, data: bytes) -> bool:
        is_whole = data.endswith(END_OF_HEAD)  # or blank lines, in a head or in chunks
        self._n_unfinished += max(len(data), _PART_BYTES) if is_whole else len(data)
        return self._n_unfinished > MAX_HEAD_BYTES

    def _refuse(self, status: int) -> None:
        """Answer this to what came last, and take nothing more.

        For a request whose body or trailers are wrong, this is its answer.
        """
        self._is_deaf, self._unread = True, b""
        if self._last is not None:
            if self._messages and self._messages[-1] is self._last:
                self._messages.pop()
            else:
                self._fail(self._last, refusal(status))
                return
        self._queue(refusal(status))

    def _fail(self, request: Request, error: Refusal) -> None:
        """Tell the handler, if it still reads, that the body will not come."""
        request.is_last = True
        request.body.set_exception(error)
        # Whoever was woken by what came before it waits again without a look at it.
        self._loop.call_soon(request.body.set_exception, error)
        self.close()
