"""The whole protocol: writers, a store, journals and successors, in every order of what can happen.

The model of the store is four lines: it compares the watermark, adds and swaps; that of a journal
is a list. Everything that can go wrong between them, the stream and the worker that holds it goes
wrong here. Packets that are late die with the server that would have read them: a restarted one
has new connections.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import starmap
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hitcounter.exactly_once.increments import CutRule
from hitcounter.exactly_once.kept import unpacked
from hitcounter.exactly_once.records import Chunk, Entry, Record, RecordLog
from hitcounter.store.keys import PageKeys, SiteKeys
from tests.speeds import examples
from tests.unit.pageviews import flat, numbers, page_of, site_on, sums

KEPT_WINDOW_S = 5.0
MAX_HITS = 2  # of a record, so that few hits fill many
CUT = CutRule(7 * MAX_HITS + 2, 5, 2)
SITES = [site_on(18), site_on(19), site_on(19), site_on(19, "other")]

WAITS, ACKNOWLEDGED, REFUSED, UNKNOWN = "waits", "acknowledged", "refused", "unknown"
RecordId = tuple[int, int]  # the writer, and the record's number


@dataclass(frozen=True)
class State:
    """What the store holds, and since when."""

    at_s: float = 0.0
    watermarks: Mapping[int, int] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    applied: frozenset[RecordId] = frozenset()


@dataclass(frozen=True)
class Packet:
    """A chunk on its way, and the records in it, which only the test knows."""

    writer: int
    chunk: Chunk
    records: frozenset[RecordId]


class Waiter(NamedTuple):
    """A hit that waits for its outcome."""

    hit: int
    site: SiteKeys
    page: PageKeys


@dataclass(slots=True)
class Life:
    """The records of one writer: first its own, then those of whoever adopts its journal."""

    writer: int
    stream: RecordLog
    journal: list[Entry] = field(default_factory=list)
    writing: tuple[Record, list[Entry]] | None = None
    is_away: bool = False
    is_adopted: bool = False


class Protocol(RuleBasedStateMachine):
    """Writers, a store and journals; every hit has a page of its own, which counts it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr("hitcounter.exactly_once.records.MAX_CHUNK_KEYS", 24)
        self.patches.setattr("hitcounter.exactly_once.increments.CUT", CUT)
        self.now_s = 0.0
        self.history = [State()]
        self.n_durable = 1  # states that no restart undoes
        self.late: list[Packet] = []
        self.lives = {1: Life(1, RecordLog(KEPT_WINDOW_S))}
        self.writer = 1
        self.ledger: dict[RecordId, Counter[str]] = {}
        self.confirmed: set[RecordId] = set()
        self.secured: set[RecordId] = set()  # were in a journal, at least until they are dropped
        self.hits: list[str] = []
        self.n_lost = 0

    @property
    def store(self) -> State:
        """Give what the store holds now."""
        return self.history[-1]

    @property
    def life(self) -> Life:
        """Give the writer that takes hits."""
        return self.lives[self.writer]

    def watermark(self, writer: int, state: State) -> int:
        """Ask up to which record a state holds a writer."""
        return state.watermarks.get(writer, 0)

    def apply(self, packet: Packet) -> None:
        """Do what commit.lua does."""
        chunk, state = packet.chunk, self.store
        if self.watermark(packet.writer, state) != chunk.expect:
            return
        assert not packet.records & state.applied, "a record is applied a second time"
        self.history.append(
            State(
                self.now_s,
                {**state.watermarks, packet.writer: chunk.last},
                state.counters + flat(chunk.pageviews),
                state.applied | packet.records,
            )
        )

    def answer(self, waiters: list[Waiter], outcome: str) -> None:
        """Tell hits what became of them; each is told once."""
        for waiter in waiters:
            assert self.hits[waiter.hit] == WAITS
            self.hits[waiter.hit] = outcome
        waiters.clear()

    @rule(site=st.sampled_from(SITES))
    def count(self, site: SiteKeys) -> None:
        """Count a hit in the open record, which is closed when it is full."""
        record, page = self.life.stream.open, page_of(f"/{len(self.hits)}")
        record.pageviews.add(site, page)
        record.waiters.append(Waiter(len(self.hits), site, page))
        self.hits.append(WAITS)
        if len(record.waiters) == MAX_HITS:
            self.life.stream.close_record()

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, KEPT_WINDOW_S]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds

    @rule(
        which=st.sampled_from([0, 0, 1, 2]),
        fate=st.sampled_from(["arrives", "arrives", "arrives", "late", "lost"]),
        is_answered=st.sampled_from([True, True, False]),
        travel_s=st.sampled_from([0.0, 0.5]),
        n_undone=st.sampled_from([0, 0, 0, 1]),
    )
    def exchange(
        self, which: int, fate: str, is_answered: bool, travel_s: float, n_undone: int
    ) -> None:
        """Send the next chunk of a writer, or ask for the watermark where there is none."""
        life = list(self.lives.values())[-1 - which % len(self.lives)]
        if not life.is_away:
            life.stream.number_next()
        chunk, asked_at_s = life.stream.next_chunk(), self.now_s
        self.now_s += travel_s
        last = self.watermark(life.writer, self.store)
        if chunk is not None:
            last = chunk.last
            self.send(life, chunk, fate)
        answer = self.store
        self.crash(n_undone)
        self.now_s += travel_s
        if is_answered and fate == "arrives":
            self.believe(life, self.watermark(life.writer, answer), asked_at_s, last)
        else:
            life.is_away = True

    @precondition(lambda self: not self.life.is_away)
    @rule(n_same=st.integers(min_value=0, max_value=MAX_HITS), is_answered=st.booleans())
    def claim_ids(self, n_same: int, is_answered: bool) -> None:
        """Take hits back that somebody else has counted, before their record is sent."""
        for record in self.life.stream.number_next():
            same = record.waiters[:n_same]
            for waiter in same:
                record.pageviews.remove(waiter.site, waiter.page)
                record.waiters.remove(waiter)
            self.answer(same, REFUSED)
        self.life.is_away = not is_answered

    def send(self, life: Life, chunk: Chunk, fate: str) -> None:
        """Put a chunk on its way, to arrive now, later or never."""
        self.check_records(life)
        carried = {(life.writer, r.number) for r in life.stream.pending if r.number <= chunk.last}
        content = sum((self.ledger[record] for record in carried), Counter[str]())
        assert +flat(chunk.pageviews) == +content
        packet = Packet(life.writer, chunk, frozenset(carried))
        if fate == "arrives":
            self.apply(packet)
        elif fate == "late":
            self.late.append(packet)

    def believe(self, life: Life, watermark: int, asked_at_s: float, at_most: int) -> None:
        """Take the watermark from an answer, and do without the journal where that is possible."""
        confirmed, lost = life.stream.confirm(watermark, asked_at_s, self.now_s)
        self.n_lost += lost
        self.confirmed |= {(life.writer, record.number) for record in confirmed}
        for record in confirmed:
            assert record.number <= at_most or not record.waiters, "its values are not in there"
            self.answer(record.waiters, ACKNOWLEDGED)
        life.is_away = life.writing is not None
        if life.is_adopted and not (life.stream.pending or life.stream.kept):
            del self.lives[life.writer]
        elif not life.stream.needs_journal and life.writing is None:
            life.journal.clear()

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def late_packet_arrives(self, data: st.DataObject) -> None:
        """Let a packet of a dead connection arrive after all, maybe a second time."""
        self.apply(data.draw(st.sampled_from(self.late)))

    @rule(n_undone=st.integers(min_value=1, max_value=8))
    def crash(self, n_undone: int) -> None:
        """Restart a store that loses its last changes, if they are younger than the kept window."""
        durable = [s for s in self.history if s.at_s <= self.now_s - KEPT_WINDOW_S]
        oldest = max(self.n_durable, len(durable))
        if n_undone:
            self.restart(max(oldest, len(self.history) - n_undone))

    def restart(self, n_states: int) -> None:
        """Go on from a state of the past, with none of the old connections."""
        del self.history[n_states:]
        self.late.clear()

    @precondition(lambda self: self.life.is_away and self.life.writing is None)
    @rule()
    def begin_to_write(self) -> None:
        """Take to the journal all that only memory holds."""
        life = self.life
        unsent = life.stream.take_unsent()
        if not life.stream.needs_journal:
            life.journal.clear()
        entries = life.stream.to_journal(unsent.pageviews)
        if entries:
            life.writing = unsent, entries

    @precondition(lambda self: self.life.writing is not None)
    @rule(is_written=st.sampled_from([True, True, False]))
    def end_to_write(self, is_written: bool) -> None:
        """Learn that all of it is on disk, or surely nothing."""
        life = self.life
        assert life.writing is not None
        unsent, entries = life.writing
        life.writing = None
        if is_written:
            life.journal += sums(entries)
            life.stream.journaled(unsent.pageviews)
            for records in (life.stream.kept, self.adopted(life).stream.pending):
                self.secured |= {(life.writer, record.number) for record in records}
        self.answer(unsent.waiters, ACKNOWLEDGED if is_written else REFUSED)
        for record in life.stream.pending:
            self.answer(record.waiters, ACKNOWLEDGED if is_written else UNKNOWN)

    def adopted(self, life: Life) -> Life:
        """Replay a journal as it is now, under the id of its writer."""
        stream = RecordLog.restored(KEPT_WINDOW_S, sums(life.journal), CUT)
        return Life(life.writer, stream, life.journal, is_adopted=True)

    @rule(site=st.sampled_from(SITES))
    def count_undisturbed(self, site: SiteKeys) -> None:
        """Count a hit and have its answer, as nearly always."""
        self.count(site)
        self.exchange(0, "arrives", True, 0.0, 0)

    @precondition(lambda self: not self.life.is_away)
    @rule(site=st.sampled_from(SITES), fate=st.sampled_from(["arrives", "late", "lost"]))
    def begin_an_outage(self, site: SiteKeys, fate: str) -> None:
        """Lose the answer to a hit, and take what only memory holds to the journal."""
        self.count(site)
        self.exchange(0, fate, False, 0.0, 0)
        self.begin_to_write()
        self.end_to_write(True)

    def check_records(self, life: Life) -> None:
        """Invariants 2 and 4: numbers are dense, and whoever knows a record knows the same."""
        kept, pending = life.stream.kept, life.stream.pending
        records = [*starmap(Record, unpacked(kept)), *pending]
        held = numbers(records)
        assert held == list(range(held[0], held[0] + len(held))) if held else True
        for record in records:
            content = +flat(record.pageviews)
            assert self.ledger.setdefault((life.writer, record.number), content) == content
        assert all(number <= life.stream.watermark for number in numbers(kept))
        assert all(number > life.stream.watermark for number in numbers(pending))

    @invariant()
    def every_record_is_what_it_always_was(self) -> None:
        """Check all that is in anybody's memory."""
        for life in self.lives.values():
            self.check_records(life)

    @invariant()
    def the_store_holds_the_records_up_to_its_watermarks(self) -> None:
        """Invariant 1, of every prefix of the store's history."""
        state = self.store
        assert +state.counters == +sum((self.ledger[r] for r in state.applied), Counter[str]())
        for writer, watermark in state.watermarks.items():
            assert max(number for w, number in state.applied if w == writer) == watermark

    @invariant()
    def no_hit_counts_twice(self) -> None:
        """Invariant 5, and that a refused hit never counts."""
        for hit, outcome in enumerate(self.hits):
            assert self.n_counted(hit) <= (outcome != REFUSED)

    def n_counted(self, hit: int) -> int:
        """Tell how often the store holds a hit."""
        return self.store.counters[page_of(f"/{hit}").key]

    def heal(self) -> None:
        """End all faults, and wait for as long as anybody has something to say."""
        n_rounds = 0
        while not all(self.is_calm(life) for life in self.lives.values()):
            n_rounds += 1
            assert n_rounds < 100, "it does not come to an end"
            for which in range(len(self.lives)):
                self.exchange(which, "arrives", True, 0.0, 0)
            if self.life.writing is not None:
                self.end_to_write(True)

    def is_calm(self, life: Life) -> bool:
        """Tell whether all that a writer has is confirmed, and it would notice if that changed."""
        believed = life.stream.watermark == self.watermark(life.writer, self.store)
        return believed and life.stream.is_idle and not life.is_away

    def teardown(self) -> None:
        """After every story: nothing lost, nothing doubled, and every loss told once."""
        self.heal()
        self.patches.undo()
        self.no_hit_counts_twice()
        assert WAITS not in self.hits
        self.check_losses()

    def check_losses(self) -> None:
        """Within the kept window there are none."""
        acknowledged = [n for n, outcome in enumerate(self.hits) if outcome == ACKNOWLEDGED]
        assert [hit for hit in acknowledged if not self.n_counted(hit)] == []
        assert self.n_lost == 0
        for site in SITES:
            assert len({self.store.counters[key] for key in site.counted[1:]}) == 1


class ProtocolWithDeaths(Protocol):
    """Workers that die at any moment, or end in an orderly way, and are succeeded."""

    @precondition(lambda self: self.life.stream.pending or self.life.journal)
    @rule(is_written=st.booleans())
    def die(self, is_written: bool) -> None:
        """Kill the worker and all that is in its memory; what it wrote last is there or not."""
        in_store_only = self.confirmed - self.secured
        if in_store_only <= self.store.applied:
            self.keep_for_ever(in_store_only)
            if self.life.writing is not None and is_written:
                self.life.journal += sums(self.life.writing[1])
            lives = [self.adopted(life) for life in self.lives.values() if life.journal]
            self.hits = [UNKNOWN if outcome == WAITS else outcome for outcome in self.hits]
            self.writer += 1
            lives.append(Life(self.writer, RecordLog(KEPT_WINDOW_S)))
            self.lives = {life.writer: life for life in lives}

    def keep_for_ever(self, records: set[RecordId]) -> None:
        """Exclude what no protocol survives: the store forgets, and who could tell it is dead."""
        n_without = sum(not records <= state.applied for state in self.history)
        self.n_durable = max(self.n_durable, n_without + 1)

    @precondition(lambda self: self.life.writing is None and self.life.stream.kept)
    @rule()
    def leave(self) -> None:
        """End in an orderly way: what a forgetful store could need stays in the journal."""
        self.begin_to_write()
        if self.life.writing is not None:
            self.end_to_write(True)
        self.die(False)


class ProtocolBeyondTheWindow(Protocol):
    """A store that can lose everything, at any time."""

    @initialize()
    def begin_with_something_dropped(self) -> None:
        """Reach the interesting part at once."""
        self.count(SITES[0])
        self.exchange(0, "arrives", True, 0.0, 0)
        self.wait(KEPT_WINDOW_S)
        self.exchange(0, "arrives", True, 0.0, 0)
        assert not self.life.stream.kept

    @rule(n_states=st.integers(min_value=1, max_value=4))
    def restore(self, n_states: int) -> None:
        """Restore an old backup, or an empty store."""
        self.restart(n_states)
        self.history[-1] = replace(self.store, at_s=self.now_s)

    def check_losses(self) -> None:
        """What is lost was told, once."""
        assert self.n_lost == len(self.ledger.keys() - self.store.applied)


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(max_examples=examples(150), stateful_step_count=40)
TestProtocolWithDeaths = ProtocolWithDeaths.TestCase
TestProtocolWithDeaths.settings = settings(max_examples=examples(250), stateful_step_count=50)
TestProtocolBeyondTheWindow = ProtocolBeyondTheWindow.TestCase
TestProtocolBeyondTheWindow.settings = settings(max_examples=examples(150), stateful_step_count=40)
