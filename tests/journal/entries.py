"""What tests write to journals, and how they compare what they read back."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from hitcounter.exactly_once.increments import Pageviews
from hitcounter.exactly_once.journals import Journals
from hitcounter.exactly_once.records import Entry
from hitcounter.store.keys import page_keys, site_keys

LIMIT = 10_000
MAX_BYTES = 1 << 24
DAY = "2019-04-19"
DEMO = site_keys(0, "demo", DAY)

Sums = dict[int, dict[str, int]]  # by number, what is added to which counter


def entry(number: int, *paths: str) -> Entry:
    """Make an entry of one pageview of each path of the demo site."""
    pageviews = Pageviews()
    for path in paths:
        pageviews.add(DEMO, page_keys(0, "demo", path, LIMIT))
    return Entry(number, pageviews)


def paths_of(number: int, n: int = 3) -> list[str]:
    """Make paths that tell their entry, and that no packing makes small."""
    return [f"/{number}/{hashlib.sha512(b'%d %d' % (number, i)).hexdigest()}" for i in range(n)]


def whole(number: int, n: int = 3) -> Entry:
    """Make the entry of which nothing may be missing if anything is there."""
    return entry(number, *paths_of(number, n))


def flat(entries: Iterable[Entry]) -> Sums:
    """Tell what entries add, whatever objects name their counters; each number is there once."""
    sums: Sums = {}
    for number, pageviews, _ in entries:
        assert number not in sums
        sums[number] = dict(Counter(pageviews.counters()) + Counter(pages(pageviews)))
    return sums


def pages(pageviews: Pageviews) -> dict[str, int]:
    """Tell what is added to pages; a page may have several objects."""
    total = Counter[str]()
    for page, n in pageviews.pages.items():
        total[page.key] += n
    return total


async def found(directory: Path) -> dict[str, Sums]:
    """Adopt what is in a directory, read it, and leave it there; by the names of the files."""
    sums = {}
    for journal in await Journals(directory, MAX_BYTES).orphans():
        try:
            sums[journal.name] = flat(await journal.sums())
        finally:
            await journal.close()
    return sums


async def found_in_one(directory: Path) -> Sums:
    """Read the one journal that may be in a directory; nothing if there is none."""
    journals = await found(directory)
    assert len(journals) <= 1
    return next(iter(journals.values()), {})


def names(directory: Path) -> set[str]:
    """List the files of a directory."""
    return {path.name for path in directory.iterdir()}
