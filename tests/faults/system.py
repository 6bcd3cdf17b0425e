"""A service, its own store and the proxy between them, started and ended together.

Whatever they start has the system's own directory as its `TMPDIR`: files that a killed process
leaves go with that directory, and processes are found by it. At the end none of them may run, and
those that do are reported and killed.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from unittest.mock import patch

from tests.faults.power import PoweredStore
from tests.faults.proxy import Proxy
from tests.faults.schedule import Setting
from tests.faults.services import NaiveService, RealService, Service
from tests.support.processes import is_running, signal_all
from tests.support.waiting import POLL_S

ENDED_DEADLINE_S = 15.0
TRACING = Path(__file__).parent / "tracing"  # which lets workers tell what their lanes do
LANE_TRACE = "lanes"


class Events:
    """What was done when, in seconds since this began."""

    def __init__(self) -> None:
        """Begin."""
        self._since_s = time.monotonic()
        self.lines: list[str] = []

    def note(self, what: str) -> None:
        """Note an event that happens now."""
        self.lines.append(f"{time.monotonic() - self._since_s:8.3f} s  {what}")


class System:
    """Everything that faults can hit."""

    def __init__(
        self, directory: Path, setting: Setting, sites: Sequence[str], *, is_naive: bool = False
    ) -> None:
        """Prepare everything in an empty directory; nothing is started yet."""
        self.setting = setting
        self.store = PoweredStore(directory / "store", setting.program, setting.kind.appendfsync)
        self.proxy = Proxy(self.store.socket_path)
        self.service: Service = (
            NaiveService(directory, self.proxy.port)
            if is_naive
            else RealService(directory, self.proxy.port, setting, sites)
        )
        self.events = Events()
        # Faults of one part wait for each other; those of different parts overlap.
        self.on_network, self.on_store, self.on_service = (asyncio.Lock() for _ in range(3))

    async def start(self) -> None:
        """Start the store, the proxy and the service."""
        await self.store.start()
        await self.proxy.heal()
        await self.service.start()

    async def end(self) -> None:
        """Tell everything to end, the store last."""
        try:
            await self.service.end()
        finally:
            self.service.close()
            await self.proxy.close()
            await self.store.end()


@asynccontextmanager
async def running(
    directory: Path, setting: Setting, sites: Sequence[str], *, is_naive: bool = False
) -> AsyncIterator[System]:
    """Run a system; raise `AssertionError` if a process outlives it."""
    system = System(directory, setting, sites, is_naive=is_naive)
    measuring = asyncio.create_task(system.store.measure())
    trace = {"PYTHONPATH": str(TRACING), "LANE_TRACE": str(directory / LANE_TRACE)}
    with patch.dict(os.environ, {"TMPDIR": str(directory)} | trace):
        try:
            await system.start()
            yield system
        finally:
            try:
                signal_all(processes_of(directory), signal.SIGCONT)
                await system.end()
            finally:
                measuring.cancel()
                await _expect_no_process(directory)


async def _expect_no_process(directory: Path) -> None:
    give_up_at_s = time.monotonic() + ENDED_DEADLINE_S
    while (pids := processes_of(directory)) and time.monotonic() < give_up_at_s:
        await asyncio.sleep(POLL_S)
    left = [line for pid in pids if (line := _command_line(pid))]
    signal_all(pids, signal.SIGKILL)
    assert left == [], f"left running, and killed now: {left}"


def _command_line(pid: int) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def processes_of(directory: Path) -> list[int]:
    """Find every process of this machine that was started with a directory as its `TMPDIR`."""
    mark = f"TMPDIR={directory}\0".encode()
    environments = Path("/proc").glob("[0-9]*/environ")
    return [int(path.parent.name) for path in environments if _holds(path, mark)]


def _holds(environment: Path, mark: bytes) -> bool:
    try:
        return mark in environment.read_bytes() and is_running(int(environment.parent.name))
    except OSError:  # another user's, or gone
        return False
