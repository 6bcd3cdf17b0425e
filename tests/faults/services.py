"""The services that go through the schedules: ours, and one that counts the usual way.

Both hold one port for good, however often they are started, so that clients find them again and
nobody else takes it meanwhile.
"""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from hitcounter.exactly_once.journal_file import SUFFIX
from tests import conftest
from tests.conftest import RunningService
from tests.faults.proxy import reserved_port
from tests.faults.schedule import Setting
from tests.support.load import zone_at_noon
from tests.support.waiting import comes_true

N_WORKERS = 2
STORE_TIMEOUT_S = 0.3
START_DEADLINE_S = 30.0
ROOT = Path(__file__).parents[2]


class Service(Protocol):
    """What can be done to a service."""

    @property
    def port(self) -> int:
        """Give the port that clients use."""

    async def start(self) -> None:
        """Start it, on the files of its predecessor."""

    async def end(self) -> int:
        """Tell it to end; return its exit code."""

    async def kill(self) -> None:
        """Kill the process that all others belong to."""

    def signal(self, number: int) -> None:
        """Send a signal to the process that all others belong to."""

    def worker_pids(self) -> list[int]:
        """List the processes that serve, and are started again by themselves."""

    def journals(self) -> list[str]:
        """List what waits on its disk."""

    def log(self) -> str:
        """Read what it has logged."""

    def close(self) -> None:
        """Give its port back; it has ended."""


class RealService:
    """The real `hitcounter serve`."""

    def __init__(
        self, directory: Path, store_port: int, setting: Setting, sites: Sequence[str]
    ) -> None:
        """Prepare a service; one that is not open declares `sites`."""
        self._directory = directory
        self._holder = reserved_port()
        self._running: RunningService | None = None
        self._settings = {
            "workers": str(N_WORKERS),
            "port": str(self.port),
            "redis_url": f"redis://127.0.0.1:{store_port}/0",
            "kept_window_s": str(setting.kind.kept_window_s),
            "store_timeout_s": str(STORE_TIMEOUT_S),
            "timezone": zone_at_noon(),
        }
        if not setting.is_open:
            path = directory / "sites.toml"
            path.write_text("".join(f'[sites."{site}"]\n' for site in sites))
            self._settings["config"] = str(path)

    @property
    def port(self) -> int:
        """Give the port."""
        return int(self._holder.getsockname()[1])

    async def start(self) -> None:
        """Start it; what is left of a killed predecessor may hold the port for a while."""
        give_up_at_s = time.monotonic() + START_DEADLINE_S
        while True:
            starting = asyncio.to_thread(conftest.start, self._directory, self._settings)
            try:
                self._running = await asyncio.wait_for(starting, START_DEADLINE_S)
                return
            except AssertionError:
                if "in use" not in self._last_words() or time.monotonic() > give_up_at_s:
                    raise

    def _last_words(self) -> str:
        return (self.log().splitlines() or [""])[-1]

    async def end(self) -> int:
        """Tell the service to end."""
        return await self._ended(signal.SIGTERM)

    async def kill(self) -> None:
        """Kill the supervisor."""
        await self._ended(signal.SIGKILL)

    async def _ended(self, number: int) -> int:
        running, self._running = self._running, None
        if running is None:
            return 0
        try:
            return await asyncio.to_thread(running.stop, number)
        finally:
            assert running.process.stdout is not None
            running.process.stdout.close()

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor."""
        if self._running is not None:
            self._running.process.send_signal(number)

    def worker_pids(self) -> list[int]:
        """List the workers; none while there is no supervisor."""
        try:
            return self._running.worker_pids() if self._running else []
        except (FileNotFoundError, ProcessLookupError):
            return []

    def journals(self) -> list[str]:
        """List the files of the journal that hold anything.

        A worker that is killed while it makes its file leaves an empty one, perhaps with a log
        beside it. Both are swept away when they are a minute old.
        """
        sizes = {path.name: _size(path) for path in self._directory.glob("data/journal/*")}
        empty = tuple(name for name, size in sizes.items() if name.endswith(SUFFIX) and not size)
        left = {name: size for name, size in sizes.items() if not name.startswith(empty)}
        return [f"{name} ({size} bytes)" for name, size in sorted(left.items()) if size]

    def log(self) -> str:
        """Read what the service has logged."""
        return (self._directory / "service.log").read_text()

    def close(self) -> None:
        """Give the port back."""
        self._holder.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class NaiveService:
    """The service of `naive`: one process, no journal."""

    def __init__(self, directory: Path, store_port: int) -> None:
        """Prepare a service that counts into the store behind a port."""
        self._log_path = directory / "naive.log"
        self._holder = reserved_port()
        self._store_port = store_port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """Give the port."""
        return int(self._holder.getsockname()[1])

    async def start(self) -> None:
        """Start it, and wait until it takes connections."""
        command = [sys.executable, "-m", "tests.faults.naive", str(self.port)]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 -- it does not wait for the process
                [*command, str(self._store_port)], cwd=ROOT, stdout=log, stderr=log
            )
        await comes_true(self._listens, "the naive service listens")

    def _listens(self) -> bool:
        assert self._process is None or self._process.poll() is None, self.log()
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True

    async def end(self) -> int:
        """Tell the process to end."""
        self.signal(signal.SIGTERM)
        return await self._ended()

    async def kill(self) -> None:
        """Kill the process."""
        self.signal(signal.SIGKILL)
        await self._ended()

    async def _ended(self) -> int:
        process, self._process = self._process, None
        return await asyncio.to_thread(process.wait, START_DEADLINE_S) if process else 0

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        if self._process is not None:
            self._process.send_signal(number)

    def worker_pids(self) -> list[int]:
        """List none: nobody would start one again."""
        return []

    def journals(self) -> list[str]:
        """List none."""
        return []

    def log(self) -> str:
        """Read what the service has logged."""
        return self._log_path.read_text()

    def close(self) -> None:
        """Give the port back."""
        self._holder.close()
