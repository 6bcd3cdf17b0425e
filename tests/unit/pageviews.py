"""Pageviews as the tests of the protocol count them, and how they compare them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from hitcounter.exactly_once.increments import Pageviews
from hitcounter.exactly_once.kept import Kept
from hitcounter.exactly_once.records import Entry, Record
from hitcounter.store.keys import (
    PageKeys,
    SiteKeys,
    page_key,
    pages_key,
    site_keys,
)

LIMIT = 100
Hit = tuple[SiteKeys, PageKeys | None]


def site_on(day: int, name: str = "demo") -> SiteKeys:
    """Name the counters of a site on a day of April 2019."""
    return site_keys(0, name, f"2019-04-{day:02d}")


def page_of(path: str, name: str = "demo") -> PageKeys:
    """Name the counters of a page."""
    return PageKeys(page_key(0, name, path), pages_key(0, name), LIMIT)


def of(*pageviews: Hit) -> Pageviews:
    """Add up pageviews."""
    total = Pageviews()
    for site, page in pageviews:
        total.add(site, page)
    return total


def flat(pageviews: Pageviews) -> Counter[str]:
    """Sum what a chunk or a record adds, whether to counters or to pages."""
    total = Counter(pageviews.counters())
    for pages in pageviews.page_counters().values():
        total.update(pages)
    return total


def made_anew(pageviews: Pageviews) -> Pageviews:
    """Name the same counters by other objects, as whoever reads a journal does."""
    return Pageviews(
        {replace(site): n for site, n in pageviews.sites.items()},
        {replace(page): n for page, n in pageviews.pages.items()},
    )


def sums(journal: Sequence[Entry]) -> list[Entry]:
    """Sum up what a journal holds by number."""
    totals: dict[int, Pageviews] = {}
    for number, pageviews, _ in journal:
        totals.setdefault(number, Pageviews()).merge(made_anew(pageviews))
    return [Entry(number, totals[number]) for number in sorted(totals)]


def numbers(records: Iterable[Kept | Record]) -> list[int]:
    """Tell the numbers of records, in their order."""
    return [record.number for record in records]
