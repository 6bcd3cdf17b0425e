"""What a record adds to the counters, and how a sum of it is cut into records.

The cut depends on nothing but the sum and the rule, so whoever reads a journal later makes the same
records.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, TypeVar

from hitcounter.store.keys import PageKeys, SiteKeys

_SITE_KEYS, _PAGE_KEYS = 5, 2

Key = TypeVar("Key")


class CutRule(NamedTuple):
    """How many keys a record has at most that is cut from a sum, and how many its parts count for.

    Every journal names its own: another rule would cut other records from the same sum.
    """

    max_keys: int
    site_keys: int
    page_keys: int


CUT = CutRule(2_900, _SITE_KEYS, _PAGE_KEYS)


@dataclass(slots=True)
class Pageviews:
    """How many pageviews of which sites and pages: what a record adds to the counters.

    A site's day, month, year and total grow by one number, so they cannot drift apart. What robots
    did is a site with keys of its own.
    """

    sites: dict[SiteKeys, int] = field(default_factory=dict)
    pages: dict[PageKeys, int] = field(default_factory=dict)

    def add(self, site: SiteKeys, page: PageKeys | None) -> None:
        """Add one pageview."""
        self.sites[site] = self.sites.get(site, 0) + 1
        if page is not None:
            self.pages[page] = self.pages.get(page, 0) + 1

    def remove(self, site: SiteKeys, page: PageKeys | None) -> None:
        """Take one pageview back, of a record that was neither sent nor written."""
        _decrement(self.sites, site)
        if page is not None:
            _decrement(self.pages, page)

    def merge(self, other: "Pageviews") -> None:
        """Add all that another one holds."""
        for site, n in other.sites.items():
            self.sites[site] = self.sites.get(site, 0) + n
        for page, n in other.pages.items():
            self.pages[page] = self.pages.get(page, 0) + n

    @property
    def n_keys(self) -> int:
        """Count the keys that a commit of these touches at most."""
        return _SITE_KEYS * len(self.sites) + _PAGE_KEYS * len(self.pages)

    def counters(self) -> dict[str, int]:
        """Tell what to add to which counter of a site; 0 only reads."""
        counters: dict[str, int] = {}
        for site, n in self.sites.items():
            counters.setdefault(site.yesterday, 0)
            for key in site.counted:
                counters[key] = counters.get(key, 0) + n
        return counters

    def by_key(self) -> dict[str, int]:
        """Tell what every counter gains, of sites and of pages."""
        counters = self.counters()
        for page, n in self.pages.items():
            counters[page.key] = counters.get(page.key, 0) + n
        return counters

    def page_counters(self) -> dict[tuple[str, int], dict[str, int]]:
        """Tell what to add to which page, by the site's number of stored pages and its limit."""
        by_site: dict[tuple[str, int], dict[str, int]] = {}
        for page, n in self.pages.items():
            counters = by_site.setdefault((page.count_key, page.limit), {})
            counters[page.key] = counters.get(page.key, 0) + n
        return by_site


def _decrement(counts: dict[Key, int], key: Key) -> None:
    counts[key] -= 1
    if counts[key] == 0:
        del counts[key]


def cut(total: Pageviews, rule: CutRule) -> list[Pageviews]:
    """Divide a sum into records; equal sums give equal records, however they came about."""
    parts, n_keys = [Pageviews()], 0
    for piece in _pieces(total):
        n_piece_keys = rule.site_keys if piece.sites else rule.page_keys
        n_keys += n_piece_keys
        if n_keys > rule.max_keys:
            parts.append(Pageviews())
            n_keys = n_piece_keys
        parts[-1].merge(piece)
    return parts


def _pieces(total: Pageviews) -> Iterator[Pageviews]:
    """Yield every site and then every page, in the order of their names."""
    for site, n in _by_name(total.sites, attrgetter("today")):
        yield Pageviews(sites={site: n})
    for page, n in _by_name(total.pages, attrgetter("key")):
        yield Pageviews(pages={page: n})


def _by_name(counts: Mapping[Key, int], name_of: Callable[[Key], str]) -> Iterator[tuple[Key, int]]:
    """Sum up what has one name, in the order of the names."""
    for _, named in groupby(sorted(counts, key=name_of), name_of):
        same = list(named)
        yield same[0], sum(counts[key] for key in same)
