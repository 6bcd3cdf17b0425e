"""The write protocol as a pure state machine: records, watermark, kept window, chunks, journal.

A writer numbers its records 1, 2, 3 … when it first sends them, and never changes one after that.
The store keeps one integer per writer and lane, the watermark G: "I hold this writer's records
1..G". The one rule for every situation is: believe the watermark, resend from the record after it.

Hits that are acknowledged from the journal are `held`: summed up without a number until the store
is back, so an outage costs memory by sites and pages, not by hits. `cut` then makes records of the
sum. It depends on nothing but the sum, so whoever reads the journal later makes the same records.

Invariants: a numbered record is `pending` (not known to be applied), `kept` (applied, but a store
that loses its last seconds may need it again) or dropped; numbers are dense, dropped before kept
before pending; a record is dropped only when a question asked at least `kept_window_s` after it
was confirmed still finds it applied.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import starmap
from typing import Any, NamedTuple, Self

from hitcounter.exactly_once import increments
from hitcounter.exactly_once.increments import CutRule, Pageviews, cut
from hitcounter.exactly_once.kept import Kept, unpacked

# The commit script unpacks its keys onto Lua's stack, which holds fewer than 8,000 values.
MAX_CHUNK_KEYS = 3_000
MAX_RECORD_HITS = 256  # of at most 7 keys each: one record always fits into a chunk


@dataclass(slots=True)
class Record:
    """Pageviews, and the hits that wait for them to be applied; number 0 is not numbered yet."""

    number: int = 0
    pageviews: Pageviews = field(default_factory=Pageviews)
    waiters: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Merged records: if the watermark is `expect`, add the pageviews and make it `last`."""

    expect: int
    last: int
    pageviews: Pageviews


class Entry(NamedTuple):
    """What the journal holds: a part of the sum that is cut into records `number`, `number` + 1, …

    A record that had a number already is the whole sum, and the only record cut from it.
    """

    number: int
    pageviews: Pageviews
    lane: int = 0


class RecordLog:
    """The records of one writer in one lane."""

    def __init__(self, kept_window_s: float) -> None:
        """Start with no record, and a store that holds none of ours."""
        self.open = Record()
        self.watermark = 0
        self.pending: deque[Record] = deque()
        self.kept: deque[Kept] = deque()
        self._kept_window_s = kept_window_s
        self._closed: deque[Record] = deque()
        self._held = Pageviews()
        self._numbered = 0
        self._journaled = 0
        self._dropped = 0
        self._lost: list[range] = []
        self._is_restored = False

    @classmethod
    def restored(cls, kept_window_s: float, entries: Iterable[Entry], rule: CutRule) -> Self:
        """Take up the records of a writer that is gone: its journal's sums of a lane, by number."""
        stream = cls(kept_window_s)
        stream._is_restored = True
        for number, total, _ in entries:
            if number != stream._numbered + 1:
                # What the journal does not hold was applied, and left the kept window, and so did
                # all before it: the file went on, as other lanes needed it.
                stream.pending.clear()
                stream.watermark = stream._numbered = stream._dropped = number - 1
            stream._number_cut(total, rule)
        stream._journaled = stream._numbered
        return stream

    @property
    def is_idle(self) -> bool:
        """Return whether nothing waits to be sent."""
        return self.has_caught_up and not self.has_unsent

    @property
    def has_caught_up(self) -> bool:
        """Return whether all that was sent or held is confirmed."""
        return not (self.pending or self._held.sites)

    @property
    def has_unsent(self) -> bool:
        """Return whether there are hits that no chunk ever carried, and no journal."""
        return bool(self._closed or self.open.pageviews.sites)

    @property
    def is_pressing(self) -> bool:
        """Return whether the store is to be asked at once; what nobody waits for has time."""
        return not self.has_caught_up or bool(self._closed or self.open.waiters)

    @property
    def needs_journal(self) -> bool:
        """Return whether the journal holds what a store that forgets could need again."""
        return bool(self._held.sites) or self._dropped < self._journaled

    def close_record(self) -> None:
        """Let the open record be, if it holds anything, and open the next."""
        if self.open.pageviews.sites:
            self._closed.append(self.open)
            self.open = Record()

    def number_next(self) -> list[Record]:
        """Number what is held, and as many further records as one commit can carry; return those.

        They do not change any more, except for what is taken back before they are sent or written.
        """
        self._number_held()
        self.close_record()
        numbered = []
        n_keys = sum(record.pageviews.n_keys for record in self.pending)
        while self._closed:
            n_keys += self._closed[0].pageviews.n_keys
            if self.pending and n_keys > MAX_CHUNK_KEYS:
                break
            numbered.append(self._closed.popleft())
            self._number(numbered[-1])
        return numbered

    def next_chunk(self) -> Chunk | None:
        """Merge records that have a number, as many as one commit can carry; None without any."""
        if not self.pending:
            return None
        if len(self.pending) == 1:
            return Chunk(self.watermark, self.pending[0].number, self.pending[0].pageviews)
        merged, last = Pageviews(), 0
        for record in self.pending:
            if last and merged.n_keys + record.pageviews.n_keys > MAX_CHUNK_KEYS:
                break
            merged.merge(record.pageviews)
            last = record.number
        return Chunk(self.watermark, last, merged)

    def _number(self, record: Record) -> None:
        self._numbered += 1
        record.number = self._numbered
        self.pending.append(record)

    def _number_held(self) -> None:
        if self._held.sites:
            self._number_cut(self._held, increments.CUT)
            self._held = Pageviews()
            self._journaled = self._numbered  # whoever reads the journal cuts the same

    def _number_cut(self, total: Pageviews, rule: CutRule) -> None:
        for part in cut(total, rule):
            self._number(Record(pageviews=part))

    def take_unsent(self) -> Record:
        """Take out what no chunk ever carried, as one record without a number."""
        unsent, self.open = self.open, Record()
        for record in self._closed:
            unsent.pageviews.merge(record.pageviews)
            unsent.waiters += record.waiters
        self._closed.clear()
        return unsent

    def to_journal(self, unsent: Pageviews) -> list[Entry]:
        """List all that the journal lacks: records with a number, then what was taken out."""
        kept = (record for record in self.kept if record.number > self._journaled)
        entries = list(starmap(Entry, unpacked(kept)))
        entries += [
            Entry(record.number, record.pageviews)
            for record in self.pending
            if record.number > self._journaled
        ]
        if unsent.sites:
            entries.append(Entry(self._numbered + 1, unsent))
        return entries

    def journaled(self, unsent: Pageviews) -> None:
        """Note that the journal holds all that it lacked; what was taken out is held from now."""
        self._held.merge(unsent)
        self._journaled = self._numbered

    def confirm(
        self, watermark: int, asked_at_s: float, answered_at_s: float
    ) -> tuple[list[Record], int]:
        """Believe the store's watermark; return the records it confirms, and how many are lost.

        Both times are of one monotonic clock: when the question left and when its answer came.
        A lost record was dropped from the kept window before the store forgot it.
        """
        if watermark > self._numbered and not self._is_restored:  # it lived on after its journal
            raise AssertionError(f"watermark {watermark} is beyond record {self._numbered}")
        confirmed = []
        while self.pending and self.pending[0].number <= watermark:
            record = self.pending.popleft()
            self.kept.append(Kept.of(record.number, answered_at_s, record.pageviews))
            confirmed.append(record)
        forgotten = []
        while self.kept and self.kept[-1].number > watermark:
            forgotten.append(self.kept.pop())
        self.pending.extendleft(starmap(Record, unpacked(forgotten)))
        while self.kept and self.kept[0].confirmed_at_s + self._kept_window_s <= asked_at_s:
            self._dropped = self.kept.popleft().number
        self.watermark = watermark
        return confirmed, self._newly_lost() if watermark < self._dropped else 0

    def _newly_lost(self) -> int:
        """Count the dropped records beyond the watermark, but not those that were lost before."""
        lost = range(self.watermark + 1, self._dropped + 1)
        known = sum(len(range(max(gap.start, lost.start), gap.stop)) for gap in self._lost)
        below = [range(gap.start, min(gap.stop, lost.start)) for gap in self._lost]
        self._lost = [*filter(len, below), lost]
        return len(lost) - known
