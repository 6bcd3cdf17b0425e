"""Writers and adoptions on a real store and real journals: what is acknowledged is counted once."""

import asyncio
import json
import os
import resource
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from hitcounter.errors import JournalBrokenError, Unavailable
from hitcounter.exactly_once.adoption import Adoption
from hitcounter.exactly_once.increments import CutRule, Pageviews, cut
from hitcounter.exactly_once.journals import Journals
from hitcounter.exactly_once.records import MAX_RECORD_HITS, Chunk, Entry
from hitcounter.exactly_once.writer import Writer
from hitcounter.metrics import Metrics
from hitcounter.operations.collector import of_all_workers
from hitcounter.store import keys
from hitcounter.store.client import Store
from tests.journal.conftest import TIMEOUT_S, Errors
from tests.journal.cutting import REPLIES, Cutter
from tests.journal.disk import broken_log, full_log
from tests.journal.entries import (
    DAY,
    DEMO,
    MAX_BYTES,
    Sums,
    entry,
    flat,
    found_in_one,
    names,
)
from tests.journal.hits import hit, n_counted, outcome, page
from tests.support.commits import claim, commit
from tests.support.servers import StoreServer
from tests.support.waiting import eventually

TOTAL = DEMO.shown[-1]
LEFT = Path(__file__).parent / "left"
LONG_WINDOW_S = 600.0
SHORT_WINDOW_S = 0.2

StartWriter = Callable[..., Writer]


@pytest.fixture(params=[1, pytest.param(8, marks=pytest.mark.slow)], ids="{} lanes".format)
async def start_writer(
    request: pytest.FixtureRequest, directory: Path, far_store: Store, metrics: Metrics
) -> AsyncIterator[StartWriter]:
    """Start writers that end with the test; the first of their lanes is that of the demo site."""
    started: list[Writer] = []

    def start(kept_window_s: float = LONG_WINDOW_S) -> Writer:
        journals = Journals(directory, MAX_BYTES)
        writer = Writer(
            far_store.connect,
            journals,
            metrics,
            n_lanes=request.param,
            kept_window_s=kept_window_s,
        )
        started.append(writer)
        return writer

    yield start
    for writer in started:
        if not writer.flushing.done():
            await writer.close(0)


@pytest.fixture
async def writer(start_writer: StartWriter) -> Writer:
    """Start a writer whose records are kept for the whole test."""
    return start_writer()


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until something holds."""

    async def holds() -> bool:
        return bool(condition())

    await eventually(holds, what)


async def take_away(way: Cutter, writer: Writer) -> None:
    """Take the store away, and wait until the writer knows."""
    await way.close()
    await until(lambda: writer.lanes.is_away, "the store is away")


async def bring_back(way: Cutter, writer: Writer) -> None:
    """Let the store be there again, and wait until it holds what the journal holds."""
    await way.open()
    await until(lambda: not writer.lanes.is_away, "the store is back")


async def crash_image(directory: Path, tmp_path: Path) -> Sums:
    """Read what a crash at this moment would leave."""
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    sums = await found_in_one(copy)
    shutil.rmtree(copy)
    return sums


def sample(name: str, **labels: str) -> float:
    """Read a metric."""
    directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    return of_all_workers(directory, ()).get_sample_value(name, labels) or 0.0


# While the store is there


async def test_a_hit_is_answered_with_the_values_that_contain_it(writer: Writer, raw: Any) -> None:
    raw.set(DEMO.yesterday, 7)
    values, same = await asyncio.gather(hit(writer, "/a"), hit(writer, "/a"))
    assert values is not None
    assert values == same
    assert [values[key] for key in (*DEMO.shown, page("/a").key)] == [2, 7, 2, 2, 2, 2]
    assert sample("hitcounter_hits_total", site="demo", result="counted") == 2
    assert writer.waiting.in_journal == {}


async def test_a_page_that_is_not_stored_counts_for_its_site_only(writer: Writer) -> None:
    values = await writer.count(writer.lanes.of("demo"), "demo", DEMO, page("/a", limit=0))
    assert values is not None
    assert (values[page("/a").key], values[TOTAL]) == (-1, 1)
    assert sample("hitcounter_pages_refused_total", site="demo") == 1
    values = await writer.count(writer.lanes.of("demo"), "demo", DEMO, None)
    assert values is not None
    assert values[TOTAL] == 2


async def test_more_hits_than_a_record_takes_are_all_counted(writer: Writer, raw: Any) -> None:
    hits = [hit(writer, f"/{n}") for n in range(3 * MAX_RECORD_HITS)]
    assert {await outcome(each) for each in hits} == {"counted"}
    assert int(raw.get(TOTAL)) == len(hits)


async def test_who_hangs_up_is_counted_and_disturbs_nobody(writer: Writer, raw: Any) -> None:
    gone, other = hit(writer, "/a"), hit(writer, "/a")
    gone.cancel()
    assert await outcome(other) == "counted"
    assert n_counted(raw, "/a") == [2]


async def test_an_idle_writer_sends_again_what_the_store_forgot(writer: Writer, raw: Any) -> None:
    assert [await outcome(hit(writer, path)) for path in ("/a", "/b")] == ["counted"] * 2
    raw.flushall()
    await until(lambda: n_counted(raw, "/a", "/b") == [1, 1], "all is counted again")
    assert int(raw.get(TOTAL)) == 2
    assert sample("hitcounter_lost_records_total") == 0


async def test_what_the_store_forgot_too_late_is_reported(
    start_writer: StartWriter, raw: Any, errors: Errors
) -> None:
    writer = start_writer(kept_window_s=0.0)
    assert await outcome(hit(writer, "/a")) == "counted"
    assert await outcome(hit(writer, "/b")) == "counted"  # after which the first is dropped
    raw.flushall()
    await until(lambda: sample("hitcounter_lost_records_total"), "a loss is reported")
    assert "beyond the kept window: hits are lost" in errors()[0]


async def test_too_many_hits_at_once_are_refused(
    server: StoreServer, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hitcounter.exactly_once.waiting.MAX_WAITING_HITS", 3)
    server.process.send_signal(signal.SIGSTOP)
    hits = [hit(writer, "/a") for _ in range(3)]
    with pytest.raises(Unavailable) as refused:
        hit(writer, "/a")
    assert refused.value.code == "overloaded"
    server.process.send_signal(signal.SIGCONT)
    assert [await outcome(each) for each in hits] == ["counted"] * 3
    assert await outcome(hit(writer, "/a")) == "counted"


# Robots


async def test_robots_leave_with_the_next_hit_and_are_counted_once_after_an_outage(
    writer: Writer, way: Cutter, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    robots, lane = keys.robot_keys(0, "demo", DAY), writer.lanes.of("demo")
    for _ in range(3):
        writer.count_robot(lane, robots)
    assert await outcome(hit(writer, "/a")) == "counted"
    assert raw.mget(robots.counted) == [b"3"] * 4
    await take_away(way, writer)
    monkeypatch.setattr("hitcounter.exactly_once.writer.MAX_ROBOT_KEYS", 5)
    for _ in range(2):
        writer.count_robot(lane, robots)
    assert await outcome(hit(writer, "/a")) == "stored"
    await bring_back(way, writer)
    assert (raw.mget(robots.counted), n_counted(raw, "/a")) == ([b"5"] * 4, [2])


async def test_a_record_full_of_robots_leaves_though_nobody_else_comes_and_nobody_probes(
    start_writer: StartWriter, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hitcounter.exactly_once.writer.PROBE_EVERY_S", 3_600.0)
    monkeypatch.setattr("hitcounter.exactly_once.writer.MAX_ROBOT_KEYS", 5)
    writer, robots = start_writer(), keys.robot_keys(0, "demo", DAY)
    writer.count_robot(writer.lanes.of("demo"), robots)
    await until(lambda: raw.mget(robots.counted) == [b"1"] * 4, "the robot is in the store")


# Ids


async def test_a_hit_that_another_worker_has_counted_is_not_counted_again(
    start_writer: StartWriter, raw: Any
) -> None:
    first, second = start_writer(), start_writer()
    assert await outcome(hit(first, "/a", "id-1")) == "counted"
    same, other = hit(second, "/a", "id-1"), hit(second, "/a", "id-2")
    assert (await outcome(same), await outcome(other)) == ("same", "counted")
    assert await outcome(hit(second, "/a", "id-1")) == "same"
    assert n_counted(raw, "/a") == [2]


async def test_who_repeats_a_hit_and_hangs_up_disturbs_nobody(
    start_writer: StartWriter, raw: Any
) -> None:
    first, second = start_writer(), start_writer()
    assert await outcome(hit(first, "/a", "id")) == "counted"
    gone = hit(second, "/a", "id")
    gone.cancel()
    assert await outcome(hit(second, "/b")) == "counted"
    assert n_counted(raw, "/a", "/b") == [1, 1]


async def test_a_hit_that_another_worker_may_yet_count_is_not_settled(
    writer: Writer, far_store: Store, raw: Any
) -> None:
    line = far_store.connect("other")
    assert await claim(line, 1, ["id"], 0.0)
    await line.close()
    raw.rename("hc:{0}:ids:0", keys.ids_key(0, int(raw.time()[0]) // 600))
    assert await outcome(hit(writer, "/a", "id")) == "unsettled"
    assert n_counted(raw, "/a") == [0]


async def test_ids_that_could_not_be_claimed_are_counted_all_the_same(
    writer: Writer, way: Cutter, raw: Any
) -> None:
    assert await outcome(hit(writer, "/a")) == "counted"
    way.cut(REPLIES, 0)
    assert await outcome(hit(writer, "/b", "id")) in ("stored", "counted")
    await until(lambda: n_counted(raw, "/a", "/b") == [1, 1], "all is counted")


# While the store is away


async def test_the_first_error_brings_what_memory_holds_to_disk_and_answers_as_stored(
    writer: Writer, way: Cutter, directory: Path, tmp_path: Path
) -> None:
    for path in ("/a", "/b"):
        assert await outcome(hit(writer, path)) == "counted"
    await take_away(way, writer)
    hits = [hit(writer, "/c"), hit(writer, "/c"), hit(writer, "/d")]
    assert [await outcome(each) for each in hits] == ["stored"] * 3
    expected = flat([entry(1, "/a"), entry(2, "/b"), entry(3, "/c", "/c", "/d")])
    assert await crash_image(directory, tmp_path) == expected
    assert (writer.waiting.in_journal[TOTAL], writer.waiting.in_journal[page("/c").key]) == (3, 2)
    assert sample("hitcounter_hits_total", site="demo", result="stored") == 3
    assert (sample("hitcounter_store_up"), sample("hitcounter_hits_stored")) == (0, 3)
    assert sample("hitcounter_journal_bytes") > 0


async def test_a_hit_whose_answer_is_lost_is_stored_and_counted_once(
    writer: Writer, way: Cutter, raw: Any
) -> None:
    assert await outcome(hit(writer, "/a")) == "counted"
    way.cut(REPLIES, 0)
    assert await outcome(hit(writer, "/b")) == "stored"
    assert await outcome(hit(writer, "/c")) in ("stored", "counted")
    await until(lambda: not writer.lanes.is_away, "the store is back")
    assert n_counted(raw, "/a", "/b", "/c") == [1, 1, 1]


@pytest.mark.slow
async def test_the_journal_is_replayed_under_the_writers_id_and_goes_after_the_kept_window(
    start_writer: StartWriter, way: Cutter, raw: Any, directory: Path
) -> None:
    writer = start_writer(SHORT_WINDOW_S)
    for _ in range(2):
        assert await outcome(hit(writer, "/a")) == "counted"
        await take_away(way, writer)
        assert await outcome(hit(writer, "/b")) == "stored"
        await bring_back(way, writer)
        assert names(directory) != set()  # a store that forgets may need it again
        assert writer.waiting.in_journal == {}
        await until(lambda: names(directory) == set(), "the journal is removed")
        assert sample("hitcounter_journal_bytes") == 0
    assert n_counted(raw, "/a", "/b") == [2, 2]
    assert raw.keys("hc:{0}:writer:*") == [keys.watermark_key(0, writer.id).encode()]


async def test_outages_that_follow_each_other_are_held_in_one_journal_in_their_order(
    writer: Writer, way: Cutter, raw: Any, directory: Path, tmp_path: Path
) -> None:
    for path in ("/a", "/b", "/c"):
        await take_away(way, writer)
        assert await outcome(hit(writer, path)) == "stored"
        await bring_back(way, writer)
        assert await outcome(hit(writer, "/d")) == "counted"
    sums = await crash_image(directory, tmp_path)
    assert list(sums) == list(range(1, len(sums) + 1))
    assert n_counted(raw, "/a", "/b", "/c", "/d") == [1, 1, 1, 3]


async def test_a_long_outage_counts_no_further_pages_but_all_hits(
    writer: Writer, way: Cutter, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await take_away(way, writer)
    assert await outcome(hit(writer, "/a")) == "stored"
    most_bytes = 400 * len(writer.waiting.in_journal)
    monkeypatch.setattr("hitcounter.exactly_once.waiting.MAX_STORED_BYTES", most_bytes)
    assert [await outcome(hit(writer, path)) for path in ("/a", "/b")] == ["stored"] * 2
    await bring_back(way, writer)
    assert (n_counted(raw, "/a", "/b"), int(raw.get(TOTAL))) == ([2, 0], 3)


async def test_who_hangs_up_during_an_outage_is_counted_and_disturbs_nobody(
    writer: Writer, way: Cutter, raw: Any
) -> None:
    await take_away(way, writer)
    gone, other = hit(writer, "/a"), hit(writer, "/a")
    gone.cancel()
    assert await outcome(other) == "stored"
    await bring_back(way, writer)
    assert n_counted(raw, "/a") == [2]


async def test_a_store_that_goes_away_in_the_middle_of_the_replay_gets_the_rest_later(
    writer: Writer, way: Cutter, raw: Any, errors: Errors
) -> None:
    await take_away(way, writer)
    paths = [f"/{n}" for n in range(2_000)]  # more than one chunk carries
    assert {await outcome(each) for each in [hit(writer, path) for path in paths]} == {"stored"}
    way.cut(REPLIES, 7_000)  # in the answer to the second chunk
    await bring_back(way, writer)
    assert way.has_cut
    assert set(n_counted(raw, *paths)) == {1}
    assert len(errors()) == 1


async def test_a_store_that_hangs_is_away(
    server: StoreServer, directory: Path, metrics: Metrics, raw: Any
) -> None:
    store = Store(server.unix_url, timeout_s=0.2)
    journals = Journals(directory, MAX_BYTES)
    writer = Writer(store.connect, journals, metrics, n_lanes=1, kept_window_s=LONG_WINDOW_S)
    assert await outcome(hit(writer, "/a")) == "counted"
    server.process.send_signal(signal.SIGSTOP)
    assert await outcome(hit(writer, "/b")) == "stored"
    server.process.send_signal(signal.SIGCONT)
    await until(lambda: not writer.lanes.is_away, "the store is back")
    assert n_counted(raw, "/a", "/b") == [1, 1]
    await writer.close(1.0)
    await store.close()


# While the disk fails too


async def test_hits_are_refused_while_the_journal_is_full_and_all_others_arrive(
    writer: Writer, way: Cutter, raw: Any, directory: Path, errors: Errors
) -> None:
    await take_away(way, writer)
    assert await outcome(hit(writer, "/a")) == "stored"
    (path,) = directory.glob("*.journal")
    with full_log(path):
        refused, gone = hit(writer, "/b"), hit(writer, "/b")
        gone.cancel()
        assert await outcome(refused) == "journal_full"
    assert await outcome(hit(writer, "/c")) == "stored"
    await bring_back(way, writer)
    assert n_counted(raw, "/a", "/b", "/c") == [1, 0, 1]
    assert sum("hits are refused" in line for line in errors()) == 1


async def test_a_journal_is_found_to_take_hits_again_without_one(
    writer: Writer, way: Cutter, raw: Any, directory: Path
) -> None:
    await take_away(way, writer)
    assert await outcome(hit(writer, "/a")) == "stored"
    (path,) = directory.glob("*.journal")
    with full_log(path):
        assert await outcome(hit(writer, "/b")) == "journal_full"
        assert writer.outage.journal_error is not None
    await until(lambda: writer.outage.journal_error is None, "the journal takes hits")
    await bring_back(way, writer)
    assert n_counted(raw, "/a", "/b") == [1, 0]


async def test_hits_are_refused_while_no_journal_can_be_made_which_is_said_once(
    writer: Writer, way: Cutter, raw: Any, directory: Path, errors: Errors
) -> None:
    directory.rmdir()
    await take_away(way, writer)
    assert [await outcome(hit(writer, "/a")) for _ in range(3)] == ["journal_failed"] * 3
    directory.mkdir()
    assert await outcome(hit(writer, "/b")) == "stored"
    await bring_back(way, writer)
    assert n_counted(raw, "/a", "/b") == [0, 1]
    assert sum("hits are refused" in line for line in errors()) == 1


async def test_without_a_journal_nobody_knows_of_hits_that_were_on_their_way(
    writer: Writer, way: Cutter, raw: Any, directory: Path
) -> None:
    assert await outcome(hit(writer, "/a")) == "counted"
    shutil.rmtree(directory)
    way.cut(REPLIES, 0)
    assert await outcome(hit(writer, "/b")) == "outcome_unknown"
    await until(lambda: not writer.lanes.is_away, "the store is back")
    assert n_counted(raw, "/a", "/b") == [1, 1]
    directory.mkdir()


async def test_a_writer_ends_when_nobody_knows_what_its_journal_holds(
    writer: Writer, way: Cutter, raw: Any, directory: Path, metrics: Metrics, errors: Errors
) -> None:
    await take_away(way, writer)
    assert await outcome(hit(writer, "/a")) == "stored"
    (path,) = directory.glob("*.journal")
    with broken_log(path):
        assert await outcome(hit(writer, "/b")) == "outcome_unknown"
        with pytest.raises(JournalBrokenError):
            await writer.flushing
    with pytest.raises(Unavailable) as refused:
        hit(writer, "/c")
    assert refused.value.code == "store_unavailable"
    await way.open()
    await writer.close(1.0)
    async with adoption(way, directory, metrics):
        await until(lambda: n_counted(raw, "/a") == [1], "the journal is replayed")
    assert n_counted(raw, "/b")[0] <= 1


# The end of a writer


async def test_a_clean_end_at_level_a_leaves_nothing(
    writer: Writer, way: Cutter, raw: Any, directory: Path
) -> None:
    writer.is_store_durable = True
    assert await outcome(hit(writer, "/a")) == "counted"
    last = hit(writer, "/b")
    await writer.close(5.0)
    assert await outcome(last) == "counted"
    assert names(directory) == set()
    assert 0 < raw.ttl(keys.watermark_key(0, writer.id)) <= 1800


async def test_an_end_at_level_a_after_an_outage_leaves_only_the_watermark(
    writer: Writer, way: Cutter, raw: Any, directory: Path
) -> None:
    writer.is_store_durable = True
    await take_away(way, writer)
    assert await outcome(hit(writer, "/a")) == "stored"
    await bring_back(way, writer)
    await writer.close(5.0)
    assert names(directory) == set()
    assert raw.ttl(keys.watermark_key(0, writer.id)) == -1  # late packets must meet it


async def test_an_end_at_level_b_leaves_what_a_forgetful_store_may_need(
    writer: Writer, way: Cutter, raw: Any, directory: Path, metrics: Metrics
) -> None:
    assert [await outcome(hit(writer, path)) for path in ("/a", "/b")] == ["counted"] * 2
    await writer.close(5.0)
    assert await found_in_one(directory) == flat([entry(1, "/a"), entry(2, "/b")])
    assert raw.ttl(keys.watermark_key(0, writer.id)) == -1
    raw.flushall()
    async with adoption(way, directory, metrics):
        await until(lambda: names(directory) == set(), "the journal is replayed")
    assert n_counted(raw, "/a", "/b") == [1, 1]
    assert int(raw.get(TOTAL)) == 2


async def test_an_end_while_the_store_is_away_leaves_a_journal_that_is_adopted(
    writer: Writer, way: Cutter, raw: Any, directory: Path, metrics: Metrics
) -> None:
    assert await outcome(hit(writer, "/a")) == "counted"
    await take_away(way, writer)
    stored, last = hit(writer, "/b"), hit(writer, "/c")
    await writer.close(1.0)
    assert (await outcome(stored), await outcome(last)) == ("stored", "stored")
    await way.open()
    async with adoption(way, directory, metrics):
        await until(lambda: sample("hitcounter_replayed_journals_total"), "it is replayed")
    assert names(directory) == set()
    assert n_counted(raw, "/a", "/b", "/c") == [1, 1, 1]
    assert raw.keys("hc:{0}:writer:*") == [keys.watermark_key(0, writer.id).encode()]


async def test_an_end_does_not_wait_for_a_store_that_hangs(
    server: StoreServer, writer: Writer, way: Cutter, raw: Any, directory: Path, metrics: Metrics
) -> None:
    assert await outcome(hit(writer, "/a")) == "counted"
    server.process.send_signal(signal.SIGSTOP)
    last = hit(writer, "/b")
    await writer.close(0.05)
    assert await outcome(last) == "stored"
    server.process.send_signal(signal.SIGCONT)
    async with adoption(way, directory, metrics):
        await until(lambda: names(directory) == set(), "the journal is replayed")
    assert n_counted(raw, "/a", "/b") == [1, 1]


async def test_an_end_while_the_journal_breaks_is_an_end(
    writer: Writer, way: Cutter, directory: Path, errors: Errors
) -> None:
    await take_away(way, writer)
    assert await outcome(hit(writer, "/a")) == "stored"
    await bring_back(way, writer)
    assert await outcome(hit(writer, "/b")) == "counted"
    (path,) = directory.glob("*.journal")
    with broken_log(path):
        await writer.close(1.0)
    assert any("cannot sync the journal" in line for line in errors())
    assert (await found_in_one(directory)).keys() >= {1}


# Adoption


@asynccontextmanager
async def adoption(
    way: Cutter, directory: Path, metrics: Metrics, kept_window_s: float = SHORT_WINDOW_S
) -> AsyncIterator[None]:
    """Look for journals, as a worker does."""
    store = Store(way.url, TIMEOUT_S)
    journals = Journals(directory, MAX_BYTES)
    running = asyncio.create_task(Adoption(store.connect, journals, metrics, kept_window_s).run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])
        await store.close()
    assert running.cancelled()


async def leave_journal(directory: Path, writer: str, *entries: Entry) -> Path:
    """Leave the journal of a writer behind."""
    journal = await Journals(directory, MAX_BYTES).create(writer)
    for each in entries:
        await journal.append([each])
    await journal.close()
    return directory / journal.name


async def test_only_what_the_store_lacks_of_a_journal_is_counted(
    far_store: Store, way: Cutter, raw: Any, directory: Path, metrics: Metrics
) -> None:
    line = far_store.connect("ff")
    assert (await commit(line, Chunk(0, 1, entry(1, "/a").pageviews)))[0] == 1
    await line.close()
    await leave_journal(directory, "ff", entry(1, "/a"), entry(2, "/b"), entry(2, "/b"))
    async with adoption(way, directory, metrics):
        await until(lambda: names(directory) == set(), "the journal is replayed")
    assert n_counted(raw, "/a", "/b") == [1, 2]
    assert raw.get(keys.watermark_key(0, "ff")) == b"2"


async def test_a_journal_is_cut_by_the_rule_that_it_names(
    far_store: Store,
    way: Cutter,
    raw: Any,
    directory: Path,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = [f"/{n}" for n in range(6)]
    rule = CutRule(max_keys=20, site_keys=9, page_keys=4)
    with monkeypatch.context() as patch:  # whose writer weighs keys in another way than we
        patch.setattr("hitcounter.exactly_once.increments.CUT", rule)
        await leave_journal(directory, "ff", entry(1, *paths))
    first, *others = cut(entry(1, *paths).pageviews, rule)
    assert [len(part.pages) for part in (first, *others)] == [2, 4]
    line = far_store.connect("ff")
    assert (await commit(line, Chunk(0, 1, first)))[0] == 1
    await line.close()
    async with adoption(way, directory, metrics):
        await until(lambda: names(directory) == set(), "the journal is replayed")
    assert n_counted(raw, *paths) == [1] * 6
    assert raw.get(TOTAL) == b"6"
    assert raw.get(keys.watermark_key(0, "ff")) == b"2"


async def test_every_lane_of_a_journal_is_replayed_under_the_id_of_its_writer(
    way: Cutter, raw: Any, directory: Path, metrics: Metrics
) -> None:
    lanes = {0: 1, 3: 2}
    entries = [
        Entry(number, Pageviews({keys.site_keys(lane, "demo", DAY): n}), lane)
        for lane, n in lanes.items()
        for number in (1, 2)
    ]
    await leave_journal(directory, "ff", *entries)
    async with adoption(way, directory, metrics):
        await until(lambda: names(directory) == set(), "the journal is replayed")
    for lane, n in lanes.items():
        assert int(raw.get(keys.bucket_key(lane, "demo", "total"))) == 2 * n
        assert raw.get(keys.watermark_key(lane, "ff")) == b"2"


@pytest.mark.parametrize("version", ["0.1", "0.5"])
async def test_what_an_older_version_left_half_replayed_is_counted_once(
    way: Cutter, raw: Any, directory: Path, metrics: Metrics, version: str
) -> None:
    """Take over what the program of that version left when it was killed.

    One process wrote pages 0 to 999 and then 500 to 1,999 of `demo` under number 1, and was killed.
    Another adopted its file, sent the first of the chunks, and was killed. `store.json` is what the
    store held then: half of the records that this version cuts from the sum.
    """
    raw.mset(json.loads((LEFT / "store.json").read_text()))
    shutil.copytree(LEFT / version, directory, dirs_exist_ok=True)
    async with adoption(way, directory, metrics):
        await until(lambda: names(directory) == set(), "the journal is replayed")
    paths = [f"/{n}" for n in range(2_000)]
    assert n_counted(raw, *paths) == [1] * 500 + [2] * 500 + [1] * 1_000
    assert {int(n) for n in raw.mget(DEMO.counted)} == {2_500}
    assert raw.get(keys.watermark_key(0, "00ff00ff00ff00ff")) == b"2"


async def test_a_journal_that_its_writer_only_tried_is_removed(
    way: Cutter, raw: Any, directory: Path, metrics: Metrics, errors: Errors
) -> None:
    journal = await Journals(directory, MAX_BYTES).create("ff")
    await journal.append([])
    await journal.close()
    async with adoption(way, directory, metrics):
        await until(lambda: names(directory) == set(), "the journal is removed")
    assert raw.get(keys.watermark_key(0, "ff")) is None
    assert "replaying the journal" in errors.caplog.text
    assert errors() == []


async def test_a_sum_of_more_than_a_chunk_is_replayed_in_several(
    way: Cutter, raw: Any, directory: Path, metrics: Metrics
) -> None:
    paths = [f"/{n}" for n in range(2_000)]
    await leave_journal(directory, "ff", entry(1, *paths), entry(1, *paths))
    async with adoption(way, directory, metrics):
        await until(lambda: names(directory) == set(), "the journal is replayed")
    assert set(n_counted(raw, *paths)) == {2}
    assert raw.get(TOTAL) == b"4000"
    assert raw.get(keys.watermark_key(0, "ff")) == b"2"


async def test_a_journal_is_replayed_when_the_store_comes_back(
    way: Cutter, raw: Any, directory: Path, metrics: Metrics, errors: Errors
) -> None:
    await way.close()
    await leave_journal(directory, "ff", entry(1, "/a"))
    async with adoption(way, directory, metrics, LONG_WINDOW_S):
        await until(lambda: "replaying the journal" in errors.caplog.text, "it is adopted")
        assert n_counted(raw, "/a") == [0]
        await way.open()
        await until(lambda: n_counted(raw, "/a") == [1], "the journal is replayed")
        raw.flushall()  # within the kept window
        await until(lambda: n_counted(raw, "/a") == [1], "it is replayed again")
    assert await found_in_one(directory) == flat([entry(1, "/a")])


async def test_a_journal_that_cannot_be_replayed_stays_and_stops_no_other(
    way: Cutter, raw: Any, directory: Path, metrics: Metrics, errors: Errors
) -> None:
    spoilt = await leave_journal(directory, "bb", entry(1, "/x"))
    with closing(sqlite3.connect(spoilt)) as file:
        file.execute("UPDATE log SET entries = ?", (b"no entries",))
        file.commit()
    await leave_journal(directory, "ff", entry(1, "/a"))
    async with adoption(way, directory, metrics):
        await until(lambda: names(directory) == {spoilt.name}, "one is replayed")
        await until(lambda: len(errors()) == 1, "the other is reported")
    assert n_counted(raw, "/a", "/x") == [1, 0]
    assert all("it stays for another worker" in line for line in errors())


@pytest.mark.slow
async def test_a_worker_that_may_open_no_more_files_looks_again(
    way: Cutter, raw: Any, directory: Path, metrics: Metrics, errors: Errors
) -> None:
    await leave_journal(directory, "ff", entry(1, "/a"))
    n_files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        async with adoption(way, directory, metrics):
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
            await until(lambda: len(errors()) > 0, "it is reported")
            resource.setrlimit(resource.RLIMIT_NOFILE, (n_files, most))
            await until(lambda: names(directory) == set(), "the journal is replayed")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n_files, most))
    assert "cannot look for journals" in errors()[0]
    assert n_counted(raw, "/a") == [1]


async def test_what_keeps_a_worker_from_looking_for_journals_is_said_once(
    far_store: Store, directory: Path, metrics: Metrics, errors: Errors
) -> None:
    directory.rmdir()
    directory.touch()
    looking = Adoption(far_store.connect, Journals(directory, MAX_BYTES), metrics, SHORT_WINDOW_S)
    assert [await looking._orphans() for _ in range(2)] == [[], []]
    (line,) = errors()
    assert line.startswith("cannot look for journals: ")


@pytest.mark.slow
async def test_several_workers_replay_every_journal_once(
    way: Cutter, raw: Any, directory: Path, metrics: Metrics
) -> None:
    for n in range(6):
        await leave_journal(directory, f"{n:02}", entry(1, "/a"), entry(2, "/b"))
    async with adoption(way, directory, metrics), adoption(way, directory, metrics):
        await until(lambda: sample("hitcounter_replayed_journals_total") == 6, "all say so")
    assert n_counted(raw, "/a", "/b") == [6, 6]
