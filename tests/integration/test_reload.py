"""SIGHUP gives every worker a successor with the settings of now, and no client notices.

What cannot work leaves everything as it was and says so; what hangs is ended.
"""

import asyncio
import os
import pty
import random
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from redis import Redis

from hitcounter.process import deadlines
from hitcounter.process.handshake import FAILED_TO_START
from hitcounter.store import embedded
from tests.conftest import PROGRAM, RunningService, StartService
from tests.support.load import Connection, Tally, Target, ask, counted, zone_at_noon
from tests.support.processes import is_running, signal_all
from tests.support.servers import store_server
from tests.support.waiting import eventually, until

N_RELOADS = 4
ROOT = Path(__file__).parent.parent.parent
LIVE_GAUGE = re.compile(r"gauge_live[a-z]+_(\d+)\.db")


def hang_up(service: RunningService) -> None:
    """Tell the service to read its settings again."""
    service.process.send_signal(signal.SIGHUP)


async def reloaded(service: RunningService, n_times: int = 1) -> None:
    """Wait until the service has replaced its workers so many times since its start."""

    async def is_reloaded() -> bool:
        assert service.process.poll() is None, service.log
        return service.log.count("replaced all workers") >= n_times

    await eventually(is_reloaded, "all workers are replaced")


async def logged(service: RunningService, text: str) -> None:
    """Wait until the service has logged something."""

    async def is_logged() -> bool:
        return text in service.log

    await eventually(is_logged, f"the log says {text!r}")


async def gone(pids: list[int]) -> None:
    """Wait until processes have ended."""

    async def are_gone() -> bool:
        return not any(map(is_running, pids))

    await eventually(are_gone, f"{pids} have ended")


class Crowd:
    """Clients of all kinds, who send hits until they are told to stop."""

    def __init__(self, port: int) -> None:
        """Prepare to send to a service on the loopback."""
        self.tally = Tally()
        self._port = port
        self._is_over = asyncio.Event()
        self._visits = asyncio.create_task(self._send())

    async def _send(self) -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(8):
                group.create_task(self._visit(Target("busy", f"/{n}")))
                group.create_task(self._visit(Target("thinking", f"/{n}"), think_s=1.0))
                group.create_task(self._visit(Target("passing", f"/{n}"), stays=False))

    async def _visit(self, target: Target, *, think_s: float = 0.0, stays: bool = True) -> None:
        connection = Connection(self._port)
        think = random.Random(repr(target))
        try:
            while not self._is_over.is_set():
                await self.tally.hit(connection, target)
                if not stays:
                    connection.close()
                await asyncio.sleep(think.uniform(0, think_s))
        finally:
            connection.close()

    async def has_sent(self, n_more: int) -> None:
        """Wait until so many more hits are acknowledged."""
        wanted = self.tally.n_acked + n_more

        async def is_sent() -> bool:
            return self.tally.n_acked >= wanted or self._visits.done()

        await eventually(is_sent, f"{wanted} hits are acknowledged")

    async def leave(self) -> Tally:
        """Stop; tell what became of all hits."""
        self._is_over.set()
        await self._visits
        return self.tally


@pytest.fixture(params=["uvloop", "asyncio"])
def event_loop_kind(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Let services run with uvloop, or as if it was not installed."""
    kind = str(request.param)
    if kind == "asyncio":
        (tmp_path / "uvloop.py").write_text("raise ImportError('not installed')\n")
        found_before = os.environ.get("PYTHONPATH", "")
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{found_before}")
    return kind


async def sum_of(service: RunningService, metric: str, labels: str = "") -> float:
    """Add up the samples of a metric whose labels contain a text."""
    text = (await ask(service.operations_port, "GET", "/metrics")).body.decode()
    samples = re.findall(rf"^{metric}(?:{{.*{labels}.*}})? (\S+)$", text, re.MULTILINE)
    assert samples, text
    return sum(map(float, samples))


@pytest.mark.slow
@pytest.mark.usefixtures("event_loop_kind")
async def test_no_request_fails_while_all_workers_are_replaced_again_and_again(
    start_service: StartService,
) -> None:
    service = start_service(workers=2, timezone=zone_at_noon(), operations_port=0)
    crowd = Crowd(service.port)
    generations = [service.worker_pids()]
    for n in range(1, N_RELOADS + 1):
        await crowd.has_sent(1_000)
        hang_up(service)
        await reloaded(service, n)
        await gone(generations[-1])
        generations.append(service.worker_pids())
    await crowd.has_sent(1_000)
    tally = await crowd.leave()
    assert (tally.unanswered, tally.refused, tally.sent) == ({}, {}, tally.acked)
    assert await counted(service.port, tally.sent) == tally.acked
    assert await sum_of(service, "hitcounter_hits_total", 'result="counted"') == tally.n_acked
    assert [len(pids) for pids in generations] == [2] * (N_RELOADS + 1)
    assert len(set().union(*generations)) == 2 * (N_RELOADS + 1)
    assert "ERROR" not in service.log


@pytest.mark.slow
async def test_a_connection_that_only_waits_outlives_the_replacement_until_its_next_request(
    start_service: StartService,
) -> None:
    service = start_service(workers=1, timezone=zone_at_noon())
    connection, later, tally = Connection(service.port), Connection(service.port), Tally()
    await tally.hit(connection, Target("demo"))
    old = service.worker_pids()
    hang_up(service)
    await reloaded(service)
    assert is_running(old[0])
    (successor,) = {*service.worker_pids()}.difference(old)
    await tally.hit(later, Target("demo"))
    os.kill(successor, signal.SIGTERM)
    await later.ended()  # as the other one would be before it, had its worker been told to stop
    answer = await tally.hit(connection, Target("demo"))
    assert answer is not None
    assert answer.headers["connection"] == "close"
    assert (connection.opened, tally.highest) == (1, {"demo": 3})
    await gone(old)


def declare(path: Path, *sites: str, settings: str = "") -> None:
    """Write a file that declares these sites and no others."""
    path.write_text(settings + "".join(f'[sites."{site}"]\n' for site in sites))


async def status_of_hit(service: RunningService, site: str) -> int:
    """Send one hit on a new connection."""
    return (await ask(service.port, "POST", f"/v1/sites/{site}/hits")).status


@pytest.mark.slow
async def test_a_site_that_is_declared_later_counts_after_a_reload(
    start_service: StartService, tmp_path: Path
) -> None:
    declare(tmp_path / "sites.toml", "old")
    service = start_service(workers=2, config=tmp_path / "sites.toml", operations_port=0)
    assert [await status_of_hit(service, site) for site in ("old", "new")] == [200, 404]
    pids = service.worker_pids()
    declare(tmp_path / "sites.toml", "new")
    hang_up(service)
    await reloaded(service)
    await gone(pids)
    assert [await status_of_hit(service, site) for site in ("old", "new")] == [404, 200]
    assert await sum_of(service, "hitcounter_hits_total", 'site="old"') == 1
    assert await sum_of(service, "hitcounter_hits_total", 'site="new"') == 1


@pytest.mark.slow
async def test_an_order_that_comes_during_a_replacement_is_done_after_it(
    start_service: StartService, tmp_path: Path
) -> None:
    declare(tmp_path / "sites.toml", "first")
    service = start_service(workers=1, config=tmp_path / "sites.toml")
    declare(tmp_path / "sites.toml", "second")
    hang_up(service)
    until(lambda: len(service.worker_pids()) == 2, "a successor is started")
    pids = service.worker_pids()
    declare(tmp_path / "sites.toml", "third")
    hang_up(service)
    await reloaded(service, 2)
    await gone(pids)
    assert [await status_of_hit(service, site) for site in ("second", "third")] == [404, 200]


async def test_a_broken_file_leaves_everything_as_it_was_and_says_so(
    start_service: StartService, tmp_path: Path
) -> None:
    declare(tmp_path / "sites.toml", "demo")
    service = start_service(workers=2, config=tmp_path / "sites.toml")
    pids = service.worker_pids()
    for text, reason in (
        ('[sites."demo"', "is not TOML"),
        ("[sites.demo]\ntimezone = 'Nowhere'", "sites.'demo'.timezone"),
        ("max_pages = -1", "max_pages: -1 is not between 0 and"),
    ):
        (tmp_path / "sites.toml").write_text(text)
        hang_up(service)
        await logged(service, reason)
    assert service.log.count("ERROR supervisor: the settings stay as they were: ") == 3
    assert service.worker_pids() == pids
    assert await status_of_hit(service, "demo") == 200
    declare(tmp_path / "sites.toml", "other")
    hang_up(service)
    await reloaded(service)
    await gone(pids)
    assert await status_of_hit(service, "other") == 200


@pytest.mark.slow
async def test_what_cannot_change_while_the_service_runs_stays_and_is_named(
    start_service: StartService, tmp_path: Path
) -> None:
    path = tmp_path / "hitcounter.toml"
    declare(path, "demo", settings="workers = 1\n")
    service = start_service(config=path)
    old = service.worker_pids()
    declare(path, "demo", settings="max_pages = 0\nworkers = 2\nhost = '127.0.0.2'\n")
    hang_up(service)
    await reloaded(service)
    await gone(old)
    assert "WARNING supervisor: only a restart changes these settings: host, workers" in service.log
    assert len(service.worker_pids()) == 1
    answer = await ask(service.port, "POST", "/v1/sites/demo/hits", b'{"path": "/"}')
    assert answer.json["page"] == {"path": "/", "total": None}


@pytest.mark.slow
async def test_a_worker_that_cannot_start_changes_nothing_for_those_who_serve(
    start_service: StartService, tmp_path: Path
) -> None:
    with store_server(tmp_path / "store") as store:
        service = start_service(workers=2, redis_url=store.unix_url)
        pids = service.worker_pids()
        with Redis(unix_socket_path=str(store.socket_path)) as redis:
            redis.config_set("maxmemory-policy", "allkeys-lru")
            hang_up(service)
            await logged(service, "replaced 0 of 2 workers: maxmemory-policy is allkeys-lru")
            redis.config_set("maxmemory-policy", "noeviction")
        assert service.worker_pids() == pids
        assert await status_of_hit(service, "demo") == 200
        hang_up(service)
        await reloaded(service)
        service.stop()


@pytest.mark.slow
async def test_nobody_is_replaced_while_the_store_is_away(service: RunningService) -> None:
    pids, store = service.worker_pids(), service.store_pids()
    signal_all(store, signal.SIGSTOP)
    hang_up(service)
    await logged(service, "replaced 0 of 1 workers: the store does not answer in time; without it")
    signal_all(store, signal.SIGCONT)
    assert service.worker_pids() == pids
    hang_up(service)
    await reloaded(service)
    assert await status_of_hit(service, "demo") == 200


def has_gauges(directory: Path, worker_ids: set[int]) -> bool:
    """Tell whether the metrics have the gauges of these workers, and of no others."""
    found = (LIVE_GAUGE.fullmatch(path.name) for path in directory.glob("metrics-*/*.db"))
    return {int(match[1]) for match in found if match} == worker_ids


@pytest.mark.slow
async def test_the_counts_of_ended_workers_stay_in_the_metrics_and_their_gauges_go(
    start_service: StartService,
) -> None:
    service = start_service(workers=2, operations_port=0)
    for n, ids in enumerate(({2, 3}, {0, 1}, {2, 3}), start=1):
        old = service.worker_pids()
        assert await status_of_hit(service, "demo") == 200
        hang_up(service)
        await reloaded(service, n)
        await gone(old)
        until(partial(has_gauges, service.data_dir, ids), f"there are gauges of workers {ids} only")
        assert await sum_of(service, "hitcounter_hits_total") == n
        assert await sum_of(service, "hitcounter_store_up") == 1
        assert await sum_of(service, "hitcounter_hits_in_flight") == 0


@pytest.mark.slow
async def test_an_old_worker_that_is_killed_leaves_no_gauges_either(
    start_service: StartService,
) -> None:
    service = start_service(workers=1)
    idle = Connection(service.port)
    assert (await idle.ask("GET", "/healthz")).status == 200
    old = service.worker_pids()
    hang_up(service)
    await reloaded(service)
    assert has_gauges(service.data_dir, {0, 1})
    signal_all(old, signal.SIGKILL)
    until(partial(has_gauges, service.data_dir, {1}), "the gauges of the killed worker are gone")
    idle.close()
    hang_up(service)
    await reloaded(service, 2)


@pytest.mark.slow
async def test_workers_that_die_during_a_replacement_are_replaced_all_the_same(
    start_service: StartService,
) -> None:
    service = start_service(workers=1)
    old = service.worker_pids()
    hang_up(service)
    until(lambda: len(service.worker_pids()) == 2, "a successor is started")
    signal_all(service.worker_pids(), signal.SIGKILL)
    await logged(service, "replaced 0 of 1 workers: worker 1 was ended before it served")
    until(lambda: len(set(service.worker_pids()) - set(old)) == 1, "a worker is started again")
    assert await status_of_hit(service, "demo") == 200
    hang_up(service)
    await reloaded(service)
    assert await status_of_hit(service, "demo") == 200


@pytest.mark.slow
@pytest.mark.parametrize("n_workers_then", [3, 4])
async def test_a_service_that_is_told_to_stop_during_a_replacement_leaves_nobody_behind(
    start_service: StartService, n_workers_then: int
) -> None:
    service = start_service(workers=2)
    connections = [Connection(service.port) for _ in range(20)]
    for connection in connections:  # they keep both old workers from ending by themselves
        assert (await connection.ask("GET", "/healthz")).status == 200
    hang_up(service)
    until(lambda: len(service.worker_pids()) == n_workers_then, "a successor is started")
    pids = [*service.worker_pids(), *service.store_pids()]
    assert await asyncio.to_thread(service.stop) == 0
    assert [pid for pid in pids if is_running(pid)] == []
    assert "ERROR" not in service.log
    for connection in connections:
        connection.close()


async def test_old_and_new_workers_end_when_their_supervisor_is_killed(
    start_service: StartService,
) -> None:
    service = start_service(workers=1)
    connection = Connection(service.port)
    assert (await connection.ask("GET", "/healthz")).status == 200
    hang_up(service)
    await reloaded(service)
    pids = [*service.worker_pids(), *service.store_pids()]
    assert len(pids) == 3
    service.stop(signal.SIGKILL)
    await gone(pids)
    connection.close()


@pytest.mark.slow
def test_a_worker_that_hangs_is_ended_and_the_service_with_it(start_service: StartService) -> None:
    service = start_service(workers=2)
    pids = service.worker_pids()
    signal_all(pids[:1], signal.SIGSTOP)
    assert service.stop() == 0
    assert [pid for pid in pids if is_running(pid)] == []
    assert service.log.count("does not end; killing it") == 1


def test_a_deadline_holds_whatever_the_process_does() -> None:
    program = (
        "signal.signal(signal.SIGALRM, signal.SIG_IGN); kill_self_after(0.01)\nwhile True: pass"
    )
    imports = "import signal; from hitcounter.process.handshake import kill_self_after; "
    result = subprocess.run([sys.executable, "-c", imports + program], check=False)
    assert result.returncode == -signal.SIGALRM


def test_every_deadline_leaves_time_to_those_that_the_process_waits_for() -> None:
    assert deadlines.DRAIN_S + deadlines.WORKER_END_S < deadlines.STOP_S
    assert deadlines.LEAVE_S + deadlines.WORKER_END_S < deadlines.LEFT_S
    assert deadlines.STOP_S + embedded.STOP_TIMEOUT_S < deadlines.SUPERVISOR_END_S
    unit = (ROOT / "deploy" / "hitcounter.service").read_text()
    assert seconds(r"^TimeoutStopSec=(\d+)s$", unit) > deadlines.SUPERVISOR_END_S
    compose = (ROOT / "deploy" / "compose.yaml").read_text()
    assert seconds(r"^ +stop_grace_period: (\d+)s$", compose) > deadlines.STOP_S


def seconds(pattern: str, text: str) -> int:
    """Find the first setting of this form."""
    match = re.search(pattern, text, re.MULTILINE)
    assert match
    return int(match[1])


@pytest.mark.slow
def test_a_worker_of_another_version_does_not_guess_what_it_is_told() -> None:
    command = [sys.executable, "-m", "hitcounter.process.worker_start"]
    result = subprocess.run(command, input=b"0.0.0\n", capture_output=True, check=False)
    assert result.returncode == FAILED_TO_START
    assert b" is installed, but 0.0.0 runs: restart the service" in result.stdout


@pytest.mark.slow
def test_a_service_whose_terminal_is_gone_ends(tmp_path: Path) -> None:
    ours, its = pty.openpty()
    command = [str(PROGRAM), "serve", "--port=0", "--operations-port=off"]
    command += ["--data-dir", str(tmp_path / "data")]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, stdin=its, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            os.close(its)
            assert process.stdout is not None
            assert b"is serving" in process.stdout.readline()
            process.send_signal(signal.SIGHUP)
            until(lambda: "replaced all" in (tmp_path / "log").read_text(), "it has reloaded")
            os.close(ours)
            process.send_signal(signal.SIGHUP)
            assert process.wait(20) == 0
        finally:
            process.kill()
