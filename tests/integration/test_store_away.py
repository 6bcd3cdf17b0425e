"""A store that is away: hits are stored here, and counted when it is back, each exactly once.

`make test-all OUTAGE_S=60` lets the long outage last as long as the promise says.
"""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunningService, StartService
from tests.speeds import OUTAGE_S
from tests.support.load import (
    Connection,
    Tally,
    Target,
    ask,
    declared,
    expect_between,
    expect_exact,
    fresh,
    metric,
    more,
    settled,
    visiting,
    zone_at_noon,
)
from tests.support.load import send as send_hits
from tests.support.processes import signal_all
from tests.support.servers import mortal_store
from tests.support.waiting import eventually

SITES = [Target(f"site{n}.example.vn", "/tin-tuc") for n in range(5)]
HITS = "/v1/sites/site0.example.vn/hits"
COUNTS = "/v1/sites/site0.example.vn/counts"
RATE_PER_S = 1_000
STORED_SHARE = 0.5  # at least, of what arrives in an outage; a busy machine sends less


def serve(start_service: StartService, config: Path, **settings: Any) -> RunningService:
    """Start two workers that know all sites."""
    given = {"workers": 2, "kept_window_s": 1, "timezone": zone_at_noon(), "config": config}
    return start_service(**given | settings)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Declare the sites."""
    return declared(tmp_path / "sites.toml", SITES)


async def send(service: RunningService, tally: Tally, targets: list[Target]) -> None:
    """Send hits, a few at a time."""
    await send_hits(service.port, tally, targets, 16)


async def store_is_up(service: RunningService, expected: int) -> None:
    """Wait until the metrics say whether the store answers."""

    async def said() -> bool:
        return await metric(service, "hitcounter_store_up") == expected

    await eventually(said, f"hitcounter_store_up is {expected}")


async def readiness(service: RunningService) -> tuple[int, str]:
    """Ask whether hits can be acknowledged; give the status, and what the answer calls it."""
    answer = await ask(service.port, "GET", "/readyz")
    return answer.status, answer.json["status"] if answer.status == 200 else answer.code


async def becomes(service: RunningService, *expected: object) -> None:
    """Wait for an answer of `readiness`, which holds for a second."""

    async def is_so() -> bool:
        return await readiness(service) == expected

    await eventually(is_so, f"readiness is {expected}")


@pytest.mark.slow
async def test_the_store_is_up_before_the_first_hit(start_service: StartService) -> None:
    service = start_service(workers=2)
    await store_is_up(service, 1)


@pytest.mark.slow
async def test_hits_are_stored_while_the_store_is_stopped(
    start_service: StartService, config: Path
) -> None:
    service, tally = serve(start_service, config, store_timeout_s=0.3), Tally()
    async with visiting(service.port, tally, SITES):
        await more(tally, "counted", 500)
        signal_all(service.store_pids(), signal.SIGSTOP)
        await more(tally, "stored", 1_000)
        await expect_away(service)
        signal_all(service.store_pids(), signal.SIGCONT)
        await more(tally, "counted", 500)
    await expect_back(service, tally)


async def expect_away(service: RunningService) -> None:
    """Expect of a service without store that it lives, and says where it puts the hits."""
    assert (await ask(service.port, "GET", "/healthz")).status == 200
    await becomes(service, 200, "journaling")
    await store_is_up(service, 0)
    assert "the store is away, hits go to the journal" in service.log


async def expect_back(service: RunningService, tally: Tally) -> None:
    """Expect of a service whose store is back that no request failed, and that it counts on."""
    assert (tally.refused, tally.unanswered) == ({}, {})
    await settled(service)
    await becomes(service, 200, "ready")
    await expect_exact(service.port, tally)
    before = tally.states["counted"]
    await send(service, tally, SITES)
    assert tally.states["counted"] == before + len(SITES)
    await expect_exact(service.port, tally)


@pytest.mark.slow
async def test_hits_are_stored_until_a_killed_store_is_started_again(
    start_service: StartService, config: Path, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service, tally = serve(start_service, config, redis_url=store.url), Tally()
        async with visiting(service.port, tally, SITES):
            await more(tally, "counted", 500)
            await store.kill()
            await more(tally, "stored", 1_000)
            await expect_away(service)
            await store.start()
            await more(tally, "counted", 500)
        await expect_back(service, tally)
        assert await asyncio.to_thread(service.stop) == 0


@pytest.mark.slow
async def test_no_request_fails_in_a_long_outage_at_1000_hits_per_second(
    start_service: StartService, tmp_path: Path
) -> None:
    targets = [Target(f"site{n % 50}.example.vn", f"/tin-tuc/{n}") for n in range(500)]
    async with mortal_store(tmp_path / "store") as store:
        config = declared(tmp_path / "sites.toml", targets)
        service, tally = serve(start_service, config, redis_url=store.url), Tally()
        async with visiting(service.port, tally, targets, n_clients=64, per_s=RATE_PER_S):
            await more(tally, "counted", RATE_PER_S)
            await store.kill()
            await asyncio.sleep(OUTAGE_S)
            await store.start()
            await more(tally, "counted", RATE_PER_S)
        await expect_back(service, tally)
        assert tally.states["stored"] > STORED_SHARE * OUTAGE_S * RATE_PER_S
        assert await asyncio.to_thread(service.stop) == 0


@pytest.mark.slow
async def test_a_store_that_forgot_everything_is_told_again_what_is_kept(
    start_service: StartService, config: Path, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store", "--appendonly", "no") as store:
        service = serve(start_service, config, redis_url=store.url, kept_window_s=600)
        tally = Tally()
        await send(service, tally, SITES * 200)
        await store.kill()
        await store.start()
        await eventually(lambda: is_exact(service, tally), "all hits are counted again")
        await send(service, tally, SITES)
        await expect_exact(service.port, tally)
        assert (tally.unanswered, tally.refused) == ({}, {})
        assert await metric(service, "hitcounter_lost_records_total") == 0
        assert await asyncio.to_thread(service.stop) == 0


async def is_exact(service: RunningService, tally: Tally) -> bool:
    """Tell whether the store holds what was acknowledged."""
    return await fresh(service.port, tally.acked) == tally.acked


@pytest.mark.slow
async def test_a_service_starts_without_its_store_and_counts_when_it_comes(
    start_service: StartService, tmp_path: Path
) -> None:
    service = start_service(redis_url=f"unix://{tmp_path / 'store' / 'socket'}")
    await store_is_up(service, 0)
    assert await readiness(service) == (503, "store_unavailable")
    for method, target in (("POST", HITS), ("GET", COUNTS), ("GET", "/readyz")):
        answer = await ask(service.port, method, target)
        assert (answer.status, answer.code) == (503, "store_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert "socket" not in answer.body.decode()
        assert "total" not in answer.body.decode()
    async with mortal_store(tmp_path / "store"):
        await eventually(lambda: accepts_hits(service), "hits are accepted")
        await store_is_up(service, 1)
        await becomes(service, 200, "ready")
        numbers = (await ask(service.port, "GET", COUNTS)).json
        assert (numbers["total"], numbers["state"]) == (1, "fresh")
        assert await asyncio.to_thread(service.stop) == 0


async def accepts_hits(service: RunningService) -> bool:
    """Send a hit; tell whether it was acknowledged."""
    return (await ask(service.port, "POST", HITS)).status == 200


@pytest.mark.slow
async def test_no_request_fails_while_our_own_store_is_killed_and_told_to_end(
    start_service: StartService, config: Path
) -> None:
    service, tally = serve(start_service, config), Tally()
    async with visiting(service.port, tally, SITES):
        for number in (signal.SIGKILL, signal.SIGTERM):
            await more(tally, "counted", 500)
            signal_all(service.store_pids(), number)
            await more(tally, "stored", 1)
        await more(tally, "counted", 500)
    await expect_back(service, tally)


@pytest.mark.slow
async def test_a_visitor_who_leaves_while_the_store_is_stopped_disturbs_nobody(
    start_service: StartService,
) -> None:
    service = start_service(workers=1, store_timeout_s=30, timezone=zone_at_noon())
    tally = Tally()
    await send(service, tally, SITES[:1])
    signal_all(service.store_pids(), signal.SIGSTOP)
    connections = [Connection(service.port) for _ in range(12)]
    waiting = [asyncio.create_task(tally.hit(each, SITES[0])) for each in connections]
    await eventually(lambda: all_sent(connections), "all hits are on their way")
    for visitor in waiting[::2]:
        visitor.cancel()
    await asyncio.wait(waiting[::2])
    signal_all(service.store_pids(), signal.SIGCONT)
    await asyncio.wait(waiting)
    for connection in connections:
        connection.close()
    assert tally.n_acked == 1 + 6
    await expect_between(service.port, tally)


async def all_sent(connections: list[Connection]) -> bool:
    """Tell whether every connection has taken a request."""
    return all(connection.opened for connection in connections)
