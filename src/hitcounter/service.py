"""What a worker does with a hit or a question, whatever the protocol that brought it.

The bucket of a hit is fixed when it arrives, by the server's clock in the site's zone; nothing
that happens later moves it to another day.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hitcounter import keys
from hitcounter.config import Config
from hitcounter.errors import StoreError, StoreUnfitError, Unavailable, UnknownSite
from hitcounter.guard import StoreFacts
from hitcounter.keys import PageKeys, SiteKeys
from hitcounter.metrics import Metrics
from hitcounter.period import Day, day_of
from hitcounter.site import Site
from hitcounter.store import LANES, Store
from hitcounter.writer import Writer


class Numbers(NamedTuple):
    """The numbers of a site in the order of `block.LINE_KEYS`, and of one page if asked for.

    A page that is not stored, because the site stores as many as it may, has no total.
    """

    site: Site
    date: str
    values: Sequence[int]
    path: str | None
    page_total: int | None


class CountedSite:
    """A site with the keys of its current day."""

    __slots__ = ("_day", "_keys", "_lane", "label", "site")

    def __init__(self, site: Site, label: str) -> None:
        """Prepare the keys of a site; `label` names it in metrics."""
        self.site = site
        self.label = label
        self._lane = keys.lane_of(site.name, LANES)
        self._day: Day | None = None
        self._keys: SiteKeys | None = None

    def keys_at(self, now_s: float) -> SiteKeys:
        """Name the counters of the day that an instant falls on."""
        day = self._day
        if day is None or self._keys is None or not day.start_at <= now_s < day.end_at:
            self._day = day = day_of(now_s, self.site.timezone)
            self._keys = keys.site_keys(self._lane, self.site.name, day)
        return self._keys

    def page_keys(self, path: str) -> PageKeys:
        """Name the counters of a page."""
        return keys.page_keys(self._lane, self.site.name, path, self.site.max_pages)


class Service:
    """Counts and reads for all sites of one worker."""

    def __init__(
        self,
        config: Config,
        store: Store,
        writer: Writer,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Know the declared sites; an open service learns others as they are first counted.

        `clock` gives the seconds since the epoch.
        """
        self.config = config
        self.metrics = metrics
        self._store = store
        self._writer = writer
        self._clock = clock
        self._sites = {name: self._counted(site) for name, site in config.sites.items()}

    def known(self, name: str) -> CountedSite | None:
        """Find a site that was counted before."""
        return self._sites.get(name)

    async def admit(self, name: str) -> CountedSite:
        """Register a new site in an open service."""
        site = self._undeclared(name)
        try:
            admitted = await self._store.admit_site(name, self.config.max_sites)
        except StoreError:
            raise _away() from None
        if not admitted:
            raise UnknownSite("too_many_sites", "this service accepts no more sites")
        return self._sites.setdefault(name, site)

    def site(self, name: str) -> CountedSite:
        """Find a site to read; a new one is not registered by that."""
        return self._sites.get(name) or self._undeclared(name)

    def _undeclared(self, name: str) -> CountedSite:
        if not self.config.is_open:
            raise UnknownSite("unknown_site", f"the site {name} is not counted here")
        return self._counted(self.config.site(name))

    def _counted(self, site: Site) -> CountedSite:
        return CountedSite(site, self.metrics.label(site.name))

    async def count(self, counted: CountedSite, path: str | None) -> Numbers:
        """Count one hit; return the numbers with it once the store holds it."""
        names = counted.keys_at(self._clock())
        page = None if path is None else counted.page_keys(path)
        values = await self._writer.count(counted.label, names, page)
        page_total = None if page is None or values[page.key] < 0 else values[page.key]
        numbers = [values[key] for key in names.shown]
        return Numbers(counted.site, names.date, numbers, path, page_total)

    async def read(self, counted: CountedSite, path: str | None) -> Numbers:
        """Read the numbers of a site, and of one page."""
        names = counted.keys_at(self._clock())
        page = None if path is None else counted.page_keys(path)
        wanted = names.shown if page is None else (*names.shown, page.key, page.count_key)
        try:
            values = await self._store.read(wanted)
        except StoreError:
            raise _away() from None
        n_lines = len(names.shown)
        page_total = None if page is None else _page_total(page, *values[n_lines:])
        numbers = [value or 0 for value in values[:n_lines]]
        return Numbers(counted.site, names.date, numbers, path, page_total)

    async def store_facts(self) -> StoreFacts:
        """Ask whether the store can keep the promise; raise `Unavailable` if not."""
        try:
            return await self._store.check()
        except StoreError as error:
            raise Unavailable("store_unavailable", str(error)) from None
        except StoreUnfitError as error:
            raise Unavailable("store_unfit", str(error)) from None


def _page_total(page: PageKeys, total: int | None, n_stored: int | None) -> int | None:
    """Tell a page that nobody saw, 0, from one that the site has no room for, None."""
    return None if total is None and (n_stored or 0) >= page.limit else total or 0


def _away() -> Unavailable:
    return Unavailable("store_unavailable", "the store does not answer")
