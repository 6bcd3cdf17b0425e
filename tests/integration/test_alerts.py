"""The alerts arrive where people are told, and are taken back: real failures, real programs.

The rules, routes and scrapes are those that are deployed, with seconds for minutes.
"""

import asyncio
import json
import re
import runpy
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.conftest import RunningService, StartService
from tests.support.disks import fill, small_disk
from tests.support.load import Tally, Target, declared, metric, visiting, zone_at_noon
from tests.support.processes import signal_all
from tests.support.prometheus import listening
from tests.support.servers import MortalStore, mortal_store, program
from tests.support.waiting import comes_true, eventually

DEPLOY = Path(__file__).parents[2] / "deploy"
SITES = [Target(f"site{n}.example.vn", "/tin-tuc") for n in range(3)]
A_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
# Longer than a worker takes from beat to beat, and some workers to start on a busy machine; and
# shorter, where all would wait for the end.
OTHERS = {"stuck": "4s", "restarts": "20s", "budget_later_short": "5s"}
WHERE = {"critical": "/page", "warning": "/ticket", "none": "/alive"}


def shortened(duration: str) -> str:
    """Let a minute be a second."""
    if duration.isdigit():
        return str(int(duration) / 60)
    return f"{int(duration[:-1]) * A_UNIT_MS[duration[-1]] // 60}ms"


class Webhook:
    """Who is told, and what they were told."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}  # what was said last: firing, if any of a name still does
        self.wrong: list[Any] = []  # what came elsewhere than it should, or says nothing useful

    def hear(self, path: str, message: dict[str, Any]) -> None:
        """Note what Alertmanager sends."""
        for alert in message["alerts"]:
            name, texts = alert["labels"]["alertname"], alert["annotations"]
            is_clear = not re.search("<error|<no value|{{", " ".join(texts.values()))
            is_led = texts["runbook_url"].endswith(f"operating.md#{name.lower()}")
            if not (WHERE[alert["labels"]["severity"]] == path and is_clear and is_led):
                self.wrong.append((path, alert))
            self.told[name] = message["status"]

    async def hears(self, status: str, *names: str) -> None:
        """Wait until it is told of alerts."""

        def is_told() -> bool:
            return {self.told.get(name) for name in names} == {status}

        await comes_true(is_told, f"{', '.join(names)}: {status}; {self.told}")


@contextmanager
def webhook() -> Iterator[tuple[Webhook, str]]:
    """Listen to what Alertmanager sends; give the address too."""
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.hear(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hook, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def alertmanager(directory: Path, url: str) -> Iterator[str]:
    """Run Alertmanager as it is deployed, but for the receivers' address and its patience."""
    text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
    config = yaml.safe_load(text.replace("https://alerts.example.vn", url))
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "100ms", "group_interval": "500ms"}
    path = directory / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    command = [program("prometheus-alertmanager"), f"--config.file={path}"]
    more = [f"--storage.path={directory / 'alertmanager'}", "--cluster.listen-address="]
    with listening([*command, *more], directory / "alertmanager.log") as running:
        yield running


@contextmanager
def prometheus(directory: Path, service: RunningService, alerts_to: str) -> Iterator[None]:
    """Run Prometheus with the rules that are deployed, and seconds for minutes in them."""
    rendering = runpy.run_path(str(DEPLOY / "prometheus" / "render.py"))
    durations = {name: shortened(each) for name, each in rendering["DURATIONS"].items()}
    (directory / "rules.yml").write_text(rendering["render"](durations | OTHERS))
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(config["global"], "500ms")
    (scrape,), (to,) = config["scrape_configs"], config["alerting"]["alertmanagers"]
    scrape["static_configs"][0]["targets"] = [f"127.0.0.1:{service.operations_port}"]
    to["static_configs"][0]["targets"] = [alerts_to.removeprefix("http://")]
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    command = [program("prometheus"), f"--config.file={path}"]
    # It takes seconds to find Alertmanager, and what is told before is told again after this time.
    more = [f"--storage.tsdb.path={directory / 'tsdb'}", "--rules.alert.resend-delay=1s"]
    with listening([*command, *more], directory / "prometheus.log"):
        yield


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
            webhook() as (hook, url),
            alertmanager(tmp_path, url) as alerts_to,
        ):
            service = start_service(redis_url=store.url, **given)
            with prometheus(tmp_path, service, alerts_to):
                await hook.hears("firing", "HitcounterWatchdog")
                async with visiting(service.port, Tally(), SITES, per_s=200):
                    await workers_fail(service, hook)
                    await store_and_disk_fail(store, disk, hook)
                    await hook.hears(
                        "resolved", "HitcounterWorkersRestart", "HitcounterWorkerHangs"
                    )
                await operations_fail(service, hook)
            assert hook.wrong == []
            assert await asyncio.to_thread(service.stop) == 0
