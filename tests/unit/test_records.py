"""The rules of the write protocol one by one; `test_protocol` plays them in every order."""

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitcounter.exactly_once.increments import CUT, Pageviews, cut
from hitcounter.exactly_once.kept import Kept, unpacked
from hitcounter.exactly_once.records import (
    MAX_CHUNK_KEYS,
    MAX_RECORD_HITS,
    Chunk,
    Entry,
    Record,
    RecordLog,
)
from hitcounter.store.keys import robot_keys
from tests.speeds import examples
from tests.unit.pageviews import (
    LIMIT,
    Hit,
    flat,
    made_anew,
    numbers,
    of,
    page_of,
    site_on,
    sums,
)

KEPT_WINDOW_S = 5.0

# Keys are compared by identity, so the same names come in several objects, as after midnight.
SITES = [site_on(18), site_on(19), site_on(19), site_on(19, "other")]
PAGES = [None, page_of("/a"), page_of("/a"), page_of("/b"), page_of("/a", "other")]
hits = st.tuples(st.sampled_from(SITES), st.sampled_from(PAGES))


def stream_of(*records: int, kept_window_s: float = KEPT_WINDOW_S) -> RecordLog:
    """Make a stream with records of so many hits each, all on other sites, not sent yet."""
    stream = RecordLog(kept_window_s)
    for number, n_hits in enumerate(records):
        for hit in range(n_hits):
            name = f"{number}-{hit}"
            stream.open.pageviews.add(site_on(19, name), page_of("/", name))
        stream.open.waiters.append(number)
        stream.close_record()
    return stream


def add_hit(stream: RecordLog, waiter: str) -> None:
    """Count a hit in the open record."""
    stream.open.pageviews.add(SITES[0], None)
    stream.open.waiters.append(waiter)


def sent(stream: RecordLog) -> Chunk:
    """Number what waits, and take the next chunk, which there has to be."""
    stream.number_next()
    chunk = stream.next_chunk()
    assert chunk is not None
    return chunk


# Pageviews


def test_a_pageview_counts_once_per_bucket_and_only_reads_yesterday() -> None:
    keys, page, pageviews = site_on(19), page_of("/tin-tuc/1"), Pageviews()
    pageviews.add(keys, page)
    pageviews.add(keys, None)
    assert pageviews.counters() == dict.fromkeys(keys.counted, 2) | {keys.yesterday: 0}
    assert pageviews.page_counters() == {(page.count_key, LIMIT): {page.key: 1}}
    assert pageviews.by_key() == pageviews.counters() | {page.key: 1}
    assert pageviews.n_keys == 5 + 2


def test_what_is_kept_comes_back_as_it_was() -> None:
    robots = robot_keys(0, "demo", "2019-04-19")
    pages = [page_of("/tin-tuc/1"), page_of("/tìm?q=a:b"), page_of("/", "other.vn")]
    hits = [(site_on(19), pages[0]), (site_on(18, "other.vn"), pages[2]), (robots, None)]
    kept = of(*hits, *hits[:1], (site_on(19), pages[1]), (site_on(19), None))
    ((_, back),) = unpacked([Kept.of(1, 0.0, kept)])
    assert back.sites == kept.sites
    assert [*map(astuple, back.pages)] == [*map(astuple, kept.pages)]
    assert [*back.pages.values()] == [*kept.pages.values()]


def test_what_has_two_names_in_a_sum_is_counted_under_one() -> None:
    pageviews = of(*((site_on(19), page_of("/tin-tuc/1")) for _ in range(2)))
    assert (len(pageviews.sites), len(pageviews.pages)) == (2, 2)
    assert {*pageviews.by_key().values()} == {0, 2}


@pytest.mark.parametrize("days", [(18, 19), (19, 18)])
def test_reading_yesterday_takes_nothing_from_a_hit_that_counted_for_it(
    days: tuple[int, int],
) -> None:
    pageviews = Pageviews()
    for day in days:
        pageviews.add(site_on(day), None)
    counters = pageviews.counters()
    assert [counters[key] for key in site_on(19).shown] == [1, 1, 2, 2, 2]
    assert counters[site_on(18).yesterday] == 0


@given(st.lists(st.lists(hits)))
def test_merged_pageviews_add_what_each_of_them_adds(records: list[list[Hit]]) -> None:
    merged, counters, pages = Pageviews(), Counter[str](), Counter[tuple[str, str]]()
    for record in records:
        part = Pageviews()
        for site, page in record:
            part.add(site, page)
            counters.update(site.counted)
            if page is not None:
                pages[page.count_key, page.key] += 1
        merged.merge(part)
    by_site = merged.page_counters().items()
    assert +Counter(merged.counters()) == counters
    assert {(site, key): n for (site, _), ns in by_site for key, n in ns.items()} == pages
    assert len(merged.counters()) + len(pages) + len(by_site) <= merged.n_keys


# Records and chunks


def test_an_empty_record_is_not_numbered_and_gives_no_chunk() -> None:
    stream = RecordLog(KEPT_WINDOW_S)
    stream.close_record()
    assert stream.number_next() == []
    assert stream.next_chunk() is None
    assert stream.is_idle


def test_records_are_numbered_from_one_when_they_are_sent_and_merged_into_one_chunk() -> None:
    stream = stream_of(1, 2, 3)
    assert stream.has_unsent
    assert not stream.pending
    chunk = sent(stream)
    assert numbers(stream.pending) == [1, 2, 3]
    assert (chunk.expect, chunk.last, sum(chunk.pageviews.sites.values())) == (0, 3, 6)
    assert (stream.has_unsent, stream.is_idle) == (False, False)


def test_a_record_does_not_change_by_being_sent() -> None:
    stream = stream_of(1, 1)
    sent(stream)
    before = [flat(record.pageviews) for record in stream.pending]
    sent(stream)
    sent(stream)
    assert [flat(record.pageviews) for record in stream.pending] == before


sizes = st.integers(min_value=1, max_value=MAX_RECORD_HITS)


@settings(max_examples=examples(50))
@given(st.lists(sizes, min_size=1, max_size=8))
def test_a_chunk_carries_as_many_records_as_fit(record_sizes: list[int]) -> None:
    stream, n_sent = stream_of(*record_sizes), 0
    while stream.number_next():
        chunk = sent(stream)
        assert (chunk.expect, n_sent < chunk.last) == (n_sent, True)
        n_keys = [7 * size for size in record_sizes[n_sent : chunk.last + 1]]
        carried, following = n_keys[: chunk.last - n_sent], n_keys[chunk.last - n_sent :]
        assert len(flat(chunk.pageviews)) + len(chunk.pageviews.pages) == sum(carried)
        assert sum(carried) <= MAX_CHUNK_KEYS
        assert not following or sum(carried + following) > MAX_CHUNK_KEYS
        n_sent = chunk.last
        stream.confirm(n_sent, 0.0, 0.0)
    assert n_sent == len(record_sizes)


def test_a_chunk_carries_what_came_meanwhile_once_that_is_numbered() -> None:
    stream = stream_of(1)
    first = sent(stream)
    add_hit(stream, "late")
    assert stream.next_chunk() == first
    assert stream.has_unsent
    chunk = sent(stream)
    assert (chunk.expect, chunk.last, len(chunk.pageviews.sites)) == (0, 2, 2)
    assert not stream.has_unsent


def test_what_nobody_waits_for_presses_nobody() -> None:
    stream = RecordLog(KEPT_WINDOW_S)
    stream.open.pageviews.add(robot_keys(0, "demo", "2019-04-19"), None)
    assert (stream.has_unsent, stream.is_pressing) == (True, False)
    add_hit(stream, "waiter")
    assert stream.is_pressing
    sent(stream)
    assert stream.is_pressing
    stream.confirm(1, 0.0, 0.0)
    assert not stream.is_pressing


def test_records_are_told_once_when_they_get_their_numbers() -> None:
    stream = stream_of(1, 1)
    assert numbers(stream.number_next()) == [1, 2]
    assert stream.number_next() == []


def test_a_pageview_can_be_taken_back_before_its_record_is_sent() -> None:
    stream = RecordLog(KEPT_WINDOW_S)
    for page in (PAGES[1], PAGES[1], PAGES[3], None):
        stream.open.pageviews.add(SITES[0], page)
    (record,) = stream.number_next()
    record.pageviews.remove(SITES[0], PAGES[1])
    record.pageviews.remove(SITES[0], PAGES[3])
    assert (record.pageviews.sites, record.pageviews.pages) == ({SITES[0]: 2}, {PAGES[1]: 1})
    record.pageviews.remove(SITES[0], PAGES[1])
    record.pageviews.remove(SITES[0], None)
    chunk = stream.next_chunk()
    assert chunk is not None
    assert (chunk.expect, chunk.last, chunk.pageviews) == (0, 1, Pageviews())


def test_more_than_a_chunk_can_carry_is_sent_again_in_several() -> None:
    stream = stream_of(*[MAX_RECORD_HITS] * 3)
    for watermark in (1, 2, 3):
        assert sent(stream).last == watermark
        stream.confirm(watermark, 0.0, 0.0)
    stream.confirm(0, 1.0, 1.0)
    for watermark in (1, 2, 3):
        chunk = stream.next_chunk()
        assert chunk is not None
        assert (chunk.expect, chunk.last) == (watermark - 1, watermark)
        stream.confirm(watermark, 2.0, 2.0)
    assert stream.next_chunk() is None


# Watermarks


def test_a_watermark_confirms_records_once_and_tells_who_waited() -> None:
    stream = stream_of(1, 1, 1)
    sent(stream)
    confirmed, lost = stream.confirm(2, 0.0, 1.0)
    assert (numbers(confirmed), [r.waiters for r in confirmed], lost) == ([1, 2], [[0], [1]], 0)
    assert (numbers(stream.kept), numbers(stream.pending)) == ([1, 2], [3])
    assert stream.confirm(2, 1.0, 2.0) == ([], 0)


def test_a_lower_watermark_brings_kept_records_back_in_their_order() -> None:
    stream = stream_of(1, 1, 1)
    sent(stream)
    stream.confirm(3, 0.0, 0.0)
    assert stream.confirm(1, 1.0, 1.0) == ([], 0)
    assert (numbers(stream.kept), numbers(stream.pending)) == ([1], [2, 3])
    assert (sent(stream).expect, sent(stream).last) == (1, 3)


def test_what_comes_back_takes_as_few_keys_as_if_it_had_never_left() -> None:
    stream = RecordLog(KEPT_WINDOW_S)
    for number in (1, 2):
        stream.open.pageviews = of((SITES[1], PAGES[1]), (SITES[1], PAGES[2]))  # of one name
        sent(stream)
        stream.confirm(number, 0.0, 0.0)
    stream.confirm(0, 1.0, 1.0)
    pageviews = sent(stream).pageviews
    assert pageviews.n_keys == 5 + 2
    assert flat(pageviews) == Counter(dict.fromkeys((*SITES[1].counted, "hc:{0}:page:demo:/a"), 4))


@pytest.mark.parametrize(("asked_at_s", "kept"), [(5.9, [1]), (6.0, []), (7.0, [])])
def test_a_record_is_kept_until_a_question_asked_a_window_later_finds_it(
    asked_at_s: float, kept: list[int]
) -> None:
    stream = stream_of(1)
    sent(stream)
    stream.confirm(1, 0.0, 1.0)
    stream.confirm(1, asked_at_s, 100.0)
    assert numbers(stream.kept) == kept


def test_a_record_that_was_applied_twice_is_kept_from_the_second_time_on() -> None:
    stream = stream_of(1)
    for at_s in (0.0, 4.0):
        sent(stream)
        stream.confirm(1, at_s, at_s)
        if at_s == 0.0:
            stream.confirm(0, 3.0, 3.0)
    stream.confirm(1, 8.9, 8.9)
    assert numbers(stream.kept) == [1]
    stream.confirm(1, 9.0, 9.0)
    assert not stream.kept


def test_a_watermark_that_nobody_sent_stops_everything() -> None:
    stream = stream_of(1)
    sent(stream)
    with pytest.raises(AssertionError, match="watermark 2 is beyond record 1"):
        stream.confirm(2, 0.0, 0.0)


def test_what_was_dropped_and_then_forgotten_is_reported_as_lost_once() -> None:
    stream = stream_of(1, 1, 1, 1)
    drop(stream, 3)
    assert stream.confirm(1, 20.0, 20.0) == ([], 2)
    assert stream.confirm(1, 21.0, 21.0) == ([], 0)
    assert numbers(stream.pending) == [4]
    assert (sent(stream).expect, sent(stream).last) == (1, 4)


def test_a_second_loss_reports_only_what_the_first_did_not() -> None:
    stream = stream_of(*[1] * 9)
    drop(stream, 5)
    assert stream.confirm(3, 20.0, 20.0)[1] == 2  # 4 and 5
    sent(stream)
    drop(stream, 7)
    assert stream.confirm(2, 40.0, 40.0)[1] == 3  # 3, 6 and 7
    sent(stream)
    drop(stream, 9)
    assert stream.confirm(8, 60.0, 60.0)[1] == 1  # 9
    assert stream.confirm(4, 60.0, 60.0)[1] == 1  # 8: an old copy holds 3 and 4 again
    assert stream.confirm(0, 61.0, 61.0)[1] == 2  # 1 and 2; that 3 and 4 went was told


def drop(stream: RecordLog, number: int) -> None:
    """Confirm records up to a number, and ask again after the kept window."""
    sent(stream)
    asked_at_s = max([0.0, *(record.confirmed_at_s for record in stream.kept)])
    stream.confirm(number, asked_at_s, asked_at_s)
    stream.confirm(number, asked_at_s + KEPT_WINDOW_S, asked_at_s + KEPT_WINDOW_S)
    assert not stream.kept


# Taking out what was not sent


def test_what_no_chunk_carried_can_be_taken_out_and_its_numbers_are_used_by_others() -> None:
    stream = stream_of(1)
    sent(stream)
    add_hit(stream, "closed")
    stream.close_record()
    add_hit(stream, "open")
    unsent = stream.take_unsent()
    assert (unsent.number, set(unsent.waiters)) == (0, {"closed", "open"})
    assert list(unsent.pageviews.sites.values()) == [2]
    assert (numbers(stream.pending), stream.has_unsent) == ([1], False)
    add_hit(stream, "later")
    chunk = sent(stream)
    assert (chunk.last, list(chunk.pageviews.sites.values())) == (2, [1, 1])


def test_what_a_chunk_carried_is_never_taken_out() -> None:
    stream = stream_of(1, 1)
    sent(stream)
    assert stream.take_unsent().waiters == []
    stream.confirm(2, 0.0, 0.0)
    stream.confirm(0, 1.0, 1.0)
    assert stream.take_unsent().waiters == []
    assert numbers(stream.pending) == [1, 2]


# The journal


def held(stream: RecordLog, *waiters: str) -> list[Entry]:
    """Count hits while the store is away, and bring all that memory holds to the journal."""
    for waiter in waiters:
        add_hit(stream, waiter)
    unsent = stream.take_unsent()
    entries = stream.to_journal(unsent.pageviews)
    stream.journaled(unsent.pageviews)
    return entries


def test_what_only_memory_holds_goes_to_the_journal_once() -> None:
    stream = stream_of(1, 1)
    sent(stream)
    stream.confirm(1, 0.0, 0.0)
    assert (stream.needs_journal, stream.is_idle) == (False, False)
    assert [entry.number for entry in held(stream, "a", "b")] == [1, 2, 3]
    assert [entry.number for entry in held(stream, "c")] == [3]
    assert held(stream) == []
    assert (stream.needs_journal, stream.has_caught_up, stream.has_unsent) == (True, False, False)


def test_what_was_held_becomes_a_record_before_what_came_after_it() -> None:
    stream = stream_of(1)
    sent(stream)
    held(stream, "a")
    held(stream, "b")
    add_hit(stream, "after")
    chunk = sent(stream)
    assert (chunk.expect, chunk.last) == (0, 3)
    assert [sum(r.pageviews.sites.values()) for r in stream.pending] == [1, 2, 1]
    assert [r.waiters for r in stream.pending] == [[0], [], ["after"]]
    assert [entry.number for entry in stream.to_journal(Pageviews())] == [3]


def test_the_journal_is_needed_until_the_kept_window_of_its_last_record_is_over() -> None:
    stream = stream_of(1)
    sent(stream)
    held(stream, "a")
    sent(stream)
    stream.confirm(2, 0.0, 0.0)
    assert (stream.needs_journal, stream.is_idle) == (True, True)
    stream.confirm(2, KEPT_WINDOW_S, KEPT_WINDOW_S)
    assert not stream.needs_journal


def test_what_a_journal_refused_is_as_if_it_had_never_been_there() -> None:
    stream = stream_of(1)
    sent(stream)
    add_hit(stream, "refused")
    assert [e.number for e in stream.to_journal(stream.take_unsent().pageviews)] == [1, 2]
    assert [entry.number for entry in held(stream, "next")] == [1, 2]
    assert (sent(stream).last, sum(sent(stream).pageviews.sites.values())) == (2, 2)


def test_whoever_reads_the_journal_makes_the_same_records() -> None:
    stream = stream_of(1, 2)
    sent(stream)
    journal = [*held(stream, "a"), *held(stream, "b")]
    successor = RecordLog.restored(KEPT_WINDOW_S, sums(journal), CUT)
    sent(stream)
    assert by_number(successor.pending) == by_number(stream.pending)
    chunk = successor.next_chunk()
    assert chunk is not None
    assert (chunk.expect, chunk.last) == (0, 3)
    assert successor.to_journal(Pageviews()) == []


def test_a_restored_stream_begins_where_its_journal_does() -> None:
    journal = [Entry(4, of((SITES[0], None))), Entry(5, of((SITES[3], None)))]
    stream = RecordLog.restored(KEPT_WINDOW_S, journal, CUT)
    assert (stream.watermark, numbers(stream.pending)) == (3, [4, 5])
    assert stream.confirm(9, 0.0, 0.0)[1] == 0  # the writer lived on after its journal
    assert numbers(stream.kept) == [4, 5]
    assert stream.confirm(3, 1.0, 1.0) == ([], 0)
    assert stream.confirm(2, 1.0, 1.0) == ([], 1)  # 3 was dropped before the journal began


def test_an_empty_journal_restores_a_stream_that_has_nothing_to_say() -> None:
    stream = RecordLog.restored(KEPT_WINDOW_S, [], CUT)
    assert stream.next_chunk() is None
    assert (list(stream.pending), list(stream.kept)) == ([], [])


def test_what_is_before_a_gap_in_a_journal_had_left_the_kept_window() -> None:
    one = of((SITES[0], None))
    journal = [Entry(1, one), Entry(2, one), Entry(5, one), Entry(6, one)]
    restored = RecordLog.restored(KEPT_WINDOW_S, journal, CUT)
    assert [record.number for record in restored.pending] == [5, 6]
    assert restored.next_chunk() == Chunk(4, 6, of((SITES[0], None), (SITES[0], None)))
    confirmed, n_lost = restored.confirm(6, 0.0, 0.0)
    assert (numbers(confirmed), numbers(restored.kept), n_lost) == ([5, 6], [5, 6], 0)


# How sums are cut


def by_number(records: Iterable[Record]) -> dict[int, Counter[str]]:
    """Tell what every record adds."""
    return {record.number: flat(record.pageviews) for record in records}


many_sites = st.sampled_from([site_on(19, f"site{n}") for n in range(8)] + SITES)
many_pages = st.sampled_from([page_of(f"/{n}") for n in range(8)] + PAGES)
many_hits = st.lists(st.tuples(many_sites, many_pages), max_size=30)


@given(many_hits, st.randoms(), st.integers(min_value=10, max_value=40))
def test_equal_sums_give_equal_records_however_they_came_about(
    counted: list[Hit], draw: random.Random, max_keys: int
) -> None:
    at_once, shuffled = of(*counted), draw.sample(counted, len(counted))
    in_parts = Pageviews()
    while shuffled:
        n = draw.randint(1, len(shuffled))
        in_parts.merge(made_anew(of(*shuffled[:n])))
        del shuffled[:n]
    rule = CUT._replace(max_keys=max_keys)
    parts = [flat(part) for part in cut(at_once, rule)]
    assert [flat(part) for part in cut(in_parts, rule)] == parts
    assert sum(map(Counter.total, parts)) == flat(at_once).total()


@settings(max_examples=examples(50))
@given(
    st.integers(min_value=0, max_value=1500),
    st.integers(min_value=0, max_value=4000),
    st.randoms(use_true_random=False),
)
def test_the_parts_of_a_sum_fit_into_chunks_and_are_all_of_it(
    n_sites: int, n_pages: int, draw: random.Random
) -> None:
    sites = {site_on(19, f"site{n}"): draw.randint(1, 10**12) for n in range(n_sites)}
    pages = {page_of(f"/{n}", "site0"): draw.randint(1, 10**12) for n in range(n_pages)}
    total = Pageviews(sites, pages)
    parts = cut(total, CUT)
    together = Pageviews()
    for part in parts:
        together.merge(part)
    assert together == total
    assert max(part.n_keys for part in parts) <= CUT.max_keys <= MAX_CHUNK_KEYS
    assert len(parts) <= 1 + total.n_keys // (CUT.max_keys - 4)  # none is short without need


@settings(max_examples=examples(20))
@given(sizes)
def test_a_record_is_never_cut(n_hits: int) -> None:
    stream = stream_of(n_hits)
    sent(stream)
    (record,) = stream.pending
    (part,) = cut(made_anew(record.pageviews), CUT)
    assert flat(part) == flat(record.pageviews)
