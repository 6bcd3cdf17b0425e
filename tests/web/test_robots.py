"""Robots are answered, and counted apart: over real HTTP, to the real store."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.conftest import RunningService, StartService
from tests.support.stores import frozen_store, keyspace, store_of
from tests.support.waiting import until
from tests.support.wire import OWN, ask

pytestmark = pytest.mark.xdist_group("robots")

BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/140.0.0.0 Safari/537.36",
    "Accept-Language": "vi-VN,vi;q=0.9",
}
GOOGLE = BROWSER | {"User-Agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://google.com/bot)"}
MUTE = {"User-Agent": BROWSER["User-Agent"]}
TOML = """
robot_words = ["OurWatcher"]
[sites.apart]
[sites.pictures]
[sites.away]
[sites.together]
count_robots = true
"""


@pytest.fixture(scope="module")
def service(start_shared: StartService) -> RunningService:
    """Start a service as an operator does who has not thought of robots, but of one site's."""
    return start_shared(TOML, operations_port=0, count_robots="false", store_timeout_s=1)


def hit(service: RunningService, site: str, headers: Mapping[str, str]) -> Any:
    """Send a hit for a page; give the answer's JSON."""
    answer = ask(service.port, "POST", f"/v1/sites/{site}/hits", b'{"path":"/x"}', headers)
    assert answer.status == 200, answer
    return answer.json


def robots(service: RunningService, site: str) -> dict[str, int]:
    """Read the numbers of robots in the store, by bucket."""
    prefix = f"hc:{{0}}:site:{site}:robots:"
    with store_of(service) as redis:
        names = [name.decode() for name in redis.scan_iter(f"{prefix}*")]
        return {name.removeprefix(prefix): int(redis.get(name) or 0) for name in names}


def test_a_robot_is_answered_and_counts_apart(service: RunningService) -> None:
    assert hit(service, "apart", GOOGLE)["total"] == 0
    counted = hit(service, "apart", BROWSER)
    assert (counted["state"], counted["total"], counted["page"]["total"]) == ("counted", 1, 1)
    for headers in (GOOGLE, MUTE, {}, BROWSER | {"User-Agent": "x OurWatcher/1"}):
        answer = hit(service, "apart", headers)
        assert (answer["state"], answer["total"], answer["page"]["total"]) == ("robot", 1, 1)
    date = counted["date"]
    expected = dict.fromkeys((date, date[:7], date[:4], "total"), 5)
    until(lambda: robots(service, "apart") == expected, "the robots are in the store")
    shown = ask(service.operations_port, "GET", "/metrics", headers=OWN).body.decode()
    assert 'hitcounter_hits_total{result="robot",site="apart"} 5.0' in shown
    assert 'hitcounter_hits_total{result="counted",site="apart"} 1.0' in shown
    told = service.run("show", "apart").stdout.splitlines()[6:]
    assert told[0] == "robots: today 5, month 5, year 5, total 5"
    assert re.fullmatch(r"hits since \d\d:\d\d today: 1 counted, 5 robot", told[1])
    assert re.fullmatch(r"last pageview: \d{4}(-\d\d){2} \d\d(:\d\d){2}", told[2])


def test_a_picture_counts_for_who_sends_no_languages(service: RunningService) -> None:
    for path in ("pixel.gif?path=/x", "badge.svg?count=1"):
        for headers in (MUTE, GOOGLE):
            answer = ask(service.port, "GET", f"/v1/sites/pictures/{path}", None, headers)
            assert answer.status == 200
    assert 'data-state="robot"' in answer.body.decode()
    counts = ask(service.port, "GET", "/v1/sites/pictures/counts").json
    assert counts["total"] == 2


def test_who_counts_robots_counts_them_as_before(service: RunningService) -> None:
    assert hit(service, "together", {})["state"] == "counted"
    assert robots(service, "together") == {}


def test_a_robot_registers_no_site_and_no_page(start_shared: StartService) -> None:
    service = start_shared(count_robots="false")
    before = keyspace(service)
    assert hit(service, "invented", GOOGLE)["state"] == "robot"
    assert keyspace(service) == before
    assert "curl" not in service.log  # a new store has nothing that counted before


def test_robots_at_sites_that_nobody_counts_do_not_ask_the_store_each_time(
    start_shared: StartService,
) -> None:
    service = start_shared(count_robots="false")
    with store_of(service) as redis:
        before = redis.info("commandstats")["cmdstat_mget"]["calls"]
        for _ in range(30):
            assert hit(service, "nowhere", GOOGLE)["total"] == 0
        assert redis.info("commandstats")["cmdstat_mget"]["calls"] < before + 10
    assert hit(service, "nowhere", BROWSER)["total"] == 1
    assert hit(service, "nowhere", GOOGLE)["total"] == 1


def test_robots_of_an_outage_are_in_the_store_after_it(service: RunningService) -> None:
    hit(service, "away", BROWSER)
    with frozen_store(service):
        for _ in range(20):
            assert hit(service, "away", GOOGLE)["state"] == "robot"
        until(lambda: hit(service, "away", BROWSER)["state"] == "stored", "the outage is noted")
        for _ in range(20):
            assert hit(service, "away", GOOGLE)["state"] == "robot"
    until(lambda: robots(service, "away").get("total") == 40, "the robots are in the store")


@pytest.mark.slow
def test_an_older_store_is_told_of_once_and_removed_as_a_whole(
    start_service: StartService,
) -> None:
    settings = {"count_robots": "false", "workers": 2}
    service = start_service(count_robots="true")
    hit(service, "demo", {})
    with store_of(service) as redis:
        redis.delete("hc:{meta}:robots")
    service.stop()
    service = start_service(**settings)
    hit(service, "demo", GOOGLE)
    hit(service, "demo", GOOGLE)
    until(lambda: robots(service, "demo").get("total") == 2, "the robots are in the store")
    assert service.log.count("counted until now") == 1
    (exported,) = [
        line for line in service.run("export").stdout.splitlines() if '"robots:total"' in line
    ]
    assert exported == '{"site":"demo","bucket":"robots:total","count":2}'
    assert service.run("sites").stdout.split("\t")[:2] == ["demo", "1"]
    file = service.data_dir / "removed.ndjson"
    service.run("remove", "demo", "--export-to", str(file))
    assert robots(service, "demo") == {}
    service.run("import", str(file))
    assert robots(service, "demo")["total"] == 2
