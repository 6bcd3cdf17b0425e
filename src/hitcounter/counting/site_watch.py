"""Keeps what a worker knows of its sites in step with the store."""

import asyncio
import logging

from hitcounter.counting.counter import Counter
from hitcounter.counting.numbers import Numbers
from hitcounter.counting.sites import Question, SiteState
from hitcounter.errors import CounterError, StoreRefusesError
from hitcounter.hit import NO_PAGE
from hitcounter.store import corrections
from hitcounter.store.client import Store

log = logging.getLogger(__name__)

_AT_ONCE = 200
_CLOCK_SKEW_S = 60.0  # of the machine where somebody takes back what was counted


class SiteWatch:
    """Learns of sites that others registered, and of totals that fell."""

    def __init__(self, counter: Counter, store: Store) -> None:
        self._counter = counter
        self._sites = counter.sites
        self._config = counter.config
        self._store = store

    async def meet_new(self) -> None:
        """Learn of the sites that other workers registered; raise `StoreError`."""
        if self._config.is_open and await self._store.n_sites() != len(self._sites.names):
            await self.refresh()

    async def refresh(self) -> None:
        """Read all sites, so that their numbers are known when the store goes away.

        Raise `StoreError` if it is away already. Report a total that fell since the last time.
        """
        if self._config.is_open:
            await self._agree()
        sites = list(self._sites)
        for start in range(0, len(sites), _AT_ONCE):
            now_s = self._counter.clock()
            batch = sites[start : start + _AT_ONCE]
            questions = [Question.about(site, NO_PAGE, now_s) for site in batch]
            reading = [self._counter.read_store(question) for question in questions]
            found = await asyncio.gather(*reading, return_exceptions=True)
            for site, numbers in zip(batch, found, strict=True):
                if isinstance(numbers, CounterError):
                    log.error("the numbers of %s are not known: %s", site.site.name, numbers)
                elif isinstance(numbers, BaseException):
                    raise numbers
                else:
                    await self._watch_total(site, numbers)

    async def _agree(self) -> None:
        """Know the registered sites, and those only.

        A store that forgot some, after a failover or with an old copy, is told of them again, as
        long as there is room. It decides: a site that it does not take is not counted here either,
        and one that was taken out comes back with its next hit.
        """
        registered = await self._store.sites()
        for name in registered:
            self._sites.learn(name)
        missing = sorted(self._sites.names - registered)
        for name in await self._store.removed_sites(missing):
            self._sites.forget(name)
            missing.remove(name)
            self._counter.last_known.forget_pages()
        if missing:
            log.warning("the store lacks %d sites that are counted here: adding them", len(missing))
        for name in await self._store.refused_sites(missing, self._config.max_sites):
            log.error("the site %s is not counted any more: there are max_sites others", name)
            self._sites.forget(name)

    async def _watch_total(self, site: SiteState, numbers: Numbers) -> None:
        """Report a total that fell, unless a removal or a correction that is new to us explains it.

        A tombstone that is gone explains nothing: the store may have been emptied.
        """
        total = numbers.values[-1]
        if numbers.removed_ms not in (0, site.removed_ms):
            site.removed_ms = numbers.removed_ms
            self._counter.last_known.forget_pages()  # some are the site's
        elif site.watched_total - total > await self._corrected(site, total):
            self._counter.metrics.fallen_totals.inc()  # who reads of it finds it counted
            log.error(
                "the total of %s fell from %d to %d: was it set lower, or an old copy restored?",
                site.site.name,
                site.watched_total,
                total,
            )
        site.watched_total, site.watched_at = total, numbers.at

    async def _corrected(self, site: SiteState, total: int) -> int:
        """Count what was taken back since the last look, if the total fell."""
        if total >= site.watched_total:
            return 0
        since = site.watched_at - _CLOCK_SKEW_S
        try:
            made = await corrections.made(self._store, site.site.name)
        except StoreRefusesError:  # to a user with the rights that an older version needs
            return 0
        new = {each.writer: each.minus for each in made if each.at >= since}
        taken = sum(minus for writer, minus in new.items() if writer not in site.explained)
        site.explained.update(new)
        return taken
