"""Alerts of a store that answers, and is not what it should be: they arrive, and are taken back."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartService
from tests.support.alerts import Webhook, alertmanager, prometheus, webhook
from tests.support.clocks import server_of_tomorrow
from tests.support.load import Tally, Target, declared, more, visiting, zone_at_noon
from tests.support.servers import MortalStore, mortal_store

BUSY, SOON_SILENT = Target("site0.example.vn", "/tin-tuc"), Target("site1.example.vn", "/tin-tuc")
# A day of silence, which is seen each hour, and how long a loss is told of, as none would wait for.
DURATIONS = {"silent_step": "1s", "silent": "22s", "silent_before": "5s", "loss": "10s"}
PAUSE_MS = 400  # the store does not write for so long, over and over; it may not for a second


@asynccontextmanager
async def pausing(store: MortalStore) -> AsyncIterator[None]:
    """Let the store answer late, though it does."""

    async def pause() -> None:
        while True:
            await asyncio.to_thread(store.ask, "CLIENT", "PAUSE", PAUSE_MS, "WRITE")
            await asyncio.sleep(1.1 * PAUSE_MS / 1000)

    task = asyncio.create_task(pause())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def store_is_nearly_full_and_slow(store: MortalStore, hook: Webhook) -> None:
    """Leave the store little memory, and let it answer late; mend both."""
    used_bytes = store.ask("INFO", "memory")["used_memory"]
    store.ask("CONFIG", "SET", "maxmemory", int(used_bytes * 1.07))
    async with pausing(store):
        await hook.hears("firing", "HitcounterStoreMemoryHigh", "HitcounterCommitsSlow")
    store.ask("CONFIG", "SET", "maxmemory", 0)


async def store_is_an_old_copy(store: MortalStore, old: Path, hook: Webhook) -> None:
    """Go on with a copy that lacks what was counted since, on a server that is as it should be."""
    await store.kill()
    for name in ("appendonlydir", "log"):
        (store.directory / name).rename(store.directory / f"{name}.new")
    shutil.copytree(old, store.directory / "appendonlydir")
    store.program = ""
    await store.start("--appendfsync", "always")
    await hook.hears("firing", "HitcounterRecordsLost", "HitcounterTotalsFell")


@pytest.mark.slow
@pytest.mark.timeout(300)  # on a busy machine each of many waits takes its time
async def test_a_store_that_is_not_what_it_should_be_is_told_and_taken_back(
    start_service: StartService, tmp_path: Path
) -> None:
    config = declared(tmp_path / "sites.toml", [BUSY, SOON_SILENT])
    given: dict[str, Any] = {"timezone": zone_at_noon(), "config": config, "operations_port": 0}
    given |= {"kept_window_s": 0.5, "watch_every_s": 0.5, "promise_wanted": "A"}
    program = server_of_tomorrow(tmp_path / "server")
    options = ("--appendfsync", "everysec")
    async with mortal_store(tmp_path / "store", *options, program=program) as store:
        with webhook() as (hook, url), alertmanager(tmp_path, url) as alerts_to:
            service = start_service(redis_url=store.url, **given)
            unread = service.data_dir / "journal" / "0-unread.journal"
            unread.write_bytes(b"no journal")
            with prometheus(tmp_path, service, alerts_to, DURATIONS):
                tally = Tally()
                async with visiting(service.port, tally, [BUSY, SOON_SILENT], per_s=100):
                    await more(tally, "counted", 500)
                    shutil.copytree(store.directory / "appendonlydir", tmp_path / "old")
                    await hook.hears("firing", "HitcounterPromiseLow", "HitcounterClocksApart")
                    await hook.hears("firing", "HitcounterJournalUnread")
                unread.unlink()
                async with visiting(service.port, Tally(), [BUSY], per_s=100):
                    await store_is_nearly_full_and_slow(store, hook)
                    await store_is_an_old_copy(store, tmp_path / "old", hook)
                    await hook.hears("firing", "HitcounterSiteSilent")
                async with visiting(service.port, Tally(), [BUSY, SOON_SILENT], per_s=100):
                    await hook.hears("resolved", *(hook.told.keys() - {"HitcounterWatchdog"}))
            assert hook.wrong == []
            assert await asyncio.to_thread(service.stop) == 0
