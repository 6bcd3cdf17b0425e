"""A way to a store that ends after so many bytes, in the middle of whatever they are."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

CHUNK_BYTES = 64 * 1024
POLL_S = 0.01
N_TURNS = 10  # of the loop: asyncio opens what it accepted in a few
REQUESTS, REPLIES = "requests", "replies"
DIRECTIONS = (REQUESTS, REPLIES)


class Cutter:
    """A unix socket that leads to that of a store; `cut` says where the next connection ends."""

    def __init__(self, path: Path, store_path: Path) -> None:
        """Lead from one path to the other; nothing is cut yet."""
        self.path = path
        self._store_path = store_path
        self._server: asyncio.Server | None = None
        self._left_bytes: dict[str, int] = {}
        self._is_noticed = True
        self._open: dict[asyncio.Task[None], list[StreamWriter]] = {}
        self.carried_bytes = dict.fromkeys(DIRECTIONS, 0)

    @property
    def url(self) -> str:
        """Give the address of the socket."""
        return f"unix://{self.path}"

    @property
    def has_cut(self) -> bool:
        """Tell whether what was ordered has happened."""
        return not self._left_bytes

    def cut(self, direction: str, n_bytes: int, *, is_noticed: bool = True) -> None:
        """End the connection after so many more bytes of requests or of replies, once.

        If it is not noticed, no end is told, and nothing that follows arrives.
        """
        self._left_bytes = {direction: n_bytes}
        self._is_noticed = is_noticed

    async def _carry(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = ends = [writer]
        store_reader, store_writer = await asyncio.open_unix_connection(str(self._store_path))
        ends.append(store_writer)
        ways = (reader, store_writer, REQUESTS), (store_reader, writer, REPLIES)
        pumps = [asyncio.create_task(self._pump(*way)) for way in ways]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.close()  # what was written before still arrives
        await asyncio.wait(pumps)
        for end in ends:
            with suppress(ConnectionError):
                await end.wait_closed()
        del self._open[task]

    async def _pump(self, reader: StreamReader, writer: StreamWriter, direction: str) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK_BYTES):
                self.carried_bytes[direction] += len(data)
                left = self._left_bytes.get(direction)
                if left is not None and len(data) >= left:
                    writer.write(data[:left])
                    self._left_bytes.clear()
                    if not self._is_noticed:
                        await self._swallow(reader)
                    return
                if left is not None:
                    self._left_bytes[direction] = left - len(data)
                writer.write(data)

    async def _swallow(self, reader: StreamReader) -> None:
        while await reader.read(CHUNK_BYTES):
            pass

    async def hang_up(self) -> None:
        """End all connections now, also those that are just opening."""
        for _ in range(N_TURNS):
            await asyncio.sleep(0)
        while self._open:
            for ends in self._open.values():
                for end in ends:
                    end.transport.abort()
            await asyncio.wait(list(self._open), timeout=POLL_S)

    async def open(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_unix_server(self._carry, str(self.path))

    async def close(self) -> None:
        """Take no more connections, and end those that are open: the store is away."""
        if self._server is not None:
            self._server.close()
            self.path.unlink(missing_ok=True)  # which Python 3.13 has done
        self._server = None
        await self.hang_up()


@asynccontextmanager
async def cutter(path: Path, store_path: Path) -> AsyncIterator[Cutter]:
    """Open a way to a store, until the test goes on."""
    way = Cutter(path, store_path)
    await way.open()
    try:
        yield way
    finally:
        await way.close()
