"""Every row of the failure matrix that one store can show, with the real service and a real server.

Clients send hits all the time while something fails. What they were told is counted is counted
once, whatever became of the answer in between; only what was refused, or not answered at all, may
be missing.
"""

import asyncio
import os
import random
import re
import shutil
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import BusyLoadingError, RedisError

from hitcounter.store import keys
from tests.conftest import RunningService, StartService
from tests.faults.proxy import Proxy
from tests.support.disks import fill, small_disk
from tests.support.load import (
    Tally,
    Target,
    ask,
    declared,
    expect_exact,
    fresh,
    journals,
    metric,
    more,
    send,
    settled,
    visiting,
    zone_at_noon,
)
from tests.support.processes import is_running, signal_all
from tests.support.servers import (
    PROGRAMS,
    MortalStore,
    connected,
    free_port,
    mortal_store,
    named_program,
)
from tests.support.waiting import comes_true, eventually

SITES = [Target(f"site{n}.example.vn", f"/tin-tuc/{n % 2}") for n in range(6)]
TOTAL = keys.bucket_key(0, SITES[0].site, "total")
SOME = 200
IMPATIENT: dict[str, Any] = {"store_timeout_s": 0.3, "kept_window_s": 0.5}
LONG_S = 600
MAX_JOURNAL_BYTES = 6 << 20  # one megabyte, and what SQLite writes ahead of it
N_LOADED = 40_000
LOAD_DELAY_US = 100
SYNCED_ALWAYS = ("--appendfsync", "always")
SYNCED_LATER = ("--appendfsync", "everysec")


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    """Name each kind of server program that we run."""
    return named_program(request.param)


def serve(start_service: StartService, store: MortalStore, **settings: Any) -> RunningService:
    """Start two workers on a store that the test breaks."""
    given = {"workers": 2, "timezone": zone_at_noon(), "redis_url": store.url}
    given["config"] = str(declared(store.directory / "sites.toml", SITES))
    return start_service(**given | IMPATIENT | settings)


async def expect_all_counted(service: RunningService, tally: Tally) -> None:
    """Expect that no request failed, and that the store holds what it shall, and nothing else."""
    assert (tally.refused, tally.unanswered) == ({}, {})
    await expect_all_arrives(service, tally)


async def expect_all_arrives(service: RunningService, tally: Tally) -> None:
    """Expect every acknowledged hit in the store, and that the service ends as it should."""
    await settled(service)
    await expect_exact(service.port, tally)
    assert await metric(service, "hitcounter_lost_records_total") == 0
    assert await asyncio.to_thread(service.stop) == 0


# The network


@asynccontextmanager
async def behind_proxy(
    store: MortalStore, start_service: StartService
) -> AsyncIterator[tuple[Proxy, RunningService]]:
    """Start a service that reaches its store through a network of ours."""
    proxy = Proxy(store.socket_path)
    await proxy.heal()
    url = f"redis://127.0.0.1:{proxy.port}/0"
    try:
        service = await asyncio.to_thread(serve, start_service, store, redis_url=url)
        await settled(service)  # so that all workers know the numbers
        yield proxy, service
    finally:
        await proxy.heal()
        await proxy.close()


async def test_a_hit_whose_reply_is_lost_after_it_was_applied_counts_once(
    start_service: StartService, tmp_path: Path
) -> None:
    async with (
        mortal_store(tmp_path / "store") as store,
        behind_proxy(store, start_service) as (proxy, service),
    ):
        tally = Tally()
        async with visiting(service.port, tally, SITES):
            await more(tally, "counted", SOME)
            proxy.loses = 1.0
            await more(tally, "stored", SOME)
            proxy.loses = 0.0
            await more(tally, "counted", SOME)
            proxy.loses, n_lost = 0.2, proxy.n_lost
            await comes_true(lambda: proxy.n_lost > n_lost + 10, "some replies are lost")
            proxy.loses = 0.0
            await more(tally, "counted", SOME)
        await expect_all_counted(service, tally)


@pytest.mark.slow
async def test_a_late_packet_of_a_dead_connection_counts_nothing(
    start_service: StartService, tmp_path: Path
) -> None:
    async with (
        mortal_store(tmp_path / "store") as store,
        behind_proxy(store, start_service) as (proxy, service),
    ):
        tally, arrives = Tally(), asyncio.Event()
        async with visiting(service.port, tally, SITES):
            await more(tally, "counted", SOME)
            proxy.strands = arrives
            await more(tally, "stored", SOME)
            proxy.strands = None
            await more(tally, "counted", SOME)
            arrives.set()
            await comes_true(lambda: proxy.n_late, "a packet arrives late")
            await more(tally, "counted", SOME)
        await expect_all_counted(service, tally)


@pytest.mark.slow
async def test_hits_are_stored_when_the_network_swallows_everything(
    start_service: StartService, tmp_path: Path
) -> None:
    async with (
        mortal_store(tmp_path / "store") as store,
        behind_proxy(store, start_service) as (proxy, service),
    ):
        tally = Tally()
        for flow in (proxy.requests_flow, proxy.replies_flow):
            async with visiting(service.port, tally, SITES):
                await more(tally, "counted", SOME)
                flow.clear()
                await more(tally, "stored", SOME)
                flow.set()
                await more(tally, "counted", SOME)
        await expect_all_counted(service, tally)


# The store answers, but does not do what it is asked


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "breaks", "mends"),
    [
        ("used memory > 'maxmemory'", "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("read only replica", "REPLICAOF 127.0.0.1 {port}", "REPLICAOF NO ONE"),
        ("permissions", "ACL SETUSER default -evalsha -eval", "ACL SETUSER default +@all"),
        (
            "can't run this command|permissions",
            "ACL SETUSER default -mset",
            "ACL SETUSER default +@all",
        ),
    ],
    ids=["OOM", "READONLY", "NOPERM for scripts", "NOPERM for MSET"],
)
async def test_hits_are_stored_until_the_store_takes_them_again(
    start_service: StartService, tmp_path: Path, program: str, error: str, breaks: str, mends: str
) -> None:
    async with mortal_store(tmp_path / "store", program=program) as store:
        service, tally = serve(start_service, store), Tally()
        async with visiting(service.port, tally, SITES):
            await more(tally, "counted", SOME)
            store.ask(*breaks.format(port=free_port()).split())
            await more(tally, "stored", SOME)
            store.ask(*mends.split())
            await more(tally, "counted", SOME)
        assert re.search(f"the store is away, hits go to the journal: .*({error})", service.log)
        await expect_all_counted(service, tally)


@pytest.mark.slow
async def test_hits_are_stored_while_the_store_cannot_save_and_so_takes_no_writes(
    start_service: StartService, tmp_path: Path, program: str
) -> None:
    async with mortal_store(tmp_path / "store", program=program) as store:
        store.ask("CONFIG", "SET", "save", "3600 1000000")
        in_the_way = store.directory / "dump.rdb" / "in" / "the way"
        service, tally = serve(start_service, store), Tally()
        async with visiting(service.port, tally, SITES):
            await more(tally, "counted", SOME)
            in_the_way.mkdir(parents=True)
            await has_saved(store, "err")
            await more(tally, "stored", SOME)
            shutil.rmtree(store.directory / "dump.rdb")
            await has_saved(store, "ok")
            await more(tally, "counted", SOME)
        assert "MISCONF" in service.log
        await expect_all_counted(service, tally)


async def has_saved(store: MortalStore, status: str) -> None:
    """Let the store save in the background, and wait until that has come out as expected."""
    store.ask("BGSAVE")
    with connected(store.socket_path) as redis:
        await comes_true(
            lambda: redis.info("persistence")["rdb_last_bgsave_status"] == status,
            f"the last save is {status}",
        )


@pytest.mark.slow
async def test_no_hit_notices_that_the_scripts_are_flushed_ten_times_a_second(
    start_service: StartService, tmp_path: Path, program: str
) -> None:
    async with mortal_store(tmp_path / "store", program=program) as store:
        service, tally = serve(start_service, store, store_timeout_s=30), Tally()
        async with visiting(service.port, tally, SITES):
            for _ in range(20):
                await more(tally, "counted", SOME // 4)
                store.ask("SCRIPT", "FLUSH")
                await asyncio.sleep(0.1)
        with connected(store.socket_path) as redis:
            assert redis.info("commandstats")["cmdstat_eval"]["calls"] >= 20
        assert set(tally.states) == {"counted"}
        await expect_all_counted(service, tally)


@pytest.mark.slow
async def test_hits_are_stored_while_the_store_loads_its_data(
    start_service: StartService, tmp_path: Path, program: str
) -> None:
    async with mortal_store(tmp_path / "store", program=program) as store:
        with connected(store.socket_path) as redis:
            pipeline = redis.pipeline(transaction=False)
            for n in range(N_LOADED):
                pipeline.set("loaded", n)
            pipeline.execute()
        service, tally = serve(start_service, store), Tally()
        async with visiting(service.port, tally, SITES):
            await more(tally, "counted", SOME)
            await store.kill()
            starting = asyncio.create_task(store.start("--key-load-delay", str(LOAD_DELAY_US)))
            await eventually(lambda: is_loading(store), "the store loads its data")
            await more(tally, "stored", SOME)
            assert await is_loading(store)
            await starting
            await more(tally, "counted", SOME)
        await expect_all_counted(service, tally)


async def is_loading(store: MortalStore) -> bool:
    """Tell whether the store answers only that it loads its data."""
    try:
        store.ask("PING")
    except BusyLoadingError:
        return True
    except RedisError:  # it does not listen yet
        return False
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoils", [("SET", TOTAL, "abc"), ("HSET", TOTAL, "field", "value")], ids=["text", "a hash"]
)
async def test_a_counter_that_is_no_number_is_named_and_kept_and_the_hits_arrive_when_it_is_mended(
    start_service: StartService, tmp_path: Path, spoils: tuple[str, ...]
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service, tally = serve(start_service, store), Tally()
        async with visiting(service.port, tally, SITES):
            await more(tally, "counted", SOME)
            at_once(store, ("RENAME", TOTAL, "aside"), spoils)
            spoiled = store.ask("DUMP", TOTAL)
            await more(tally, "stored", SOME)
            assert store.ask("DUMP", TOTAL) == spoiled
            at_once(store, ("DEL", TOTAL), ("RENAME", "aside", TOTAL))
            await more(tally, "counted", SOME)
        assert f"{TOTAL} does not hold an integer" in service.log
        await expect_all_counted(service, tally)


@pytest.mark.slow
async def test_a_counter_that_is_no_number_troubles_only_its_own_site(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        settings = {"timezone": zone_at_noon(), "watch_every_s": 0.1}
        service, tally = serve(start_service, store, **settings), Tally()
        await send(service.port, tally, SITES * 10, 1)
        at_once(store, ("RENAME", TOTAL, "aside"), ("SET", TOTAL, "abc"))
        assert await state_of(service, "GET", SITES[0]) == "stale"
        assert await state_of(service, "GET", SITES[1]) == "fresh"
        assert await asyncio.to_thread(service.stop) == 0
        again = serve(start_service, store, **settings)
        assert await state_of(again, "GET", SITES[0]) == "store_unavailable"
        assert await state_of(again, "POST", SITES[0]) == "store_unavailable"
        assert await state_of(again, "GET", SITES[1]) == "fresh"
        assert await state_of(again, "POST", SITES[1]) == "counted"
        at_once(store, ("DEL", TOTAL), ("RENAME", "aside", TOTAL))
        assert await state_of(again, "POST", SITES[0]) == "counted"
        assert await asyncio.to_thread(again.stop) == 0


async def state_of(service: RunningService, method: str, target: Target) -> str:
    """Ask for numbers, or send a hit; give the state of the answer, or why there is none."""
    what = {"GET": "counts", "POST": "hits"}[method]
    answer = await ask(service.port, method, f"/v1/sites/{target.site}/{what}")
    return str(answer.json["state"]) if answer.status == 200 else answer.code


def at_once(store: MortalStore, *commands: tuple[str, ...]) -> None:
    """Send commands between which the store does nothing else."""
    with connected(store.socket_path) as redis:
        pipeline = redis.pipeline(transaction=True)
        for command in commands:
            pipeline.execute_command(*command)
        pipeline.execute()


# The store forgets


@pytest.mark.slow
async def test_what_a_power_loss_took_from_the_store_is_sent_again(
    start_service: StartService, tmp_path: Path, program: str
) -> None:
    async with mortal_store(tmp_path / "store", *SYNCED_LATER, program=program) as store:
        service, tally = serve(start_service, store, kept_window_s=LONG_S), Tally()
        async with visiting(service.port, tally, SITES):
            await more(tally, "counted", SOME)
            synced_bytes = log_of(store).stat().st_size
            await more(tally, "counted", SOME)
            await cut_power(store, synced_bytes)
            await more(tally, "stored", SOME)
            await store.start()
            await more(tally, "counted", SOME)
        assert (tally.refused, tally.unanswered) == ({}, {})
        await expect_exact(service.port, tally)
        assert await metric(service, "hitcounter_lost_records_total") == 0
        assert await asyncio.to_thread(service.stop) == 0


@pytest.mark.slow
async def test_what_a_power_loss_took_after_the_service_ended_is_in_the_journal_that_it_left(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store", *SYNCED_LATER) as store:
        service, tally = serve(start_service, store, kept_window_s=LONG_S), Tally()
        await send(service.port, tally, SITES * SOME, 16)
        synced_bytes = log_of(store).stat().st_size
        await send(service.port, tally, SITES * SOME, 16)
        assert await asyncio.to_thread(service.stop) == 0
        assert journals(service.data_dir)
        await cut_power(store, synced_bytes)
        await store.start()
        await expect_all_counted(serve(start_service, store), tally)


@pytest.mark.slow
async def test_a_service_on_a_store_that_forgets_nothing_leaves_no_journal(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store", *SYNCED_ALWAYS) as store:
        service, tally = serve(start_service, store, kept_window_s=LONG_S), Tally()
        await send(service.port, tally, SITES * SOME, 16)
        assert await asyncio.to_thread(service.stop) == 0
        assert journals(service.data_dir) == []


async def cut_power(store: MortalStore, synced_bytes: int) -> None:
    """Kill the store, and leave of its log what was synced, and half of what came next."""
    await store.kill()
    os.truncate(log_of(store), synced_bytes + 10)


def log_of(store: MortalStore) -> Path:
    """Find the log that the store appends to."""
    (path,) = store.directory.glob("appendonlydir/*.incr.aof")
    return path


@pytest.mark.slow
async def test_after_a_flush_the_last_seconds_come_back_and_what_was_older_is_reported_as_lost(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        settings = {"workers": 1, "kept_window_s": 1, "watch_every_s": 0.1}
        service = serve(start_service, store, **settings)
        old, new = Tally(), Tally()
        await send(service.port, old, SITES * SOME, 16)
        await window_is_over(store)
        await send(service.port, new, SITES * 10, 16)
        store.ask("FLUSHALL")
        await fallen(service)
        await eventually(lambda: is_exact(service, new), "the last seconds are back")
        await lost(service)
        assert await asyncio.to_thread(service.stop) == 0


async def window_is_over(store: MortalStore) -> None:
    """Wait until an idle writer has asked so often for its watermark that a second has passed."""

    def is_asked(n_times: int) -> None:
        with connected(store.socket_path) as redis, redis.monitor() as monitor:
            for said in monitor.listen():
                n_times -= said["command"].startswith("EVALSHA ")
                if n_times == 0:
                    return

    await asyncio.to_thread(is_asked, 5)


async def is_exact(service: RunningService, tally: Tally) -> bool:
    """Tell whether the store holds what was acknowledged."""
    return await fresh(service.port, tally.acked) == tally.acked


async def lost(service: RunningService) -> None:
    """Wait until it is reported that hits are lost."""

    async def is_reported() -> bool:
        return await metric(service, "hitcounter_lost_records_total") > 0

    await eventually(is_reported, "a loss is reported")
    assert "hits are lost" in service.log


async def fallen(service: RunningService) -> None:
    """Wait until it is reported that a total fell."""

    async def is_reported() -> bool:
        return await metric(service, "hitcounter_fallen_totals_total") > 0

    await eventually(is_reported, "a fallen total is reported")
    assert re.search(rf"the total of {SITES[0].site} fell from \d+ to \d+", service.log)


@pytest.mark.slow
async def test_a_total_that_somebody_sets_lower_is_reported(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service, tally = serve(start_service, store, workers=1, watch_every_s=0.1), Tally()
        await send(service.port, tally, SITES * 10, 1)
        await watched(store)
        lower = ["--today", "1", "--month", "3", "--year", "3", "--total", "3"]
        service.run("baseline", SITES[0].site, *lower)
        await fallen(service)
        assert f"the total of {SITES[0].site} fell from 10 to 3" in service.log
        store.ask("SET", TOTAL, 2)
        await comes_true(lambda: "fell from 3 to 2" in service.log, "it is reported each time")
        assert await metric(service, "hitcounter_fallen_totals_total") == 2
        assert await asyncio.to_thread(service.stop) == 0


async def watched(store: MortalStore) -> None:
    """Wait until the totals have been looked at."""
    enough = n_reads(store) + 2
    await comes_true(lambda: n_reads(store) >= enough, "the totals are looked at")


def n_reads(store: MortalStore) -> int:
    """Count the reads of counters so far."""
    with connected(store.socket_path) as redis:
        return int(redis.info("commandstats")["cmdstat_mget"]["calls"])


@pytest.mark.slow
async def test_an_old_copy_of_the_store_is_reported(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service, tally = serve(start_service, store, workers=1, watch_every_s=0.1), Tally()
        await send(service.port, tally, SITES * 10, 1)
        shutil.copytree(store.directory / "appendonlydir", tmp_path / "copy")
        await send(service.port, tally, SITES * 10, 1)
        await window_is_over(store)
        await watched(store)
        await store.kill()
        shutil.rmtree(store.directory / "appendonlydir")
        shutil.copytree(tmp_path / "copy", store.directory / "appendonlydir")
        await store.start()
        await fallen(service)
        await lost(service)
        assert await asyncio.to_thread(service.stop) == 0


# A worker, or the service, ends


@pytest.mark.slow
async def test_the_journal_of_a_killed_worker_is_adopted_by_another_when_the_store_is_back(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service, tally = serve(start_service, store), Tally()
        await send(service.port, tally, SITES, 1)
        async with visiting(service.port, tally, SITES):
            await more(tally, "counted", SOME)
            await store.kill()
            await more(tally, "stored", SOME)
            old = service.worker_pids()
            signal_all(owners_of_journals(service)[:1], signal.SIGKILL)
            await comes_true(lambda: replaced(service, old), "another worker is started")
            await more(tally, "stored", SOME)
            await store.start()
            await more(tally, "counted", SOME)
        # The new worker knows no numbers, and makes none up.
        assert set(tally.refused) <= {"store_unavailable"}
        await expect_all_arrives(service, tally)
        assert "replaying the journal" in service.log


def owners_of_journals(service: RunningService) -> list[int]:
    """List the workers that keep a journal."""
    files = {pid: Path(f"/proc/{pid}/fd").iterdir() for pid in service.worker_pids()}
    return [pid for pid in files if any(map(is_journal, files[pid]))]


def is_journal(fd: Path) -> bool:
    """Tell whether a file descriptor leads to a journal."""
    with suppress(FileNotFoundError):  # closed meanwhile
        return fd.readlink().suffix == ".journal"
    return False


def replaced(service: RunningService, old: Sequence[int]) -> bool:
    """Tell whether there are as many workers as before, and not the same."""
    pids = service.worker_pids()
    return len(pids) == len(old) and set(pids) != set(old)


async def test_the_journals_of_a_service_that_was_killed_are_adopted_by_the_next(
    start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service, tally = serve(start_service, store), Tally()
        await send(service.port, tally, SITES, 1)
        async with visiting(service.port, tally, SITES):
            await store.kill()
            await more(tally, "stored", SOME)
            pids = [service.process.pid, *service.worker_pids()]
            signal_all(pids, signal.SIGKILL)
            await comes_true(lambda: not any(map(is_running, pids)), "all have ended")
        await store.start()
        assert len(journals(service.data_dir)) > 0
        again = serve(start_service, store)
        await expect_all_arrives(again, tally)
        assert tally.refused == {}


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)],
    ids=["killed", "stopped"],
)
async def test_a_service_told_to_end_while_the_store_is_away_leaves_its_hits_to_the_next(
    start_service: StartService, tmp_path: Path, number: signal.Signals
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service, tally = serve(start_service, store, store_timeout_s=1), Tally()
        async with visiting(service.port, tally, SITES):
            await more(tally, "counted", SOME)
            store.signal(number)
            await more(tally, "stored", SOME)
            assert await asyncio.to_thread(service.stop) == 0
        assert tally.refused == {}
        assert journals(service.data_dir)
        await store.kill()
        await store.start()
        await expect_all_arrives(serve(start_service, store), tally)


# The disk of the journal


@pytest.fixture
def journal_disk(tmp_path: Path) -> Iterator[Path]:
    """Keep the journal on a disk of its own with little room."""
    with small_disk(tmp_path / "data" / "journal", "8m") as path:
        yield path


@pytest.mark.slow
async def test_hits_are_refused_while_the_disk_of_the_journal_is_full(
    journal_disk: Path, start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service, tally = serve(start_service, store), Tally()
        async with visiting(service.port, tally, SITES):
            await more(tally, "counted", SOME)
            await store.kill()
            await more(tally, "stored", SOME)
            fill(journal_disk / "full")
            await refused(tally, SOME)
            await eventually(lambda: none_takes_hits(service, tally), "it is not ready")
            (journal_disk / "full").unlink()
            await more(tally, "stored", SOME)
            await eventually(lambda: is_ready(service, 200), "it is ready again")
            fill(journal_disk / "full")
            await refused(tally, SOME)
            await store.start()
            await more(tally, "counted", SOME)
        assert set(tally.refused) <= {"journal_full", "outcome_unknown"}
        assert tally.unanswered == {}
        (journal_disk / "full").unlink()
        await expect_all_arrives(service, tally)


@pytest.mark.slow
async def test_hits_are_refused_from_the_first_if_the_disk_is_full_when_the_store_goes_away(
    journal_disk: Path, start_service: StartService, tmp_path: Path
) -> None:
    async with mortal_store(tmp_path / "store") as store:
        service, tally = serve(start_service, store), Tally()
        fill(journal_disk / "full")
        async with visiting(service.port, tally, SITES):
            await more(tally, "counted", SOME)
            await store.kill()
            await refused(tally, SOME)
            await store.start()
            await more(tally, "counted", SOME)
        assert set(tally.refused) <= {"journal_full", "outcome_unknown"}
        assert (tally.states["stored"], tally.unanswered) == (0, {})
        (journal_disk / "full").unlink()
        await expect_all_arrives(service, tally)


async def is_ready(service: RunningService, expected: int) -> bool:
    """Tell whether all workers are ready, or none is."""
    answers = [await ask(service.port, "GET", "/readyz") for _ in range(10)]
    return {answer.status for answer in answers} == {expected}


async def none_takes_hits(service: RunningService, tally: Tally) -> bool:
    """Tell whether no worker is ready, each asked by hits too: so it finds its disk full."""
    await send(service.port, tally, SITES, len(SITES))
    return await is_ready(service, 503)


async def refused(tally: Tally, n: int) -> None:
    """Wait until so many more hits are refused because the journal is full."""
    enough = tally.refused["journal_full"] + n
    await comes_true(lambda: tally.refused["journal_full"] >= enough, "hits are refused")


@pytest.mark.slow
async def test_hits_are_refused_when_the_journal_has_grown_to_its_bound(
    start_service: StartService, tmp_path: Path
) -> None:
    draw = random.Random(0)
    pages = [Target(SITES[0].site, f"/{draw.randbytes(250).hex()}") for _ in range(20_000)]
    async with mortal_store(tmp_path / "store") as store:
        service, tally = serve(start_service, store, workers=1, journal_max_mb=1), Tally()
        await send(service.port, tally, SITES, 1)
        async with visiting(service.port, tally, pages, n_clients=64):
            await store.kill()
            await refused(tally, SOME)
            assert size_of_journal(service) < MAX_JOURNAL_BYTES
            await store.start()
            await more(tally, "counted", SOME)
        assert set(tally.refused) <= {"journal_full", "outcome_unknown"}
        assert tally.unanswered == {}
        await expect_all_arrives(service, tally)


def size_of_journal(service: RunningService) -> int:
    """Sum up the files of the journal."""
    return sum(path.stat().st_size for path in service.data_dir.glob("journal/*"))
