"""What a worker does with a hit or a question, whatever the protocol that brought it.

The bucket of a hit is fixed when it arrives, by the server's clock in the site's zone; nothing
that happens later moves it to another day. A hit is taken only for a site whose numbers are known,
so while the store is away it is answered with the last known ones, and never with zeros.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from hitcounter.client_address import Clients
from hitcounter.config import Config
from hitcounter.counting.last_known import LastKnown
from hitcounter.counting.new_pages import NewPages
from hitcounter.counting.numbers import FRESH, STALE, Numbers, away
from hitcounter.counting.readiness import Readiness
from hitcounter.counting.sites import Question, SiteRegistry, SiteState
from hitcounter.counting.uncounted import Rules
from hitcounter.errors import CounterError, Refusal, StoreError
from hitcounter.exactly_once.hit_ids import DuplicateHit
from hitcounter.exactly_once.writer import Writer
from hitcounter.hit import HEAD, LIMITED, NO_PAGE, PREFETCH, ROBOT, Hit, Page, named_page
from hitcounter.limits import Limits
from hitcounter.metrics import Metrics
from hitcounter.outcomes import COUNTED, STORED
from hitcounter.site import Site, referred_path
from hitcounter.store.client import Store
from hitcounter.store.inspection import Inspection
from hitcounter.store.keys import PageKeys


class Counter:
    """Counts and reads for all sites of one worker."""

    def __init__(
        self,
        config: Config,
        store: Store,
        writer: Writer,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        limits: Limits | None = None,
    ) -> None:
        """Count by a writer, within limits; `clock` gives the seconds since the epoch."""
        self.config = config
        self.metrics = metrics
        self.clock = clock
        self.clients = Clients(config.trusted_proxies)
        self.sites = SiteRegistry(config, store, writer.lanes, metrics)
        self.last_known = LastKnown(writer.waiting.in_journal)
        self.readiness = Readiness(writer, Inspection(store), self.sites)
        self.turn = asyncio.Lock()  # of answers that take as long as many hits
        self.rules = Rules(config, limits, metrics)
        self._writer = writer
        self._new_pages = NewPages(limits, self.last_known, metrics)

    async def count(self, hit: Hit) -> Numbers:
        """Count a hit; return the numbers with it once the store or the journal holds it.

        One that does not count is answered with the numbers alone, and one with the id of an
        earlier hit of the site is that hit. Raise `Refusal` where it cannot be counted.
        """
        question, uncounted = await self._received(hit)
        if uncounted:
            return await self._answer_uncounted(question, uncounted)
        return await self._counted(question, hit)

    async def take(self, hit: Hit) -> None:
        """Count a hit whose numbers nobody wants."""
        question, uncounted = await self._received(hit)
        if not uncounted:
            await self._counted(question, hit)

    async def read(self, site: SiteState, page: Page) -> Numbers:
        """Read the numbers of a site, and of one page; the last known ones if the store is away."""
        return await self._read(Question.about(site, page, self.clock()))

    async def read_pages(
        self, site: SiteState, paths: Sequence[str]
    ) -> tuple[str, list[int | None]]:
        """Read the totals of pages, and the state; None where a page's total is not known.

        Raise `Unavailable` where none is.
        """
        if not paths:
            return FRESH, []
        pages = [site.page_keys(path) for path in paths]
        if not site.lane.is_away:
            try:
                values = await site.reader.read([name for page in pages for name in page.stored])
            except (StoreError, CounterError):
                pass
            else:
                return FRESH, [_page_total(page, values) for page in pages]
        sent = site.lane.sent(site.keys_at(self.clock()))
        remembered = [self.last_known.page_total(page, sent) for page in pages]
        if all(total is None for total in remembered):
            raise away()
        return STALE, remembered

    async def read_store(self, question: Question) -> Numbers:
        """Read what the store says; raise `StoreError` or `CounterError`."""
        site, names, keys = question.site, question.names, question.keys
        before = site.known
        stored = () if keys is None else keys.stored
        values = await site.reader.read((*names.shown, site.removed_key, *stored))
        removed_ms = values[site.removed_key] or 0
        page_total = None if keys is None else _page_total(keys, values)
        shown = [values[key] or 0 for key in names.shown]
        page, at = question.page, question.at
        numbers = Numbers(
            site.site, names, shown, FRESH, page, page_total, at, removed_ms=removed_ms
        )
        # A hit may have learned more meanwhile; and what we read of hits that are not answered yet
        # would be there twice if they went to the journal.
        if site.known is before and not site.lane.has_sent(names):
            site.known = numbers
            if keys is not None and page_total is not None:
                self.last_known.remember_page(keys, page_total)
        return numbers

    async def _received(self, hit: Hit) -> tuple[Question, str]:
        """Decide whether a hit counts, or why not: the one place that does.

        Only one that does, and whose input is checked, registers its site.
        """
        known = self.sites.find(hit.site)
        site = known or self.sites.find_or_describe(hit.site)
        page = named_page(hit.path, site.site.query)
        _check_source(hit, site.site)
        if page is NO_PAGE and hit.referer is not None:
            page = Page(referred_path(hit.referer, site.site))
        question = Question.about(site, page, hit.at)
        uncounted = hit.uncounted
        if not uncounted and not self._repeats(hit, site):
            uncounted = self.rules.reason(hit, site)
            if known is None and not uncounted and not self.rules.may_begin_site(hit.client):
                is_there = await self.sites.is_registered(hit.site)
                uncounted = "" if is_there else LIMITED
        if uncounted:
            self._note(question, uncounted, is_new=known is None)
        elif known is None:
            question = replace(question, site=await self.sites.register(hit.site))
        return question, uncounted

    def _repeats(self, hit: Hit, site: SiteState) -> bool:
        """Return whether a hit may be one that is known, which costs nobody anything."""
        return hit.id is not None and self._writer.recent.knows(f"{site.site.name}:{hit.id}")

    def _note(self, question: Question, uncounted: str, *, is_new: bool) -> None:
        """Tell of a hit that does not count."""
        if uncounted == ROBOT and not is_new:
            site = question.site
            self._writer.count_robot(site.lane, site.robot_keys_on(question.names.date))
        if uncounted != HEAD:
            self.metrics.not_counted(question.site.site.name, uncounted)

    async def _answer_uncounted(self, question: Question, uncounted: str) -> Numbers:
        if uncounted in (HEAD, PREFETCH):  # a visitor may see it
            return await self._read(question)
        known = question.site.known_on(question.names)
        if known is None:
            return replace(await self._read(question), state=uncounted, age_s=None)
        return self.last_known.numbers(known, question, uncounted)

    async def _counted(self, question: Question, hit: Hit) -> Numbers:
        site, names, page = question.site, question.names, question.keys
        known = site.known_on(names)
        if known is None:  # for the first time
            known = await self._read(Question.about(site, NO_PAGE, question.at))
        new = page if page is not None and self._new_pages.may_begin(page) else None
        if new is not None:
            page = new = await self._new_pages.admitted(new, hit.client, site)
        id_ = None if hit.id is None else f"{site.site.name}:{hit.id}"
        if id_ is not None and await self._writer.recent.is_repeat(id_):
            return await self._answer_duplicate(question)
        page_total = None
        if new is not None:
            self._new_pages.comes(new, hit.client)
        try:
            waiting = self._writer.count(site.lane, site.label, names, page, id_)
            # A retry may wait for the same hit, so the end of one request is not its end.
            values = await (waiting if id_ is None else asyncio.shield(waiting))
            if values is not None and page is not None and values.get(page.key, -1) >= 0:
                page_total = values[page.key]
        except DuplicateHit:
            return await self._answer_duplicate(question)
        finally:
            if new is not None:
                self._new_pages.came(new, page_total)
        if values is None:
            known = site.known_on(names) or known  # others have learned more meanwhile
            return self.last_known.numbers(known, question, STORED)
        # Nothing may fail from here on: the hit is counted.
        if page is not None and page_total is not None:
            self.last_known.remember_page(page, page_total)
        shown = [values[key] for key in names.shown]
        site.known = Numbers(
            site.site, names, shown, COUNTED, question.page, page_total, question.at
        )
        return site.known

    async def _read(self, question: Question) -> Numbers:
        if not question.site.lane.is_away:
            try:
                return await self.read_store(question)
            except (StoreError, CounterError):
                pass
        known = question.site.known_on(question.names)
        if known is None:
            raise away()
        # A read may have shown what was sent already: nobody's numbers fall as the store goes.
        sent = question.site.lane.sent(question.names)
        stale = self.last_known.numbers(known, question, STALE, sent)
        return replace(stale, age_s=max(0, int(question.at - known.at)))

    async def _answer_duplicate(self, question: Question) -> Numbers:
        """Answer a hit that is counted already with the numbers of now."""
        site = question.site
        self.metrics.not_counted(site.site.name, "repeat")
        numbers = await self._read(Question.about(site, question.page, self.clock()))
        state = COUNTED if numbers.state == FRESH else STORED
        return replace(numbers, state=state, age_s=None)


def _check_source(hit: Hit, site: Site) -> None:
    """Refuse a browser on a page of another site; what is no browser can claim any origin."""
    if site.origins and (source := hit.source) and not site.admits(source):
        reason = "this page may not count for the site: its origins do not name this address"
        raise Refusal("foreign_origin", reason)


def _page_total(page: PageKeys, values: Mapping[str, int | None]) -> int | None:
    """Tell a page that nobody saw, 0, from one that the site has no room for, None."""
    total, n_stored = values[page.key], values[page.count_key] or 0
    return None if total is None and n_stored >= page.limit else total or 0
