"""What a worker does with a hit or a question, whatever the protocol that brought it.

The bucket of a hit is fixed when it arrives, by the server's clock in the site's zone; nothing
that happens later moves it to another day. A hit is taken only for a site whose numbers are known,
so while the store is away it is answered with the last known ones, and never with zeros.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from hitcounter.config import Config
from hitcounter.counting.reader import BatchedReader
from hitcounter.counting.readiness import Fault, Shared, state
from hitcounter.errors import (
    CounterError,
    StoreError,
    StoreFullError,
    StoreUnfitError,
    Unavailable,
    UnknownSite,
)
from hitcounter.exactly_once.hit_ids import DuplicateHit
from hitcounter.exactly_once.writer import Writer
from hitcounter.metrics import COUNTED, STORED, Metrics
from hitcounter.period import Day, day_of
from hitcounter.site import Site
from hitcounter.store import keys
from hitcounter.store.client import N_LANES, Store
from hitcounter.store.inspection import Inspection
from hitcounter.store.keys import PageKeys, SiteKeys

log = logging.getLogger(__name__)

FRESH = "fresh"
STALE = "stale"
MAX_KNOWN_PAGES = 8_192
_REFRESH_SITES = 200
_REFUSAL_EVERY_S = 60.0


class Numbers(msgspec.Struct, frozen=True, gc=False):
    """The numbers of a site in the order of `block.LINE_KEYS`, and of one page if asked for.

    A page has no total if its site stores as many as it may, or if the store is away and nobody
    asked for the page lately. `at` is when the store was asked, in epoch seconds; `age_s` tells how
    long ago that was, where the numbers are stale. `removed_ms` is the tombstone beside them, or 0.
    """

    site: Site
    names: SiteKeys
    values: Sequence[int]
    state: str
    path: str | None
    page_total: int | None
    at: float
    age_s: int | None = None
    removed_ms: int = 0

    def on(self, names: SiteKeys) -> dict[str, int]:
        """Give the numbers by key as they are on the same day or a later one without more hits."""
        known = dict(zip(self.names.shown, self.values, strict=True))
        return {key: known.get(key, 0) for key in names.shown}


class CountedSite:
    """A site with the keys of its current day, and what the store said of it last."""

    __slots__ = (
        "_day",
        "_keys",
        "_lane",
        "known",
        "label",
        "removed_key",
        "removed_ms",
        "site",
        "watched_total",
    )

    def __init__(self, site: Site, label: str) -> None:
        """Prepare the keys of a site; `label` names it in metrics."""
        self.site = site
        self.label = label
        self.known: Numbers | None = None
        self.watched_total = 0
        self._lane = keys.lane_of(site.name, N_LANES)
        self.removed_key = keys.removed_key(self._lane, site.name)
        self.removed_ms = 0  # the tombstone when we watched last
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

    def known_on(self, names: SiteKeys) -> Numbers | None:
        """Give what is known, unless that is of a later day: then the clock went back."""
        known = self.known
        return None if known is None or known.names.date > names.date else known


class Counter:
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
        self.inspection = Inspection(store)
        self._reader = BatchedReader(store)
        self._clock = clock
        self._sites = {name: self._counted(site) for name, site in config.sites.items()}
        self._page_totals: dict[str, int] = {}
        self._says_refusal_at_s = 0.0
        self.turn = asyncio.Lock()  # of answers that take as long as many hits
        self.readiness = Shared(self._ask_readiness)

    def known(self, name: str) -> CountedSite | None:
        """Find a site that was counted before."""
        return self._sites.get(name)

    async def admit(self, name: str) -> CountedSite:
        """Register a new site in an open service."""
        site = self._undeclared(name)
        try:
            admitted = await self._store.admit_site(name, self.config.max_sites)
        except StoreError as error:
            if isinstance(error, StoreFullError):
                self._refuse_sites(str(error))
            raise _away() from None
        if not admitted:
            self._refuse_sites(f"no more than max_sites, {self.config.max_sites}, are accepted")
            raise UnknownSite("too_many_sites", "this service accepts no more sites")
        return self._sites.setdefault(name, site)

    def _refuse_sites(self, why: str) -> None:
        now_s = time.monotonic()
        if now_s >= self._says_refusal_at_s:  # seldom: whoever invents names makes many of them
            log.error("new sites are refused: %s", why)
            self._says_refusal_at_s = now_s + _REFUSAL_EVERY_S

    def site(self, name: str) -> CountedSite:
        """Find a site to read; a new one is not registered by that."""
        return self._sites.get(name) or self._undeclared(name)

    def _undeclared(self, name: str) -> CountedSite:
        if not self.config.is_open:
            raise UnknownSite("unknown_site", f"the site {name} is not counted here")
        return self._counted(self.config.site(name))

    def _counted(self, site: Site) -> CountedSite:
        return CountedSite(site, self.metrics.label(site.name))

    async def count(
        self, counted: CountedSite, path: str | None, id_: str | None = None
    ) -> Numbers:
        """Count one hit; return the numbers with it once the store or the journal holds it.

        A hit with the id of an earlier one of the site is that hit, and is answered with the
        numbers of now.
        """
        now_s = self._clock()
        names = counted.keys_at(now_s)
        page = None if path is None else counted.page_keys(path)
        known = counted.known_on(names) or await self._learned(counted, names, now_s)
        if id_ is not None:
            id_ = f"{counted.site.name}:{id_}"
            if await self._writer.recent.is_repeat(id_):
                return await self._again(counted, path)
        hit = self._writer.count(counted.label, names, page, id_)
        try:
            # A retry may wait for the same hit, so the end of one request is not its end.
            values = await (hit if id_ is None else asyncio.shield(hit))
        except DuplicateHit:
            return await self._again(counted, path)
        if values is None:
            known = counted.known_on(names) or known  # others have learned more meanwhile
            return self._remembered(known, names, path, page, STORED)
        page_total = None
        # Nothing may fail from here on: the hit is counted.
        if page is not None and values.get(page.key, -1) >= 0:
            page_total = values[page.key]
            self._remember_page(page, page_total)
        numbers = [values[key] for key in names.shown]
        counted.known = Numbers(counted.site, names, numbers, COUNTED, path, page_total, now_s)
        return counted.known

    async def read(self, counted: CountedSite, path: str | None) -> Numbers:
        """Read the numbers of a site, and of one page; the last known ones if the store is away."""
        now_s = self._clock()
        names = counted.keys_at(now_s)
        page = None if path is None else counted.page_keys(path)
        if not self._writer.is_away:
            try:
                return await self._fresh(counted, names, path, page, now_s)
            except (StoreError, CounterError):
                pass
        known = counted.known_on(names)
        if known is None:
            raise _away()
        stale = self._remembered(known, names, path, page, STALE)
        return replace(stale, age_s=max(0, int(now_s - known.at)))

    async def read_pages(
        self, counted: CountedSite, paths: Sequence[str]
    ) -> tuple[str, list[int | None]]:
        """Read the totals of pages, and the state; None where a page's total is not known.

        Raise `Unavailable` where none is.
        """
        if not paths:
            return FRESH, []
        pages = [counted.page_keys(path) for path in paths]
        if not self._writer.is_away:
            try:
                values = await self._reader.read([name for page in pages for name in page.stored])
            except (StoreError, CounterError):
                pass
            else:
                totals = zip(pages, values[::2], values[1::2], strict=True)
                return FRESH, [_page_total(*total) for total in totals]
        remembered = [self._remembered_total(page) for page in pages]
        if all(total is None for total in remembered):
            raise _away()
        return STALE, remembered

    async def _again(self, counted: CountedSite, path: str | None) -> Numbers:
        """Answer a hit that is counted already."""
        self.metrics.not_counted(counted.site.name, "repeat")
        numbers = await self.read(counted, path)
        state = COUNTED if numbers.state == FRESH else STORED
        return replace(numbers, state=state, age_s=None)

    async def _learned(self, counted: CountedSite, names: SiteKeys, now_s: float) -> Numbers:
        """Read a site of which nothing is known."""
        if self._writer.is_away:
            raise _away()
        try:
            return await self._fresh(counted, names, None, None, now_s)
        except (StoreError, CounterError):
            raise _away() from None

    async def _fresh(
        self,
        counted: CountedSite,
        names: SiteKeys,
        path: str | None,
        page: PageKeys | None,
        now_s: float,
    ) -> Numbers:
        wanted = (*names.shown, counted.removed_key)
        before = counted.known
        values = await self._reader.read(wanted if page is None else (*wanted, *page.stored))
        n_lines = len(names.shown)
        removed_ms = values.pop(n_lines) or 0
        page_total = None if page is None else _page_total(page, *values[n_lines:])
        if page is not None and page_total is not None:
            self._remember_page(page, page_total)
        shown = [value or 0 for value in values[:n_lines]]
        numbers = Numbers(
            counted.site, names, shown, FRESH, path, page_total, now_s, removed_ms=removed_ms
        )
        if counted.known is before:  # else a hit has learned more meanwhile
            counted.known = numbers
        return numbers

    def _remembered(
        self,
        known: Numbers,
        names: SiteKeys,
        path: str | None,
        page: PageKeys | None,
        state: str,
    ) -> Numbers:
        """Give the last known numbers, and what waits here on top of them."""
        stored = self._writer.stored
        values = [n + stored[key] for key, n in known.on(names).items()]
        page_total = None if page is None else self._remembered_total(page)
        return Numbers(known.site, names, values, state, path, page_total, known.at)

    def _remembered_total(self, page: PageKeys) -> int | None:
        total = self._page_totals.get(page.key)
        return None if total is None else total + self._writer.stored[page.key]

    def _remember_page(self, page: PageKeys, total: int) -> None:
        self._page_totals[page.key] = total
        if len(self._page_totals) > MAX_KNOWN_PAGES:
            del self._page_totals[next(iter(self._page_totals))]

    async def meet_new_sites(self) -> None:
        """Learn of the sites that other workers admitted; raise `StoreError`."""
        if self.config.is_open and await self._store.n_sites() != len(self._sites):
            await self.refresh()

    async def refresh(self) -> None:
        """Read all sites, so that their numbers are known when the store goes away.

        Raise `StoreError` if it is away already. Report a total that fell since the last time.
        """
        if self.config.is_open:
            await self._agree_on_sites()
        sites = list(self._sites.values())
        for start in range(0, len(sites), _REFRESH_SITES):
            now_s = self._clock()
            batch = sites[start : start + _REFRESH_SITES]
            fresh = [self._fresh(site, site.keys_at(now_s), None, None, now_s) for site in batch]
            found = await asyncio.gather(*fresh, return_exceptions=True)
            for site, numbers in zip(batch, found, strict=True):
                if isinstance(numbers, CounterError):
                    log.error("the numbers of %s are not known: %s", site.site.name, numbers)
                elif isinstance(numbers, BaseException):
                    raise numbers
                else:
                    self._watch_total(site, numbers.values[-1], numbers.removed_ms)

    async def _agree_on_sites(self) -> None:
        """Know the registered sites, and those only.

        A store that forgot some, after a failover or with an old copy, is told of them again, as
        long as there is room. It decides: a site that it does not take is not counted here either,
        and one that was taken out comes back with its next hit.
        """
        registered = await self._store.sites()
        for name in registered:
            self._sites.setdefault(name, self._counted(self.config.site(name)))
        missing = sorted(self._sites.keys() - registered)
        for name in await self._store.removed_sites(missing):
            del self._sites[name]
            missing.remove(name)
            self._page_totals.clear()
        if missing:
            log.warning("the store lacks %d sites that are counted here: adding them", len(missing))
        for name in await self._store.refused_sites(missing, self.config.max_sites):
            log.error("the site %s is not counted any more: there are max_sites others", name)
            self._sites.pop(name, None)

    def _watch_total(self, site: CountedSite, total: int, removed_ms: int) -> None:
        """Report a total that fell, unless a removal that is new to us explains it.

        A tombstone that is gone explains nothing: the store may have been emptied.
        """
        if removed_ms not in (0, site.removed_ms):
            site.removed_ms = removed_ms
            self._page_totals.clear()  # some are the site's; they come back with the next hits
        elif total < site.watched_total:
            log.error(
                "the total of %s fell from %d to %d: was it set lower, or an old copy restored?",
                site.site.name,
                site.watched_total,
                total,
            )
            self.metrics.fallen_totals.inc()
        site.watched_total = total

    async def _ask_readiness(self) -> str:
        try:
            if not self._writer.is_away:
                await self.inspection.rehearsed(is_open=self.config.is_open)
        except (StoreError, StoreUnfitError) as error:
            return self.state_after(error)
        return self.state_after(None)

    def state_after(self, fault: Fault) -> str:
        """Name what becomes of a hit, after the store was asked and had this `fault`, or none."""
        if self._writer.is_away and fault is None:
            fault = StoreError("the store is away")
        knows_numbers = any(site.known for site in self._sites.values())
        return state(fault, self._writer.journal_error, knows_numbers=knows_numbers)


def _page_total(page: PageKeys, total: int | None, n_stored: int | None) -> int | None:
    """Tell a page that nobody saw, 0, from one that the site has no room for, None."""
    return None if total is None and (n_stored or 0) >= page.limit else total or 0


def _away() -> Unavailable:
    return Unavailable("store_unavailable", "the store does not answer; nothing was counted")
