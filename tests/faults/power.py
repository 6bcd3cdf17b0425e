"""A store server that can lose power.

A power loss is a kill -9, and then the log is cut to something that the disk could hold:

- With `appendfsync always` an answer comes after the sync, so the disk holds every acknowledged
  command. Beyond that it may hold the beginning of a command that nobody was answered: it is
  appended.
- With `appendfsync everysec` the server syncs once a second what it has written, so the disk holds
  at least what the file held `MAX_UNSYNCED_S` ago, and of the rest any beginning, down to half a
  command. The cut is drawn from that range. What the file held when is known by measuring it all
  the time; where measurements are missing the cut is more careful, never deeper. What survives a
  power loss is on the disk, and no later cut goes below it.

A server whose last sync is slow answers before it writes (for up to two seconds). The kept window
has to cover that as well, so it is longer than `MAX_UNSYNCED_S` by more than any sync takes.
"""

import asyncio
import os
import random
import signal
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path

from tests.support.servers import StoreServer, store_server

MAX_UNSYNCED_S = 1.0
MEASURED_EVERY_S = 0.01
TORN = b"*3\r\n$3\r\nSET\r\n$10\r\nunanswered\r\n$1\r\n1\r\n"


class PoweredStore:
    """A store server on the files of one directory, started again after each end."""

    def __init__(self, directory: Path, program: str, appendfsync: str) -> None:
        """Choose the server; nothing is started yet."""
        self.directory = directory
        self._program = program
        self._appendfsync = appendfsync
        self._running = ExitStack()
        self._server: StoreServer | None = None
        self._sizes: deque[tuple[float, int]] = deque(maxlen=round(10 / MEASURED_EVERY_S))

    @property
    def socket_path(self) -> Path:
        """Give the path of its socket, the same after every start."""
        return self.directory / "socket"

    async def start(self) -> None:
        """Start the server on what its files hold."""
        options = ("--appendfsync", self._appendfsync, "--maxmemory-policy", "noeviction")
        starting = store_server(self.directory, *options, program=self._program)
        self._server = await asyncio.to_thread(self._running.enter_context, starting)

    async def end(self) -> None:
        """Tell the server to end, and wait until it has."""
        await asyncio.to_thread(self._running.close)

    def signal(self, number: int) -> None:
        """Send a signal to the server."""
        if self._server is not None:
            self._server.process.send_signal(number)

    async def kill(self) -> None:
        """Kill the server."""
        self.signal(signal.SIGKILL)
        await self.end()

    async def cut_power(self, pick: int) -> str:
        """Kill the server and leave on its disk what a power loss could; tell what that is."""
        await self.kill()
        path, size = self._log(), self._log().stat().st_size
        if self._appendfsync == "always":
            torn = TORN[: pick % len(TORN)]
            with path.open("ab") as log:
                log.write(torn)
            return f"{len(torn)} unanswered bytes are in the log"
        kept = random.Random(pick).randint(self._synced(size), size)
        os.truncate(path, kept)
        self._sizes.clear()
        self._sizes.append((time.monotonic(), kept))
        return f"{size - kept} of {size} bytes are cut off the log"

    def _synced(self, size: int) -> int:
        """Give a size of the log that is synced for sure."""
        unsynced_since = time.monotonic() - MAX_UNSYNCED_S
        held = (held for at, held in self._sizes if at >= unsynced_since)
        return min(next(held, size), size)  # a start drops the half command at the end

    async def measure(self) -> None:
        """Note the size of the log all the time, until cancelled."""
        while True:
            at = time.monotonic()  # before the look: the file held at least that much later
            if self._logs():
                self._sizes.append((at, self._log().stat().st_size))
            await asyncio.sleep(MEASURED_EVERY_S)

    def _log(self) -> Path:
        (path,) = self._logs()
        return path

    def _logs(self) -> list[Path]:
        return list(self.directory.glob("appendonlydir/*.incr.aof"))
