"""What a writer does while the store is away: the journal holds what only memory held.

On the first error, not when a deadline passes, all that is kept or pending goes to the journal,
then the hits that come; each is answered once it is there. When the store answers again, what was
held is cut into records and sent, and the journal goes once the store can no longer forget them.

Invariant: nothing is acknowledged that is neither in the store nor in the journal, and nothing is
refused as not counted that a chunk has carried.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from hitcounter.errors import JournalError, StoreError, StoreFullError, Unavailable
from hitcounter.exactly_once.journal import Journal
from hitcounter.exactly_once.lanes import Lane, Lanes
from hitcounter.exactly_once.records import Entry
from hitcounter.exactly_once.waiting import Waiting
from hitcounter.metrics import Metrics

log = logging.getLogger(__name__)

RETRY_EVERY_S = 0.1
# A sync of the disk for every hit would fill it, and take long to replay.
GATHER_S = 0.02


class Outage:
    """The time without the store in some lanes, and the journal of one writer in it."""

    def __init__(
        self,
        create_journal: Callable[[], Awaitable[Journal]],
        lanes: Lanes,
        waiting: Waiting,
        metrics: Metrics,
    ) -> None:
        self.has_ended = asyncio.Event()
        self.ever_began = False
        self.journal_error: JournalError | None = None  # while the journal takes nothing
        self._lanes = lanes
        self._waiting = waiting
        self._create_journal = create_journal
        self._journal: Journal | None = None
        self._metrics = metrics
        self._wake = asyncio.Event()
        self._is_on = False
        self._is_closing = False

    @property
    def has_journal(self) -> bool:
        """Return whether there is a journal that may be needed."""
        return self._journal is not None

    def begin(self, error: StoreError) -> None:
        """Note that the store gave no answer for a lane."""
        self.ever_began = True
        self._metrics.store_full.set(isinstance(error, StoreFullError))
        if not self._is_on:
            self._is_on = True
            self._metrics.store_up.set(0)
            log.error("the store is away, hits go to the journal: %s", error)

    def end(self, lane: Lane) -> None:
        """Note that the store holds all that waited in a lane."""
        self._waiting.journal_is_in_store(lane.number)
        if not self._lanes.is_away:
            log.warning("the store answers again, and holds what the journal held")
            self._is_on = False
            self.journal_error = None
            self._metrics.store_up.set(1)
            self._metrics.store_full.set(0)
            self.has_ended.set()

    def wake(self) -> None:
        """Look again for what the journal lacks."""
        self._wake.set()

    async def run(self, make_due: Callable[..., None]) -> None:
        """Bring hits to the journal, as long as the store does not answer for their lanes.

        Lanes that it did answer for meanwhile can go on: these are made due.
        """
        while not self._is_closing:
            self._wake.clear()
            lanes = [lane for lane in self._lanes if not lane.is_answered]
            if not lanes:
                return
            is_held = await self.journal_all(lanes)
            make_due(*(lane for lane in lanes if lane.is_answered))
            await asyncio.sleep(GATHER_S if is_held else RETRY_EVERY_S)
            await self._wake.wait()

    def stop(self) -> None:
        """Let `run` end after what it writes now."""
        self._is_closing = True
        self.wake()

    async def journal_all(self, lanes: Iterable[Lane]) -> bool:
        """Bring all that only memory holds in some lanes to the journal, and answer who waits.

        Return whether it did; raise `JournalBrokenError` where nobody can tell, after which nothing
        may be sent or removed any more.
        """
        lanes = list(lanes)
        entries = [entry for lane in lanes for entry in lane.next_append()]
        try:
            # After an error even nothing is appended, to learn whether it lasts: a balancer that
            # is told of it sends no hit that would.
            if entries or self.journal_error is not None:
                await self._append(entries)
        except JournalError as error:
            if self.journal_error is None:
                log.error("hits are refused: %s: %s", error, error.__cause__)
            self.journal_error = error
            self._refuse(lanes, Unavailable(error.code, f"{error}; the hit was not counted"))
            return False
        self.journal_error = None
        for lane in lanes:
            for record in lane.on_appended():
                self._waiting.answer_journaled(lane.number, record)
        return True

    async def _append(self, entries: list[Entry]) -> None:
        if self._journal is None:
            self._journal = await self._create_journal()
        self._metrics.journal_bytes.set(await self._journal.append(entries))

    def _refuse(self, lanes: Iterable[Lane], refusal: Unavailable) -> None:
        """Refuse what was to be written; of what a chunk has carried, nobody knows."""
        for lane in lanes:
            taken, unknown = lane.on_refused()
            self._waiting.refuse(taken, refusal)
            for record in unknown:
                self._waiting.refuse(record, outcome_unknown())

    async def remove_journal(self) -> None:
        """Remove the journal, if there is one: nothing in it is needed any more."""
        if self._journal is not None:
            journal, self._journal = self._journal, None
            self._metrics.journal_bytes.set(0)
            await journal.remove()

    async def close_journal(self) -> None:
        """Leave the journal, if there is one, to a successor."""
        if self._journal is not None:
            await self._journal.close()


def outcome_unknown() -> Unavailable:
    """Refuse a hit that may still be counted."""
    return Unavailable(
        "outcome_unknown", "the store did not answer in time; the hit may still be counted, once"
    )
