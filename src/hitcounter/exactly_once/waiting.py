"""The hits that wait for an answer, and what waits in the journal on top of the store's numbers.

A hit is answered once: with the numbers, when its record is at or below the watermark; with none,
when the journal holds it; or by a refusal.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from sys import getsizeof

import msgspec

from hitcounter.errors import Unavailable
from hitcounter.exactly_once.records import Record
from hitcounter.metrics import Metrics
from hitcounter.outcomes import COUNTED, STORED
from hitcounter.store import keys
from hitcounter.store.keys import PageKeys, SiteKeys
from hitcounter.store.writer_connection import Values

MAX_WAITING_HITS = 20_000
# What an outage may cost in memory; beyond it further pages count for their sites only.
MAX_STORED_BYTES = 24 << 20
_STORED_KEY_BYTES = 350  # of one key, besides its text: where it is summed up, and in what is held


class Waiter(msgspec.Struct, frozen=True):
    """A hit that waits: its site's label in metrics, what it counts for, who wants the values."""

    label: str
    site: SiteKeys
    page: PageKeys | None
    id: str | None
    future: "asyncio.Future[Values | None]"


class Waiting:
    """All hits of one writer that are not answered yet."""

    def __init__(self, metrics: Metrics) -> None:
        self.n_hits = 0
        self.in_journal: Counter[str] = Counter()  # by counter: what the store does not hold yet
        self._journal_bytes = 0
        self._n_stored: Counter[int] = Counter()  # hits that wait in the journal, by lane
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()

    def take(
        self, record: Record, label: str, site: SiteKeys, page: PageKeys | None, id_: str | None
    ) -> "asyncio.Future[Values | None]":
        """Add a hit to a record; raise `Unavailable` where too many wait."""
        if self.n_hits >= MAX_WAITING_HITS:
            raise Unavailable("overloaded", "too many hits are waiting; this one was not counted")
        is_crowded = self._journal_bytes >= MAX_STORED_BYTES
        if page is not None and is_crowded and page.key not in self.in_journal:
            page = None
            self._metrics.page_refused(label)
        future: asyncio.Future[Values | None] = self._loop.create_future()
        record.waiters.append(Waiter(label, site, page, id_, future))
        record.pageviews.add(site, page)
        self.n_hits += 1
        return future

    def answer_counted(self, records: Iterable[Record], values: Values) -> None:
        """Answer the hits of records that the store holds, with the values of now."""
        n_hits: Counter[str] = Counter()
        for record in records:
            n_hits.update([waiter.label for waiter in record.waiters])
            for waiter in record.waiters:
                if waiter.page is not None and values.get(waiter.page.key) == -1:
                    self._metrics.page_refused(waiter.label)
                if not waiter.future.done():
                    waiter.future.set_result(values)
            record.waiters = []
        if n_hits:
            self._answered(n_hits, COUNTED)
            self._metrics.chunk_hits.observe(n_hits.total())

    def answer_journaled(self, lane: int, record: Record) -> None:
        """Acknowledge the hits of a record of a lane that the journal holds."""
        if record.waiters:
            gains = record.pageviews.by_key()
            new = gains.keys() - self.in_journal.keys()
            self._journal_bytes += sum(map(_size_bytes, new))
            self.in_journal.update(gains)
            self._n_stored[lane] += len(record.waiters)
            self._metrics.hits_stored.set(self._n_stored.total())
            self._answered(Counter(waiter.label for waiter in record.waiters), STORED)
        for waiter in record.waiters:
            if not waiter.future.done():
                waiter.future.set_result(None)
        record.waiters = []

    def take_back(self, record: Record, waiter: Waiter, refusal: Exception) -> None:
        """Refuse one hit of a record that was neither sent nor written."""
        record.waiters.remove(waiter)
        record.pageviews.remove(waiter.site, waiter.page)
        self.n_hits -= 1
        if not waiter.future.done():
            waiter.future.set_exception(refusal)

    def refuse(self, record: Record, refusal: Unavailable) -> None:
        """Refuse all hits of a record."""
        self.n_hits -= len(record.waiters)
        for waiter in record.waiters:
            if not waiter.future.done():
                waiter.future.set_exception(refusal)
        record.waiters = []
        self._metrics.in_flight.set(0)
        self._metrics.pending.set(self.n_hits)

    def journal_is_in_store(self, lane: int) -> None:
        """Forget what waited in the journal for a lane: the store's numbers contain it."""
        del self._n_stored[lane]
        for key in [key for key in self.in_journal if keys.is_in_lane(key, lane)]:
            self._journal_bytes -= _size_bytes(key)
            del self.in_journal[key]
        self._metrics.hits_stored.set(self._n_stored.total())

    def _answered(self, n_hits: Counter[str], result: str) -> None:
        self.n_hits -= n_hits.total()
        self._metrics.acknowledged(n_hits, result)
        self._metrics.in_flight.set(0)
        self._metrics.pending.set(self.n_hits)


def _size_bytes(key: str) -> int:
    return _STORED_KEY_BYTES + getsizeof(key)
