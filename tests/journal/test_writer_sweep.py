"""The production flush loop while its disk or its connection fails at every point, one by one.

What was acknowledged, as counted or as stored, is counted once in the end; what was refused as not
counted is not; and nobody waits for ever.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from hitcounter.exactly_once.adoption import Adoption
from hitcounter.exactly_once.journals import Journals
from hitcounter.exactly_once.writer import Writer
from hitcounter.metrics import Metrics
from hitcounter.store.client import Store
from tests.journal.conftest import TIMEOUT_S
from tests.journal.cutting import DIRECTIONS, Cutter, cutter
from tests.journal.entries import MAX_BYTES
from tests.journal.hits import COUNTED, STORED, expect_truth, hit, outcome
from tests.journal.injection import CALLS, Fault, Faults
from tests.journal.worker import lived, worker_of
from tests.support.servers import StoreServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(300)

KEPT_WINDOW_S = 0.2
# Each case waits for the writer to try again, so many run at once.
N_AT_ONCE = 48
N_PROCESSES = 6
STEP_BYTES = 5


async def replay_all(directory: Path, store: Store, metrics: Metrics) -> None:
    """Adopt all journals, until there are none."""
    journals = Journals(directory, MAX_BYTES)
    adoption = Adoption(store.connect, journals, metrics, KEPT_WINDOW_S)
    running = asyncio.create_task(adoption.run())

    async def are_replayed() -> bool:
        return running.done() or not list(directory.glob("*.journal"))

    await eventually(are_replayed, "all journals are replayed")
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


class Cuts:
    """Writers whose connections are cut, each at another byte."""

    def __init__(
        self, tmp_path: Path, directory: Path, server: StoreServer, metrics: Metrics
    ) -> None:
        """Let all of them write to one store and into one directory."""
        self._tmp_path = tmp_path
        self._directory = directory
        self._server = server
        self._metrics = metrics
        self.said: dict[str, str] = {}

    async def live(self, direction: str, n_bytes: int) -> bool:
        """Count hits, some before a cut and some after it; tell whether there was one."""
        async with self._writer(n_bytes) as (way, writer):
            await self._count(writer, f"/{n_bytes}/before")
            way.cut(direction, n_bytes)
            at_once = [f"/{n_bytes}/{n}" for n in range(3)]
            await asyncio.gather(*(self._count(writer, path) for path in at_once))
            await self._count(writer, f"/{n_bytes}/after")
            return way.has_cut

    @asynccontextmanager
    async def _writer(self, n_bytes: int) -> AsyncIterator[tuple[Cutter, Writer]]:
        socket_path = self._tmp_path / f"way{n_bytes}"
        journals = Journals(self._directory, MAX_BYTES)
        async with cutter(socket_path, self._server.socket_path) as way:
            store = Store(way.url, TIMEOUT_S)
            writer = Writer(
                store.connect, journals, self._metrics, n_lanes=1, kept_window_s=KEPT_WINDOW_S
            )
            yield way, writer
            await writer.close(5.0)
            await store.close()

    async def _count(self, writer: Writer, path: str) -> None:
        self.said[path] = await outcome(hit(writer, path, id_=path if "1" in path else None))


@pytest.mark.slow
@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_hits_count_once_wherever_the_connection_of_their_writer_is_cut(
    tmp_path: Path,
    directory: Path,
    server: StoreServer,
    far_store: Store,
    raw: Any,
    metrics: Metrics,
    direction: str,
) -> None:
    cuts, n_bytes = Cuts(tmp_path, directory, server, metrics), count(step=STEP_BYTES)
    while True:
        batch = [cuts.live(direction, next(n_bytes)) for _ in range(N_AT_ONCE)]
        if not all(await asyncio.gather(*batch)):
            break
    assert set(cuts.said.values()) == {COUNTED, STORED}
    await replay_all(directory, far_store, metrics)
    expect_truth(raw, cuts.said)


FAULTS = [(calls, "EIO", "") for calls in CALLS]
FAULTS += [(calls, "ENOSPC", "") for calls in ("open", "write", "sync")]
FAULTS += [("write", "ENOSPC", "+"), ("sync", "EIO", "+")]


@pytest.mark.slow
@pytest.mark.usefixtures("needs_injection")
@pytest.mark.parametrize(("calls", "error", "lasting"), FAULTS)
async def test_hits_count_once_whatever_call_on_the_journal_of_their_writer_fails(
    tmp_path: Path,
    server: StoreServer,
    far_store: Store,
    raw: Any,
    metrics: Metrics,
    calls: str,
    error: str,
    lasting: str,
) -> None:
    faults, numbers, said = Faults(tmp_path, calls, error, lasting), count(1), dict[str, str]()
    struck = [True]
    while all(struck):
        batch = [faults.of_call(next(numbers)) for _ in range(N_PROCESSES)]
        lives = (asyncio.to_thread(lived_through, fault, server, said) for fault in batch)
        struck = await asyncio.gather(*lives)
        await asyncio.gather(*(replay_all(each.directory, far_store, metrics) for each in batch))
    expect_truth(raw, said)


def lived_through(fault: Fault, server: StoreServer, said: dict[str, str]) -> bool:
    """Let a writer live while a call of it fails; tell whether one did."""
    writer = f"ff{fault.directory.name}"
    with (
        worker_of(fault.directory, server.socket_path, writer) as fork,
        fault.strike(fork.pid, writer),
    ):
        said |= lived(fork)
    return fault.has_struck
