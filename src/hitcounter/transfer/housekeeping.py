"""Takes out of the store what nobody needs: pages and sites that somebody invented.

What goes is on disk before it goes, as an export that brings it back. It goes between two commits:
a hit is either in what went, and then in the file, or it is counted from zero afterwards. While
that happens no hit waits.
"""

import io
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from hitcounter import disk
from hitcounter.errors import CommandError
from hitcounter.period import buckets_of, day_of
from hitcounter.store import keys
from hitcounter.store.client import BATCH_KEYS, Store
from hitcounter.transfer import export
from hitcounter.transfer.export import Progress, batches, counter_of

# So many counters of a site, its newest among them, go in one step; a script that moves them takes
# hardly more.
_LAST_STEP_KEYS = 3 * BATCH_KEYS // 2
_ATTEMPTS = 10

# Lets counters go, with the site itself where there is a tombstone, in ms; tells whether it did.
Step = Callable[[Sequence[str], int], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Summary:
    """What the store holds of a site; the last day with a hit is empty where there was none."""

    site: str
    total: int
    n_pages: int
    last_day: str


async def summaries(store: Store) -> list[Summary]:
    """Sum up all sites, by name."""
    last_days = dict.fromkeys(await store.sites(), "")
    async for name in store.counter_keys(["site"]):
        site, bucket = counter_of(name).site, counter_of(name).name
        is_day = bucket.count("-") == 2 and not bucket.startswith(keys.ROBOTS)
        last_days[site] = max(last_days.get(site, ""), bucket if is_day else "")
    found = []
    for sites in batches(sorted(last_days)):
        pairs = [(store.lane_of(site), site) for site in sites]
        totals = await store.read([keys.bucket_key(*pair, "total") for pair in pairs])
        n_pages = await store.read([keys.pages_key(*pair) for pair in pairs])
        rows = zip(sites, totals, n_pages, strict=True)
        found += [Summary(site, n or 0, pages or 0, last_days[site]) for site, n, pages in rows]
    return found


async def pages_below(store: Store, site: str, below: int) -> dict[str, int]:
    """Find the pages of a site with fewer pageviews, by key.

    Delete those that a command which was cut off has taken out, and left there.
    """
    names = {name async for name in store.counter_keys(["page"], site)}
    found = await _values(store, names)
    for left in batches(sorted(names - found.keys())):
        await store.sweep([keys.pages_key(store.lane_of(site), site), *left])
    return {name: n for name, n in found.items() if n < below}


async def prune(
    store: Store, site: str, pages: Mapping[str, int], below: int, file: Path, progress: Progress
) -> int:
    """Take pages out that still have fewer pageviews than `below`; return how many that were."""
    with _kept(file, pages) as taken:
        for names in progress(list(batches(sorted(pages)))):
            taken.update(await store.take(site, names, below=below))
    return len(taken)


async def remove(store: Store, sites: Iterable[str], file: Path, progress: Progress) -> int:
    """Take sites out as a whole; return how many counters they had."""
    found = await counters_of(store, set(sites))
    unknown = sorted({site for site in found if not found[site]} - await store.sites())
    if unknown:
        raise CommandError(f"nothing was changed: the store does not hold {', '.join(unknown)}")
    values = await _values(store, (name for names in found.values() for name in names))
    with _kept(file, values) as taken:
        for site in progress(sorted(found)):
            await _remove(store, site, found[site], taken)
    return len(taken)


@contextmanager
def _kept(file: Path, seen: Mapping[str, int]) -> Iterator[Counter[str]]:
    """Keep what is going to be taken, then what was; where that is cut off, all else as seen."""
    _keep(file, seen, is_new=True)
    taken: Counter[str] = Counter()
    try:
        yield taken
    except BaseException:
        _keep(file, {**seen, **taken})
        raise
    _keep(file, taken)


async def _remove(store: Store, site: str, names: list[str], taken: Counter[str]) -> None:
    async def take(some: Sequence[str], removed_ms: int) -> bool:
        found = await store.take(site, some, removed_ms=removed_ms)
        taken.update(found or {})
        return found is not None

    await empty(store, site, names, take)


async def empty(store: Store, site: str, names: list[str], step: Step) -> None:
    """Let the counters of a site go step by step, and with the last ones the site itself."""
    for _ in range(_ATTEMPTS):
        names = sorted({*names, *_of_now(store.lane_of(site), site)}, key=_last_to_go)
        while len(names) > _LAST_STEP_KEYS:
            await step(names[:BATCH_KEYS], 0)
            names = names[BATCH_KEYS:]
        if await step(names, int(time.time() * 1000)):
            return
        names = (await counters_of(store, {site}))[site]  # somebody has counted other pages
    raise CommandError(
        f"{site}: new pages are counted faster than they can be taken out; try again"
    )


def _of_now(lane: int, site: str) -> set[str]:
    """Name what a hit of now may begin, in any zone: its day may be younger than our list."""
    now_s = time.time()
    days = [day_of(now_s + n * 24 * 3600, ZoneInfo("UTC")) for n in (-1, 0, 1)]
    buckets = {bucket for day in days for bucket in buckets_of(day.date)}
    buckets |= {keys.ROBOTS + bucket for bucket in buckets}
    return {keys.bucket_key(lane, site, bucket) for bucket in buckets}


async def counters_of(store: Store, sites: set[str]) -> dict[str, list[str]]:
    """Find the counters of sites: pages, then the oldest days, and last what a hit changes."""
    found: dict[str, set[str]] = {site: set() for site in sites}
    pattern = next(iter(sites)) if len(sites) == 1 else "*"
    async for name in store.counter_keys(site=pattern):
        found.get(counter_of(name).site, set()).add(name)
    return {site: sorted(names, key=_last_to_go) for site, names in found.items()}


def _last_to_go(name: str) -> tuple[bool, int, str]:
    counter = keys.counter_of(name)
    return not counter.is_page, -counter.name.count("-"), name


async def _values(store: Store, names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for batch in batches(sorted(names)):
        values = zip(batch, await store.read(batch), strict=True)
        found |= {name: n for name, n in values if n is not None}
    return found


def _keep(file: Path, values: Mapping[str, int], *, is_new: bool = False) -> None:
    """Write counters as an export; raise `CommandError` where a new file is not new."""
    out = io.BytesIO()
    export.write_counts(out, values)
    try:
        if is_new:
            file.open("xb").close()
        disk.replace(file, out.getvalue())
    except FileExistsError:
        raise CommandError(f"nothing was changed: {file} is there already") from None
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror}") from None
