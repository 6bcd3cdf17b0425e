"""The alerts arrive where people are told, and are taken back: real failures, real programs.

The rules, routes and scrapes are those that are deployed, with seconds for minutes.
"""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunningService, StartService
from tests.support.alerts import Webhook, alertmanager, prometheus, webhook
from tests.support.dashboard import filled, panels
from tests.support.disks import fill, small_disk
from tests.support.load import Tally, Target, declared, metric, visiting, zone_at_noon
from tests.support.processes import signal_all
from tests.support.prometheus import asked
from tests.support.servers import MortalStore, mortal_store
from tests.support.waiting import eventually

SITES = [Target(f"site{n}.example.vn", "/tin-tuc") for n in range(3)]
# Longer than a worker takes from beat to beat, and some workers to start on a busy machine; and
# shorter, where all would wait for the end.
DURATIONS = {"stuck": "4s", "restarts": "20s", "budget_later_short": "5s"}
DURATIONS |= {"budget_ticket_short": "10s", "budget_later": "15s"}


def n_shown(url: str) -> float:
    """Tell how many alerts the dashboard shows."""
    (panel,) = (panel for panel in panels() if panel["title"] == "Alerts")
    (result,) = asked(url, filled(panel["targets"][0]["expr"], instance=".*"))
    return float(result["value"][1])


async def end_worker(service: RunningService, pid: int) -> None:
    """Kill a worker, and wait until another one has begun in its place."""
    name = "hitcounter_worker_restarts_total"
    n_before = await metric(service, name)
    signal_all([pid], signal.SIGKILL)

    async def is_restarted() -> bool:
        return await metric(service, name) > n_before

    await eventually(is_restarted, "another worker has begun")


async def workers_fail(service: RunningService, hook: Webhook) -> None:
    """Let a worker hang until it is killed, and kill others until that is told."""
    pid = service.worker_pids()[0]
    signal_all([pid], signal.SIGSTOP)
    await hook.hears("firing", "HitcounterWorkerHangs")
    while "HitcounterWorkersRestart" not in hook.told:
        await end_worker(service, pid)
        pid = service.worker_pids()[0]


async def store_and_disk_fail(store: MortalStore, disk: Path, hook: Webhook) -> None:
    """Kill the store, then fill the disk of the journal; mend both."""
    await store.kill()
    await hook.hears("firing", "HitcounterStoreAway")
    fill(disk / "full")
    await hook.hears("firing", "HitcounterJournalFills", "HitcounterHitsRefused")
    (disk / "full").unlink()
    await store.start()
    await hook.hears("resolved", "HitcounterStoreAway")
    await hook.hears("resolved", "HitcounterJournalFills", "HitcounterHitsRefused")
    await hook.hears("firing", "HitcounterHitsRefusedSlowly")  # which was held back until now
    await hook.hears("resolved", "HitcounterHitsRefusedSlowly")


async def operations_fail(service: RunningService, hook: Webhook) -> None:
    """Let operations hang until they are killed, while hits are counted."""
    (pid,) = service.pids_of("hitcounter.process.operations_start")
    signal_all([pid], signal.SIGSTOP)
    await hook.hears("firing", "HitcounterNotScraped")
    signal_all([pid], signal.SIGKILL)
    await hook.hears("resolved", "HitcounterNotScraped")


@pytest.mark.slow
@pytest.mark.timeout(300)  # on a busy machine each of many waits takes its time
async def test_what_fails_is_told_where_it_belongs_and_taken_back_when_it_is_mended(
    start_service: StartService, tmp_path: Path
) -> None:
    config = declared(tmp_path / "sites.toml", SITES)
    given: dict[str, Any] = {"workers": 2, "timezone": zone_at_noon(), "config": config}
    given |= {"store_timeout_s": 0.3, "kept_window_s": 0.5, "operations_port": 0}
    async with mortal_store(tmp_path / "store") as store:
        with (
            small_disk(tmp_path / "data" / "journal", "8m") as disk,
            webhook() as (hook, hook_url),
            alertmanager(tmp_path, hook_url) as alerts_to,
        ):
            service = start_service(redis_url=store.url, **given)
            with prometheus(tmp_path, service, alerts_to, DURATIONS) as url:
                await hook.hears("firing", "HitcounterWatchdog")
                async with visiting(service.port, Tally(), SITES, per_s=200):
                    await workers_fail(service, hook)
                    assert n_shown(url) > 0
                    await store_and_disk_fail(store, disk, hook)
                    await hook.hears(
                        "resolved", "HitcounterWorkersRestart", "HitcounterWorkerHangs"
                    )
                await operations_fail(service, hook)
            assert hook.wrong == []
            assert await asyncio.to_thread(service.stop) == 0
