"""A relay before the counter that loses answers as networks and proxies do.

Each fault is used up by one request of the API. Whatever is lost, the hit has been counted: the
relay has read the whole answer before it hangs up.
"""

import asyncio
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

# Nothing of the answer arrives; its first half does; nothing, and the connection stays open; all of
# it, but only when it is released; another answer comes, of a proxy that gave up.
Fault = Literal["lose", "halve", "hang", "hold", "gateway"]
GATEWAY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: 4\r\n"
    b"Access-Control-Allow-Origin: *\r\nRetry-After: 2\r\nConnection: close\r\n\r\noops"
)
_RESET = struct.pack("ii", 1, 0)  # linger for no time at all: RST instead of FIN
_API = b" /v1/"


@dataclass(slots=True)
class Relay:
    """A running relay: what has passed, and what shall go wrong next."""

    service_port: int
    site: str = "demo"
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Give the address that a page takes for the counter's."""
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Carry one request, and its answer if no fault is due."""
        try:
            request = await _read_message(reader)
            if request:
                await self._carry(request, reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async def _carry(self, request: bytes, reader: StreamReader, writer: StreamWriter) -> None:
        self.received.append(request)
        fault = self._note(request)
        answer = await self._answer(request)
        if fault == "hold":
            await self.released.wait()
        if fault == "hang":
            await reader.read()  # until the browser gives up
        elif fault in ("lose", "halve"):
            writer.write(answer[: len(answer) // 2] if fault == "halve" else b"")
            await writer.drain()
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        else:
            writer.write(GATEWAY if fault == "gateway" else answer)
            writer.close()
            await writer.wait_closed()

    def _note(self, request: bytes) -> Fault | None:
        head, _, body = request.partition(b"\r\n\r\n")
        if _API not in head.partition(b"\r\n")[0]:
            return None
        self.asked.append(head.partition(b" HTTP/")[0].decode())
        if body:
            self.bodies.append(msgspec.json.decode(body))
        return self.faults.pop(0) if self.faults else None

    async def _answer(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.service_port)
        writer.write(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        try:
            return await reader.read()
        finally:
            writer.transport.abort()


async def _read_message(reader: StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""  # a connection that was opened in advance, and not used
    lines = head.lower().split(b"\r\n")
    # One request per connection, so that a fault meets the request that it is meant for.
    kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    sizes = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
    return b"\r\n".join(kept) + await reader.readexactly(sum(sizes))


@asynccontextmanager
async def relaying(service_port: int, site: str) -> AsyncIterator[Relay]:
    """Run a relay before a service on a loopback port that the system picks."""
    relay = Relay(service_port, site)
    server = await asyncio.start_server(relay.handle, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    async with server:
        yield relay
