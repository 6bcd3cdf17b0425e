"""Group commit: many waiting hits, one chunk on its way to the store.

While a chunk travels, hits gather in the open record; when the answer is there, they leave
together. A hit is acknowledged as counted when its record is at or below the store's watermark.
Every error of the store means "outcome unknown", and the protocol of `stream` decides what to send
again. On the first error all that only memory holds goes to the journal, and hits are acknowledged
as stored once they are there too, until the store answers again.

Invariants: only the flush changes what is numbered, and it does one thing at a time; nothing is
acknowledged that is neither in the store nor in the journal; nothing is refused as not counted
that a chunk has carried.
"""

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from sys import getsizeof

import msgspec

from hitcounter.errors import (
    JournalBrokenError,
    JournalError,
    StoreError,
    StoreFullError,
    Unavailable,
)
from hitcounter.exactly_once.delivery import Delivery, Values
from hitcounter.exactly_once.hit_ids import DuplicateHit, HitIds
from hitcounter.exactly_once.journal import Journal, Journals
from hitcounter.exactly_once.records import MAX_RECORD_HITS, Record, RecordLog
from hitcounter.metrics import COUNTED, STORED, Metrics
from hitcounter.store.keys import PageKeys, SiteKeys
from hitcounter.store.writer_connection import WriterConnection

log = logging.getLogger(__name__)

MAX_WAITING_HITS = 20_000
# What an outage may cost in memory; beyond it further pages count for their sites only.
MAX_STORED_KEYS = 200_000
MAX_STORED_BYTES = 24 << 20
_STORED_KEY_BYTES = 350  # of one key, besides its text: where it is summed up, and in what is held
PROBE_EVERY_S = 0.5
RETRY_EVERY_S = 0.1
# A sync of the disk for every hit would fill it, and take long to replay.
GATHER_S = 0.02

Connect = Callable[[int, str], WriterConnection]


class Waiter(msgspec.Struct, frozen=True):
    """A hit that waits: its site's label in metrics, what it counts for, who wants the values."""

    label: str
    site: SiteKeys
    page: PageKeys | None
    id: str | None
    future: "asyncio.Future[Values | None]"


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
        self.is_away = False  # until all that waits here is in the store again
        self.has_returned = asyncio.Event()
        self.is_store_durable = False  # whether what the store confirmed is on its disk
        self.stored: Counter[str] = Counter()  # by counter: what the store does not hold yet
        self.recent = HitIds()
        self._stored_bytes = 0
        self._lane = lane
        self._journals = journals
        self._journal: Journal | None = None
        self._metrics = metrics
        self._records = RecordLog(kept_window_s)
        self._delivery = Delivery(self._records, connect(lane, self.id), metrics)
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._n_waiting = 0
        self._ever_failed = False
        self._is_closing = False
        self.journal_error: JournalError | None = None  # while it takes nothing
        self.flushing = asyncio.create_task(self._flush())
        self.flushing.add_done_callback(self._ended)
        self._probing = asyncio.create_task(self._probe())

    def count(
        self, label: str, site: SiteKeys, page: PageKeys | None, id_: str | None = None
    ) -> "asyncio.Future[Values | None]":
        """Take one hit; the future gives the new values by key once the store holds it.

        It gives None if the journal holds it, and raises `SameHit` if another hit with its id was
        counted. A page that the store refused has the value -1, and one that is too many in an
        outage has none. `label` names the site in metrics.
        """
        if self._n_waiting >= MAX_WAITING_HITS:
            raise Unavailable("overloaded", "too many hits are waiting; this one was not counted")
        if self.flushing.done():
            raise Unavailable("store_unavailable", "this worker ends; nothing was counted")
        if page is not None and self._is_crowded and page.key not in self.stored:
            page = None
            self._metrics.page_refused(label)
        future: asyncio.Future[Values | None] = self._loop.create_future()
        record = self._records.open
        if id_ is not None:
            record.has_ids = True
            self.recent.add(id_, future)
        record.waiters.append(Waiter(label, site, page, id_, future))
        record.pageviews.add(site, page)
        if len(record.waiters) >= MAX_RECORD_HITS:
            self._records.close_record()
        self._n_waiting += 1
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
                await self._leave()
        except JournalBrokenError as error:
            log.error("%s", error)
        await self._delivery.connection.close()
        if self._journal is not None:
            await self._journal.close()

    async def _leave(self) -> None:
        """Leave nothing behind that a successor does not need, and all that he may need."""
        if self._records.is_idle and self.is_store_durable:
            await self._remove_journal()
        else:
            await self._hold()
        # The watermark goes only where every question was answered: a packet that got lost on the
        # way may still arrive, and without the watermark it would count a second time.
        if self._journal is None and not self._ever_failed:
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
                self._left(error)
                await self._bridge()

    async def _commit(self) -> None:
        """Send the next chunk, or ask for the watermark."""
        for record in self._records.number_next():
            if record.has_ids:
                await self._claim_ids(record)
        chunk = self._records.next_chunk()
        if chunk is not None:
            self._metrics.in_flight.set(self._n_waiting)
        confirmed, values = await self._delivery.exchange(chunk)
        self._acknowledge(confirmed, values)
        if self.is_away and self._records.has_caught_up:
            self._returned()
        if not self._records.is_idle:
            self._wake.set()
        if not self._records.needs_journal:
            await self._remove_journal()

    async def _claim_ids(self, record: Record) -> None:
        """Take out the hits that other workers were given before, under the same ids."""
        waiters = [waiter for waiter in record.waiters if waiter.id is not None]
        ids = [waiter.id for waiter in waiters if waiter.id is not None]
        claims = await self._delivery.connection.claim(record.number, ids, time.time())
        for waiter, is_ours in zip(waiters, claims, strict=True):
            if not is_ours:
                record.waiters.remove(waiter)
                record.pageviews.remove(waiter.site, waiter.page)
                self._n_waiting -= 1
                if not waiter.future.done():
                    waiter.future.set_exception(_unsettled() if is_ours is None else DuplicateHit())

    async def _bridge(self) -> None:
        """Bring hits to the journal until the store answers."""
        asking = asyncio.create_task(self._ask_again())
        asking.add_done_callback(lambda _: self._wake.set())
        try:
            while not asking.done():
                self._wake.clear()
                is_held = await self._hold()
                if self._is_closing and not self._records.has_unsent:
                    break
                await asyncio.sleep(GATHER_S if is_held else RETRY_EVERY_S)
                await self._wake.wait()
        finally:
            asking.cancel()
            await asyncio.wait([asking])
            self._wake.set()
        if not asking.cancelled():
            asking.result()

    async def _ask_again(self) -> None:
        """Wait until the store answers; it may have applied what it did not answer."""
        while True:
            await asyncio.sleep(RETRY_EVERY_S)
            with suppress(StoreError):
                confirmed, values = await self._delivery.exchange(self._records.next_chunk())
                self._acknowledge(confirmed, values)
                return

    async def _hold(self) -> bool:
        """Bring all that only memory holds to the journal, and answer who waits; tell if it did."""
        unsent = self._records.take_unsent()
        if not self._records.needs_journal:
            await self._remove_journal()  # what comes next does not join what is in there
        entries = self._records.to_journal(unsent.pageviews)
        if not entries:
            return True
        try:
            if self._journal is None:
                self._journal = await self._journals.create(self._lane, self.id)
            self._metrics.journal_bytes.set(await self._journal.append(entries))
        except JournalError as error:
            if self.journal_error is None:
                log.error("hits are refused: %s", error)
            self.journal_error = error
            self._refuse(unsent, Unavailable(error.code, f"{error}; the hit was not counted"))
            self._refuse_pending()
            return False
        except JournalBrokenError:
            self._refuse(unsent, _unknown())
            raise
        self.journal_error = None
        self._records.journaled(unsent.pageviews)
        for record in (*self._records.pending, unsent):
            self._store(record)
        return True

    async def _remove_journal(self) -> None:
        if self._journal is not None:
            journal, self._journal = self._journal, None
            self._metrics.journal_bytes.set(0)
            await journal.remove()

    @property
    def _is_crowded(self) -> bool:
        return len(self.stored) >= MAX_STORED_KEYS or self._stored_bytes >= MAX_STORED_BYTES

    def _left(self, error: StoreError) -> None:
        self._ever_failed = True
        self._metrics.store_full.set(isinstance(error, StoreFullError))
        if not self.is_away:
            self.is_away = True
            self._metrics.store_up.set(0)
            log.error("the store is away, hits go to the journal: %s", error)

    def _returned(self) -> None:
        log.warning("the store answers again, and holds what the journal held")
        self.is_away = False
        self.journal_error = None
        self.stored.clear()
        self._stored_bytes = 0
        self._metrics.store_up.set(1)
        self._metrics.store_full.set(0)
        self._metrics.hits_stored.set(0)
        self.has_returned.set()

    def _acknowledge(self, records: Iterable[Record], values: Values) -> None:
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

    def _store(self, record: Record) -> None:
        """Acknowledge hits that the journal holds."""
        if record.waiters:
            gains = record.pageviews.by_key()
            new = gains.keys() - self.stored.keys()
            self._stored_bytes += sum(_STORED_KEY_BYTES + getsizeof(key) for key in new)
            self.stored.update(gains)
            self._metrics.hits_stored.inc(len(record.waiters))
            self._answered(Counter(waiter.label for waiter in record.waiters), STORED)
        for waiter in record.waiters:
            if not waiter.future.done():
                waiter.future.set_result(None)
        record.waiters = []

    def _answered(self, n_hits: Counter[str], result: str) -> None:
        self._n_waiting -= n_hits.total()
        self._metrics.acknowledged(n_hits, result)
        self._metrics.in_flight.set(0)
        self._metrics.pending.set(self._n_waiting)

    def _ended(self, flushing: "asyncio.Task[None]") -> None:
        """Leave nobody waiting for a flush that will not come."""
        if flushing.cancelled() or flushing.exception() is not None:
            self._refuse(self._records.take_unsent(), _unknown())
            self._refuse_pending()

    def _refuse_pending(self) -> None:
        for record in self._records.pending:
            self._refuse(record, _unknown())

    def _refuse(self, record: Record, refusal: Unavailable) -> None:
        self._n_waiting -= len(record.waiters)
        for waiter in record.waiters:
            if not waiter.future.done():
                waiter.future.set_exception(refusal)
        record.waiters = []
        self._metrics.in_flight.set(0)
        self._metrics.pending.set(self._n_waiting)


def _unsettled() -> Unavailable:
    return Unavailable("unsettled", "another worker has this hit; ask again, with the same id")


def _unknown() -> Unavailable:
    return Unavailable(
        "outcome_unknown", "the store did not answer in time; the hit may still be counted, once"
    )
