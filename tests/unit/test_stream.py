"""The write protocol against a store that loses answers, packets and its last seconds.

The model of the store is four lines: it compares the watermark, adds and swaps. Everything that
can go wrong between it and the stream goes wrong here in every order. Packets that are late die
with the server that would have read them: a restarted one has new connections.
"""

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hitcounter.keys import PageKeys, SiteKeys, page_key, pages_key, site_keys
from hitcounter.period import Day
from hitcounter.stream import MAX_CHUNK_KEYS, MAX_RECORD_HITS, Chunk, Pageviews, Record, Stream

KEPT_WINDOW_S = 5.0
LIMIT = 100
Hit = tuple[SiteKeys, PageKeys | None]


def site_on(day: int, name: str = "demo") -> SiteKeys:
    """Name the counters of a site on a day of April 2019."""
    return site_keys(0, name, Day(dt.date(2019, 4, day), 0, 24 * 3600))


def page_of(path: str, name: str = "demo") -> PageKeys:
    """Name the counters of a page."""
    return PageKeys(page_key(0, name, path), pages_key(0, name), LIMIT)


# Keys are compared by identity, so the same names come in several objects, as after midnight.
SITES = [site_on(18), site_on(19), site_on(19), site_on(19, "other")]
PAGES = [None, page_of("/a"), page_of("/a"), page_of("/b"), page_of("/a", "other")]
hits = st.tuples(st.sampled_from(SITES), st.sampled_from(PAGES))


def flat(pageviews: Pageviews) -> Counter[str]:
    """Sum what a chunk or a record adds, whether to counters or to pages."""
    total = Counter(pageviews.counters())
    for pages in pageviews.page_counters().values():
        total.update(pages)
    return total


def stream_of(*records: int, kept_window_s: float = KEPT_WINDOW_S) -> Stream:
    """Make a stream with records of so many hits each, all on other sites, not sent yet."""
    stream = Stream(kept_window_s)
    for number, n_hits in enumerate(records):
        for hit in range(n_hits):
            name = f"{number}-{hit}"
            stream.open.pageviews.add(site_on(19, name), page_of("/", name))
        stream.open.waiters.append(number)
        stream.close_record()
    return stream


def add_hit(stream: Stream, waiter: str) -> None:
    """Count a hit in the open record."""
    stream.open.pageviews.add(SITES[0], None)
    stream.open.waiters.append(waiter)


def numbers(records: Sequence[Record]) -> list[int]:
    return [record.number for record in records]


def sent(stream: Stream) -> Chunk:
    """Take the next chunk, which there has to be."""
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
    assert pageviews.n_keys == 5 + 2


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
    stream = Stream(KEPT_WINDOW_S)
    stream.close_record()
    assert stream.next_chunk() is None
    assert not stream.pending


def test_records_are_numbered_from_one_and_merged_into_one_chunk() -> None:
    stream = stream_of(1, 2, 3)
    assert numbers(stream.pending) == [1, 2, 3]
    chunk = sent(stream)
    assert (chunk.expect, chunk.last, sum(chunk.pageviews.sites.values())) == (0, 3, 6)


def test_a_record_does_not_change_by_being_sent() -> None:
    stream = stream_of(1, 1)
    before = [flat(record.pageviews) for record in stream.pending]
    sent(stream)
    sent(stream)
    assert [flat(record.pageviews) for record in stream.pending] == before


sizes = st.integers(min_value=1, max_value=MAX_RECORD_HITS)


@settings(max_examples=50)
@given(st.lists(sizes, min_size=1, max_size=8))
def test_a_chunk_carries_as_many_records_as_fit(record_sizes: list[int]) -> None:
    stream, n_sent = stream_of(*record_sizes), 0
    while (chunk := stream.next_chunk()) is not None:
        assert (chunk.expect, n_sent < chunk.last) == (n_sent, True)
        n_keys = [7 * size for size in record_sizes[n_sent : chunk.last + 1]]
        carried, following = n_keys[: chunk.last - n_sent], n_keys[chunk.last - n_sent :]
        assert len(flat(chunk.pageviews)) + len(chunk.pageviews.pages) == sum(carried)
        assert sum(carried) <= MAX_CHUNK_KEYS
        assert not following or sum(carried + following) > MAX_CHUNK_KEYS
        n_sent = chunk.last
        stream.confirm(n_sent, 0.0, 0.0)
    assert n_sent == len(record_sizes)


def test_a_chunk_sent_again_carries_what_came_meanwhile() -> None:
    stream = stream_of(1)
    assert (sent(stream).expect, sent(stream).last) == (0, 1)
    add_hit(stream, "late")
    chunk = sent(stream)
    assert (chunk.expect, chunk.last, len(chunk.pageviews.sites)) == (0, 2, 2)


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


def drop(stream: Stream, number: int) -> None:
    """Confirm records up to a number, and ask again after the kept window."""
    sent(stream)
    asked_at_s = max([0.0, *(record.confirmed_at_s for record in stream.kept)])
    stream.confirm(number, asked_at_s, asked_at_s)
    stream.confirm(number, asked_at_s + KEPT_WINDOW_S, asked_at_s + KEPT_WINDOW_S)
    assert not stream.kept


# Giving up


def test_what_no_chunk_carried_can_be_forgotten_and_its_numbers_used_again() -> None:
    stream = stream_of(1)
    sent(stream)
    add_hit(stream, "numbered")
    stream.close_record()
    add_hit(stream, "open")
    assert set(stream.discard_unsent()) == {"numbered", "open"}
    assert numbers(stream.pending) == [1]
    add_hit(stream, "later")
    chunk = sent(stream)
    assert (chunk.last, list(chunk.pageviews.sites.values())) == (2, [1, 1])


def test_what_only_an_earlier_larger_chunk_carried_is_not_forgotten() -> None:
    stream = stream_of(MAX_RECORD_HITS, MAX_RECORD_HITS)
    for watermark in (1, 2):
        assert sent(stream).last == watermark
        stream.confirm(watermark, 0.0, 0.0)
    stream.confirm(0, 1.0, 1.0)
    assert sent(stream).last == 1
    assert stream.discard_unsent() == []


def test_what_a_chunk_carried_is_never_forgotten() -> None:
    stream = stream_of(1, 1)
    sent(stream)
    assert stream.discard_unsent() == []
    stream.confirm(2, 0.0, 0.0)
    stream.confirm(0, 1.0, 1.0)
    assert stream.discard_unsent() == []
    assert numbers(stream.pending) == [1, 2]


# The whole protocol, in every order


@dataclass(frozen=True)
class State:
    """What the store holds of one writer, and since when."""

    at_s: float = 0.0
    watermark: int = 0
    counters: Counter[str] = field(default_factory=Counter)
    applied: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Packet:
    """A chunk on its way, and the numbers of its records, which only the test knows."""

    chunk: Chunk
    numbers: frozenset[int]


class Protocol(RuleBasedStateMachine):
    """One writer and one store, with a ledger of what every record holds."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = Stream(KEPT_WINDOW_S)
        self.now_s = 0.0
        self.history = [State()]
        self.late: list[Packet] = []
        self.ledger: list[Counter[str]] = []  # record n is at n - 1
        self.opened: Counter[str] = Counter()
        self.n_sent = 0
        self.n_lost = 0
        self.waiting: set[int] = set()
        self.acknowledged: set[int] = set()
        self.forgotten: set[int] = set()
        self.n_hits = 0

    @property
    def store(self) -> State:
        """Give what the store holds now."""
        return self.history[-1]

    def apply(self, packet: Packet) -> None:
        """Do what commit.lua does."""
        chunk, state = packet.chunk, self.store
        if state.watermark != chunk.expect:
            return
        added = flat(chunk.pageviews)
        assert not packet.numbers & state.applied, "a record is applied a second time"
        self.history.append(
            State(
                self.now_s,
                chunk.last,
                Counter({k: state.counters[k] + added[k] for k in state.counters | added}),
                state.applied | packet.numbers,
            )
        )

    def close(self) -> None:
        """Number the open record, in the stream and in the ledger."""
        self.stream.close_record()
        if self.opened:
            self.ledger.append(self.opened)
            self.opened = Counter()

    def believe(self, answer: State, asked_at_s: float, at_most: int) -> None:
        """Take the watermark from an answer."""
        confirmed, lost = self.stream.confirm(answer.watermark, asked_at_s, self.now_s)
        self.n_lost += lost
        for record in confirmed:
            assert record.number <= at_most, "its new values are not in this answer"
            assert record.number in answer.applied
            self.acknowledged.update(record.waiters)
            record.waiters = []

    @rule(hit=hits)
    def count(self, hit: Hit) -> None:
        """Count in the open record."""
        site, page = hit
        self.stream.open.pageviews.add(site, page)
        self.opened.update(site.counted)
        self.opened.update([] if page is None else [page.key])
        self.stream.open.waiters.append(self.n_hits)
        self.waiting.add(self.n_hits)
        self.n_hits += 1

    @rule()
    def fill_record(self) -> None:
        """Close a record early, as one with very many keys is."""
        self.close()

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, KEPT_WINDOW_S]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds

    @rule(
        fate=st.sampled_from(["arrives", "arrives", "arrives", "late", "lost"]),
        is_answered=st.sampled_from([True, True, False]),
        travel_s=st.sampled_from([0.0, 0.5]),
        n_undone=st.sampled_from([0, 0, 0, 1]),
    )
    def exchange(self, fate: str, is_answered: bool, travel_s: float, n_undone: int) -> None:
        """Send the next chunk, or ask for the watermark where there is none."""
        self.close()
        chunk, asked_at_s = self.stream.next_chunk(), self.now_s
        self.now_s += travel_s
        last = self.store.watermark
        if chunk is not None:
            last = chunk.last
            self.send(chunk, fate)
        answer = self.store
        self.crash(n_undone)
        self.now_s += travel_s
        if is_answered and fate == "arrives":
            self.believe(answer, asked_at_s, last)

    def send(self, chunk: Chunk, fate: str) -> None:
        """Put a chunk on its way, to arrive now, later or never."""
        carried = [r.number for r in self.stream.pending if r.number <= chunk.last]
        content = sum((self.ledger[number - 1] for number in carried), Counter[str]())
        assert +flat(chunk.pageviews) == +content
        self.n_sent = max(self.n_sent, chunk.last)
        packet = Packet(chunk, frozenset(carried))
        if fate == "arrives":
            self.apply(packet)
        elif fate == "late":
            self.late.append(packet)

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def late_packet_arrives(self, data: st.DataObject) -> None:
        """Let a packet of a dead connection arrive after all, maybe a second time."""
        self.apply(data.draw(st.sampled_from(self.late)))

    @rule(n_undone=st.integers(min_value=1, max_value=8))
    def crash(self, n_undone: int) -> None:
        """Restart a store that loses its last changes, if they are younger than the kept window."""
        durable = [s for s in self.history if s.at_s <= self.now_s - KEPT_WINDOW_S]
        oldest = max(1, len(durable))
        if n_undone:
            self.restart(max(oldest, len(self.history) - n_undone))

    def restart(self, n_states: int) -> None:
        """Go on from a state of the past, with none of the old connections."""
        del self.history[n_states:]
        self.late.clear()

    @rule()
    def give_up(self) -> None:
        """Refuse the hits that no chunk carried."""
        forgotten = set(self.stream.discard_unsent())
        assert not forgotten & (self.acknowledged | self.forgotten)
        self.forgotten |= forgotten
        self.opened = Counter()
        del self.ledger[self.n_sent :]

    @invariant()
    def the_store_holds_the_records_up_to_its_watermark(self) -> None:
        """Invariant 1, of every prefix of the store's history."""
        state = self.store
        assert +state.counters == +sum((self.ledger[n - 1] for n in state.applied), Counter[str]())
        assert max(state.applied, default=0) == state.watermark

    @invariant()
    def numbers_are_dense_dropped_before_kept_before_pending(self) -> None:
        """Invariants 2 and 4; the stream's records are those of the ledger."""
        held = numbers([*self.stream.kept, *self.stream.pending])
        assert held == list(range(len(self.ledger) - len(held) + 1, len(self.ledger) + 1))
        for record in (*self.stream.kept, *self.stream.pending):
            assert +flat(record.pageviews) == +self.ledger[record.number - 1]
        assert all(number <= self.stream.watermark for number in numbers(self.stream.kept))
        assert all(number > self.stream.watermark for number in numbers(self.stream.pending))

    def heal(self) -> None:
        """End all faults, and wait for as long as the stream has something to say."""
        for _ in range(3):  # notice a crash, send again, and be confirmed
            self.exchange("arrives", True, 0.0, 0)
        assert not self.stream.pending
        assert self.waiting == self.acknowledged | self.forgotten

    def teardown(self) -> None:
        """After every story: nothing lost, nothing doubled, and every loss told once."""
        self.heal()
        assert self.store.applied | self.missing() == set(range(1, len(self.ledger) + 1))
        assert self.n_lost == len(self.missing())

    def missing(self) -> set[int]:
        """Name the records that the store does not hold; within the kept window there are none."""
        return set()


class ProtocolBeyondTheWindow(Protocol):
    """A store that can lose everything, at any time."""

    @initialize()
    def begin_with_something_dropped(self) -> None:
        """Reach the interesting part at once."""
        self.count((SITES[0], None))
        self.exchange("arrives", True, 0.0, 0)
        self.wait(KEPT_WINDOW_S)
        self.exchange("arrives", True, 0.0, 0)
        assert not self.stream.kept

    @rule(n_states=st.integers(min_value=1, max_value=4))
    def restore(self, n_states: int) -> None:
        """Restore an old backup, or an empty store."""
        self.restart(n_states)
        self.history[-1] = replace(self.store, at_s=self.now_s)

    def missing(self) -> set[int]:
        """Name the records that are lost for good."""
        return set(range(1, len(self.ledger) + 1)) - self.store.applied


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(max_examples=200, stateful_step_count=40)
TestProtocolBeyondTheWindow = ProtocolBeyondTheWindow.TestCase
TestProtocolBeyondTheWindow.settings = settings(max_examples=150, stateful_step_count=40)
