"""Group commit: many waiting hits, one chunk on its way to the store.

While a chunk travels, hits gather in the open record; when the answer is there, they leave
together. A hit is acknowledged when its record is at or below the store's watermark. Every error
of the store means "outcome unknown", and the protocol of `stream` decides what to send again.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from hitcounter.errors import StoreError, Unavailable
from hitcounter.keys import PageKeys, SiteKeys
from hitcounter.metrics import Metrics
from hitcounter.store import Store
from hitcounter.stream import MAX_RECORD_HITS, Record, Stream

log = logging.getLogger(__name__)

MAX_WAITING_HITS = 20_000
PROBE_EVERY_S = 0.5
RETRY_AFTER_S = 0.05
RETRY_WHILE_AWAY_S = 0.25

Values = Mapping[str, int]


class Waiter(NamedTuple):
    """A hit that waits: its site's label in metrics, its page, and who wants the values."""

    label: str
    page: PageKeys | None
    future: "asyncio.Future[Values]"


class Writer:
    """The one writer of a worker in a lane."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        *,
        lane: int,
        kept_window_s: float,
        patience_s: float,
    ) -> None:
        """Start a writer under a new id; hits wait `patience_s` for a store that is away."""
        self.id = secrets.token_hex(8)
        self._line = store.line(lane, self.id)
        self._metrics = metrics
        self._patience_s = patience_s
        self._stream = Stream(kept_window_s)
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._n_waiting = 0
        self._failing_since_s: float | None = None
        self._is_away = False
        self._ever_failed = False
        self._is_closing = False
        self.flushing = asyncio.create_task(self._flush())
        self.flushing.add_done_callback(self._ended)
        self._probing = asyncio.create_task(self._probe())

    def count(self, label: str, site: SiteKeys, page: PageKeys | None) -> "asyncio.Future[Values]":
        """Take one hit; the future gives the new values by key once the store holds it.

        A page that the store refused has the value -1. `label` names the site in metrics.
        """
        if self._is_away:
            raise _away()
        if self._n_waiting >= MAX_WAITING_HITS:
            raise Unavailable("overloaded", "too many hits are waiting; this one was not counted")
        future: asyncio.Future[Values] = self._loop.create_future()
        record = self._stream.open
        record.waiters.append(Waiter(label, page, future))
        record.pageviews.add(site, page)
        if len(record.waiters) >= MAX_RECORD_HITS:
            self._stream.close_record()
        self._n_waiting += 1
        self._wake.set()
        return future

    async def close(self, grace_s: float) -> None:
        """Commit what waits, for at most `grace_s` seconds, then stop."""
        self._is_closing = True
        self._wake.set()
        done, _ = await asyncio.wait([self.flushing], timeout=grace_s)
        for task in (self.flushing, self._probing):
            task.cancel()
        await asyncio.gather(self.flushing, self._probing, return_exceptions=True)
        if done and not self._ever_failed:
            await self._forget()
        await self._line.close()

    async def _forget(self) -> None:
        # Only where every question was answered: a packet that got lost on the way may still
        # arrive, and without the watermark it would count a second time.
        try:
            await self._line.forget()
        except StoreError as error:
            log.warning("the watermark of writer %s stays in the store: %s", self.id, error)

    async def _probe(self) -> None:
        """Ask an idle store now and then: whether it is there, and whether it forgot anything."""
        while True:
            await asyncio.sleep(PROBE_EVERY_S)
            self._wake.set()

    async def _flush(self) -> None:
        while not (self._is_closing and self._is_idle()):
            await self._wake.wait()
            self._wake.clear()
            if not await self._exchange():
                await asyncio.sleep(RETRY_WHILE_AWAY_S if self._is_away else RETRY_AFTER_S)
                self._wake.set()
            elif not self._is_idle():
                self._wake.set()

    def _ended(self, flushing: "asyncio.Task[None]") -> None:
        """Leave nobody waiting for a flush that will not come."""
        self._is_away = True
        if not flushing.cancelled() and flushing.exception() is not None:
            self._refuse_all()

    def _is_idle(self) -> bool:
        return not self._stream.pending and not self._stream.open.waiters

    async def _exchange(self) -> bool:
        """Send the next chunk, or ask for the watermark; tell whether the store answered."""
        chunk = self._stream.next_chunk()
        asked_at_s = self._loop.time()
        values: Values = {}
        try:
            if chunk is None:
                watermark = await self._line.watermark()
            else:
                self._metrics.in_flight.set(self._n_waiting)
                watermark, values = await self._line.commit(chunk)
        except StoreError as error:
            self._missed(error, asked_at_s)
            return False
        self._answered()
        confirmed, lost = self._stream.confirm(watermark, asked_at_s, self._loop.time())
        if lost:
            self._metrics.lost_records.inc(lost)
            log.error("the store forgot %d records beyond the kept window: hits are lost", lost)
        if confirmed:
            self._acknowledge(confirmed, values)
            self._metrics.commit_s.observe(self._loop.time() - asked_at_s)
        return True

    def _acknowledge(self, records: Iterable[Record], values: Values) -> None:
        n_hits: Counter[str] = Counter()
        for record in records:
            n_hits.update([waiter.label for waiter in record.waiters])
            for label, page, future in record.waiters:
                if page is not None and values[page.key] == -1:
                    self._metrics.page_refused(label)
                if not future.done():
                    future.set_result(values)
            record.waiters = []
        self._n_waiting -= n_hits.total()
        self._metrics.counted(n_hits)
        self._metrics.chunk_hits.observe(n_hits.total())
        self._metrics.in_flight.set(0)
        self._metrics.pending.set(self._n_waiting)

    def _answered(self) -> None:
        if self._failing_since_s is not None:
            log.warning("the store answers again")
            self._failing_since_s = None
        self._is_away = False
        self._metrics.store_up.set(1)

    def _missed(self, error: StoreError, asked_at_s: float) -> None:
        self._ever_failed = True
        self._metrics.store_up.set(0)
        if self._failing_since_s is None:
            self._failing_since_s = asked_at_s
            log.warning("%s", error)
        if self._loop.time() - self._failing_since_s >= self._patience_s and not self._is_away:
            self._is_away = True
            log.error("the store is away; hits are refused until it answers: %s", error)
            self._refuse_all()

    def _refuse_all(self) -> None:
        self._refuse(self._stream.discard_unsent(), _away)
        for record in self._stream.pending:
            self._refuse(record.waiters, _unknown)
            record.waiters = []
        self._metrics.in_flight.set(0)
        self._metrics.pending.set(0)

    def _refuse(self, waiters: Iterable[Waiter], refusal: Callable[[], Unavailable]) -> None:
        for waiter in waiters:
            self._n_waiting -= 1
            if not waiter.future.done():
                waiter.future.set_exception(refusal())


def _away() -> Unavailable:
    return Unavailable("store_unavailable", "the store does not answer; the hit was not counted")


def _unknown() -> Unavailable:
    return Unavailable(
        "outcome_unknown", "the store did not answer in time; the hit may still be counted, once"
    )
