"""Records that are applied, for as long as the store may forget them: packed, as they are many."""

import pickle
from typing import NamedTuple, Self

from hitcounter.exactly_once.increments import Pageviews
from hitcounter.store import keys
from hitcounter.store.keys import SiteKeys


class Kept(NamedTuple):
    """A record that is applied, in a quarter of the memory of one that is not."""

    number: int
    confirmed_at_s: float
    sites: tuple[SiteKeys, ...]
    rest: bytes  # the counts of sites; how keys of pages begin; their names, limits and counts

    @classmethod
    def of(cls, number: int, confirmed_at_s: float, pageviews: Pageviews) -> Self:
        """Pack what a record adds, which was confirmed at an instant."""
        begin, names = "", []
        for page in pageviews.pages:
            begin, _, name = page.key.partition(keys.PAGE)
            names.append(name)
        limits = [page.limit for page in pageviews.pages]
        counts, page_counts = [*pageviews.sites.values()], [*pageviews.pages.values()]
        rest = pickle.dumps((counts, begin, names, limits, page_counts))
        return cls(number, confirmed_at_s, tuple(pageviews.sites), rest)

    @property
    def pageviews(self) -> Pageviews:
        """Return what it adds."""
        counts, begin, names, limits, page_counts = pickle.loads(self.rest)  # noqa: S301 -- ours
        page_keys = (f"{begin}{keys.PAGE}{name}" for name in names)
        pages = map(keys.page_keys_of, page_keys, limits)
        return Pageviews(
            dict(zip(self.sites, counts, strict=True)), dict(zip(pages, page_counts, strict=True))
        )
