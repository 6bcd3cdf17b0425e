"""Several lanes on one server: one packet, one journal, and no lane disturbs another."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hitcounter.errors import JournalBrokenError
from hitcounter.exactly_once.adoption import Adoption
from hitcounter.exactly_once.journals import Journals
from hitcounter.exactly_once.writer import Writer
from hitcounter.metrics import Metrics
from hitcounter.store import keys
from hitcounter.store.client import Store
from hitcounter.store.keys import SiteKeys
from tests.journal.cutting import Cutter
from tests.journal.disk import broken_log
from tests.journal.entries import DAY, MAX_BYTES, names
from tests.journal.hits import outcome
from tests.support.servers import StoreServer
from tests.support.waiting import comes_true

N_LANES = 8
SITES = ["demo", "a", "b", "c", "s0", "s2", "s3"]  # each in a lane of its own
KEPT_WINDOW_S = 0.1


@pytest.fixture
async def writer(directory: Path, far_store: Store, metrics: Metrics) -> AsyncIterator[Writer]:
    """Start a writer that forgets soon what the store has confirmed."""
    journals = Journals(directory, MAX_BYTES)
    writer = Writer(
        far_store.connect, journals, metrics, n_lanes=N_LANES, kept_window_s=KEPT_WINDOW_S
    )
    yield writer
    if not writer.flushing.done():
        await writer.close(0)


def keys_of(site: str, date: str = DAY) -> SiteKeys:
    """Name the counters of a site."""
    return keys.site_keys(keys.lane_of(site, N_LANES), site, date)


async def hit(writer: Writer, site: str) -> str:
    """Count a hit; tell what became of it."""
    return await outcome(writer.count(writer.lanes.of(site), site, keys_of(site), None))


def counted(raw: Any, *sites: str) -> list[int]:
    """Tell the totals of sites."""
    return [int(n or 0) for n in raw.mget([keys_of(site).shown[-1] for site in sites])]


def test_every_site_here_has_a_lane_of_its_own() -> None:
    assert len({keys.lane_of(site, N_LANES) for site in SITES}) == len(SITES)


async def test_the_chunks_of_all_lanes_leave_in_one_packet(writer: Writer, raw: Any) -> None:
    assert await hit(writer, "demo") == "counted"  # which connects, and brings the script
    before = raw.info("stats")["total_reads_processed"]
    assert await asyncio.gather(*(hit(writer, site) for site in SITES)) == ["counted"] * len(SITES)
    # One packet, a question whether the store is there perhaps, and our own.
    assert raw.info("stats")["total_reads_processed"] - before <= 3
    assert counted(raw, *SITES) == [2] + [1] * (len(SITES) - 1)


async def test_a_lane_that_the_store_refuses_disturbs_no_other(
    writer: Writer, raw: Any, directory: Path
) -> None:
    spoilt = keys_of("a").shown[-1]
    raw.set(spoilt, "x")
    refused = asyncio.create_task(hit(writer, "a"))
    assert [await hit(writer, "demo") for _ in range(3)] == ["counted"] * 3
    assert await refused == "stored"
    assert [lane.number for lane in writer.lanes if lane.is_away] == [keys.lane_of("a", N_LANES)]
    assert [key for key in writer.waiting.in_journal if ":demo:" in key] == []
    raw.delete(spoilt)
    await comes_true(lambda: not writer.lanes.is_away, "the store takes it")
    await comes_true(lambda: names(directory) == set(), "the journal is removed")
    assert (counted(raw, "demo", "a"), writer.waiting.in_journal) == ([3, 1], {})


async def test_nothing_is_acknowledged_once_nobody_knows_what_the_journal_holds(
    writer: Writer, server: StoreServer, raw: Any, directory: Path
) -> None:
    raw.set(keys_of("a").shown[-1], "x")
    assert await hit(writer, "a") == "stored"
    (path,) = directory.glob("*.journal")
    server.process.send_signal(signal.SIGSTOP)
    on_its_way = asyncio.create_task(hit(writer, "demo"))
    await comes_true(lambda: writer.lanes.of("demo").records.pending, "a chunk is on its way")
    with broken_log(path):
        unknown = asyncio.create_task(hit(writer, "a"))
        await comes_true(lambda: "cannot sync" in str(broken(writer)), "the journal is broken")
        server.process.send_signal(signal.SIGCONT)
        assert [await unknown, await on_its_way] == ["outcome_unknown"] * 2
    assert isinstance(writer.flushing.exception(), JournalBrokenError)
    await writer.close(1.0)
    assert counted(raw, "demo") == [1]


def broken(writer: Writer) -> BaseException | None:
    """Return the error that the journal ended with."""
    journaling = writer._journaling
    return journaling.exception() if journaling and journaling.done() else None


async def test_what_a_lane_adds_to_a_file_that_others_need_is_replayed(
    writer: Writer, way: Cutter, raw: Any, directory: Path, far_store: Store, metrics: Metrics
) -> None:
    demo, spoilt = writer.lanes.of("demo"), keys_of("a").shown[-1]
    raw.set(spoilt, "x")
    for n_outages in (1, 2):
        await way.close()
        await comes_true(lambda: demo.is_away, "the store is away")
        assert [await hit(writer, site) for site in ("demo", "a")] == ["stored"] * 2
        await way.open()
        await comes_true(lambda: not demo.is_away, "the store is back")
        assert await hit(writer, "demo") == "counted"
        await comes_true(lambda: not demo.needs_journal, "the lane needs it no more")
        assert (counted(raw, "demo"), len(names(directory)) > 0) == ([2 * n_outages], True)
    await writer.close(0)
    raw.delete(spoilt)
    await replayed(directory, far_store, metrics)
    assert counted(raw, "demo", "a") == [4, 2]


async def replayed(directory: Path, store: Store, metrics: Metrics) -> None:
    """Look for journals, as another worker does, until there is none."""
    journals = Journals(directory, MAX_BYTES)
    running = asyncio.create_task(Adoption(store.connect, journals, metrics, KEPT_WINDOW_S).run())
    try:
        await comes_true(lambda: names(directory) == set(), "the journal is replayed")
    finally:
        running.cancel()
        await asyncio.wait([running])
