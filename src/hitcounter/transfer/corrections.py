"""Takes back what should not have been counted, and keeps how much that was, when and why.

A correction is the only record of a writer of its own, so whoever sends it twice makes it once. Its
note is there before it, and is shown where the watermark says that it was made: whatever breaks
between both, no number changes that nobody can explain.
"""

import datetime as dt

import msgspec

from hitcounter.errors import CommandError, StoreError
from hitcounter.period import Day
from hitcounter.site import Site
from hitcounter.store import keys
from hitcounter.store.client import Store
from hitcounter.store.writer_connection import Commit

_ATTEMPTS = 5


class Correction(msgspec.Struct, frozen=True):
    """So many pageviews that are taken from a day, and from one page where there is one."""

    date: str
    minus: int
    page: str | None
    because: str
    at: float
    writer: str


async def correct(store: Store, site: Site, correction: Correction) -> None:
    """Take pageviews from day, month, year, total and page together; never more than there are."""
    lane, n, page = store.lane_of(site.name), correction.minus, correction.page
    day = Day(dt.date.fromisoformat(correction.date), 0, 0)
    counted = dict.fromkeys(keys.site_keys(lane, site.name, day).counted, -n)
    key = keys.page_key(lane, site.name, page or "")
    pages = {(keys.pages_key(lane, site.name), 0): {key: -n}} if page else {}
    names = [*counted, key] if page else [*counted]
    for name, value in zip(names, await store.read(names), strict=True):
        if (value or 0) < n:
            seen = f"{keys.counter_of(name).name} has {value or 0} pageviews"
            raise CommandError(f"nothing was changed: {seen}")
    note = msgspec.json.encode(correction)
    await store.ask(lambda redis: redis.sadd(keys.corrections_key(lane, site.name), note))
    await _commit(store, Commit(lane, 0, 1, counted, pages), correction.writer)


async def _commit(store: Store, commit: Commit, writer: str) -> None:
    """Send it until the store answers; it is applied once."""
    connection = store.connect(writer)
    try:
        for _ in range(_ATTEMPTS):
            (answer,) = await connection.ask([commit])
            if not isinstance(answer, StoreError):
                return
        raise CommandError("the store gave no answer: show tells whether this was taken back")
    finally:
        await connection.close()


async def made(store: Store, site: Site) -> list[Correction]:
    """List the corrections of a site that were made, the oldest first."""
    lane = store.lane_of(site.name)
    notes = await store.ask(lambda redis: redis.smembers(keys.corrections_key(lane, site.name)))
    all_ = sorted(
        (msgspec.json.decode(note, type=Correction) for note in notes), key=lambda c: c.at
    )
    watermarks = await store.read([keys.watermark_key(lane, each.writer) for each in all_])
    return [each for each, watermark in zip(all_, watermarks, strict=True) if watermark]
