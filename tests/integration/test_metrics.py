"""What happens to the files of the metrics is no affair of the counting."""

import re
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from hitcounter.metrics import OTHER_SITES
from hitcounter.operations.collector import measured
from hitcounter.outcomes import RESULTS, RESULTS_OF_OTHERS
from tests.conftest import RunningService, StartService
from tests.support.disks import fill, small_disk
from tests.support.load import ask, metric
from tests.support.processes import signal_all
from tests.support.servers import store_server
from tests.support.waiting import eventually

LONGEST_NAME = "a" * 63
HITS = re.compile(r'^hitcounter_hits_total{result="(.+)",site="(.+)"} (\S+)$', re.MULTILINE)


async def count(service: RunningService, site: str = "demo") -> None:
    """Count one hit."""
    answer = await ask(service.port, "POST", f"/v1/sites/{site}/hits")
    assert answer.json["state"] == "counted"


async def hits(service: RunningService) -> dict[tuple[str, str], float]:
    """Read the series of all hits, by site and result."""
    answer = await ask(service.operations_port, "GET", "/metrics")
    assert answer.status == 200
    return {(site, result): float(n) for result, site, n in HITS.findall(answer.body.decode())}


async def replaced(service: RunningService, pids: list[int]) -> None:
    """Wait until other workers serve."""

    async def is_replaced() -> bool:
        return len(service.worker_pids()) == len(pids) and not {*pids} & {*service.worker_pids()}

    await eventually(is_replaced, "the workers are replaced")


@pytest.mark.slow
async def test_metrics_lie_where_no_cleaner_comes(
    start_service: StartService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    service = start_service(workers=2)
    await count(service)
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.slow
async def test_a_service_counts_and_answers_on_when_the_files_of_its_metrics_are_removed(
    start_service: StartService,
) -> None:
    service = start_service(workers=1, operations_port=0)
    await count(service)
    (directory,) = service.data_dir.glob("metrics-*")
    shutil.rmtree(directory)
    await count(service)
    assert await hits(service) == {}
    for number in (signal.SIGKILL, signal.SIGHUP):
        pids = service.worker_pids()
        signal_all(pids if number == signal.SIGKILL else [service.process.pid], number)
        await replaced(service, pids)
        await count(service)
    assert (await hits(service))[OTHER_SITES, "counted"] >= 1
    assert service.stop() == 0
    assert list(service.data_dir.glob("metrics-*")) == []


@pytest.mark.slow
async def test_what_a_killed_service_left_is_cleared_away_by_the_next(
    start_service: StartService,
) -> None:
    start_service().stop(signal.SIGKILL)
    service = start_service(operations_port=0)
    assert len(list(service.data_dir.glob("metrics-*"))) == 1
    await count(service)
    assert (await hits(service))[OTHER_SITES, "counted"] == 1


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Keep the data of a service on a disk that has no room at all."""
    with small_disk(tmp_path / "data", "1m") as path:
        (path / "lock").write_text("0")
        fill(path / "full")
        yield path


@pytest.mark.slow
async def test_a_service_counts_where_the_disk_has_no_room_for_metrics(
    full_disk: Path, start_service: StartService, tmp_path: Path
) -> None:
    with store_server(tmp_path / "store") as server:
        service = start_service(redis_url=server.unix_url, workers=2, operations_port=0)
        for _ in range(20):
            await count(service)
        assert await hits(service) == {}
        assert service.log.count("nobody can read the metrics of this worker") == 2


async def test_every_series_of_a_declared_site_begins_at_zero(
    start_service: StartService, tmp_path: Path
) -> None:
    config = tmp_path / "sites.toml"
    config.write_text(f'[sites.demo]\n[sites."{LONGEST_NAME}"]\n')
    service = start_service(config=config, operations_port=0)
    begin = {(site, result): 0.0 for site in ("demo", LONGEST_NAME) for result in RESULTS}
    begin |= {(OTHER_SITES, result): 0.0 for result in RESULTS + RESULTS_OF_OTHERS}
    assert await hits(service) == begin
    await count(service)
    assert (await ask(service.port, "POST", "/v1/sites/other/hits")).status == 404
    expected = begin | {("demo", "counted"): 1.0, (OTHER_SITES, "unknown_site"): 1.0}
    assert await hits(service) == expected
    text = (await ask(service.operations_port, "GET", "/metrics")).body.decode()
    for site in (OTHER_SITES, "demo", LONGEST_NAME):
        assert f'hitcounter_pages_refused_total{{site="{site}"}} 0.0' in text


@pytest.mark.slow
async def test_the_store_the_journal_and_the_workers_are_measured_whether_or_not_anybody_asks(
    start_service: StartService,
) -> None:
    service = start_service(
        workers=1, operations_port=0, promise_wanted="A", store_max_mb=100, journal_max_mb=2
    )
    assert await metric(service, "hitcounter_store_memory_limit_bytes") == 100 << 20
    assert 0 < await metric(service, "hitcounter_store_memory_bytes") < 100 << 20
    assert await metric(service, "hitcounter_store_promise_wanted") == 2
    await count(service)
    took_ms = 1000 * await metric(service, "hitcounter_commit_duration_seconds_sum")
    assert abs(took_ms - round(took_ms)) > 1e-6  # measured by a clock of more than milliseconds
    await becomes(service, "hitcounter_journal_limit_bytes", 2 << 20)
    for number in (signal.SIGKILL, signal.SIGHUP):
        beat_at, pids = await heartbeat(service), service.worker_pids()
        await eventually(partial(beats_after, service, beat_at), "the worker lives")
        signal_all(pids if number == signal.SIGKILL else [service.process.pid], number)
        await replaced(service, pids)
        await becomes(service, "hitcounter_worker_restarts_total", 1)


async def becomes(service: RunningService, name: str, expected: float) -> None:
    """Wait until a metric has a value."""

    async def is_so() -> bool:
        return await metric(service, name) == expected

    await eventually(is_so, f"{name} is {expected}")


async def heartbeat(service: RunningService) -> float:
    """Read when the only worker said last that it is not stuck; 0 where it never did."""
    (directory,) = service.data_dir.glob("metrics-*")
    said = measured(directory, "hitcounter_worker_heartbeat_timestamp_seconds")
    return max(said.values(), default=0.0)


async def beats_after(service: RunningService, moment: float) -> bool:
    """Tell whether the worker has said so again."""
    return await heartbeat(service) > moment


async def test_a_hit_that_meets_a_fault_of_ours_is_counted_as_such(
    start_service: StartService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = "import sys\nif 'hitcounter.process.worker_start' in sys.orig_argv:\n"
    fault += "    from hitcounter.counting.counter import Counter\n    Counter.count = None\n"
    (tmp_path / "sitecustomize.py").write_text(fault)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    service = start_service(operations_port=0)
    answer = await ask(service.port, "POST", "/v1/sites/demo/hits")
    assert (answer.status, answer.code) == (500, "internal")
    assert (await hits(service))[OTHER_SITES, "internal"] == 1
