"""The sites that a worker counts: those that are declared, or all that an open service accepts."""

import logging
import time
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from hitcounter.client_address import AddressSet
from hitcounter.config import Config
from hitcounter.counting.numbers import Numbers, away
from hitcounter.counting.reader import BatchedReader
from hitcounter.errors import Refusal, StoreError, StoreFullError
from hitcounter.exactly_once.lanes import Lane, Lanes
from hitcounter.hit import Page
from hitcounter.metrics import Metrics
from hitcounter.period import day_of
from hitcounter.site import Site, site_name
from hitcounter.store import keys
from hitcounter.store.client import Store
from hitcounter.store.keys import PageKeys, SiteKeys

log = logging.getLogger(__name__)

_REFUSAL_EVERY_S = 60.0


class SiteState:
    """A site with the keys of its current day, and what the store said of it last."""

    def __init__(self, site: Site, lane: Lane, reader: BatchedReader, label: str) -> None:
        """Prepare the keys of a site of a lane, which has a `reader`; `label` is for metrics."""
        self.site = site
        self.reader = reader
        self.label = label
        self.own = AddressSet(site.own)
        self.known: Numbers | None = None
        self.watched_total = 0
        self.watched_at = 0.0
        self.explained: set[str] = set()  # corrections, by their writers, after which it fell
        self.lane = lane
        self.removed_key = keys.removed_key(lane.number, site.name)
        self.removed_ms = 0  # the tombstone when we watched last
        self._keys: SiteKeys | None = None
        self._robot_keys: SiteKeys | None = None

    def keys_at(self, now_s: float) -> SiteKeys:
        """Name the counters of the day that an instant falls on."""
        date = day_of(now_s, self.site.timezone).date
        if self._keys is None or self._keys.date != date:
            self._keys = keys.site_keys(self.lane.number, self.site.name, date)
        return self._keys

    def robot_keys_on(self, date: str) -> SiteKeys:
        """Name the counters of robots on a day."""
        if self._robot_keys is None or self._robot_keys.date != date:
            self._robot_keys = keys.robot_keys(self.lane.number, self.site.name, date)
        return self._robot_keys

    def page_keys(self, path: str) -> PageKeys:
        """Name the counters of a page."""
        return keys.page_keys(self.lane.number, self.site.name, path, self.site.max_pages)

    def known_on(self, names: SiteKeys) -> Numbers | None:
        """Return what is known, unless that is of a later day: then the clock went back."""
        known = self.known
        return None if known is None or known.names.date > names.date else known


class Question(msgspec.Struct, frozen=True, gc=False):
    """What is asked at one moment: of a site, on its day, and of a page, if there is one."""

    site: SiteState
    names: SiteKeys
    page: Page
    keys: PageKeys | None
    at: float  # epoch seconds

    @classmethod
    def about(cls, site: SiteState, page: Page, at: float) -> "Question":
        """Ask about a site, and a page of it, as of an instant."""
        keys = None if page.path is None else site.page_keys(page.path)
        return cls(site, site.keys_at(at), page, keys, at)


class SiteRegistry:
    """Finds sites by name; an open service learns others as they are first counted."""

    def __init__(self, config: Config, store: Store, lanes: Lanes, metrics: Metrics) -> None:
        """Know the declared sites."""
        self.config = config
        self._store = store
        self._lanes = lanes
        self._metrics = metrics
        self._readers = {lane: BatchedReader(store) for lane in lanes}
        self._sites = {name: self._new_state(name) for name in config.sites}
        for site in list(self._sites.values()):
            self._sites |= dict.fromkeys(site.site.aliases, site)
        # What robots ask for whose hits register nothing, and who reads before anybody counts.
        self._described = lru_cache(maxsize=256)(self._new_state)
        self._says_refusal_at_s = 0.0

    def __iter__(self) -> Iterator[SiteState]:
        """Go through the sites that are counted."""
        return iter(list(dict.fromkeys(self._sites.values())))

    @property
    def names(self) -> set[str]:
        """Return the names of the sites that are counted."""
        return set(self._sites)

    def find(self, name: str) -> SiteState | None:
        """Find a site that was counted before, by its name or another that it has."""
        return self._sites.get(name)

    def find_or_describe(self, name: str) -> SiteState:
        """Find a site to read; a new one is not registered by that."""
        name = site_name(name)
        return self._sites.get(name) or self._undeclared(name)

    async def register(self, name: str) -> SiteState:
        """Register a new site in an open service."""
        name = self.find_or_describe(name).site.name
        try:
            admitted = await self._store.admit_site(name, self.config.max_sites)
        except StoreError as error:
            if isinstance(error, StoreFullError):
                self._say_refused(str(error))
            raise away() from None
        if not admitted:
            self._say_refused(f"no more than max_sites, {self.config.max_sites}, are accepted")
            raise Refusal("too_many_sites", "this service accepts no more sites")
        return self.learn(name)

    async def is_registered(self, name: str) -> bool:
        """Return whether another worker has registered a site, a moment ago."""
        try:
            return await self._store.admit_site(site_name(name), limit=0)
        except StoreError:
            raise away() from None

    def learn(self, name: str) -> SiteState:
        """Know a site that is registered."""
        site = self._sites.get(name)
        if site is None:
            site = self._sites[name] = self._new_state(name)
        return site

    def forget(self, name: str) -> None:
        """Know a site no longer."""
        self._sites.pop(name, None)
        self._described.cache_clear()

    def _say_refused(self, why: str) -> None:
        now_s = time.monotonic()
        if now_s >= self._says_refusal_at_s:  # seldom: whoever invents names makes many of them
            log.error("new sites are refused: %s", why)
            self._says_refusal_at_s = now_s + _REFUSAL_EVERY_S

    def _undeclared(self, name: str) -> SiteState:
        if not self.config.is_open:
            raise Refusal("unknown_site", f"the site {name} is not counted here")
        return self._described(name)

    def _new_state(self, name: str) -> SiteState:
        lane = self._lanes.of(name)
        label = self._metrics.label(name)
        return SiteState(self.config.site(name), lane, self._readers[lane], label)
