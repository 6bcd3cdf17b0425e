"""Several workers behind one socket: every hit counts once, whichever worker comes or goes.

And whatever ends a service, it leaves no process, and no file outside its data directory.
"""

import asyncio
import random
import re
import signal
import socket
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest

from hitcounter.process.listener import listen
from tests.conftest import RunningService, StartService, run_command
from tests.support.load import (
    Connection,
    Tally,
    Target,
    ask,
    by_site,
    counted,
    expect_between,
    send,
    zone_at_noon,
)
from tests.support.processes import is_running, signal_all
from tests.support.servers import store_server
from tests.support.waiting import eventually, until

N_HITS = 20_000
N_SITES = 50
N_PAGES = 500


def plan(n_hits: int, seed: int) -> list[Target]:
    """Draw hits on all pages of all sites."""
    draw = random.Random(seed)
    numbers = draw.choices(range(N_PAGES), k=n_hits)
    return [Target(f"site{n % N_SITES}.example.vn", f"/tin-tuc/{n}") for n in numbers]


async def n_acked_is(tally: Tally, n: int, sending: "asyncio.Task[None]") -> None:
    """Wait until so many hits are acknowledged."""

    async def reached() -> bool:
        return tally.n_acked >= n or sending.done()

    await eventually(reached, f"{n} hits are acknowledged")


async def replaced(service: RunningService, pid: int) -> None:
    """Wait until another process has found its store in the place of one that ended."""
    n_workers = int(service.settings["workers"])

    async def is_replaced() -> bool:
        pids, log = service.worker_pids(), service.log
        n_started = n_workers + log.count("starting it again")
        is_there = pid not in pids and len(pids) == n_workers
        return is_there and log.count("promise level") == n_started

    await eventually(is_replaced, f"worker process {pid} is replaced")


@pytest.mark.slow
async def test_every_count_is_exact_while_workers_are_restarted(
    start_service: StartService,
) -> None:
    service = start_service(workers=3, timezone=zone_at_noon())
    tally = Tally()
    sending = asyncio.create_task(send(service.port, tally, plan(N_HITS, seed=1), 64))
    for share in (0.3, 0.6):
        await n_acked_is(tally, round(share * N_HITS), sending)
        pid = service.worker_pids()[0]
        signal_all([pid], signal.SIGTERM)
        await replaced(service, pid)
    await sending
    assert (tally.unanswered, tally.refused, tally.n_acked) == ({}, {}, N_HITS)
    assert await counted(service.port, tally.sent) == tally.acked
    assert await counted(service.port, by_site(tally.sent)) == by_site(tally.acked)
    assert tally.highest == {target.site: n for target, n in by_site(tally.acked).items()}
    assert service.log.count("ended with 0; starting it again") == 2


@pytest.mark.slow
async def test_a_connection_that_only_waits_is_closed_and_its_next_hit_counts_elsewhere(
    start_service: StartService,
) -> None:
    service = start_service(workers=1, timezone=zone_at_noon())
    connection, tally = Connection(service.port), Tally()
    await tally.hit(connection, Target("demo"))
    pid = service.worker_pids()[0]
    signal_all([pid], signal.SIGTERM)
    await replaced(service, pid)
    await tally.hit(connection, Target("demo"))
    connection.close()
    assert (tally.acked.total(), tally.highest, connection.opened) == (2, {"demo": 2}, 2)


async def test_hits_go_on_when_a_worker_is_killed_and_its_metrics_survive(
    start_service: StartService,
) -> None:
    service = start_service(workers=2, timezone=zone_at_noon(), operations_port=0)
    tally = Tally()
    await send(service.port, tally, plan(2_000, seed=2), 32)
    files = metrics_files(service.data_dir)
    assert await counted_hits(service) == tally.n_acked == 2_000
    pid = service.worker_pids()[0]
    signal_all([pid], signal.SIGKILL)
    await replaced(service, pid)
    await send(service.port, tally, plan(2_000, seed=3), 32)
    assert (tally.unanswered, tally.refused) == ({}, {})
    assert await counted_hits(service) == tally.n_acked == 4_000
    assert await counted(service.port, by_site(tally.sent)) == by_site(tally.acked)
    assert metrics_files(service.data_dir) == files


def metrics_files(directory: Path) -> list[str]:
    """List what the workers keep their metrics in."""
    return sorted(path.name for path in directory.glob("metrics-*/*.db"))


async def counted_hits(service: RunningService) -> int:
    """Read from the metrics how many hits all workers have counted."""
    text = (await ask(service.operations_port, "GET", "/metrics")).body.decode()
    counts = re.findall(r'^hitcounter_hits_total{.*result="counted".*} (\S+)$', text, re.MULTILINE)
    return round(sum(map(float, counts)))


@pytest.mark.slow
async def test_a_worker_killed_under_load_loses_no_acknowledged_hit(
    start_service: StartService,
) -> None:
    service = start_service(workers=2, timezone=zone_at_noon())
    tally = Tally()
    sending = asyncio.create_task(send(service.port, tally, plan(6_000, seed=4), 32))
    await n_acked_is(tally, 2_000, sending)
    pid = service.worker_pids()[0]
    signal_all([pid], signal.SIGKILL)
    await replaced(service, pid)
    await sending
    assert tally.unanswered.total() <= 32  # one for each connection, at most
    assert tally.refused == {}
    await expect_between(service.port, tally)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_service_told_to_stop_under_load_keeps_every_acknowledged_hit(
    start_service: StartService, number: int
) -> None:
    service = start_service(workers=2, timezone=zone_at_noon())
    pids = [*service.worker_pids(), *service.store_pids()]
    tally = Tally()
    sending = asyncio.create_task(send(service.port, tally, cycle(plan(500, seed=5)), 64))
    await n_acked_is(tally, 2_000, sending)
    assert await asyncio.to_thread(service.stop, number) == 0
    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        await sending
    assert tally.refused == {}
    assert [pid for pid in pids if is_running(pid)] == []
    again = start_service(workers=2, timezone=zone_at_noon())
    await expect_between(again.port, tally)


@pytest.mark.slow
async def test_a_stopping_service_answers_what_it_received_and_refuses_new_clients(
    service: RunningService,
) -> None:
    connection, tally = Connection(service.port), Tally()
    await tally.hit(connection, Target("demo"))
    store = service.store_pids()
    signal_all(store, signal.SIGSTOP)
    waiting = asyncio.create_task(tally.hit(connection, Target("demo")))
    stopping = asyncio.create_task(asyncio.to_thread(service.stop))
    await eventually(partial(refuses, service), "new clients are refused")
    assert not stopping.done()
    signal_all(store, signal.SIGCONT)
    answer = await waiting
    assert (tally.n_acked, answer and answer.headers["connection"]) == (2, "close")
    assert await stopping == 0


async def refuses(service: RunningService) -> bool:
    """Tell whether a new client is refused; one that only waits to be accepted is not."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", service.port)
    except ConnectionRefusedError:
        return True
    writer.transport.abort()
    return False


@pytest.mark.slow
def test_a_store_that_is_not_fit_stops_the_service_with_the_reason(tmp_path: Path) -> None:
    with store_server(tmp_path / "store", "--maxmemory-policy", "allkeys-lru") as store:
        result = run_command("serve", port="0", workers="2", redis_url=store.unix_url)
    assert result.returncode == 1
    reason, *more = result.stderr.splitlines()
    assert reason == (
        "hitcounter: maxmemory-policy is allkeys-lru, which deletes counters when memory is short:"
        " set it to noeviction"
    )
    assert (more, result.stdout) == ([], "")


async def test_a_port_is_taken_over_from_a_predecessor_that_is_about_to_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as predecessor:
        host, port = predecessor.getsockname()
        binding = asyncio.create_task(listen(host, port))
        await asyncio.sleep(0)
        assert not binding.done()
    with await binding as listener:
        assert listener.getsockname() == (host, port)


@pytest.mark.slow
def test_a_port_in_use_is_one_clear_line(start_service: StartService, tmp_path: Path) -> None:
    service = start_service()
    result = run_command("serve", port=str(service.port), data_dir=str(tmp_path / "other"))
    reason = f"cannot listen on 127.0.0.1 port {service.port}: Address already in use"
    line = f"hitcounter: {reason}; host and port say where\n"
    assert (result.returncode, result.stderr) == (1, line)


@pytest.mark.slow
def test_a_worker_that_is_ended_before_it_serves_is_started_again(
    start_service: StartService,
) -> None:
    service = start_service(workers=1)
    # All but the first signal hit a worker that has only begun to start.
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        pid = service.worker_pids()[0]
        signal_all([pid], number)
        until(partial(has_another, service, pid), "another worker is started")
    assert service.process.poll() is None
    assert asyncio.run(ask(service.port, "POST", "/v1/sites/demo/hits")).status == 200


def has_another(service: RunningService, old: int) -> bool:
    """Tell whether a worker is there that is not the old one; it may not serve yet."""
    return bool(set(service.worker_pids()) - {old})


@pytest.mark.slow
async def test_when_the_supervisor_is_killed_all_it_started_ends_by_itself(
    start_service: StartService,
) -> None:
    service = start_service(workers=3)
    pids = [*service.worker_pids(), *service.store_pids()]
    assert len(pids) == 4
    idle = Connection(service.port)
    assert (await idle.ask("GET", "/healthz")).status == 200
    service.stop(signal.SIGKILL)
    until(lambda: not any(map(is_running, pids)), "workers and store have ended")
    idle.close()
