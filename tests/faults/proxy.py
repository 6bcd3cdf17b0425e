"""A TCP proxy before a store that does what networks do at their worst.

It never invents, changes or repeats a byte; it only delays bytes, or drops all that follow on a
connection. So whatever comes of it could have come of a real network.

    lose      a writing command goes through and is applied; its reply is lost with the connection
    hold      bytes of requests, replies or both wait, and arrive in order when the hold ends: also
              requests of a client that has hung up meanwhile
    strand    a writing command gets stuck with its connection, new ones work; it arrives much
              later, as late packets do, when its client is gone and has sent it again elsewhere
    cut       every connection ends now, by RST or FIN
    refuse    the port is closed
"""

import asyncio
import contextlib
import random
import socket
import struct
from asyncio import StreamReader, StreamWriter
from pathlib import Path

CHUNK_BYTES = 64 * 1024
WRITES = (b"EVAL", b"EXEC")  # what carries increments: our scripts, a naive transaction
_RESET = struct.pack("ii", 1, 0)  # linger for no time at all: RST instead of FIN


def reserved_port() -> socket.socket:
    """Bind a port without listening: nobody else gets it, and we can listen on it repeatedly."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


class Proxy:
    """A port that leads to the unix socket of a store, and the faults on the way."""

    def __init__(self, store: Path) -> None:
        """Take a port; it is closed before `heal`."""
        self._store = store
        self._holder = reserved_port()
        self._server: asyncio.Server | None = None
        self._ways: dict[asyncio.Task[None], _Way] = {}
        self._draw = random.Random(0)
        self.requests_flow, self.replies_flow = asyncio.Event(), asyncio.Event()
        self.requests_flow.set()
        self.replies_flow.set()
        self.strands: asyncio.Event | None = None  # what commands that get stuck wait for
        self.loses = 0.0
        self.n_lost = self.n_late = 0

    @property
    def port(self) -> int:
        """Give the port."""
        return int(self._holder.getsockname()[1])

    async def heal(self) -> None:
        """Open the port and let everything through, what was held first; not what is stuck."""
        self.loses = 0.0
        self.requests_flow.set()
        self.replies_flow.set()
        if self._server is None:
            await self._accept()

    async def _accept(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        self._server = await asyncio.start_server(self._connected, sock=listener)

    def refuse(self) -> None:
        """Close the port; connections that are open stay."""
        if self._server is not None:
            self._server.close()
        self._server = None

    def cut(self, *, reset: bool) -> None:
        """End the connections of all clients; what they sent before may still arrive."""
        for way in self._ways.values():
            way.hang_up(reset=reset)

    def is_lost(self) -> bool:
        """Decide for one reply whether it gets lost."""
        lost = self._draw.random() < self.loses
        self.n_lost += lost
        return lost

    async def close(self) -> None:
        """End everything, and give the port back."""
        self.refuse()
        tasks = list(self._ways)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._holder.close()

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            store = await asyncio.open_unix_connection(str(self._store))
        except OSError:  # the store is down
            writer.transport.abort()
            return
        self._ways[task] = way = _Way(self, (reader, writer), store)
        try:
            await way.carry()
        finally:
            way.close()
            del self._ways[task]


class _Way:
    """One client's connection and the one to the store that belongs to it."""

    def __init__(
        self,
        proxy: Proxy,
        client: tuple[StreamReader, StreamWriter],
        store: tuple[StreamReader, StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._from_client, self._to_client = client
        self._from_store, self._to_store = store
        self._is_writing = False
        self._passage = asyncio.Event()
        self._passage.set()

    async def carry(self) -> None:
        """Carry bytes until one side has ended, and all that it sent is delivered."""
        pumps = [asyncio.create_task(pump) for pump in (self._requests(), self._replies())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _requests(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._from_client.read(CHUNK_BYTES):
                self._is_writing = any(name in data for name in WRITES)
                if self._is_writing and self._proxy.strands is not None:
                    self._passage = self._proxy.strands
                await self._passage.wait()
                await self._proxy.requests_flow.wait()
                self._proxy.n_late += self._is_writing and self._client_is_gone()
                self._to_store.write(data)

    async def _replies(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._from_store.read(CHUNK_BYTES):
                if self._is_writing and self._proxy.is_lost():
                    return
                await self._proxy.replies_flow.wait()
                self._to_client.write(data)

    def _client_is_gone(self) -> bool:
        return self._from_client.at_eof() or self._to_client.transport.is_closing()

    def hang_up(self, *, reset: bool) -> None:
        """End the client's side; the other side follows when all is delivered."""
        if not reset:
            self._to_client.close()
        elif not self._to_client.transport.is_closing():
            sock = self._to_client.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._to_client.transport.abort()

    def close(self) -> None:
        """End both sides; what was written to the store still arrives there."""
        self._to_client.transport.abort()
        self._to_store.close()
