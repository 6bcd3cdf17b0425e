"""What the block shows, set by hand: the numbers of the counter that a site had before."""

from collections.abc import Mapping

from hitcounter.block import LINE_KEYS
from hitcounter.config import Config
from hitcounter.errors import CommandError
from hitcounter.period import day_before, day_of
from hitcounter.site import Site
from hitcounter.store import keys
from hitcounter.store.client import Store
from hitcounter.transfer.sites import admit


async def read_block(store: Store, site: Site, now_s: float) -> dict[str, int]:
    """Read the numbers that the block shows, by line."""
    names = _shown(store, site, day_of(now_s, site.timezone).date)
    values = await store.read(list(names.values()))
    return {key: value or 0 for key, value in zip(names, values, strict=True)}


async def read_robots(store: Store, site: Site, now_s: float) -> dict[str, int]:
    """Read how often robots came, by period."""
    date = day_of(now_s, site.timezone).date
    names = keys.robot_keys(store.lane_of(site.name), site.name, date)
    values = await store.read(names.counted)
    return dict(zip(("today", "month", "year", "total"), (n or 0 for n in values), strict=True))


def _shown(store: Store, site: Site, date: str) -> dict[str, str]:
    lane = store.lane_of(site.name)
    return dict(zip(LINE_KEYS, keys.site_keys(lane, site.name, date).shown, strict=True))


async def set_baseline(
    store: Store,
    config: Config,
    site: Site,
    given: Mapping[str, int],
    pages: Mapping[str, int],
    now_s: float,
) -> dict[str, int]:
    """Make the block show the given lines and pages from now on; return all that it shows."""
    date = day_of(now_s, site.timezone).date
    numbers = await read_block(store, site, now_s) | dict(given)
    contradiction = find_contradiction(numbers, pages, date)
    if contradiction:
        raise CommandError(f"nothing was changed: {contradiction}")
    await admit(store, config, site.name)
    lane, names = store.lane_of(site.name), _shown(store, site, date)
    counts = {keys.page_key(lane, site.name, path): n for path, n in pages.items()}
    counts |= {names[key]: n for key, n in given.items()}
    await store.replace(site.name, counts, only_raise=False)
    return numbers


def find_contradiction(
    numbers: Mapping[str, int], pages: Mapping[str, int], date: str
) -> str | None:
    """Say which two numbers cannot both be true on a day, if there are any."""
    today, yesterday, month, year, total = (numbers[key] for key in LINE_KEYS)
    eve = day_before(date)
    since_month = today + (yesterday if eve[:7] == date[:7] else 0)
    since_year = today + (yesterday if eve[:4] == date[:4] else 0)
    checks = [
        (since_month, "the days of this month", month, "month"),
        (since_year, "the days of this year", year, "year"),
        (today + yesterday, "today and yesterday", total, "total"),
        (month, "month", year, "year"),
        (year, "year", total, "total"),
        *((n, f"page {path}", total, "total") for path, n in pages.items()),
    ]
    for part, part_name, whole, whole_name in checks:
        if part > whole:
            return f"{part_name} ({part}) cannot be more than {whole_name} ({whole})"
    return None
