"""What a writer does while the store is away: the journal holds what only memory held.

On the first error, not when a deadline passes, all that is kept or pending goes to the journal,
then the hits that come; each is answered once it is there. When the store answers again, what was
held is cut into records and sent, and the journal goes once the store can no longer forget them.

Invariant: nothing is acknowledged that is neither in the store nor in the journal, and nothing is
refused as not counted that a chunk has carried.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from hitcounter.errors import (
    JournalBrokenError,
    JournalError,
    StoreError,
    StoreFullError,
    Unavailable,
)
from hitcounter.exactly_once.journal import Journal
from hitcounter.exactly_once.records import RecordLog
from hitcounter.exactly_once.waiting import Waiting
from hitcounter.metrics import Metrics

log = logging.getLogger(__name__)

RETRY_EVERY_S = 0.1
# A sync of the disk for every hit would fill it, and take long to replay.
GATHER_S = 0.02


class Outage:
    """The time without the store, and the journal of one writer in it."""

    def __init__(
        self,
        create_journal: Callable[[], Awaitable[Journal]],
        records: RecordLog,
        waiting: Waiting,
        metrics: Metrics,
    ) -> None:
        self.is_on = False  # until all that waits here is in the store again
        self.has_ended = asyncio.Event()
        self.ever_began = False
        self.journal_error: JournalError | None = None  # while the journal takes nothing
        self._records = records
        self._waiting = waiting
        self._create_journal = create_journal
        self._journal: Journal | None = None
        self._metrics = metrics

    @property
    def has_journal(self) -> bool:
        """Return whether there is a journal that may be needed."""
        return self._journal is not None

    def begin(self, error: StoreError) -> None:
        """Note that the store gave no answer."""
        self.ever_began = True
        self._metrics.store_full.set(isinstance(error, StoreFullError))
        if not self.is_on:
            self.is_on = True
            self._metrics.store_up.set(0)
            log.error("the store is away, hits go to the journal: %s", error)

    def end(self) -> None:
        """Note that the store holds all that waited."""
        log.warning("the store answers again, and holds what the journal held")
        self.is_on = False
        self.journal_error = None
        self._waiting.journal_is_in_store()
        self._metrics.store_up.set(1)
        self._metrics.store_full.set(0)
        self.has_ended.set()

    async def run(
        self,
        ask_again: Callable[[], Coroutine[Any, Any, None]],
        wake: asyncio.Event,
        is_closing: Callable[[], bool],
    ) -> None:
        """Bring hits to the journal until `ask_again` ends, as the store has answered."""
        asking = asyncio.create_task(ask_again())
        asking.add_done_callback(lambda _: wake.set())
        try:
            while not asking.done():
                wake.clear()
                is_held = await self.journal_all()
                if is_closing() and not self._records.has_unsent:
                    break
                await asyncio.sleep(GATHER_S if is_held else RETRY_EVERY_S)
                await wake.wait()
        finally:
            asking.cancel()
            await asyncio.wait([asking])
            wake.set()
        if not asking.cancelled():
            asking.result()

    async def journal_all(self) -> bool:
        """Bring all that only memory holds to the journal, and answer who waits.

        Return whether it did; raise `JournalBrokenError` where nobody can tell.
        """
        unsent = self._records.take_unsent()
        if not self._records.needs_journal:
            await self.remove_journal()  # what comes next does not join what is in there
        entries = self._records.to_journal(unsent.pageviews)
        if not entries:
            return True
        try:
            if self._journal is None:
                self._journal = await self._create_journal()
            self._metrics.journal_bytes.set(await self._journal.append(entries))
        except JournalError as error:
            if self.journal_error is None:
                log.error("hits are refused: %s", error)
            self.journal_error = error
            refusal = Unavailable(error.code, f"{error}; the hit was not counted")
            self._waiting.refuse(unsent, refusal)
            self.refuse_pending()
            return False
        except JournalBrokenError:
            self._waiting.refuse(unsent, outcome_unknown())
            raise
        self.journal_error = None
        self._records.journaled(unsent.pageviews)
        for record in (*self._records.pending, unsent):
            self._waiting.answer_journaled(record)
        return True

    def refuse_pending(self) -> None:
        """Refuse what a chunk has carried: nobody knows whether it is counted."""
        for record in self._records.pending:
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
