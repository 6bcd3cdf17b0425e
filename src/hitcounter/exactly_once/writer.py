"""Group commit: many waiting hits, one chunk on its way to the store.

While a chunk travels, hits gather in the open record; when the answer is there, they leave
together. A hit is acknowledged as counted when its record is at or below the store's watermark.
Every error of the store means "outcome unknown", and the protocol of `records` decides what to
send again; until the store answers, an `Outage` takes over.

Invariants: only the flush changes what is numbered, and it does one thing at a time.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

from hitcounter.errors import JournalBrokenError, StoreError, Unavailable
from hitcounter.exactly_once.delivery import Delivery, Values
from hitcounter.exactly_once.hit_ids import DuplicateHit, HitIds
from hitcounter.exactly_once.journals import Journals
from hitcounter.exactly_once.outage import RETRY_EVERY_S, Outage, outcome_unknown
from hitcounter.exactly_once.records import MAX_RECORD_HITS, Record, RecordLog
from hitcounter.exactly_once.waiting import Waiting
from hitcounter.metrics import Metrics
from hitcounter.store.keys import PageKeys, SiteKeys
from hitcounter.store.writer_connection import WriterConnection

log = logging.getLogger(__name__)

PROBE_EVERY_S = 0.5

Connect = Callable[[int, str], WriterConnection]


class Writer:
    """The one writer of a worker in a lane."""

    def __init__(
        self,
        connect: Connect,
        journals: Journals,
        metrics: Metrics,
        *,
        lane: int,
        kept_window_s: float,
    ) -> None:
        """Start a writer under a new id."""
        self.id = secrets.token_hex(8)
        self.is_store_durable = False  # whether what the store confirmed is on its disk
        self.recent = HitIds()
        self.waiting = Waiting(metrics)
        self._metrics = metrics
        self._records = RecordLog(kept_window_s, lane)
        self._delivery = Delivery(self._records, connect(lane, self.id), metrics)
        self.outage = Outage(lambda: journals.create(self.id), self._records, self.waiting, metrics)
        self._wake = asyncio.Event()
        self._is_closing = False
        self.flushing = asyncio.create_task(self._flush())
        self.flushing.add_done_callback(self._ended)
        self._probing = asyncio.create_task(self._probe())

    @property
    def is_away(self) -> bool:
        """Return whether hits wait here that the store does not hold, as it was away."""
        return self.outage.is_on

    def count(
        self, label: str, site: SiteKeys, page: PageKeys | None, id_: str | None = None
    ) -> "asyncio.Future[Values | None]":
        """Take one hit; the future gives the new values by key once the store holds it.

        It gives None if the journal holds it, and raises `DuplicateHit` if another hit with its id
        was counted. A page that the store refused has the value -1, and one that is too many in an
        outage has none. `label` names the site in metrics.
        """
        if self.flushing.done():
            raise Unavailable("store_unavailable", "this worker ends; nothing was counted")
        record = self._records.open
        future = self.waiting.take(record, label, site, page, id_)
        if id_ is not None:
            record.has_ids = True
            self.recent.add(id_, future)
        if len(record.waiters) >= MAX_RECORD_HITS:
            self._records.close_record()
        self._wake.set()
        return future

    async def close(self, grace_s: float) -> None:
        """Bring all to the store within `grace_s` seconds, and what is left to the journal."""
        self._is_closing = True
        self._wake.set()
        done, _ = await asyncio.wait([self.flushing], timeout=grace_s)
        if not done:
            await self._delivery.connection.close()  # which ends the wait for an answer
        await asyncio.wait([self.flushing])
        self._probing.cancel()
        try:
            if not self.flushing.exception():
                await self._finish()
        except JournalBrokenError as error:
            log.error("%s", error)
        await self._delivery.connection.close()
        await self.outage.close_journal()

    async def _finish(self) -> None:
        """Leave behind exactly what a successor may need."""
        if self._records.is_idle and self.is_store_durable:
            await self.outage.remove_journal()
        else:
            await self.outage.journal_all()
        # Delete the watermark only if every request was answered: a late packet would otherwise
        # count twice.
        if not self.outage.has_journal and not self.outage.ever_began:
            with suppress(StoreError):
                await self._delivery.connection.forget()

    async def _probe(self) -> None:
        """Ask an idle store now and then: whether it is there, and whether it forgot anything."""
        while True:
            await asyncio.sleep(PROBE_EVERY_S)
            self._wake.set()

    async def _flush(self) -> None:
        while not (self._is_closing and (self._records.is_idle or self.is_away)):
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._commit()
            except StoreError as error:
                self.outage.begin(error)
                await self.outage.run(self._ask_again, self._wake, lambda: self._is_closing)

    async def _commit(self) -> None:
        """Send the next chunk, or ask for the watermark."""
        for record in self._records.number_next():
            if record.has_ids:
                await self._claim_ids(record)
        chunk = self._records.next_chunk()
        if chunk is not None:
            self._metrics.in_flight.set(self.waiting.n_hits)
        self.waiting.answer_counted(*await self._delivery.exchange(chunk))
        if self.is_away and self._records.has_caught_up:
            self.outage.end()
        if not self._records.is_idle:
            self._wake.set()
        if not self._records.needs_journal:
            await self.outage.remove_journal()

    async def _claim_ids(self, record: Record) -> None:
        """Take out the hits that other workers were given before, under the same ids."""
        waiters = [waiter for waiter in record.waiters if waiter.id is not None]
        ids = [waiter.id for waiter in waiters if waiter.id is not None]
        claims = await self._delivery.connection.claim(record.number, ids, time.time())
        for waiter, is_ours in zip(waiters, claims, strict=True):
            if not is_ours:
                refusal = _unsettled() if is_ours is None else DuplicateHit()
                self.waiting.take_back(record, waiter, refusal)

    async def _ask_again(self) -> None:
        """Wait until the store answers; it may have applied what it did not answer."""
        while True:
            await asyncio.sleep(RETRY_EVERY_S)
            with suppress(StoreError):
                answer = await self._delivery.exchange(self._records.next_chunk())
                self.waiting.answer_counted(*answer)
                return

    def _ended(self, flushing: "asyncio.Task[None]") -> None:
        """Leave nobody waiting for a flush that will not come."""
        if flushing.cancelled() or flushing.exception() is not None:
            self.waiting.refuse(self._records.take_unsent(), outcome_unknown())
            self.outage.refuse_pending()


def _unsettled() -> Unavailable:
    return Unavailable("unsettled", "another worker has this hit; ask again, with the same id")
