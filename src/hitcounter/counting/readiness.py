"""What becomes of a hit now, in one word; the same whoever asks, and however many do."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from hitcounter.errors import (
    JournalError,
    StoreError,
    StoreForbidsError,
    StoreUnfitError,
    Unavailable,
)
from hitcounter.metrics import JOURNALING, READY, UNAVAILABLE, UNFIT

if TYPE_CHECKING:  # operations, which answer the same words, load none of it
    from hitcounter.counting.sites import SiteRegistry
    from hitcounter.exactly_once.writer import Writer
    from hitcounter.store.inspection import Inspection

KEPT_S = 1.0

Answer = TypeVar("Answer")
Fault = StoreError | StoreUnfitError | None


def state(fault: Fault, journal_error: JournalError | None, *, knows_numbers: bool) -> str:
    """Name what becomes of a hit, after the store was asked and had this `fault`, or none.

    Without the store it is journaled, if a worker knows numbers to answer.
    """
    if journal_error is not None:
        return journal_error.code
    if fault is None:
        return READY
    is_unfit = isinstance(fault, StoreUnfitError)
    if knows_numbers and (not is_unfit or isinstance(fault, StoreForbidsError)):
        return JOURNALING
    return UNFIT if is_unfit else UNAVAILABLE


def refusal(state: str) -> Unavailable | None:
    """Return the answer where hits are refused; None where they are acknowledged."""
    if state in (READY, JOURNALING):
        return None
    return Unavailable(state, "hits are not counted now; the log says why")


class Shared(Generic[Answer]):
    """A question that is asked once for all who wait, whose answer is kept for a while."""

    def __init__(self, ask: Callable[[], Awaitable[Answer]], kept_s: float = KEPT_S) -> None:
        """Ask nothing yet. An answer holds for who came up to `kept_s` after it was asked for."""
        self._ask = ask
        self._kept_s = kept_s
        self._asking = asyncio.Lock()
        self._holds_until_s = -1.0
        self._answer: Answer

    async def answer(self) -> Answer:
        """Return the answer that is kept, or a new one."""
        came_at_s = time.monotonic()
        async with self._asking:
            if came_at_s >= self._holds_until_s:
                asked_at_s = time.monotonic()
                self._answer = await self._ask()
                self._holds_until_s = asked_at_s + self._kept_s
            return self._answer


class Readiness:
    """What becomes of a hit in this worker."""

    def __init__(self, writer: "Writer", inspection: "Inspection", sites: "SiteRegistry") -> None:
        self.inspection = inspection
        self._writer = writer
        self._sites = sites
        self.answer = Shared(self._asked).answer  # in one word, at most `KEPT_S` old

    async def _asked(self) -> str:
        try:
            if not self._writer.lanes.is_away:
                await self.inspection.rehearsed(is_open=self._sites.config.is_open)
        except (StoreError, StoreUnfitError) as error:
            return self.state_after(error)
        return self.state_after(None)

    def state_after(self, fault: Fault) -> str:
        """Name what becomes of a hit, after the store was asked and had this `fault`, or none."""
        if self._writer.lanes.is_away and fault is None:
            fault = StoreError("the store is away")
        knows_numbers = any(site.known for site in self._sites)
        return state(fault, self._writer.outage.journal_error, knows_numbers=knows_numbers)
