"""The write protocol as a pure state machine: records, watermark, kept window, chunks.

A writer numbers its records 1, 2, 3 … and never changes one once numbered. The store keeps one
integer per writer and lane, the watermark G: "I hold this writer's records 1..G". The one rule
for every situation is: believe the watermark, resend from the record after it.

Invariants: a numbered record is `pending` (not known to be applied), `kept` (applied, but a store
that loses its last seconds may need it again) or dropped; numbers are dense, dropped before kept
before pending; a record is dropped only when a question asked at least `kept_window_s` after it
was confirmed still finds it applied.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from hitcounter.keys import SiteKeys

# The commit script unpacks its keys onto Lua's stack, which holds fewer than 8,000 values.
MAX_CHUNK_KEYS = 3_000
MAX_RECORD_KEYS = 1_000


@dataclass(slots=True)
class Increments:
    """What to add to which counter; an increment of 0 only reads.

    `counters` maps a key to its increment. `pages` maps a site to the increments of its pages:
    they stand apart because the store refuses new pages beyond the site's limit.
    """

    counters: dict[str, int] = field(default_factory=dict)
    pages: dict[str, dict[str, int]] = field(default_factory=dict)
    n_pages: int = 0

    def add_pageview(self, site: str, keys: SiteKeys, page_key: str | None) -> None:
        """Add one pageview, and read the day before it."""
        counters = self.counters
        counters.setdefault(keys.yesterday, 0)
        for key in keys.counted:
            counters[key] = counters.get(key, 0) + 1
        if page_key is not None:
            self.add_page(site, page_key, 1)

    def add(self, key: str, n: int) -> None:
        """Add `n` to a counter."""
        self.counters[key] = self.counters.get(key, 0) + n

    def add_page(self, site: str, key: str, n: int) -> None:
        """Add `n` to a page of a site."""
        pages = self.pages.setdefault(site, {})
        self.n_pages += key not in pages
        pages[key] = pages.get(key, 0) + n

    def merge(self, other: "Increments") -> None:
        """Add all that another one holds."""
        for key, n in other.counters.items():
            self.add(key, n)
        for site, pages in other.pages.items():
            for key, n in pages.items():
                self.add_page(site, key, n)

    @property
    def n_keys(self) -> int:
        """Count the keys that a commit of these touches."""
        return len(self.counters) + self.n_pages + len(self.pages)


@dataclass(slots=True)
class Record:
    """Increments, and the hits that wait for them to be applied; number 0 is not numbered yet."""

    number: int = 0
    increments: Increments = field(default_factory=Increments)
    waiters: list[Any] = field(default_factory=list)
    confirmed_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Merged records: if the watermark is `expect`, add the increments and make it `last`."""

    expect: int
    last: int
    increments: Increments


class Stream:
    """The records of one writer in one lane."""

    def __init__(self, kept_window_s: float) -> None:
        """Start with no record, and a store that holds none of ours."""
        self.open = Record()
        self.watermark = 0
        self.pending: deque[Record] = deque()
        self.kept: deque[Record] = deque()
        self._kept_window_s = kept_window_s
        self._numbered = 0
        self._sent = 0
        self._dropped = 0
        self._lost: list[range] = []

    def close_record(self) -> None:
        """Number the open record, if it holds anything, and open the next."""
        if self.open.increments.counters:
            self._numbered += 1
            self.open.number = self._numbered
            self.pending.append(self.open)
            self.open = Record()

    def next_chunk(self) -> Chunk | None:
        """Merge pending records, as many as one commit can carry; None if there are none."""
        self.close_record()
        if not self.pending:
            return None
        if len(self.pending) == 1:
            last, increments = self.pending[0].number, self.pending[0].increments
        else:
            last, increments = self._merged()
        self._sent = max(self._sent, last)
        return Chunk(self.watermark, last, increments)

    def _merged(self) -> tuple[int, Increments]:
        merged, last = Increments(), 0
        for record in self.pending:
            if last and merged.n_keys + record.increments.n_keys > MAX_CHUNK_KEYS:
                break
            merged.merge(record.increments)
            last = record.number
        return last, merged

    def confirm(
        self, watermark: int, asked_at_s: float, answered_at_s: float
    ) -> tuple[list[Record], int]:
        """Believe the store's watermark; return the records it confirms, and how many are lost.

        Both times are of one monotonic clock: when the question left and when its answer came.
        A lost record was dropped from the kept window before the store forgot it.
        """
        if watermark > self._numbered:
            raise AssertionError(f"watermark {watermark} is beyond record {self._numbered}")
        confirmed = []
        while self.pending and self.pending[0].number <= watermark:
            record = self.pending.popleft()
            record.confirmed_at_s = answered_at_s
            self.kept.append(record)
            confirmed.append(record)
        while self.kept and self.kept[-1].number > watermark:
            self.pending.appendleft(self.kept.pop())
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

    def discard_unsent(self) -> list[Any]:
        """Forget what no chunk ever carried, and return who waited: nobody saw those numbers."""
        waiters = self.open.waiters
        self.open = Record()
        while self.pending and self.pending[-1].number > self._sent:
            waiters += self.pending.pop().waiters
            self._numbered -= 1
        return waiters
