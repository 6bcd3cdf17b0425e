"""The guard: whatever changes in a running store, everybody who may be asked says so."""

import asyncio
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.conftest import RunningService, StartService
from tests.support.clocks import server_of_tomorrow
from tests.support.load import Tally, Target, ask, metric, send
from tests.support.servers import (
    MortalStore,
    free_port,
    mortal_store,
)
from tests.support.waiting import eventually

LEVELS = {"A": 2, "B": 1, "none": 0}
HITS = "/v1/sites/demo/hits"


@dataclass(frozen=True, slots=True)
class Said:
    """What a service says of its store by the metric and by `/readyz`."""

    promise: int
    readiness: tuple[int, str]


def serve(start_service: StartService, store: MortalStore) -> RunningService:
    """Start a service that looks at its store all the time."""
    return start_service(redis_url=store.url, watch_every_s=0.1, operations_port=0)


async def said(service: RunningService) -> Said:
    """Ask the service."""
    answer = await ask(service.operations_port, "GET", "/readyz")
    word = answer.json["level"] if answer.status == 200 else answer.code
    promise = await metric(service, "hitcounter_store_promise")
    return Said(round(promise), (answer.status, word))


async def expect_level(service: RunningService, level: str) -> None:
    """Wait until everybody says that the store keeps a promise, and the log has said it last."""

    async def is_said() -> bool:
        return await said(service) == Said(LEVELS[level], (200, level))

    await eventually(is_said, f"all say that the promise is {level}")
    assert re.findall(r"promise level (\w+)", service.log)[-1] == level
    assert f"promise: level {level}, " in service.run("check").stdout


async def expect_unfit(service: RunningService, reason: str) -> None:
    """Wait until everybody says that the store cannot count exactly, and why."""

    async def is_said() -> bool:
        return await said(service) == Said(0, (503, "store_unfit"))

    await eventually(is_said, "all say that the store is unfit")
    assert re.search(f"ERROR .*the store is not fit for exact counts: .*{reason}", service.log)
    assert re.search(reason, (await ask(service.operations_port, "GET", "/readyz")).body.decode())
    check = service.run("check", check=False)
    assert check.returncode == 1
    assert re.search(reason, check.stderr)


@pytest.mark.slow
async def test_the_promise_follows_what_the_store_is_set_to(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service = serve(start_service, store)
        await expect_level(service, "A")
        store.ask("CONFIG", "SET", "appendfsync", "everysec")
        await expect_level(service, "B")
        store.ask("CONFIG", "SET", "appendfsync", "no")
        await expect_level(service, "none")
        store.ask("CONFIG", "SET", "appendfsync", "always")
        await expect_level(service, "A")
        store.ask("CONFIG", "SET", "appendonly", "no")
        await expect_level(service, "none")
        assert "WARNING worker 0: store" in service.log
        store.ask("CONFIG", "SET", "appendonly", "yes")
        await expect_level(service, "A")
        assert await asyncio.to_thread(service.stop) == 0


@pytest.mark.slow
async def test_a_store_that_begins_to_evict_is_reported_until_it_stops(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service = serve(start_service, store)
        await expect_level(service, "A")
        store.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        await expect_unfit(service, "maxmemory-policy is allkeys-lru")
        store.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        await expect_level(service, "A")
        assert await asyncio.to_thread(service.stop) == 0


@pytest.mark.slow
async def test_a_store_that_becomes_a_replica_is_reported_until_it_is_promoted(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service = serve(start_service, store)
        await expect_level(service, "A")
        store.ask("REPLICAOF", "127.0.0.1", free_port())
        await expect_unfit(service, "the store is a slave: give the address of the master")
        store.ask("REPLICAOF", "NO", "ONE")
        await expect_level(service, "A")
        assert await asyncio.to_thread(service.stop) == 0


@pytest.mark.slow
async def test_a_store_set_up_for_other_lanes_is_reported(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service = serve(start_service, store)
        await expect_level(service, "A")
        store.ask("SET", "hc:{meta}:lanes", 64)
        await expect_unfit(service, "64 lanes")
        assert await asyncio.to_thread(service.stop) == 0


@pytest.mark.slow
async def test_a_level_is_known_again_after_an_outage_that_changed_it(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service = start_service(redis_url=store.url, operations_port=0)  # looks once a minute
        await expect_level(service, "A")
        await send(service.port, Tally(), [Target("demo")], 1)
        await store.kill()
        await store.start("--appendfsync", "everysec")
        await expect_level(service, "B")
        assert await asyncio.to_thread(service.stop) == 0


@pytest.mark.slow
async def test_a_store_whose_clock_is_wrong_is_reported_but_counts_on_our_day(
    start_service: StartService, tmp_path: Path
) -> None:
    program = server_of_tomorrow(tmp_path / "server")
    async with mortal_store(tmp_path / "store", program=program) as store:
        service = serve(start_service, store)
        await expect_level(service, "A")
        (warning,) = (await ask(service.operations_port, "GET", "/readyz")).json["warnings"]
        assert re.match(r"the store's clock is \d+ s ahead of ours", warning)
        assert warning[:20] in service.log
        assert warning[:20] in service.run("check").stdout
        skew_s = await metric(service, "hitcounter_store_clock_skew_seconds")
        assert abs(skew_s - 24 * 3600) < 3600
        hit = (await ask(service.port, "POST", HITS)).json
        assert hit["date"] == datetime.now(ZoneInfo(hit["timezone"])).date().isoformat()
        assert await asyncio.to_thread(service.stop) == 0
