"""The service of a worker on a real store: what it answers, which sites it counts, what it says."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hitcounter.config import Config
from hitcounter.counting.counter import Counter
from hitcounter.counting.numbers import FRESH
from hitcounter.counting.site_watch import SiteWatch
from hitcounter.counting.store_watch import StoreWatch
from hitcounter.errors import CommandError, Refusal
from hitcounter.exactly_once.journals import Journals
from hitcounter.exactly_once.writer import Writer
from hitcounter.hit import NO_PAGE, Hit, Page
from hitcounter.metrics import Metrics
from hitcounter.operations.collector import of_all_workers
from hitcounter.outcomes import COUNTED, STORED
from hitcounter.store import keys
from hitcounter.store.client import Store
from hitcounter.store.corrections import Correction
from hitcounter.store.keys import CounterName
from hitcounter.transfer import corrections, housekeeping
from hitcounter.transfer.export import read_export
from tests.journal.conftest import Errors
from tests.journal.cutting import REPLIES, Cutter
from tests.journal.entries import MAX_BYTES
from tests.support.waiting import comes_true

MAX_SITES = 3
SITES = ["a", "b", "c"]


@pytest.fixture
async def service(directory: Path, far_store: Store, metrics: Metrics) -> AsyncIterator[Counter]:
    """Start an open service that counts three sites, which is all that it may."""
    journals = Journals(directory, MAX_BYTES)
    writer = Writer(far_store.connect, journals, metrics, n_lanes=1, kept_window_s=0)
    service = Counter(Config(max_sites=MAX_SITES), far_store, writer, metrics)
    for site in SITES:
        await service.sites.register(site)
    yield service
    await writer.close(0)


@pytest.fixture
def watch(service: Counter, far_store: Store) -> SiteWatch:
    """Watch over its sites."""
    return SiteWatch(service, far_store)


def a_hit(site: str, path: str | None = None) -> Hit:
    """Hit a page of a site now."""
    return Hit(site, path, None, time.time())


def registered(raw: Any) -> list[str]:
    """List the sites that the store knows."""
    return sorted(name.decode() for name in raw.smembers(keys.SITES_KEY))


async def test_a_hit_whose_page_was_one_too_many_is_answered_as_counted(
    service: Counter, metrics: Metrics, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "hitcounter.exactly_once.waiting.MAX_STORED_BYTES", 0
    )  # as if so many waited
    numbers = await service.count(a_hit("a", "/new"))
    assert (numbers.state, numbers.page.path, numbers.page_total) == (COUNTED, "/new", None)
    assert numbers.values[-1] == int(raw.get(numbers.names.shown[-1])) == 1
    refused = {"site": metrics.label("a")}
    collected = of_all_workers(metrics.directory, ())
    assert collected.get_sample_value("hitcounter_pages_refused_total", refused) == 1


async def test_what_was_read_of_a_hit_before_its_answer_is_shown_once_when_the_answer_is_lost(
    service: Counter, way: Cutter, raw: Any
) -> None:
    total = (await service.count(a_hit("a", "/x"))).names.shown[-1]
    way.cut(REPLIES, 0, is_noticed=False)
    hit = asyncio.create_task(service.count(a_hit("a", "/x")))
    await comes_true(lambda: raw.get(total) == b"2", "the store has it")
    site = service.sites.find_or_describe("a")
    read = await service.read(site, Page("/x"))
    assert (read.state, read.values[-1], read.page_total) == (FRESH, 2, 2)
    await way.close()
    before = await service.read(site, Page("/x"))  # the journal does not hold the hit yet
    for numbers in (before, await hit, await service.read(site, Page("/x"))):
        assert (numbers.values[-1], numbers.page_total) == (2, 2)
    assert (await hit).state == STORED


async def test_sites_that_the_store_forgot_are_registered_again_and_read_once(
    service: Counter, watch: SiteWatch, raw: Any
) -> None:
    raw.flushall()
    await watch.meet_new()
    assert registered(raw) == SITES
    raw.config_resetstat()
    await watch.meet_new()
    assert "cmdstat_mget" not in raw.info("commandstats")


async def test_a_site_that_was_removed_is_forgotten_until_it_is_hit_again(
    service: Counter, watch: SiteWatch, far_store: Store, raw: Any, errors: Errors, tmp_path: Path
) -> None:
    for _ in range(2):
        await service.count(a_hit("a", "/x"))
    await watch.refresh()
    assert await housekeeping.remove(far_store, ["a"], tmp_path / "removed", iter) == 5
    assert raw.keys("hc:{0}:[sp]*:a*") == []
    await watch.meet_new()  # and nobody adds it again
    assert registered(raw) == ["b", "c"]
    assert service.sites.find("a") is None
    numbers = await service.count(a_hit("a", "/x"))
    assert (numbers.values[-1], numbers.page_total) == (1, 1)
    assert registered(raw) == SITES
    assert errors() == []


@pytest.mark.slow
async def test_a_removed_site_that_another_worker_counts_again_has_not_lost_its_total(
    service: Counter, watch: SiteWatch, far_store: Store, raw: Any, errors: Errors, tmp_path: Path
) -> None:
    """Also one that a configuration declares: it is never asked for again."""
    for _ in range(2):
        await service.count(a_hit("a", "/x"))
    await watch.refresh()
    await housekeeping.remove(far_store, ["a"], tmp_path / "removed", iter)
    raw.sadd(keys.SITES_KEY, "a")
    await watch.refresh()
    assert (service.sites.find("a"), errors()) == (service.sites.find_or_describe("a"), [])
    raw.client_pause(60_000, all=False)  # nothing is written, as if it were away
    numbers = await service.count(a_hit("a", "/x"))
    raw.client_unpause()
    assert (numbers.state, numbers.values[-1], numbers.page_total) == (STORED, 1, None)


@pytest.mark.parametrize("command", ["prune", "remove"])
async def test_pages_that_appear_meanwhile_stay_or_go_as_a_whole(
    command: str, service: Counter, far_store: Store, tmp_path: Path
) -> None:
    await service.count(a_hit("a", "/x"))
    late, file = service.sites.find_or_describe("a"), tmp_path / "taken"
    await service.count(a_hit("a", "/y"))
    if command == "prune":
        pages = await housekeeping.pages_below(far_store, "a", 2)
        await service.count(a_hit("a", "/y"))
        assert await housekeeping.prune(far_store, "a", pages, 2, file, iter) == 1
        assert (await service.read(late, Page("/y"))).page_total == 2
    else:
        names = [keys.page_key(0, "a", "/x"), keys.bucket_key(0, "a", "total")]
        assert await far_store.take("a", names, removed_ms=1) is None
        assert (await service.read(late, Page("/x"))).page_total == 1


async def test_one_name_that_a_failover_lost_comes_back_though_another_took_its_place(
    service: Counter, watch: SiteWatch, raw: Any
) -> None:
    raw.srem(keys.SITES_KEY, "b")
    raw.sadd(keys.SITES_KEY, "new")
    raw.srem(keys.SITES_KEY, "c")
    await watch.refresh()
    assert registered(raw) == ["a", "b", "new"]
    assert service.sites.find("new") is not None


async def test_no_more_sites_come_back_than_may_be_and_those_that_do_not_are_not_counted(
    service: Counter, watch: SiteWatch, raw: Any, errors: Errors
) -> None:
    raw.flushall()
    raw.sadd(keys.SITES_KEY, "new", "newer")
    await watch.meet_new()
    assert registered(raw) == ["a", "new", "newer"]
    assert [name for name in (*SITES, "new", "newer") if service.sites.find(name)] == registered(
        raw
    )
    assert [line.partition(" is not counted")[0] for line in errors()] == [
        "the site b",
        "the site c",
    ]
    with pytest.raises(Refusal, match="accepts no more sites"):
        await service.sites.register("b")
    raw.config_resetstat()
    await watch.meet_new()
    assert "cmdstat_mget" not in raw.info("commandstats")


async def test_only_a_removal_that_is_new_explains_a_fall(
    service: Counter, watch: SiteWatch, far_store: Store, raw: Any, errors: Errors, tmp_path: Path
) -> None:
    site = service.sites.find_or_describe("a")
    for _ in range(3):
        await service.count(a_hit("a"))
    await watch.refresh()
    await housekeeping.remove(far_store, ["a"], tmp_path / "removed", iter)
    await service.read(site, NO_PAGE)  # a visitor sees it first
    await watch.refresh()
    assert (service.sites.find("a"), errors()) == (None, [])
    site = await service.sites.register("a")
    for _ in range(3):
        await service.count(a_hit("a"))
    await watch.refresh()
    raw.flushall()  # which takes the tombstone too
    await watch.refresh()
    (line,) = errors()
    assert line.startswith("the total of a fell from 3 to 0")


async def test_a_correction_explains_a_fall_as_far_as_it_goes(
    service: Counter, watch: SiteWatch, far_store: Store, raw: Any, errors: Errors
) -> None:
    for _ in range(5):
        numbers = await service.count(a_hit("a"))
    await watch.refresh()
    mistake = Correction(numbers.names.date, 3, None, "a loop", time.time(), "9f")
    await corrections.correct(far_store, service.config.site("a"), mistake)
    await watch.refresh()
    assert (numbers.site.name, errors()) == ("a", [])
    raw.set(numbers.names.shown[-1], 1)
    await watch.refresh()
    (line,) = errors()
    assert line.startswith("the total of a fell from 2 to 1")


async def test_a_day_that_begins_while_its_site_is_removed_goes_with_it(
    service: Counter, far_store: Store, raw: Any, tmp_path: Path
) -> None:
    await service.count(a_hit("a", None))
    day = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()

    def midnight(sites: Sequence[str]) -> Sequence[str]:
        raw.mset({f"hc:{{0}}:site:a:{day}": 1, "hc:{0}:site:a:total": 2})
        return sites

    await housekeeping.remove(far_store, ["a"], tmp_path / "removed", midnight)
    assert raw.keys("hc:{0}:site:a:*") == []
    taken = read_export((tmp_path / "removed").read_text())["a"]
    assert [taken[CounterName("a", False, name)] for name in (day, "total")] == [1, 2]


@pytest.mark.parametrize("command", ["prune", "remove"])
async def test_a_file_holds_what_went_also_where_the_command_is_cut_off(
    command: str, service: Counter, far_store: Store, raw: Any, tmp_path: Path
) -> None:
    file = tmp_path / "taken"
    for each in ("a", "b"):
        await service.count(a_hit(each, "/x"))

    def cut_off(parts: Sequence[Any]) -> Iterator[Any]:
        raw.incr("hc:{0}:page:a:/x")  # after the command has looked, and before it takes
        yield parts[0]
        raise CommandError("cut off")

    pages = await housekeeping.pages_below(far_store, "a", 9)
    if command == "prune":
        taking = housekeeping.prune(far_store, "a", pages, 9, file, cut_off)
    else:
        taking = housekeeping.remove(far_store, ["a", "b"], file, cut_off)
    with pytest.raises(CommandError, match="cut off"):
        await taking
    kept = read_export(file.read_text())
    gone = [(*each, n) for counts in kept.values() for each, n in counts.items() if each.is_page]
    assert gone == [("a", True, "/x", 2), ("b", True, "/x", 1)][: 1 if command == "prune" else 2]
    assert raw.mget("hc:{0}:page:a:/x", "hc:{0}:page:b:/x") == [None, b"1"]


async def test_a_clock_that_jumps_is_reported_once_each_time(
    service: Counter,
    far_store: Store,
    metrics: Metrics,
    errors: Errors,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hitcounter.counting.store_watch.LOOK_AROUND_EVERY_S", 0.01)
    watch = StoreWatch(service, far_store, service._writer, metrics, every_s=60)
    watching = asyncio.create_task(watch.run())
    clock, n_looks, ahead_s = time.time, 0, 45 * 24 * 3600

    def shown() -> float:
        nonlocal n_looks
        n_looks += 1
        return clock() + ahead_s

    monkeypatch.setattr(time, "time", shown)
    await comes_true(lambda: errors() and n_looks > 9, "it is reported, and looked at again")
    ahead_s = 0
    await comes_true(lambda: len(errors()) > 1, "it is reported")
    watching.cancel()
    await asyncio.wait([watching])
    jumps = [line.partition(": ")[0] for line in errors()]
    assert jumps == [f"the clock of this machine jumped by {sign}3888000 s" for sign in "+-"]
