"""Group commit: many waiting hits, one chunk of each lane on its way to the store.

While chunks travel, hits gather in the open records; when the answers are there, they leave
together. A hit is acknowledged as counted when its record is at or below the store's watermark.
Every error of the store means "outcome unknown", and the lane decides what to send again; until
the store answers for it, the `Outage` brings its hits to the journal.

Invariant: only the flush asks the store, and gives numbers; it does one thing at a time.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from hitcounter.errors import JournalBrokenError, StoreError, Unavailable
from hitcounter.exactly_once.delivery import Delivered, exchange
from hitcounter.exactly_once.hit_ids import DuplicateHit, HitIds
from hitcounter.exactly_once.journals import Journals
from hitcounter.exactly_once.lanes import Lane, Lanes
from hitcounter.exactly_once.outage import RETRY_EVERY_S, Outage, outcome_unknown
from hitcounter.exactly_once.records import MAX_RECORD_HITS, Record
from hitcounter.exactly_once.waiting import Waiting
from hitcounter.metrics import Metrics
from hitcounter.store.keys import PageKeys, SiteKeys
from hitcounter.store.writer_connection import Values, WriterConnection

log = logging.getLogger(__name__)

PROBE_EVERY_S = 0.5
# In a record beside those of its hits: more do not fit into a chunk.
MAX_ROBOT_KEYS = 1_000

Connect = Callable[[str], WriterConnection]


class Writer:
    """The one writer of a worker, for all lanes of a store."""

    def __init__(
        self,
        connect: Connect,
        journals: Journals,
        metrics: Metrics,
        *,
        n_lanes: int,
        kept_window_s: float,
    ) -> None:
        """Start a writer under a new id."""
        self.id = secrets.token_hex(8)
        self.is_store_durable = False  # whether what the store confirmed is on its disk
        self.recent = HitIds()
        self.waiting = Waiting(metrics)
        self.lanes = Lanes(n_lanes, kept_window_s)
        self.outage = Outage(lambda: journals.create(self.id), self.lanes, self.waiting, metrics)
        self._metrics = metrics
        self._connection = connect(self.id)
        self._due: dict[Lane, None] = {}  # the lanes whose turn has come
        self._wake = asyncio.Event()
        self._is_closing = False
        self._journaling: asyncio.Task[None] | None = None
        self.flushing = asyncio.create_task(self._flush())
        self.flushing.add_done_callback(self._ended)
        self._probing = asyncio.create_task(self._probe())

    def count(
        self, lane: Lane, label: str, site: SiteKeys, page: PageKeys | None, id_: str | None = None
    ) -> "asyncio.Future[Values | None]":
        """Take one hit; the future gives the new values by key once the store holds it.

        It gives None if the journal holds it, and raises `DuplicateHit` if another hit with its id
        was counted. A page that the store refused has the value -1, and one that is too many in an
        outage has none. `label` names the site in metrics.
        """
        if self.flushing.done():
            raise Unavailable("store_unavailable", "this worker ends; nothing was counted")
        record = lane.records.open
        future = self.waiting.take(record, label, site, page, id_)
        if id_ is not None:
            self.recent.add(id_, future)
        if len(record.waiters) >= MAX_RECORD_HITS:
            lane.records.close_record()
        if not lane.is_answered:
            self.outage.wake()
        elif lane not in self._due:
            self._make_due(lane)
        return future

    def count_robot(self, lane: Lane, robots: SiteKeys) -> None:
        """Take one hit of a robot: it leaves with the next one of somebody, or when we probe.

        A record that is full leaves at once: else a next one of somebody would wait behind many.
        """
        pageviews = lane.records.open.pageviews
        pageviews.add(robots, None)
        if pageviews.n_keys >= MAX_ROBOT_KEYS:
            lane.records.close_record()
            if lane.is_answered:
                self._make_due(lane)

    async def close(self, grace_s: float) -> None:
        """Bring all to the store within `grace_s` seconds, and what is left to the journal."""
        self._is_closing = True
        self._make_due(*(lane for lane in self.lanes if lane.is_answered))
        done, _ = await asyncio.wait([self.flushing], timeout=grace_s)
        if not done:
            await self._connection.close()  # which ends the wait for an answer
        await asyncio.wait([self.flushing])
        self._probing.cancel()
        try:
            if not self.flushing.exception():
                await self._finish()
        except JournalBrokenError as error:
            log.error("%s", error)
            self._abandon()
        await self._connection.close()
        await self.outage.close_journal()

    async def _finish(self) -> None:
        """Leave behind exactly what a successor may need."""
        if self.is_store_durable and all(lane.records.is_idle for lane in self.lanes):
            await self.outage.remove_journal()
        else:
            await self.outage.journal_all(self.lanes)
        # Delete the watermarks only if every request was answered: a late packet would otherwise
        # count twice.
        if not self.outage.has_journal and not self.outage.ever_began:
            with suppress(StoreError):
                for lane in self.lanes:
                    await self._connection.forget(lane.number)

    async def _probe(self) -> None:
        """Ask an idle store now and then: whether it is there, and whether it forgot anything."""
        while True:
            await asyncio.sleep(PROBE_EVERY_S)
            self._make_due(*(lane for lane in self.lanes if lane.is_answered))
            self.outage.wake()

    def _make_due(self, *lanes: Lane) -> None:
        self._due.update(dict.fromkeys(lanes))
        self._wake.set()

    async def _flush(self) -> None:
        try:
            while not (self._is_closing and self._is_done):
                await self._wake.wait()
                self._wake.clear()
                lanes, self._due = list(self._due), {}
                await self._exchange(lanes)
                self._keep_journaling()
        finally:
            self.outage.stop()
            if self._journaling is not None:
                await asyncio.wait([self._journaling])
        if self._journaling is not None:
            self._journaling.result()

    @property
    def _is_done(self) -> bool:
        return all(lane.records.is_idle or lane.is_away for lane in self.lanes)

    async def _exchange(self, lanes: Sequence[Lane]) -> None:
        """Send the next chunk of each lane, or ask for its watermark; answer what is confirmed."""
        asked = [lane for lane in lanes if await self._is_ready(lane)]
        if not asked:
            return
        self._metrics.in_flight.set(self.waiting.n_hits)
        delivered = await exchange(self._connection, asked, self._metrics)
        self._expect_journal(delivered)
        for lane, outcome in zip(asked, delivered, strict=True):
            if isinstance(outcome, StoreError):
                self._missed(lane, outcome)
            else:
                self.waiting.answer_counted(*outcome)
                if lane.has_returned():
                    self.outage.end(lane)
                if lane.can_go_on:
                    self._make_due(lane)
        if not any(lane.needs_journal for lane in self.lanes):
            await self.outage.remove_journal()

    def _expect_journal(self, delivered: Sequence[Delivered | StoreError]) -> None:
        """Acknowledge nothing any more where nobody can tell what the journal holds."""
        if self._journaling is None or not self._journaling.done():
            return
        if self._journaling.exception() is not None:
            for outcome in delivered:
                for record in () if isinstance(outcome, StoreError) else outcome.records:
                    self.waiting.refuse(record, outcome_unknown())
            self._journaling.result()

    def _missed(self, lane: Lane, error: StoreError) -> None:
        """Ask again in a while: the store may have applied what it did not answer."""
        self.outage.begin(error)
        asyncio.get_running_loop().call_later(RETRY_EVERY_S, self._make_due, lane)

    async def _is_ready(self, lane: Lane) -> bool:
        """Number what can leave; return whether its ids are claimed, if it has any."""
        try:
            for record in lane.number_next():
                await self._claim_ids(lane, record)
        except StoreError as error:
            lane.on_error()
            self._missed(lane, error)
            return False
        return True

    async def _claim_ids(self, lane: Lane, record: Record) -> None:
        """Take out the hits that other workers were given before, under the same ids."""
        waiters = [waiter for waiter in record.waiters if waiter.id is not None]
        if not waiters:
            return
        ids = [waiter.id for waiter in waiters]
        claims = await self._connection.claim(lane.number, record.number, ids, time.time())
        for waiter, is_ours in zip(waiters, claims, strict=True):
            if not is_ours:
                refusal = _unsettled() if is_ours is None else DuplicateHit()
                self.waiting.take_back(record, waiter, refusal)

    def _keep_journaling(self) -> None:
        """Let the journal take hits as long as the store does not answer for some lane."""
        if self._journaling is not None and self._journaling.done():
            self._journaling.result()
            self._journaling = None
        if self._journaling is None and not all(lane.is_answered for lane in self.lanes):
            self._journaling = asyncio.create_task(self.outage.run(self._make_due))
            self._journaling.add_done_callback(lambda _: self._wake.set())

    def _ended(self, flushing: "asyncio.Task[None]") -> None:
        """Leave nobody waiting for a flush that will not come."""
        if flushing.cancelled() or flushing.exception() is not None:
            self._abandon()

    def _abandon(self) -> None:
        for lane in self.lanes:
            for record in lane.abandon():
                self.waiting.refuse(record, outcome_unknown())


def _unsettled() -> Unavailable:
    return Unavailable("unsettled", "another worker has this hit; ask again, with the same id")
