"""Reads: the last known numbers while the store is away, and one question for many who ask."""

import asyncio
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunningService, StartService
from tests.support.load import (
    Connection,
    Tally,
    Target,
    ask,
    more,
    send,
    settled,
    visiting,
    zone_at_noon,
)
from tests.support.servers import MortalStore, connected, mortal_store
from tests.support.waiting import eventually
from tests.support.wire import Answer

DEMO = Target("demo", "/tin-tuc/1")
COUNTS = "/v1/sites/demo/counts"
HITS = "/v1/sites/demo/hits"
BASELINE = ("--yesterday", "7", "--month", "20", "--year", "20", "--total", "90")
LINES = ("today", "yesterday", "month", "year", "total")
N_CLIENTS = 100


def serve(start_service: StartService, store: MortalStore, **settings: Any) -> RunningService:
    """Start one worker, so that all that waits waits where we ask."""
    given = {"redis_url": store.url, "timezone": zone_at_noon(), "kept_window_s": 0.5}
    return start_service(**given | settings)


async def read(service: RunningService, target: str = COUNTS) -> Any:
    """Read numbers; they are never zeros for what is not known."""
    answer = await ask(service.port, "GET", target)
    assert answer.status == 200, answer
    return answer.json


async def count(service: RunningService, n: int) -> None:
    """Count hits on a page, all acknowledged."""
    tally = Tally(equal=("month", "year"))
    await send(service.port, tally, [DEMO] * n, 1)
    assert tally.n_acked == n


async def is_away(service: RunningService) -> bool:
    """Tell whether the service has noticed that its store is away."""
    answer = await ask(service.port, "GET", "/readyz")
    return answer.status == 200 and answer.json["status"] == "journaling"


@pytest.mark.slow
async def test_counts_are_the_last_known_numbers_and_what_waits_while_the_store_is_away(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service = serve(start_service, store)
        service.run("baseline", "demo", *BASELINE)
        await count(service, 3)
        assert "age_s" not in await read(service)
        await store.kill()
        before = await read(service, f"{COUNTS}?path={DEMO.path}")
        assert before["state"] == "stale"
        assert [before[key] for key in LINES] == [3, 7, 23, 23, 93]
        await count(service, 4)
        stale = await read(service, f"{COUNTS}?path={DEMO.path}")
        assert [stale[key] for key in LINES] == [7, 7, 27, 27, 97]
        assert stale["page"] == {"path": DEMO.path, "total": 7}
        assert [line["value"] for line in stale["widget"]["lines"]] == [7, 7, 27, 27, 97]
        assert type(stale["age_s"]) is int
        assert stale["age_s"] >= before["age_s"] >= 0
        await store.start()
        await settled(service)
        now = await read(service, f"{COUNTS}?path={DEMO.path}")
        assert (now["state"], now["total"], now["page"]["total"]) == ("fresh", 97, 7)
        assert await asyncio.to_thread(service.stop) == 0


@pytest.mark.slow
async def test_the_age_of_stale_numbers_grows(start_service: StartService, tmp_path: Path) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service = serve(start_service, store)
        await count(service, 1)
        await store.kill()

        async def is_old() -> bool:
            numbers = await read(service)
            return bool(numbers["state"] == "stale" and numbers["age_s"] >= 2)

        await eventually(is_old, "the numbers are two seconds old")
        assert await asyncio.to_thread(service.stop) == 0


@pytest.mark.slow
async def test_a_page_that_nobody_saw_before_the_outage_has_no_number_yet(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service = serve(start_service, store)
        await count(service, 3)
        await store.kill()
        hit = (await ask(service.port, "POST", HITS, b'{"path": "/new"}')).json
        assert (hit["state"], hit["total"], hit["page"]["total"]) == ("stored", 4, None)
        numbers = await read(service, f"{COUNTS}?path=/new")
        assert (numbers["state"], numbers["total"], numbers["page"]["total"]) == ("stale", 4, None)
        await store.start()
        await settled(service)
        numbers = await read(service, f"{COUNTS}?path=/new")
        assert (numbers["state"], numbers["total"], numbers["page"]["total"]) == ("fresh", 4, 1)
        assert await asyncio.to_thread(service.stop) == 0


@pytest.mark.slow
async def test_a_site_of_which_nothing_is_known_is_refused_and_never_shown_as_zero(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service = serve(start_service, store)
        await count(service, 3)
        await store.kill()
        await eventually(lambda: is_away(service), "the service notices")
        for method, target in (("GET", "counts"), ("POST", "hits"), ("GET", "pixel.gif")):
            answer = await ask(service.port, method, f"/v1/sites/unknown/{target}")
            assert (answer.status, answer.code) == (503, "store_unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert await asyncio.to_thread(service.stop) == 0


@pytest.mark.slow
async def test_a_new_worker_knows_the_numbers_of_all_sites_that_were_ever_counted(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        zone = zone_at_noon()
        service = serve(start_service, store, timezone=zone)
        await count(service, 3)
        assert await asyncio.to_thread(service.stop) == 0
        again = serve(start_service, store, timezone=zone)
        await store.kill()
        numbers = await read(again)
        assert (numbers["state"], numbers["total"]) == ("stale", 3)
        await count(again, 1)
        assert (await read(again))["total"] == 4
        assert await asyncio.to_thread(again.stop) == 0


@pytest.mark.slow
async def test_a_declared_site_that_nobody_visited_is_known_to_have_none(
    start_service: StartService, tmp_path: Path
) -> None:
    (tmp_path / "sites.toml").write_text("[sites.demo]\n[sites.quiet]\n")
    async with mortal_store(tmp_path / "store") as store:
        service = serve(start_service, store, config=tmp_path / "sites.toml")
        await store.kill()
        answer = await ask(service.port, "POST", "/v1/sites/quiet/hits")
        assert (answer.status, answer.json["state"], answer.json["total"]) == (200, "stored", 1)
        await store.start()
        await settled(service)
        assert (await read(service, "/v1/sites/quiet/counts"))["total"] == 1
        assert await asyncio.to_thread(service.stop) == 0


# Many who ask at once


@pytest.mark.slow
async def test_a_hundred_clients_who_ask_at_once_share_a_few_reads_of_the_store(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service = serve(start_service, store, store_timeout_s=30)
        await count(service, 3)
        clients = [Connection(service.port) for _ in range(N_CLIENTS)]
        await asked(clients, ["/healthz"] * N_CLIENTS)  # so that all are connected
        store.ask("CONFIG", "RESETSTAT")
        store.signal(signal.SIGSTOP)
        asking = asyncio.create_task(asked(clients, [COUNTS, f"{COUNTS}?path={DEMO.path}"] * 50))
        await eventually(lambda: ask(service.port, "GET", "/healthz"), "all have asked")
        assert not asking.done()
        store.signal(signal.SIGCONT)
        answers = await asking
        assert {(answer.json["total"], answer.json["state"]) for answer in answers} == {
            (3, "fresh")
        }
        assert 1 <= n_reads(store) <= 10
        for client in clients:
            client.close()
        assert await asyncio.to_thread(service.stop) == 0


async def asked(clients: Iterable[Connection], targets: Iterable[str]) -> list[Answer]:
    """Let every client ask one thing, all at once."""
    pairs = zip(clients, targets, strict=True)
    return await asyncio.gather(*(client.ask("GET", target) for client, target in pairs))


def n_reads(store: MortalStore) -> int:
    """Count the reads of counters so far."""
    with connected(store.socket_path) as redis:
        return int(redis.info("commandstats")["cmdstat_mget"]["calls"])


@pytest.mark.slow
async def test_nobody_reads_a_number_older_than_his_own_hit(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service = serve(start_service, store, workers=2, store_timeout_s=30)
        async with asyncio.TaskGroup() as group:
            for _ in range(32):
                group.create_task(hit_and_read(service, 30))
        assert (await read(service))["total"] == 32 * 30
        assert await asyncio.to_thread(service.stop) == 0


async def hit_and_read(service: RunningService, n_times: int) -> None:
    """Hit on one connection, and read what is counted then on another."""
    hitting, reading = Connection(service.port), Connection(service.port)
    for _ in range(n_times):
        hit = (await hitting.ask("POST", HITS)).json
        numbers = (await reading.ask("GET", COUNTS)).json
        assert (hit["state"], numbers["state"]) == ("counted", "fresh")
        assert numbers["total"] >= hit["total"]
    hitting.close()
    reading.close()


@pytest.mark.slow
async def test_numbers_of_a_worker_never_fall_while_its_store_goes_and_comes(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service, tally = serve(start_service, store), Tally()
        await count(service, 1)
        seen: list[Any] = []
        watching = asyncio.create_task(watch(service, seen))
        async with visiting(service.port, tally, [DEMO]):
            for _ in range(3):
                await more(tally, "counted", 100)
                await store.kill()
                await more(tally, "stored", 100)
                await store.start()
            await more(tally, "counted", 100)
        await settled(service)
        watching.cancel()
        await asyncio.wait([watching])
        assert {numbers["state"] for numbers in seen} == {"fresh", "stale"}
        totals = [(numbers["total"], numbers["page"]["total"]) for numbers in seen]
        assert totals == sorted(totals)
        assert totals[-1] <= (1 + tally.n_acked,) * 2
        assert await asyncio.to_thread(service.stop) == 0


async def watch(service: RunningService, seen: list[Any]) -> None:
    """Read again and again, and note the numbers."""
    connection = Connection(service.port)
    try:
        while True:
            answer = await connection.ask("GET", f"{COUNTS}?path={DEMO.path}")
            assert answer.status == 200
            seen.append(answer.json)
    finally:
        connection.close()
