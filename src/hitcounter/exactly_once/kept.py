"""Records that are applied, for as long as the store may forget them: packed, as they are many."""

import pickle
from collections.abc import Iterable, Iterator
from functools import cache
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


def unpacked(kept: Iterable[Kept]) -> Iterator[tuple[int, Pageviews]]:
    """Return the numbers of records and what they add.

    A page is one key in all of them, so that as many fit into a chunk as before.
    """
    page_keys_of = cache(keys.page_keys_of)
    for number, _, sites, rest in kept:
        counts, begin, names, limits, page_counts = pickle.loads(rest)  # noqa: S301 -- ours
        pageviews = Pageviews(dict(zip(sites, counts, strict=True)))
        for name, limit, n in zip(names, limits, page_counts, strict=True):
            page = page_keys_of(f"{begin}{keys.PAGE}{name}", limit)
            pageviews.pages[page] = pageviews.pages.get(page, 0) + n
        yield number, pageviews
