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

from hitcounter.keys import PageKeys, SiteKeys

# The commit script unpacks its keys onto Lua's stack, which holds fewer than 8,000 values.
MAX_CHUNK_KEYS = 3_000
MAX_RECORD_HITS = 256  # of at most 7 keys each: one record always fits into a chunk


@dataclass(slots=True)
class Pageviews:
    """How many pageviews of which sites and pages: what a record adds to the counters.

    A site's day, month, year and total grow by one number, so they cannot drift apart, and a
    record that is kept takes little memory.
    """

    sites: dict[SiteKeys, int] = field(default_factory=dict)
    pages: dict[PageKeys, int] = field(default_factory=dict)

    def add(self, site: SiteKeys, page: PageKeys | None) -> None:
        """Add one pageview."""
        self.sites[site] = self.sites.get(site, 0) + 1
        if page is not None:
            self.pages[page] = self.pages.get(page, 0) + 1

    def merge(self, other: "Pageviews") -> None:
        """Add all that another one holds."""
        for site, n in other.sites.items():
            self.sites[site] = self.sites.get(site, 0) + n
        for page, n in other.pages.items():
            self.pages[page] = self.pages.get(page, 0) + n

    @property
    def n_keys(self) -> int:
        """Count the keys that a commit of these touches at most."""
        return 5 * len(self.sites) + 2 * len(self.pages)

    def counters(self) -> dict[str, int]:
        """Tell what to add to which counter of a site; 0 only reads."""
        counters: dict[str, int] = {}
        for site, n in self.sites.items():
            counters.setdefault(site.yesterday, 0)
            for key in site.counted:
                counters[key] = counters.get(key, 0) + n
        return counters

    def page_counters(self) -> dict[tuple[str, int], dict[str, int]]:
        """Tell what to add to which page, by the site's number of stored pages and its limit."""
        by_site: dict[tuple[str, int], dict[str, int]] = {}
        for page, n in self.pages.items():
            counters = by_site.setdefault((page.count_key, page.limit), {})
            counters[page.key] = counters.get(page.key, 0) + n
        return by_site


@dataclass(slots=True)
class Record:
    """Pageviews, and the hits that wait for them to be applied; number 0 is not numbered yet."""

    number: int = 0
    pageviews: Pageviews = field(default_factory=Pageviews)
    waiters: list[Any] = field(default_factory=list)
    confirmed_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Merged records: if the watermark is `expect`, add the pageviews and make it `last`."""

    expect: int
    last: int
    pageviews: Pageviews


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
        if self.open.pageviews.sites:
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
            last, pageviews = self.pending[0].number, self.pending[0].pageviews
        else:
            last, pageviews = self._merged()
        self._sent = max(self._sent, last)
        return Chunk(self.watermark, last, pageviews)

    def _merged(self) -> tuple[int, Pageviews]:
        merged, last = Pageviews(), 0
        for record in self.pending:
            if last and merged.n_keys + record.pageviews.n_keys > MAX_CHUNK_KEYS:
                break
            merged.merge(record.pageviews)
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
