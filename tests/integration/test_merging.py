"""Sites that go into others beside a running service: nothing is lost, nothing counts twice."""

import asyncio
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from urllib.parse import quote

import pytest

from hitcounter.config import Config
from hitcounter.errors import StoreError
from hitcounter.store.client import Store
from hitcounter.store.corrections import merged
from hitcounter.transfer import export, merging
from tests.conftest import PROGRAM, RunningService, StartService
from tests.integration.test_commands import sealed_counts
from tests.support.load import Tally, Target, ask, more, visiting, zone_at_noon
from tests.support.servers import connected, store_server
from tests.support.stores import endings, store_of

OLD, NEW = "tinh.example.vn", "vung.example.vn"
BUCKETS = ("2019-04-19", "2019-04", "2019", "total")
MERGE = ("merge", OLD, "into", NEW)
ALIASES = f"""
[sites."{NEW}"]
origins = ["{NEW}"]
aliases = ["{OLD}", "huyện.example.vn"]
[sites.other]
"""


def exported(service: RunningService) -> dict[tuple[str, str], int]:
    """Read all counters, by site and by bucket or path."""
    return sealed_counts(service.run("export").stdout)


def as_one(counters: dict[tuple[str, str], int]) -> Counter[str]:
    """Add the counters of the two sites up."""
    assert {site for site, _ in counters} <= {OLD, NEW}
    both = Counter[str]()
    for (_, name), n in counters.items():
        both[name] += n
    return both


@pytest.mark.slow
async def test_a_site_goes_into_another_while_both_are_counted(
    start_service: StartService,
) -> None:
    service = start_service(workers=2, timezone=zone_at_noon(), watch_every_s=0.5)
    targets = [Target(site, path) for site in (OLD, NEW) for path in ("/", "/tin-tuc", f"/{site}")]
    service.run("baseline", OLD, "--total", "1000", "--year", "900", "--page", "/tin-tuc=70")
    tally = Tally(equal=("total",))
    async with visiting(service.port, tally, targets, n_clients=4):
        await more(tally, "counted", 300)
        said = await asyncio.to_thread(service.run, *MERGE)
        await more(tally, "counted", 300)
    assert f"added to those of {NEW}\n" in said.stdout
    before = as_one(exported(service))
    assert before["total"] == 1000 + tally.n_acked
    assert before["/tin-tuc"] == 70 + sum(tally.acked[t] for t in targets if t.path == "/tin-tuc")
    service.run(*MERGE)
    after = exported(service)
    assert {site for site, _ in after} == {NEW}
    assert as_one(after) == before
    (row,) = service.run("sites").stdout.splitlines()
    assert row.split("\t")[:3] == [NEW, str(before["total"]), "4"]
    told = service.run("show", NEW).stdout.splitlines()[-1]
    assert told.startswith("merged on ")
    assert told.endswith(f": all that was counted for {OLD}")
    assert "fell from" not in service.log


@pytest.mark.slow
def test_a_merge_that_is_killed_anywhere_and_repeated_is_made_once(
    start_service: StartService,
) -> None:
    service, draw = start_service(timezone=zone_at_noon()), Random(23)
    with store_of(service) as redis:
        for site, n in ((OLD, 6_000), (NEW, 3_000)):
            days = [f"{year}-{month:02}-07" for year in range(1950, 2020) for month in range(1, 13)]
            buckets = {f"hc:{{0}}:site:{site}:{day}": draw.randrange(9**9) for day in days}
            pages = {f"hc:{{0}}:page:{site}:/{page}": draw.randrange(9**9) for page in range(n)}
            redis.mset({**buckets, **pages, f"hc:{{0}}:pages:{site}": n})
            redis.sadd("hc:{meta}:sites", site)
    before = as_one(exported(service))
    for _ in range(6):
        command = [str(PROGRAM), *MERGE, "--data-dir", str(service.data_dir)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as merge:
            time.sleep(draw.uniform(0.25, 0.45))  # no wait for anything: a moment drawn by lot
            merge.kill()
        assert as_one(exported(service)) == before
    service.run(*MERGE)
    after = exported(service)
    assert {site for site, _ in after} == {NEW}
    assert as_one(after) == before
    assert service.run("sites").stdout.split("\t")[2] == "6000"


async def test_a_merge_that_was_cut_off_anywhere_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "BATCH_KEYS", 2)  # so that it takes several steps
    monkeypatch.setattr(export, "BATCH_KEYS", 2)
    config = Config()
    new = config.site(NEW)
    with store_server(tmp_path / "store") as server, connected(server.socket_path) as raw:
        store = Store(server.unix_url, 10)
        async for _, ending in endings(server.unix_url):
            raw.flushall()
            for site, n in ((OLD, 3), (NEW, 40)):
                raw.mset({f"hc:{{0}}:site:{site}:{bucket}": n for bucket in BUCKETS})
                raw.mset({f"hc:{{0}}:page:{site}:/{page}": n for page in f"ab{site[0]}"})
                raw.mset({f"hc:{{0}}:pages:{site}": 3, f"hc:{{0}}:site:{site}:robots:total": n})
            raw.hset(f"hc:{{0}}:corrections:{OLD}", "9f", "a note")
            with suppress(StoreError):
                await merging.merge(ending, config, OLD, new, iter)
            await merging.merge(store, config, OLD, new, iter)
            names = [*(f"site:{NEW}:{bucket}" for bucket in (*BUCKETS, "robots:total"))]
            pages = [f"page:{NEW}:/{page}" for page in "abvt"]
            read = await store.read([f"hc:{{0}}:{name}" for name in (*names, *pages)])
            assert read == [43] * (len(names) + 2) + [40, 3]
            assert await store.read([f"hc:{{0}}:pages:{NEW}"]) == [4]
            assert [*raw.scan_iter(f"*:{OLD}*")] == [f"hc:{{0}}:removed:{OLD}".encode()]
            assert raw.hgetall(f"hc:{{0}}:corrections:{NEW}") == {b"9f": b"a note"}
            assert await merged(store, NEW) == {OLD: pytest.approx(time.time(), abs=60)}
        await store.close()


async def test_another_name_of_a_site_is_the_site(
    start_service: StartService, tmp_path: Path
) -> None:
    config = tmp_path / "hitcounter.toml"
    config.write_text(ALIASES)
    service = start_service(config=config)
    for n, name in enumerate((OLD, NEW, "huyện.example.vn", "xn--huyn-nw5a.example.vn"), 1):
        answer = await ask(service.port, "POST", f"/v1/sites/{quote(name)}/hits", b'{"path":"/x"}')
        assert answer.status == 200, (name, answer)
        assert (answer.json["site"], answer.json["total"], answer.json["page"]["total"]) == (
            NEW,
            n,
            n,
        )
        assert (await ask(service.port, "GET", f"/v1/sites/{quote(name)}/counts")).json[
            "total"
        ] == n
    assert {site for site, _ in exported(service)} == {NEW}
    assert service.run("show", OLD).stdout == service.run("show", NEW).stdout
    for wrong in (("merge", "other", "into", NEW), ("merge", NEW, "into", OLD)):
        failed = service.run(*wrong, check=False)
        assert failed.returncode == 1
        assert len(failed.stderr.splitlines()) == 1


@pytest.mark.slow
def test_what_cannot_go_into_a_site_stays_where_it_is(start_service: StartService) -> None:
    service = start_service(max_pages=3)
    assert service.run(*MERGE, check=False).stderr == (
        f"hitcounter: nothing was changed: the store does not hold {OLD}\n"
    )
    for site, pages in ((OLD, "ab"), (NEW, "bcd")):
        pairs = [part for page in pages for part in ("--page", f"/{page}=5")]
        service.run("baseline", site, "--total", "50", *pairs)
    before = exported(service)
    failed = service.run(*MERGE, check=False)
    assert failed.stderr == (
        f"hitcounter: nothing was changed: {NEW} would have 4 pages, and its max_pages is 3;"
        " raise it, or prune pages of both\n"
    )
    assert exported(service) == before
    service.run("prune", OLD, "--page", "/a", "--export-to", str(service.data_dir / "a.ndjson"))
    with store_of(service) as redis:
        redis.set(f"hc:{{0}}:site:{OLD}:2001", 7)
        redis.hset(f"hc:{{0}}:site:{NEW}:2001", "of", "another program")
        failed = service.run(*MERGE, check=False)
        assert f"hc:{{0}}:site:{NEW}:2001 does not hold an integer" in failed.stderr
        assert redis.hgetall(f"hc:{{0}}:site:{NEW}:2001") == {b"of": b"another program"}
        redis.delete(f"hc:{{0}}:site:{NEW}:2001")
    service.run(*MERGE)
    assert (exported(service)[NEW, "/b"], exported(service)[NEW, "2001"]) == (10, 7)
