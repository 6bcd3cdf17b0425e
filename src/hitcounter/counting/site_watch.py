"""Keeps what a worker knows of its sites in step with the store."""

import asyncio
import logging

from hitcounter.counting.counter import Counter
from hitcounter.counting.question import Question
from hitcounter.counting.sites import SiteState
from hitcounter.errors import CounterError
from hitcounter.hit import NO_PAGE
from hitcounter.store.client import Store

log = logging.getLogger(__name__)

_AT_ONCE = 200


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
                    self._watch_total(site, numbers.values[-1], numbers.removed_ms)

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

    def _watch_total(self, site: SiteState, total: int, removed_ms: int) -> None:
        """Report a total that fell, unless a removal that is new to us explains it.

        A tombstone that is gone explains nothing: the store may have been emptied.
        """
        if removed_ms not in (0, site.removed_ms):
            site.removed_ms = removed_ms
            self._counter.last_known.forget_pages()  # some are the site's
        elif total < site.watched_total:
            log.error(
                "the total of %s fell from %d to %d: was it set lower, or an old copy restored?",
                site.site.name,
                site.watched_total,
                total,
            )
            self._counter.metrics.fallen_totals.inc()
        site.watched_total = total
