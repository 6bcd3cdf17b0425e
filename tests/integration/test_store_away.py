"""A store that is away: nothing is answered with zeros, nothing is lost, nothing counts twice."""

import asyncio
import re
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import RunningService, StartService
from tests.integration.load import (
    Connection,
    Tally,
    Target,
    ask,
    counted,
    eventually,
    expect_between,
    send,
    signal_all,
    zone_at_noon,
)
from tests.integration.servers import connected, store_server

SITES = [Target(f"site{n}.example.vn", "/tin-tuc") for n in range(5)]
N_CONNECTIONS = 16
HITS = "/v1/sites/site0.example.vn/hits"
COUNTS = "/v1/sites/site0.example.vn/counts"


def endless(done: asyncio.Event) -> Iterator[Target]:
    """Go through the sites until it is enough."""
    while not done.is_set():
        yield from SITES


async def refused(tally: Tally) -> None:
    """Wait until hits are refused."""

    async def some() -> bool:
        return tally.refused.total() > 100

    await eventually(some, "hits are refused")


async def acknowledged(tally: Tally, n: int) -> None:
    """Wait until so many more hits are acknowledged."""
    enough = tally.n_acked + n

    async def reached() -> bool:
        return tally.n_acked >= enough

    await eventually(reached, f"{n} more hits are acknowledged")


async def counter(service: RunningService, name: str) -> float:
    """Read a metric that has no labels."""
    text = (await ask(service.port, "GET", "/metrics")).text
    (value,) = re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(value)


async def store_is_up(service: RunningService, expected: int) -> None:
    """Wait until the metrics say whether the store answers."""

    async def said() -> bool:
        return await counter(service, "hitcounter_store_up") == expected

    await eventually(said, f"hitcounter_store_up is {expected}")


async def statuses(service: RunningService) -> list[int]:
    """Ask about health and readiness."""
    return [(await ask(service.port, "GET", path)).status for path in ("/healthz", "/readyz")]


async def test_the_store_is_up_before_the_first_hit(start_service: StartService) -> None:
    service = start_service(workers=2)
    await store_is_up(service, 1)


async def test_hits_and_questions_are_refused_while_the_store_is_stopped(
    start_service: StartService,
) -> None:
    service = start_service(workers=2, store_timeout_s=0.3, timezone=zone_at_noon())
    tally, done = Tally(), asyncio.Event()
    sending = asyncio.create_task(send(service.port, tally, endless(done), N_CONNECTIONS))
    await acknowledged(tally, 500)
    signal_all(service.store_pids(), signal.SIGSTOP)
    await refused(tally)
    await expect_away(service)
    signal_all(service.store_pids(), signal.SIGCONT)
    await acknowledged(tally, 500)
    done.set()
    await sending
    assert set(tally.refused) == {"store_unavailable", "outcome_unknown"}
    assert tally.unanswered == {}
    await expect_back(service, tally)


async def expect_away(service: RunningService) -> None:
    """Expect of a service without store that it lives, and says that it cannot count."""
    assert await statuses(service) == [200, 503]
    await store_is_up(service, 0)
    for method, target in (("POST", HITS), ("GET", COUNTS), ("GET", "/readyz")):
        answer = await ask(service.port, method, target)
        assert (answer.status, answer.code) == (503, "store_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert "total" not in answer.text


async def expect_back(service: RunningService, tally: Tally) -> None:
    """Expect of a service whose store is back that it counts, and counted right all the time."""
    assert await statuses(service) == [200, 200]
    await store_is_up(service, 1)
    await expect_between(service.port, tally)
    before = await counted(service.port, SITES)
    await send(service.port, tally, SITES, 1)
    assert await counted(service.port, SITES) == {site: n + 1 for site, n in before.items()}


async def test_hits_are_refused_until_a_killed_store_is_started_again(
    start_service: StartService, tmp_path: Path
) -> None:
    tally, done = Tally(), asyncio.Event()
    with store_server(tmp_path / "store") as store:
        service = start_service(
            workers=2, store_timeout_s=0.3, redis_url=store.unix_url, timezone=zone_at_noon()
        )
        sending = asyncio.create_task(send(service.port, tally, endless(done), N_CONNECTIONS))
        await acknowledged(tally, 500)
        signal_all([store.process.pid], signal.SIGKILL)
        await refused(tally)
        await expect_away(service)
    with store_server(tmp_path / "store"):
        await acknowledged(tally, 500)
        done.set()
        await sending
        assert tally.unanswered == {}
        await expect_back(service, tally)
        assert await asyncio.to_thread(service.stop) == 0


async def test_a_store_that_forgot_everything_is_told_again_what_is_kept(
    start_service: StartService, tmp_path: Path
) -> None:
    tally, forgetful = Tally(), ("--appendonly", "no")
    with store_server(tmp_path / "store", *forgetful) as store:
        service = start_service(
            workers=2,
            kept_window_s=600,
            store_timeout_s=30,
            redis_url=store.unix_url,
            timezone=zone_at_noon(),
        )
        await send(service.port, tally, SITES * 200, N_CONNECTIONS)
        signal_all([store.process.pid], signal.SIGKILL)
    with store_server(tmp_path / "store", *forgetful):

        async def are_back() -> bool:
            return await counted(service.port, SITES) == tally.acked

        await eventually(are_back, "all hits are counted again")
        assert (tally.unanswered, tally.refused) == ({}, {})
        await expect_back(service, tally)
        assert await counter(service, "hitcounter_lost_records_total") == 0
        assert await asyncio.to_thread(service.stop) == 0


async def test_hits_that_a_store_forgot_too_late_are_reported(
    start_service: StartService, tmp_path: Path
) -> None:
    with store_server(tmp_path / "store") as store, connected(store.socket_path) as redis:
        service = start_service(kept_window_s=0.001, redis_url=store.unix_url)
        tally = Tally()

        async def are_lost() -> bool:
            await send(service.port, tally, SITES[:1] * 2, 1)
            redis.flushall()
            await send(service.port, tally, SITES[:1], 1)
            return await counter(service, "hitcounter_lost_records_total") > 0

        await eventually(are_lost, "a loss is reported")
        assert "hits are lost" in service.log
        assert await asyncio.to_thread(service.stop) == 0


async def test_a_service_starts_without_its_store_and_counts_when_it_comes(
    start_service: StartService, tmp_path: Path
) -> None:
    url = f"unix://{tmp_path / 'store' / 'socket'}"
    service = start_service(redis_url=url, timezone=zone_at_noon())
    await expect_away(service)
    with store_server(tmp_path / "store"):
        tally = Tally()
        await send(service.port, tally, SITES, 1)
        assert tally.n_acked == len(SITES)
        await expect_back(service, tally)
        assert await asyncio.to_thread(service.stop) == 0


async def test_hits_only_wait_while_the_store_restarts_within_the_patience(
    start_service: StartService,
) -> None:
    service = start_service(workers=1, store_timeout_s=30, timezone=zone_at_noon())
    tally, done = Tally(), asyncio.Event()
    await send(service.port, tally, SITES, 1)
    sending = asyncio.create_task(send(service.port, tally, endless(done), N_CONNECTIONS))
    for number in (signal.SIGKILL, signal.SIGTERM):
        await acknowledged(tally, 500)
        signal_all(service.store_pids(), number)
    await acknowledged(tally, 500)
    done.set()
    await sending
    assert (tally.refused, tally.unanswered) == ({}, {})
    assert await counted(service.port, SITES) == tally.acked


async def test_a_visitor_who_leaves_while_the_store_is_stopped_disturbs_nobody(
    start_service: StartService,
) -> None:
    service = start_service(workers=1, store_timeout_s=30, timezone=zone_at_noon())
    tally = Tally()
    await send(service.port, tally, SITES[:1], 1)
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
