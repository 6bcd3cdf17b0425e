"""Invented pages and sites are taken out beside a running service, and no hit is lost by it."""

import asyncio
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from hitcounter.config import Config
from hitcounter.errors import CommandError, StoreError
from hitcounter.store.client import Store
from hitcounter.transfer import export, housekeeping
from tests.conftest import RunningService, StartService, run_command
from tests.integration.test_commands import sealed_counts
from tests.support.load import (
    Tally,
    Target,
    ask,
    by_site,
    counted,
    fresh,
    more,
    settled,
    visiting,
    zone_at_noon,
)
from tests.support.load import send as send_hits
from tests.support.servers import connected, mortal_store, store_server
from tests.support.stores import endings

INVENTED = Target("invented.example.vn", "/x")
KEPT = Target("kept.example.vn", "/tin-tuc")


async def listed(service: RunningService) -> dict[str, list[str]]:
    """List the sites as an operator sees them."""
    listing = await asyncio.to_thread(service.run, "sites")
    rows = [line.split("\t") for line in listing.stdout.splitlines()]
    return {site: rest for site, *rest in rows}


@pytest.mark.slow
async def test_sites_are_removed_while_they_are_counted(
    start_service: StartService, tmp_path: Path
) -> None:
    service = start_service(workers=2, timezone=zone_at_noon(), watch_every_s=0.5)
    tally, file = Tally(), tmp_path / "removed.ndjson"
    remove = ["remove", INVENTED.site, "--export-to", str(file)]
    async with visiting(service.port, tally, [INVENTED, KEPT], n_clients=4):
        await more(tally, "counted", 300)
        await asyncio.to_thread(service.run, *remove)
        await more(tally, "counted", 300)
    again = service.run(*remove, check=False)
    assert (again.returncode, again.stderr) == (
        1,
        f"hitcounter: nothing was changed: {file} is there already\n",
    )
    gone = sealed_counts(file.read_text())
    found = await counted(service.port, [Target(INVENTED.site), INVENTED, KEPT])
    total, page = (INVENTED.site, "total"), (INVENTED.site, "/x")
    assert gone[total] >= 100
    assert gone[total] + found[Target(INVENTED.site)] == tally.acked[INVENTED]
    assert gone[page] + found[INVENTED] == tally.acked[INVENTED]
    assert found[KEPT] == tally.acked[KEPT]
    today = (await ask(service.port, "GET", f"/v1/sites/{KEPT.site}/counts")).json["date"]
    assert await listed(service) == {
        INVENTED.site: [str(found[Target(INVENTED.site)]), "1", today],
        KEPT.site: [str(tally.acked[KEPT]), "1", today],
    }
    service.run("remove", INVENTED.site, "--export-to", str(tmp_path / "rest.ndjson"))
    service.run("import", str(file))
    assert (await counted(service.port, [INVENTED]))[INVENTED] == gone[page]
    assert "fell from" not in service.log


@pytest.mark.slow
async def test_hits_in_a_journal_count_from_zero_after_their_site_was_removed(
    start_service: StartService, tmp_path: Path
) -> None:
    tally = Tally()
    async with mortal_store(tmp_path / "store") as store:
        service = start_service(redis_url=store.url, timezone=zone_at_noon(), watch_every_s=0.5)
        await send_hits(service.port, tally, [INVENTED] * 10, 1)
        await store.kill()
        await send_hits(service.port, tally, [INVENTED] * 5, 1)
        service.stop(signal.SIGKILL)
        await store.start()
        settings = {"redis_url": store.url, "data_dir": str(tmp_path / "none")}
        file = tmp_path / "removed.ndjson"
        removed = await asyncio.to_thread(
            run_command, "remove", INVENTED.site, "--export-to", str(file), **settings
        )
        assert removed.returncode == 0, removed.stderr
        successor = start_service(redis_url=store.url, timezone=zone_at_noon())
        await settled(successor)
        assert sealed_counts(file.read_text())[INVENTED.site, "total"] == 10
        assert await fresh(successor.port, [INVENTED]) == {INVENTED: 5}


@pytest.mark.slow
async def test_pages_are_pruned_while_they_are_counted(
    start_service: StartService, tmp_path: Path
) -> None:
    service = start_service(workers=2, timezone=zone_at_noon(), max_pages=41)
    tally, file = Tally(), tmp_path / "pruned.ndjson"
    once = [Target(KEPT.site, f"/once/{n}") for n in range(40)]
    await send_hits(service.port, tally, [KEPT, KEPT, *once], 4)
    dry = service.run("prune", KEPT.site, "--pages-below", "2", "--dry-run").stdout
    assert Counter(line.split("/")[1] for line in dry.splitlines()) == {"once": 40}
    prune = ["prune", KEPT.site, "--export-to", str(file)]
    async with visiting(service.port, tally, [KEPT, once[0]], n_clients=4):
        await more(tally, "counted", 100)
        await asyncio.to_thread(service.run, *prune, "--page", once[0].path or "")
        await more(tally, "counted", 100)
    gone = sealed_counts(file.read_text())
    found = await counted(service.port, [Target(KEPT.site), KEPT, *once])
    assert gone.keys() == {(KEPT.site, once[0].path)}
    assert gone[KEPT.site, "/once/0"] + found[once[0]] == tally.acked[once[0]]
    assert found[Target(KEPT.site)] == by_site(tally.acked)[Target(KEPT.site)]
    assert found[KEPT] == tally.acked[KEPT]
    assert service.run(*prune, "--pages-below", "2", check=False).returncode == 1
    rest = tmp_path / "rest.ndjson"
    service.run("prune", KEPT.site, "--export-to", str(rest), "--pages-below", "2")
    nothing_left = service.run("prune", KEPT.site, "--pages-below", "2").stdout
    assert nothing_left == f"{KEPT.site} has no page with fewer than 2 pageviews\n"
    assert (await listed(service))[KEPT.site][1] == "2"
    # There is room again: as many new pages, and no more, have counters of their own.
    await send_hits(service.port, tally, [Target(KEPT.site, f"/n/{n}") for n in range(39)], 4)
    full = await ask(service.port, "POST", f"/v1/sites/{KEPT.site}/hits", b'{"path": "/more"}')
    assert full.json["page"]["total"] is None
    service.run("import", str(rest))
    assert (await counted(service.port, once[1:])) == dict.fromkeys(once[1:], 1)


async def test_what_was_marked_and_not_yet_deleted_is_nothing(
    start_service: StartService, tmp_path: Path
) -> None:
    """A command may be killed between its two steps."""
    service = start_service(timezone=zone_at_noon())
    tally = Tally()
    await send_hits(service.port, tally, [KEPT] * 3, 1)
    site = f"hc:{{0}}:site:{KEPT.site}:*"
    with connected(service.data_dir / "store.sock") as store:
        for key in (*store.keys(site), f"hc:{{0}}:page:{KEPT.site}:/tin-tuc"):
            store.set(key, "removed")
        store.set(f"hc:{{0}}:pages:{KEPT.site}", "removed")
    assert await counted(service.port, [KEPT]) == {KEPT: 0}
    assert sealed_counts(service.run("export").stdout) == {}
    service.run("baseline", KEPT.site, "--page", "/tin-tuc=0")
    await send_hits(service.port, tally, [KEPT], 1)
    assert await counted(service.port, [KEPT, Target(KEPT.site)]) == {
        KEPT: 1,
        Target(KEPT.site): 1,
    }
    assert (await listed(service))[KEPT.site][:2] == ["1", "1"]


@pytest.mark.slow
async def test_a_store_that_is_full_gets_room(start_service: StartService, tmp_path: Path) -> None:
    service = start_service(timezone=zone_at_noon())
    tally, file = Tally(), tmp_path / "pruned.ndjson"
    await send_hits(service.port, tally, [KEPT, KEPT, Target(KEPT.site, "/once"), INVENTED], 1)
    with connected(service.data_dir / "store.sock") as store:
        store.config_set("maxmemory", 1)
        for new in ("new.example.vn", "newer.example.vn"):
            refused = await ask(service.port, "POST", f"/v1/sites/{new}/hits", b"")
            assert refused.code == "store_unavailable"
        assert (
            service.log.count("new sites are refused: the store is full, raise its store_max") == 1
        )
        await send_hits(service.port, tally, [KEPT], 1)
        service.run("prune", KEPT.site, "--pages-below", "2", "--export-to", str(file))
        service.run("remove", INVENTED.site, "--export-to", str(tmp_path / "removed.ndjson"))
        assert (await listed(service)).keys() == {KEPT.site}
        store.config_set("maxmemory", 0)
    await settled(service)
    assert await counted(service.port, [KEPT, Target(KEPT.site)]) == {
        KEPT: 3,
        Target(KEPT.site): 4,
    }


@pytest.mark.slow
async def test_pages_of_others_stay_whatever_they_are_called(
    start_service: StartService, tmp_path: Path
) -> None:
    """Anyone can invent a page that is called like the keys of another site."""
    service = start_service(timezone=zone_at_noon())
    tally, file = Tally(), tmp_path / "pruned.ndjson"
    odd = [Target(INVENTED.site, f"/}}:page:{KEPT.site}:/{n}") for n in range(3)]
    await send_hits(service.port, tally, [KEPT, KEPT, Target(KEPT.site, "/once"), *odd], 1)
    service.run("prune", KEPT.site, "--pages-below", "2", "--export-to", str(file))
    assert sealed_counts(file.read_text()) == {(KEPT.site, "/once"): 1}
    rows = await listed(service)
    assert [rows[site][:2] for site in (KEPT.site, INVENTED.site)] == [["3", "1"], ["3", "3"]]
    service.run("remove", INVENTED.site, "--export-to", str(tmp_path / "removed.ndjson"))
    assert (await listed(service)).keys() == {KEPT.site}


@pytest.mark.slow
async def test_thousands_of_invented_pages_and_sites_go_at_once(
    start_service: StartService, tmp_path: Path
) -> None:
    service = start_service(workers=2)
    tally = Tally()
    pages = [Target(INVENTED.site, f"/{n}") for n in range(2_500)]
    sites = [f"site{n}.example" for n in range(900)]
    await send_hits(service.port, tally, [*pages, *map(Target, sites)], 8)
    file = tmp_path / "removed.ndjson"
    service.run("remove", INVENTED.site, *sites, "--export-to", str(file))
    gone = sealed_counts(file.read_text())
    assert gone[INVENTED.site, "total"] == len(pages)
    assert len(gone) == len(pages) + 4 * (1 + len(sites))
    assert await listed(service) == {}
    again = service.run("import", str(file)).stdout
    assert again == f"{1 + len(sites)} sites read, {len(gone)} numbers raised\n"


async def test_a_prune_that_was_cut_off_anywhere_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "BATCH_KEYS", 2)  # so that it takes several steps
    once = {f"hc:{{0}}:page:demo:/once/{n}": 1 for n in range(3)}
    left = {b"hc:{0}:page:demo:/kept", b"hc:{0}:pages:demo"}
    with store_server(tmp_path / "store") as server, connected(server.socket_path) as raw:
        store = Store(server.unix_url, 10)
        async for name, ending in endings(server.unix_url):
            raw.flushall()
            raw.mset(once | {"hc:{0}:page:demo:/kept": 5, "hc:{0}:pages:demo": 4})
            cut, rest = (tmp_path / f"{name}-{part}" for part in ("cut", "rest"))
            with suppress(StoreError):
                await prune_once(ending, cut)
            await prune_once(store, rest)
            assert {*raw.keys("hc:*:page*")} == left
            assert await store.read(["hc:{0}:pages:demo"]) == [1]
            for file in filter(Path.exists, (cut, rest)):
                sites = export.read_export(file.read_text())
                await export.import_counts(store, Config(), sites, iter)
            assert await store.read([*once, "hc:{0}:pages:demo"]) == [1] * 3 + [4]
        await store.close()


async def prune_once(store: Store, file: Path) -> None:
    """Take out what has one pageview."""
    pages = await housekeeping.pages_below(store, "demo", 2)
    await housekeeping.prune(store, "demo", pages, 2, file, iter)


@pytest.mark.slow
async def test_a_removal_that_was_cut_off_anywhere_is_run_again(tmp_path: Path) -> None:
    buckets = dict.fromkeys(("2019-04-19", "2019-04", "2019", "total"), 3)
    counters = {f"hc:{{0}}:site:demo:{bucket}": n for bucket, n in buckets.items()}
    tombstone = b"hc:{0}:removed:demo"
    with store_server(tmp_path / "store") as server, connected(server.socket_path) as raw:
        store = Store(server.unix_url, 10)
        async for name, ending in endings(server.unix_url):
            raw.flushall()
            raw.mset(counters | {"hc:{0}:page:demo:/": 3, "hc:{0}:pages:demo": 1})
            raw.hset("hc:{0}:corrections:demo", "9f", "a note")
            cut, rest = (tmp_path / f"{name}-{part}" for part in ("cut", "rest"))
            with suppress(StoreError):
                await housekeeping.remove(ending, ["demo"], cut, iter)
            with suppress(CommandError):  # there is nothing left
                await housekeeping.remove(store, ["demo"], rest, iter)
            assert raw.keys("hc:*") == [tombstone]
            assert raw.ttl(tombstone) > 0
        await store.close()
