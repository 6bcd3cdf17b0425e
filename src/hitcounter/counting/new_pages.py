"""How fast sites get pages, so that nobody fills the room of one with invented addresses.

A page that nobody has seen here is charged when its first hit is on its way, so that hits at once
are bounded too, and given back where the store had it already. Where nothing is left, one that the
store does not have yet counts for its site alone.
"""

from collections import Counter
from collections.abc import Sequence

from hitcounter.client_address import Client
from hitcounter.counting.last_known import LastKnown
from hitcounter.counting.reader import BatchedReader
from hitcounter.counting.sites import SiteState
from hitcounter.errors import CounterError, StoreError
from hitcounter.limits import Limits
from hitcounter.metrics import Metrics
from hitcounter.store.keys import PageKeys


class NewPages:
    """The pages that nobody has seen here lately."""

    def __init__(
        self,
        limits: Limits | None,
        last_known: LastKnown,
        readers: Sequence[BatchedReader],
        metrics: Metrics,
    ) -> None:
        """Bound them by `limits`, if there are any; `readers` ask the store, one for each lane."""
        self._limits = limits
        self._last_known = last_known
        self._readers = readers
        self._metrics = metrics
        self._coming: Counter[str] = Counter()  # hits on their way
        self._charged: dict[str, Client] = {}  # for pages that may be new

    async def admitted(self, page: PageKeys, client: Client, site: SiteState) -> PageKeys | None:
        """Return the page, or nothing where it would be one too many."""
        if self._limits is None or self._last_known.page_total(page):
            return page
        if site.lane.is_away or self._limits.has_room_for_page(page.site, client):
            return page
        try:
            total, _ = await self._readers[site.lane.number].read(page.stored)
        except (StoreError, CounterError):  # whoever counts next learns of that
            return page
        if total:
            return page
        self._metrics.page_refused(site.label)
        return None

    def comes(self, page: PageKeys | None, client: Client) -> None:
        """Note a hit of a page on its way, and charge the first one of a page that may be new."""
        if page is None or self._limits is None:
            return
        if page.key not in self._coming and not self._last_known.page_total(page):
            self._limits.page_began(page.site, client)
            self._charged[page.key] = client
        self._coming[page.key] += 1

    def came(self, page: PageKeys | None, total: int | None) -> None:
        """Note its end, and give back what was charged unless hits of now have begun the page."""
        if page is None or self._limits is None:
            return
        client, n_coming = self._charged.pop(page.key, None), self._coming[page.key]
        if n_coming == 1:
            del self._coming[page.key]
        else:
            self._coming[page.key] = n_coming - 1
        if client is not None and (total is None or total > n_coming):
            self._limits.page_was_there(page.site, client)
