"""What becomes of a hit now, in one word; the same whoever asks, and however many do."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from hitcounter.errors import (
    JournalError,
    StoreError,
    StoreForbidsError,
    StoreUnfitError,
    Unavailable,
)
from hitcounter.metrics import JOURNALING, READY, UNAVAILABLE, UNFIT

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
    """Give the answer where hits are refused; None where they are acknowledged."""
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
        """Give the answer that is kept, or a new one."""
        came_at_s = time.monotonic()
        async with self._asking:
            if came_at_s >= self._holds_until_s:
                asked_at_s = time.monotonic()
                self._answer = await self._ask()
                self._holds_until_s = asked_at_s + self._kept_s
            return self._answer
