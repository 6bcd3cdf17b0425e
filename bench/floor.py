"""What no service on this parser and this loop can go below: a protocol that parses and answers.

It has no connection timeouts, no routes, no task and no objects for requests and answers.
"""

import asyncio

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser

from bench.serving import run, serve_protocol

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Type: text/plain\r\n\r\n"
READ_BYTES = 1 << 16


class Floor(BaseProtocol):
    """Answers every request with the same bytes."""

    def __init__(self) -> None:
        """Parse as aiohttp's own server does."""
        loop = asyncio.get_running_loop()
        self._parsing = HttpRequestParser(self, loop, READ_BYTES)
        super().__init__(loop, self._parsing)

    def data_received(self, data: bytes) -> None:
        """Answer the requests that are complete with this."""
        assert self.transport is not None
        for _ in self._parsing.feed_data(data)[0]:
            self.transport.write(ANSWER)


if __name__ == "__main__":
    run(serve_protocol(Floor))
