"""The dashboard has data: a real Prometheus answers every question of every panel."""

import json
import math
import re
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunningService, StartService
from tests.integration.test_prometheus import BROWSER, HITS, declare_sites, expect, fetch, scraping
from tests.support.dashboard import VARIABLES, filled, panels, selected
from tests.support.servers import program
from tests.support.stores import frozen_store
from tests.support.waiting import until
from tests.support.wire import ask

# What a service of today cannot have: everything else must be there.
EMPTY = {("Pageviews per second", "a week ago")}
TIMES = {"__rate_interval": "10s", "__range": "60s"}  # of a Prometheus that scrapes twice a second
ALL = {"instance": ".*", "site": ".*"}

pytestmark = pytest.mark.slow


def test_every_panel_has_data_and_the_first_row_tells_of_an_outage(
    start_service: StartService, tmp_path: Path
) -> None:
    prometheus = program("prometheus")
    service = start_service(
        workers=2,
        config=declare_sites(tmp_path),
        operations_port=0,
        count_robots="false",
        store_timeout_s=1,
    )
    with scraping(prometheus, service, tmp_path) as url:
        expect(url, "hitcounter_store_up", {"": 1})
        for sites in (".*", selected(HITS), selected([*HITS][:1])):
            wait_for_data(service, url, ALL | {"site": sites})
        assert {name: len(choices(url, name)) for name in ALL} == {"instance": 1, "site": 3}
        until(lambda: first_row(url) == (1, 1, 0), "all is well")
        with frozen_store(service):
            until(lambda: hit(service) and first_row(url) == (1, 0, 2), "both workers journal")
        until(lambda: first_row(url) == (1, 1, 0), "all is well again")


def hit(service: RunningService) -> bool:
    """Send hits of people and of robots, of which both workers get some in time."""
    for site in HITS:
        for headers in (BROWSER | {"Accept-Language": "vi"}, {"User-Agent": "curl/8"}):
            assert ask(service.port, "POST", f"/v1/sites/{site}/hits", b"", headers).status == 200
    return True


def wait_for_data(service: RunningService, url: str, variables: dict[str, str]) -> None:
    """Wait until there is data behind every legend."""
    until(lambda: not lacking(service, url, variables), f"all panels have data: {variables}")


def lacking(service: RunningService, url: str, variables: dict[str, str]) -> set[tuple[str, str]]:
    """Name the legends without data, by their panels."""
    hit(service)
    return {
        (panel["title"], target["legendFormat"])
        for panel in panels()
        for target in panel["targets"]
        if not has_data(url, target, variables)
    } - EMPTY


def has_data(url: str, target: dict[str, Any], variables: dict[str, str]) -> bool:
    """Return whether there are numbers, with all labels that the legend names."""
    results = query(url, filled(target["expr"], **TIMES, **variables))
    labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    return any(
        math.isfinite(float(r["value"][1])) and labels <= r["metric"].keys() for r in results
    )


def query(url: str, expr: str) -> Any:
    """Ask Prometheus; it must understand the question."""
    body = fetch(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': expr})}")
    return json.loads(body)["data"]["result"]


def first_row(url: str) -> tuple[float, ...]:
    """Tell whether hits can be counted, whether the store is up, and how many workers journal."""
    asked = {panel["title"]: panel["targets"][0]["expr"] for panel in panels()}
    results = [
        query(url, filled(asked[title], **TIMES, **ALL))
        for title in ("Can hits be counted?", "Store", "Journaling")
    ]
    return tuple(float(r["value"][1]) for (r,) in results)


def choices(url: str, name: str) -> list[str]:
    """List what can be chosen of a variable."""
    asked = re.fullmatch(r"label_values\((.*), (\w+)\)", VARIABLES[name]["query"]["query"])
    assert asked
    match = urllib.parse.urlencode({"match[]": filled(asked[1], **ALL)})
    values: list[str] = json.loads(fetch(f"{url}/api/v1/label/{asked[2]}/values?{match}"))["data"]
    return values
