"""Watches the store: which promise does it keep, and are its numbers still there?"""

import asyncio
import logging
import time
from contextlib import suppress

from hitcounter.counting.counter import Counter
from hitcounter.counting.readiness import Fault
from hitcounter.counting.site_watch import SiteWatch
from hitcounter.errors import StoreError, StoreRefusesError, StoreUnfitError
from hitcounter.exactly_once.writer import Writer
from hitcounter.metrics import Metrics
from hitcounter.store.client import Store
from hitcounter.store.durability import PROMISES, StoreFacts

log = logging.getLogger(__name__)

LOOK_AROUND_EVERY_S = 0.5
MAX_JUMP_S = 60.0
ROBOTS_NEWS = (
    "crawlers, monitors, previews and programs like curl counted until now; from now on they do"
    " apart, in no number that the block shows; count_robots = true counts them as before"
)


class StoreWatch:
    """Checks the store at start, then every so often, and when it has returned."""

    def __init__(
        self, counter: Counter, store: Store, writer: Writer, metrics: Metrics, every_s: float
    ) -> None:
        self._sites = SiteWatch(counter, store)
        self._counter = counter
        self._inspection = counter.readiness.inspection
        self._knows_robots = counter.config.count_robots  # which asks for no news of them
        self._writer = writer
        self._metrics = metrics
        self._every_s = every_s
        self._said: list[str] = []
        self._fault: Fault = None
        self._clock_s = time.time() - time.monotonic()

    async def check(self) -> None:
        """Look once; raise `StoreError` or `StoreUnfitError`."""
        try:
            facts = await self._inspection.rehearsed(is_open=self._counter.config.is_open)
        except (StoreError, StoreUnfitError) as error:
            self._fault = error
            if isinstance(error, StoreUnfitError):
                self._writer.is_store_durable = False
                self._metrics.store_promise.set(PROMISES["none"])
            raise
        self._fault = None
        self._writer.is_store_durable = facts.level == "A"
        self._say(facts)
        await self._say_what_counts_no_more()
        self._metrics.store_promise.set(PROMISES[facts.level])
        self._metrics.store_memory_bytes.set(facts.memory_bytes)
        self._metrics.store_memory_limit_bytes.set(facts.memory_limit_bytes)
        if facts.clock_skew_s is not None:
            self._metrics.clock_skew_s.set(abs(facts.clock_skew_s))
        await self._sites.refresh()
        if not self._writer.lanes.is_away:
            self._metrics.store_up.set(not facts.hit_refusal)

    def _say(self, facts: StoreFacts) -> None:
        """Log what is new."""
        promised = f"store {facts.name}, promise level {facts.level}: {facts.promise}"
        news = [promised, *facts.warnings]
        if news != self._said:
            is_safe = facts.level in ("A", "B")
            log.log(logging.INFO if is_safe else logging.WARNING, "%s", promised)
            for line in facts.warnings:
                log.warning("%s", line)
        self._said = news

    async def _say_what_counts_no_more(self) -> None:
        """Tell, once for each store, whoever has numbers of an older version."""
        if self._knows_robots:
            return
        with suppress(StoreRefusesError):  # whoever may not write that is not told
            if await self._inspection.begins_to_know_robots():
                log.warning("%s", ROBOTS_NEWS)
        self._knows_robots = True

    async def run(self) -> None:
        """Check again and again, and meanwhile look for new sites; log what is wrong."""
        loop = asyncio.get_running_loop()
        check_at_s = loop.time() + self._every_s if self._said else loop.time()
        while True:
            await self._pause()
            self._look_at_clock()
            self._metrics.set_state(self._counter.readiness.state_after(self._fault))
            self._counter.rules.measure()
            try:
                if self._writer.outage.has_ended.is_set() or loop.time() >= check_at_s:
                    self._writer.outage.has_ended.clear()
                    check_at_s = loop.time() + self._every_s
                    await self.check()
                else:
                    await self._sites.meet_new()
            except StoreError:
                check_at_s = loop.time()
            except StoreUnfitError as error:
                log.error("the store is not fit for exact counts: %s", error)

    def _look_at_clock(self) -> None:
        """Report a clock that jumped: it decides on which day a hit counts."""
        clock_s = time.time() - time.monotonic()
        if abs(clock_s - self._clock_s) > MAX_JUMP_S:
            log.error(
                "the clock of this machine jumped by %+.0f s: hits count on the days that it tells",
                clock_s - self._clock_s,
            )
        self._clock_s = clock_s

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AROUND_EVERY_S):
                await self._writer.outage.has_ended.wait()
