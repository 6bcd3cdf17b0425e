"""How fast sites get pages, so that nobody fills the room of one with invented addresses.

A page that nobody has seen here is charged when its first hit is on its way, so that hits at once
are bounded too, and given back where the store had it already. Where nothing is left, one that the
store does not have yet counts for its site alone.
"""

from collections import Counter

from hitcounter.client_address import Client
from hitcounter.counting.last_known import LastKnown
from hitcounter.counting.sites import SiteState
from hitcounter.errors import CounterError, StoreError
from hitcounter.limits import Limits
from hitcounter.metrics import Metrics
from hitcounter.store.keys import PageKeys


class NewPages:
    """The pages that nobody has seen here lately."""

    def __init__(self, limits: Limits | None, last_known: LastKnown, metrics: Metrics) -> None:
        """Bound them by `limits`, if there are any."""
        self._limits = limits
        self._last_known = last_known
        self._metrics = metrics
        self._coming: Counter[str] = Counter()  # hits on their way
        self._charged: dict[str, Client] = {}  # for pages that may be new

    def may_begin(self, page: PageKeys) -> bool:
        """Return whether a hit may be the first one of its page; then it must be `admitted`."""
        return self._limits is not None and not self._last_known.page_total(page)

    async def admitted(self, page: PageKeys, client: Client, site: SiteState) -> PageKeys | None:
        """Return the page, or nothing where it would be one too many."""
        if self._limits is None or site.lane.is_away:
            return page
        if self._limits.has_room_for_page(page.site, client):
            return page
        try:
            values = await site.reader.read([page.key])
        except (StoreError, CounterError):  # whoever counts next learns of that
            return page
        if values[page.key]:
            return page
        self._metrics.page_refused(site.label)
        return None

    def comes(self, page: PageKeys, client: Client) -> None:
        """Note a hit on its way that may begin its page, and charge the first one."""
        if self._limits is not None and page.key not in self._coming:
            self._limits.page_began(page.site, client)
            self._charged[page.key] = client
        self._coming[page.key] += 1

    def came(self, page: PageKeys, total: int | None) -> None:
        """Note its end, and give back what was charged unless hits of now have begun the page."""
        client, n_coming = self._charged.pop(page.key, None), self._coming.pop(page.key)
        if n_coming > 1:
            self._coming[page.key] = n_coming - 1
        was_there = total is None or total > n_coming
        if self._limits is not None and client is not None and was_there:
            self._limits.page_was_there(page.site, client)
