"""The store against real servers: what a commit writes, what it refuses, and what is left of it."""

import asyncio
import re
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hitcounter.errors import ConfigError, CounterError, StoreError, StoreFullError, StoreUnfitError
from hitcounter.exactly_once.increments import Pageviews
from hitcounter.exactly_once.records import MAX_CHUNK_KEYS, Chunk
from hitcounter.store import keys
from hitcounter.store.client import Store, parse_count
from hitcounter.store.durability import MAX_CLOCK_SKEW_S
from hitcounter.store.inspection import Inspection
from hitcounter.store.keys import PageKeys, SiteKeys
from hitcounter.store.writer_connection import STRETCH_S, WriterConnection
from tests.support.commits import claim, commit
from tests.support.commits import watermark as watermark_of
from tests.support.servers import PROGRAMS, StoreServer, connected, named_program, store_server
from tests.support.waiting import eventually

TIMEOUT_S = 20.0
LIMIT = 10_000
DAY = "2019-04-19"
DEMO = keys.site_keys(0, "demo", DAY)

Everything = dict[bytes, bytes]


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    """Name each kind of server program that we run."""
    return named_program(request.param)


@pytest.fixture
def server(program: str, tmp_path: Path) -> Iterator[StoreServer]:
    """Run a server that holds nothing."""
    with store_server(tmp_path / "store", program=program) as running:
        yield running


@pytest.fixture
def raw(server: StoreServer) -> Iterator[Any]:
    """Talk to the server past our own code."""
    with connected(server.socket_path) as redis:
        yield redis


@pytest.fixture
async def store(server: StoreServer) -> AsyncIterator[Store]:
    """Talk to the server as the service does."""
    store = Store(server.unix_url, TIMEOUT_S)
    yield store
    await store.close()


Connect = Callable[[str], WriterConnection]


@pytest.fixture
async def connect(store: Store) -> AsyncIterator[Connect]:
    """Open lines that end with the test."""
    lines: list[WriterConnection] = []

    def open_one(writer: str) -> WriterConnection:
        lines.append(store.connect(writer))
        return lines[-1]

    yield open_one
    for line in lines:
        await line.close()


@pytest.fixture
def line(connect: Connect) -> WriterConnection:
    """Open the line of a writer."""
    return connect("w")


def page(path: str, limit: int = LIMIT) -> PageKeys:
    """Name the counters of a page of the demo site, which stores so many pages."""
    return keys.page_keys(0, "demo", path, limit)


def chunk(expect: int, last: int, *pages: PageKeys | None, site: SiteKeys = DEMO) -> Chunk:
    """Make a chunk of pageviews of some pages, or of one of no page."""
    pageviews = Pageviews()
    for each in pages or (None,):
        pageviews.add(site, each)
    return Chunk(expect, last, pageviews)


def everything(raw: Any) -> Everything:
    """Read all that a server holds; we only ever write plain numbers."""
    names = sorted(raw.keys())
    return dict(zip(names, raw.mget(names), strict=True)) if names else {}


def shown(values: Mapping[str, int]) -> list[int]:
    """Pick the five lines of the demo site."""
    return [values[key] for key in DEMO.shown]


# Commits


async def test_a_commit_adds_to_all_counters_and_answers_the_new_values(
    line: WriterConnection, raw: Any
) -> None:
    raw.set(DEMO.yesterday, 5318)
    watermark, values = await commit(line, chunk(0, 3, page("/a"), page("/a"), page("/b")))
    assert (watermark, shown(values)) == (3, [3, 5318, 3, 3, 3])
    assert (values[page("/a").key], values[page("/b").key]) == (2, 1)
    assert everything(raw) == {
        b"hc:{0}:page:demo:/a": b"2",
        b"hc:{0}:page:demo:/b": b"1",
        b"hc:{0}:pages:demo": b"2",
        b"hc:{0}:site:demo:2019": b"3",
        b"hc:{0}:site:demo:2019-04": b"3",
        b"hc:{0}:site:demo:2019-04-18": b"5318",
        b"hc:{0}:site:demo:2019-04-19": b"3",
        b"hc:{0}:site:demo:total": b"3",
        b"hc:{0}:writer:w": b"3",
    }


async def test_a_commit_sent_again_is_applied_once_and_answered_the_same(
    line: WriterConnection, raw: Any
) -> None:
    first = await commit(line, chunk(0, 1, page("/a")))
    held = everything(raw)
    assert await commit(line, chunk(0, 1, page("/a"))) == first
    assert everything(raw) == held


async def test_a_late_duplicate_is_refused_and_answered_with_the_values_of_now(
    connect: Connect, raw: Any
) -> None:
    line, dead = connect("w"), connect("w")
    await commit(line, chunk(0, 1, page("/a")))
    await commit(line, chunk(1, 2, page("/a")))
    held = everything(raw)
    watermark, values = await commit(dead, chunk(0, 1, page("/a")))
    assert (watermark, shown(values), values[page("/a").key]) == (2, [2, 0, 2, 2, 2], 2)
    assert everything(raw) == held


async def test_what_comes_too_early_writes_nothing_and_is_answered_all_the_same(
    line: WriterConnection, raw: Any
) -> None:
    raw.set(DEMO.shown[-1], 7)
    held = everything(raw)
    watermark, values = await commit(line, chunk(5, 6, page("/a")))
    assert (watermark, shown(values), values[page("/a").key]) == (0, [0, 0, 0, 0, 7], -1)
    assert everything(raw) == held


async def test_writers_do_not_see_each_others_watermarks(connect: Connect) -> None:
    a, b = connect("a"), connect("b")
    for last in range(1, 4):
        await commit(a, chunk(last - 1, last))
    watermark, values = await commit(b, chunk(0, 1))
    assert (watermark, values[DEMO.shown[0]]) == (1, 4)
    assert (await watermark_of(a), await watermark_of(b), await watermark_of(connect("c"))) == (
        3,
        1,
        0,
    )


async def test_a_watermark_that_is_let_go_expires(line: WriterConnection, raw: Any) -> None:
    await commit(line, chunk(0, 1))
    await line.forget(0)
    assert await watermark_of(line) == 1
    assert 2 * STRETCH_S < raw.ttl("hc:{0}:writer:w") <= 3 * STRETCH_S


async def test_commits_of_many_writers_at_once_all_count(connect: Connect, store: Store) -> None:
    async def count(line: WriterConnection) -> None:
        for last in range(1, 26):
            await commit(line, chunk(last - 1, last, page("/a"), page("/b")))

    await asyncio.gather(*(count(connect(f"w{n}")) for n in range(8)))
    assert await store.read([*DEMO.counted, page("/a").key]) == [400, 400, 400, 400, 200]


# Pages


async def test_no_page_is_stored_beyond_the_limit_and_the_site_counts_on(
    line: WriterConnection, raw: Any
) -> None:
    pages = [page(f"/{n}", limit=3) for n in range(5)]
    _, values = await commit(line, chunk(0, 1, *pages))
    assert [values[each.key] for each in pages] == [1, 1, 1, -1, -1]
    _, values = await commit(line, chunk(1, 2, *reversed(pages)))
    assert [values[each.key] for each in pages] == [2, 2, 2, -1, -1]
    assert values[DEMO.shown[0]] == 10
    assert raw.get(pages[0].count_key) == b"3"
    assert len(raw.keys("hc:{0}:page:*")) == 3


async def test_the_limit_is_exact_however_many_writers_race_for_it(
    connect: Connect, raw: Any
) -> None:
    async def count(line: WriterConnection, n: int) -> int:
        stored = 0
        for i in range(10):
            each = page(f"/{n}/{i}", limit=17)
            _, values = await commit(line, chunk(i, i + 1, each))
            stored += values[each.key] == 1
        return stored

    found = await asyncio.gather(*(count(connect(f"w{n}"), n) for n in range(8)))
    assert sum(found) == len(raw.keys("hc:{0}:page:*")) == 17
    assert raw.get("hc:{0}:pages:demo") == b"17"


@pytest.mark.parametrize("limit", [0, 1])
async def test_a_lower_limit_keeps_the_pages_that_are_stored(
    line: WriterConnection, raw: Any, limit: int
) -> None:
    await commit(line, chunk(0, 1, page("/a"), page("/b")))
    a, c = page("/a", limit), page("/c", limit)
    _, values = await commit(line, chunk(1, 2, a, c))
    assert (values[a.key], values[c.key]) == (2, -1)
    assert raw.get(a.count_key) == b"2"


async def test_each_site_has_a_limit_of_its_own(line: WriterConnection) -> None:
    pages = [keys.page_keys(0, f"site{n}", "/", n) for n in range(3)]
    sites = [keys.site_keys(0, f"site{n}", DAY) for n in range(3)]
    pageviews = Pageviews()
    for site, each in zip(sites, pages, strict=True):
        pageviews.add(site, each)
    _, values = await commit(line, Chunk(0, 1, pageviews))
    assert [values[each.key] for each in pages] == [-1, 1, 1]
    assert [values[site.shown[0]] for site in sites] == [1, 1, 1]


# Numbers


@pytest.mark.parametrize("name", [DEMO.shown[4], page("/b").key, page("/b").count_key])
async def test_a_wrong_value_is_named_and_nothing_is_written(
    line: WriterConnection, raw: Any, name: str
) -> None:
    await commit(line, chunk(0, 1, page("/a"), page("/b")))
    right = raw.get(name)
    for wrong in ("", "abc", "1.5", "nan", "inf", "-inf", "9007199254740992"):
        raw.set(name, wrong)
        held = everything(raw)
        with pytest.raises(StoreError, match=f"{re.escape(name)} (does not hold|is beyond)"):
            await commit(line, chunk(1, 2, page("/a"), page("/b")))
        assert everything(raw) == held
    raw.set(name, right)
    assert (await commit(line, chunk(1, 2, page("/a"), page("/b"))))[0] == 2


@pytest.mark.parametrize("name", [DEMO.shown[4], page("/a").key, page("/a").count_key])
async def test_what_is_no_text_is_named_and_not_destroyed(
    line: WriterConnection, raw: Any, name: str
) -> None:
    raw.rpush(name, "something", "else")
    with pytest.raises(StoreError, match=f"{re.escape(name)} does not hold an integer"):
        await commit(line, chunk(0, 1, page("/a")))
    assert (raw.keys(), raw.lrange(name, 0, -1)) == ([name.encode()], [b"something", b"else"])


async def test_a_watermark_that_is_no_number_is_named(line: WriterConnection, raw: Any) -> None:
    raw.set("hc:{0}:writer:w", "abc")
    with pytest.raises(StoreError, match="writer:w does not hold an integer"):
        await watermark_of(line)
    with pytest.raises(StoreError, match="writer:w does not hold an integer"):
        await commit(line, chunk(0, 1))


async def test_what_is_no_number_is_named_to_who_reads_it(store: Store, raw: Any) -> None:
    raw.mset({"one": "1", "bad": "1.5"})
    held = await store.read_raw(["one", "bad", "none"])
    assert held == {"one": b"1", "bad": b"1.5", "none": None}
    assert [parse_count(name, held[name]) for name in ("one", "none")] == [1, None]
    with pytest.raises(CounterError, match="bad does not hold an integer"):
        parse_count("bad", held["bad"])
    with pytest.raises(CounterError, match="bad does not hold an integer"):
        await store.read(["one", "bad", "none"])


async def test_numbers_are_exact_up_to_2_to_the_53_and_refused_beyond(
    line: WriterConnection, raw: Any
) -> None:
    total = DEMO.shown[-1]
    raw.set(total, 2**53 - 2)
    _, values = await commit(line, chunk(0, 1))
    assert (values[total], int(raw.get(total))) == (2**53 - 1, 2**53 - 1)
    held = everything(raw)
    with pytest.raises(StoreError, match="is beyond 2\\^53"):
        await commit(line, chunk(1, 2))
    assert everything(raw) == held


@pytest.mark.parametrize("number", [10**14, 10**15, 10**15 + 1, 2**53 - 1])
async def test_large_numbers_are_written_without_an_exponent(
    line: WriterConnection, raw: Any, number: int
) -> None:
    pageviews = Pageviews({DEMO: number}, {page("/a"): number})
    raw.set("hc:{0}:writer:w", number - 1)
    watermark, values = await commit(line, Chunk(number - 1, number, pageviews))
    assert (watermark, values[DEMO.shown[0]], values[page("/a").key]) == (number, number, number)
    names = ["hc:{0}:writer:w", DEMO.shown[0], DEMO.shown[-1], page("/a").key]
    assert raw.mget(names) == [str(number).encode()] * 4
    assert await watermark_of(line) == number


@pytest.mark.parametrize("n_keys_each", [5, 7])
async def test_the_largest_chunk_is_applied(
    line: WriterConnection, raw: Any, n_keys_each: int
) -> None:
    pageviews = Pageviews()
    for n in range(MAX_CHUNK_KEYS // n_keys_each):
        path = keys.page_keys(0, f"site{n}", "/", 1) if n_keys_each == 7 else None
        pageviews.add(keys.site_keys(0, f"site{n}", DAY), path)
    assert MAX_CHUNK_KEYS - n_keys_each < pageviews.n_keys <= MAX_CHUNK_KEYS
    watermark, values = await commit(line, Chunk(0, 1, pageviews))
    assert (watermark, len(values)) == (1, pageviews.n_keys)
    held = everything(raw)
    assert len(held) == 1 + pageviews.n_keys - len(pageviews.sites)  # yesterday is only read
    assert set(held.values()) == {b"1"}


# Ids of hits

NOW_S = 1_555_644_660.0  # one minute into a stretch


async def test_an_id_is_ours_however_often_we_claim_it(line: WriterConnection, raw: Any) -> None:
    for _ in range(2):
        assert await claim(line, 1, ["a", "b"], NOW_S) == [True, True]
    (name,) = raw.keys()
    assert name.decode() == keys.ids_key(0, int(NOW_S) // STRETCH_S)
    assert raw.hgetall(name) == {b"a": b"w:1", b"b": b"w:1"}


async def test_who_claims_an_id_second_is_told_whether_the_first_has_counted_it(
    connect: Connect,
) -> None:
    ours, theirs = connect("v"), connect("w")
    await claim(ours, 1, ["a"], NOW_S)
    assert await claim(theirs, 1, ["a", "b"], NOW_S) == [None, True]
    await commit(ours, chunk(0, 1))
    assert await claim(theirs, 1, ["a", "b"], NOW_S) == [False, True]
    assert await claim(ours, 2, ["a"], NOW_S) == [False]


async def test_an_id_is_remembered_for_a_stretch_and_up_to_two(connect: Connect, raw: Any) -> None:
    ours, theirs = connect("v"), connect("w")
    await claim(ours, 1, ["a"], NOW_S)
    assert 2 * STRETCH_S < raw.ttl(keys.ids_key(0, int(NOW_S) // STRETCH_S)) <= 3 * STRETCH_S
    assert await claim(theirs, 1, ["a"], NOW_S + STRETCH_S) == [None]
    assert await claim(theirs, 1, ["a"], NOW_S + 2 * STRETCH_S) == [True]


async def test_of_many_who_claim_an_id_at_once_one_has_it(connect: Connect) -> None:
    ids = [f"id{n}" for n in range(100)]
    claims = await asyncio.gather(*(claim(connect(f"w{n}"), 1, ids, NOW_S) for n in range(8)))
    for of_one_id in zip(*claims, strict=True):
        assert sorted(of_one_id, key=str) == [None] * 7 + [True]


# Servers that forget, and that are slow


async def test_a_server_that_forgot_our_scripts_is_told_them_again(
    line: WriterConnection, store: Store, raw: Any
) -> None:
    for last in (1, 2):
        raw.script_flush()
        assert (await commit(line, chunk(last - 1, last)))[0] == last
    raw.script_flush()
    assert await store.admit_site("demo", 1)
    raw.script_flush()
    assert await store.replace("demo", {DEMO.shown[1]: 9}, only_raise=False) == 1


async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(
    server: StoreServer, raw: Any
) -> None:
    store = Store(server.unix_url, timeout_s=0.2)
    line = store.connect("w")
    await commit(line, chunk(0, 1))
    server.process.send_signal(signal.SIGSTOP)
    with pytest.raises(StoreError, match="does not answer"):
        await commit(line, chunk(1, 2))
    with pytest.raises(StoreError, match="does not answer"):
        await store.read(DEMO.shown)
    server.process.send_signal(signal.SIGCONT)
    assert raw.ping()  # it goes on
    assert await watermark_of(line) in (1, 2)
    assert (await commit(line, chunk(1, 2)))[0] == 2
    assert await store.read(DEMO.counted) == [2, 2, 2, 2]
    await line.close()
    await store.close()


async def test_a_store_that_is_not_there_is_no_answer(tmp_path: Path) -> None:
    store = Store(f"unix://{tmp_path}/nothing", TIMEOUT_S)
    line = store.connect("w")
    for question in (
        watermark_of(line),
        commit(line, chunk(0, 1)),
        store.read(["a"]),
        Inspection(store).check(),
    ):
        with pytest.raises(StoreError, match="does not answer"):
            await question
    await store.close()


# The log of the server


def log_of(server: StoreServer) -> Path:
    """Find the part of the append-only log that grows."""
    (path,) = (server.socket_path.parent / "appendonlydir").glob("*.incr.aof")
    return path


async def test_the_log_holds_one_write_per_commit_and_no_transaction(
    line: WriterConnection, store: Store, server: StoreServer
) -> None:
    for last in range(1, 8):
        await commit(line, chunk(last - 1, last, page("/a"), page(f"/{last}")))
    await commit(line, chunk(0, 1))
    await store.admit_site("demo", 10)
    await store.replace("demo", {DEMO.shown[4]: 90, page("/z").key: 5}, only_raise=True)
    log = log_of(server).read_bytes().upper()
    assert log.count(b"\r\nMSET\r\n") == 8
    assert log.count(b"\r\nSADD\r\n") == 1
    assert b"MULTI" not in log
    assert b"EVAL" not in log


@pytest.mark.slow
async def test_wherever_the_log_is_cut_it_holds_whole_commits(program: str, tmp_path: Path) -> None:
    with store_server(tmp_path / "store", program=program) as server:
        store = Store(server.unix_url, TIMEOUT_S)
        line = store.connect("w")
        for last in range(1, 11):
            await commit(line, chunk(last - 1, last, page("/a"), page(f"/{last}")))
        await line.close()
        await store.close()
        n_bytes = log_of(server).stat().st_size
    found = {remains(tmp_path, program, n_bytes * cut // 23) for cut in range(8, 24)}
    assert len(found) > 5
    assert {total == 2 * watermark == pages + watermark for watermark, total, pages in found} == {
        True
    }


def remains(tmp_path: Path, program: str, n_bytes: int) -> tuple[int, int, int]:
    """Start a server on a log that was cut; read its watermark, its total and its pages."""
    cut = tmp_path / f"cut{n_bytes}"
    shutil.copytree(tmp_path / "store", cut, ignore=shutil.ignore_patterns("socket", "log"))
    (path,) = (cut / "appendonlydir").glob("*.incr.aof")
    path.write_bytes(path.read_bytes()[:n_bytes])
    with store_server(cut, program=program) as server, connected(server.socket_path) as raw:
        held = {name.decode(): int(value) for name, value in everything(raw).items()}
    periods = {held.get(key, 0) for key in DEMO.counted}
    assert len(periods) == 1
    assert held.get(page("/a").key, 0) == held.get("hc:{0}:writer:w", 0)
    return held.get("hc:{0}:writer:w", 0), periods.pop(), held.get("hc:{0}:pages:demo", 1) - 1


# Sites


async def test_sites_are_admitted_up_to_a_number_and_stay_admitted(store: Store) -> None:
    assert [await store.admit_site(name, 2) for name in ("a", "b", "c")] == [True, True, False]
    assert [await store.admit_site(name, 0) for name in ("a", "b", "c")] == [True, True, False]
    assert await store.admit_site("c", 3)
    assert await store.sites() == {"a", "b", "c"}
    assert await store.n_sites() == 3


async def test_the_number_of_sites_is_exact_however_many_come_at_once(store: Store) -> None:
    admitted = await asyncio.gather(*(store.admit_site(f"site{n}", 10) for n in range(50)))
    assert sum(admitted) == len(await store.sites()) == 10


# Setting and reading


async def replace(store: Store, pages: dict[str, int], total: int, *, only_raise: bool) -> int:
    """Set some pages and the total of the demo site."""
    by_key = {page(path).key: n for path, n in pages.items()}
    return await store.replace("demo", {DEMO.shown[-1]: total} | by_key, only_raise=only_raise)


async def test_numbers_are_replaced_and_new_pages_are_counted(store: Store, raw: Any) -> None:
    assert await replace(store, {"/a": 5, "/b": 0}, 9, only_raise=False) == 3
    assert await replace(store, {"/a": 5, "/b": 0}, 9, only_raise=False) == 0
    assert await replace(store, {"/a": 4, "/c": 1}, 8, only_raise=False) == 3
    names = [page(path).key for path in ("/a", "/b", "/c")]
    assert await store.read([*names, DEMO.shown[-1]]) == [4, 0, 1, 8]
    assert raw.get("hc:{0}:pages:demo") == b"3"


async def test_raising_never_lowers_a_number(store: Store) -> None:
    await replace(store, {"/a": 5, "/b": 7}, 99, only_raise=False)
    assert await replace(store, {"/a": 6, "/b": 6}, 100, only_raise=True) == 2
    assert await replace(store, {"/a": 6, "/b": 6}, 100, only_raise=True) == 0
    assert await store.read([page("/a").key, page("/b").key, DEMO.shown[-1]]) == [6, 7, 100]
    assert await replace(store, {}, 2**53 - 1, only_raise=True) == 1
    assert await replace(store, {}, 2**53 - 2, only_raise=True) == 0
    assert await store.read([DEMO.shown[-1]]) == [2**53 - 1]


async def test_a_page_that_was_set_counts_on_and_against_the_limit(
    store: Store, line: WriterConnection
) -> None:
    await replace(store, {"/a": 210}, 1_619_938, only_raise=False)
    a, b = page("/a", 1), page("/b", 1)
    _, values = await commit(line, chunk(0, 1, a, b))
    assert (values[a.key], values[b.key], values[DEMO.shown[-1]]) == (211, -1, 1_619_940)


async def test_what_was_never_counted_reads_as_nothing(store: Store) -> None:
    assert await store.read([]) == []
    assert await store.read(["hc:{0}:site:demo:total"]) == [None]


async def test_every_counter_is_found_and_nothing_else(
    store: Store, line: WriterConnection, raw: Any
) -> None:
    pages = [page(f"/{n}") for n in range(1_500)]
    for start in range(0, 1_500, 500):
        await commit(line, chunk(start, start + 500, *pages[start : start + 500]))
    await store.admit_site("demo", 1)
    raw.set("someone:elses", "1")
    found = [key async for key in store.counter_keys()]
    assert set(found) == {*DEMO.counted, *(each.key for each in pages)}
    assert raw.dbsize() == len(set(found)) + 4  # watermark, number of pages, sites, other


# What the store says of itself


async def test_a_fit_store_says_what_it_is_and_promises(store: Store, program: str) -> None:
    facts = await Inspection(store).check()
    assert facts.server == ("redis" if "redis" in Path(program).name else "valkey")
    assert facts.version is not None
    assert facts.version >= (7, 0)
    assert (facts.maxmemory_policy, facts.role, facts.lanes) == ("noeviction", "master", 1)
    assert facts.level == "A"


async def test_a_store_that_hides_its_settings_promises_nothing_known(
    server: StoreServer, raw: Any
) -> None:
    raw.execute_command("ACL", "SETUSER", "guest", "on", ">word", "~*", "+@all", "-config")
    store = Store(f"unix://guest:word@{server.socket_path}", TIMEOUT_S)
    facts = await Inspection(store).check()
    assert (facts.appendonly, facts.appendfsync, facts.level) == (True, None, "unknown")
    assert "nobody can tell what a crash of the store loses" in facts.promise
    assert re.search("CONFIG GET is refused: .* no permissions", facts.promise)
    await store.close()


async def test_who_checks_a_store_may_wait_for_it(program: str, tmp_path: Path) -> None:
    store = Store(f"unix://{tmp_path}/store/socket", TIMEOUT_S)
    with pytest.raises(StoreError, match="does not answer"):
        await Inspection(store).check(wait_s=0.1)
    checking = asyncio.create_task(Inspection(store).check(wait_s=TIMEOUT_S))
    with store_server(tmp_path / "store", program=program):
        assert (await checking).level == "A"
    await store.close()


async def test_an_unfit_store_says_all_that_is_wrong_with_it(store: Store, raw: Any) -> None:
    raw.config_set("maxmemory-policy", "allkeys-lru")
    raw.set(keys.LANES_KEY, 64)
    with pytest.raises(StoreUnfitError, match=r"allkeys-lru.*; the store was set up with 64 lanes"):
        await Inspection(store).check()


async def test_the_clock_of_a_store_on_this_machine_is_ours(store: Store) -> None:
    skew_s = (await Inspection(store).facts()).clock_skew_s
    assert skew_s is not None
    assert abs(skew_s) < MAX_CLOCK_SKEW_S


@pytest.mark.parametrize(
    "url", ["", "http://localhost", "redis://localhost?db=many", "unix:///a?nothing=1"]
)
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^redis_url: "):
        Store(url, TIMEOUT_S)


async def test_no_more_ids_are_kept_than_may_be(
    line: WriterConnection, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hitcounter.store.writer_connection.MAX_IDS", 2)
    for record, ids in enumerate((["a", "b"], ["c"], ["a"]), 1):
        assert await claim(line, record, ids, 0.0) == [True] * len(ids)
    assert raw.hlen(keys.ids_key(0, 0)) == 2
    await claim(line, 4, ["c"], STRETCH_S)  # the next stretch has room again
    assert raw.hlen(keys.ids_key(0, 1)) == 1


async def test_a_full_store_drops_its_ids_and_counts(line: WriterConnection, raw: Any) -> None:
    now_s = time.time()
    for record in range(1, 6):
        await claim(line, record, [f"{record}:{n:060}" for n in range(3_000)], now_s)
    ids = keys.ids_key(0, int(now_s // STRETCH_S))
    raw.config_set("maxmemory", raw.info("memory")["used_memory"] - raw.memory_usage(ids) // 2)
    assert await claim(line, 6, ["new"], now_s) == [True]
    assert not raw.exists(ids)

    async def is_counted() -> bool:
        # Valkey gives memory back a moment later, and until then refuses whatever runs a script.
        with suppress(StoreFullError):
            await commit(line, chunk(0, 1, page("/a")))
            return await watermark_of(line) == 1
        return False

    await eventually(is_counted, "the hit is counted")
    raw.config_set("maxmemory", 1)
    with pytest.raises(StoreFullError, match="raise its store_max_mb or maxmemory"):
        await commit(line, chunk(1, 2, page("/a")))
    raw.config_set("maxmemory", 0)
    assert await watermark_of(line) == 1
