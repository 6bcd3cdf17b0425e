"""One request: its head as the parser understood it, and its body."""

from typing import Self

import msgspec
from aiohttp import HttpVersion
from aiohttp.helpers import set_exception
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDictProxy

from hitcounter.client_address import Client
from hitcounter.web.sending import Sending

Headers = CIMultiDictProxy[str]


class Request(msgspec.Struct, eq=False):
    """A request on a connection.

    `raw_path` is as it came. `is_last` says that nothing may follow on its connection; `client` is
    who sent it, once that is known and no flood; nothing is missed that a request would do which
    `is_given_up_when_left`.
    """

    method: str
    raw_path: str
    headers: Headers
    version: HttpVersion
    is_last: bool
    body: StreamReader
    connection: Sending
    client: Client | None = None
    is_given_up_when_left: bool = False

    @classmethod
    def of(cls, message: RawRequestMessage, body: StreamReader, connection: Sending) -> Self:
        """Take what was parsed."""
        return cls(
            message.method,
            message.path,
            message.headers,
            message.version,
            message.should_close or message.upgrade,  # also CONNECT: what comes then is no HTTP
            body,
            connection,
        )

    def _cancel(self, error: BaseException) -> None:
        """Tell who reads the body that it will not come, as aiohttp does when it gives up."""
        set_exception(self.body, error)
