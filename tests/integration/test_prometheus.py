"""What operations see: a real Prometheus scrapes a real service, and promtool reads its metrics.

Prometheus answers with exactly as many pageviews as were acknowledged, whichever worker it asked.
"""

import json
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import RunningService, StartService
from tests.support.prometheus import asked, listening
from tests.support.servers import program
from tests.support.waiting import until

HITS = {"north.example.vn": 36, "south.example.vn": 21}
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"}


def test_prometheus_reads_every_pageview_once_whichever_worker_it_scrapes(
    start_service: StartService, tmp_path: Path
) -> None:
    prometheus = program("prometheus")
    service = start_service(workers=2, config=declare_sites(tmp_path), operations_port=0)
    send_hits(service)
    counted = 'hitcounter_hits_total{result="counted"}'
    with scraping(prometheus, service, tmp_path) as url:
        expect(url, f"sum({counted})", {"": 57})
        expect(url, f"sum by (site) ({counted})", HITS | {"(other)": 0})
        expect(url, "hitcounter_store_up", {"": 1})


@pytest.mark.slow
def test_promtool_finds_nothing_to_improve_in_the_metrics(
    start_service: StartService, tmp_path: Path
) -> None:
    promtool = program("promtool")
    service = start_service(workers=2, config=declare_sites(tmp_path), operations_port=0)
    send_hits(service)
    metrics = fetch(f"{service.operations_url}/metrics")
    linted = subprocess.run([promtool, "check", "metrics"], input=metrics, capture_output=True)
    assert (linted.returncode, linted.stdout + linted.stderr) == (0, b"")


def declare_sites(directory: Path) -> Path:
    """Write a configuration that declares the sites: only declared ones become labels."""
    path = directory / "hitcounter.toml"
    path.write_text("".join(f'[sites."{site}"]\n' for site in HITS))
    return path


def send_hits(service: RunningService) -> None:
    """Count the hits one by one, each on a connection of its own, so that both workers get some."""
    for site, count in HITS.items():
        for _ in range(count):
            said = json.loads(fetch(f"{service.url}/v1/sites/{site}/hits", method="POST"))
            assert said["state"] == "counted"


def fetch(url: str, method: str = "GET") -> bytes:
    """Get the body of a successful answer."""
    request = urllib.request.Request(url, headers=BROWSER, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        body: bytes = response.read()
        return body


@contextmanager
def scraping(prometheus: str, service: RunningService, directory: Path) -> Iterator[str]:
    """Run a Prometheus that scrapes the service; give its URL."""
    config = directory / "prometheus.yml"
    config.write_text(
        "scrape_configs:\n"
        "  - job_name: hitcounter\n"
        "    scrape_interval: 500ms\n"
        "    scrape_timeout: 500ms\n"
        f'    static_configs: [{{targets: ["127.0.0.1:{service.operations_port}"]}}]\n'
    )
    command = [prometheus, f"--config.file={config}", f"--storage.tsdb.path={directory / 'tsdb'}"]
    with listening(command, directory / "prometheus.log") as url:
        yield url


def expect(url: str, question: str, expected: Mapping[str, float]) -> None:
    """Ask until the answer, by the label `site`, is the expected one."""
    until(lambda: ask(url, question) == expected, f"{question} is {expected}")


def ask(url: str, question: str) -> dict[str, float]:
    """Ask once."""
    return {r["metric"].get("site", ""): float(r["value"][1]) for r in asked(url, question)}
