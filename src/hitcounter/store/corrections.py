"""The notes on why numbers of a site changed: what was taken back, and which sites went into it.

A note is there before its correction, and is shown where the watermark of its writer says that it
was made: whatever breaks between both, no number changes that nobody can explain.
"""

from collections.abc import Mapping
from operator import itemgetter

import msgspec

from hitcounter.store import keys
from hitcounter.store.client import Store

_encode = msgspec.json.Encoder().encode


class Correction(msgspec.Struct, frozen=True):
    """So many pageviews that are taken from a day, and from one page where there is one."""

    date: str
    minus: int
    page: str | None
    because: str
    at: float
    writer: str


async def note(store: Store, site: str, correction: Correction) -> None:
    """Note a correction that is going to be made."""
    key = keys.corrections_key(store.lane_of(site), site)
    await store.ask(lambda redis: redis.hset(key, correction.writer, _encode(correction)))


async def made(store: Store, site: str) -> list[Correction]:
    """List the corrections of a site that were made, the oldest first."""
    lane = store.lane_of(site)
    notes = await store.ask(lambda redis: redis.hgetall(keys.corrections_key(lane, site)))
    read = (msgspec.json.decode(note, type=Correction) for note in notes.values())
    noted = sorted(read, key=lambda correction: correction.at)
    watermarks = await store.read([keys.watermark_key(lane, each.writer) for each in noted])
    return [each for each, watermark in zip(noted, watermarks, strict=True) if watermark]


async def inherit(store: Store, old: str, new: str, at: float) -> None:
    """Note that a site goes into another, which takes over its notes."""
    old_lane, lane = store.lane_of(old), store.lane_of(new)
    await _copy(store, keys.corrections_key(old_lane, old), keys.corrections_key(lane, new))
    await _copy(store, keys.merged_key(old_lane, old), keys.merged_key(lane, new))
    if old not in await merged(store, new):
        await store.ask(lambda redis: redis.hset(keys.merged_key(lane, new), old, at))


async def _copy(store: Store, key: str, to: str) -> None:
    notes = await store.ask(lambda redis: redis.hgetall(key))
    if notes:
        await store.ask(lambda redis: redis.hset(to, mapping=notes))


async def merged(store: Store, site: str) -> Mapping[str, float]:
    """Return when which sites went into a site, in epoch seconds, the first one first."""
    key = keys.merged_key(store.lane_of(site), site)
    notes = await store.ask(lambda redis: redis.hgetall(key))
    return dict(sorted(((old.decode(), float(at)) for old, at in notes.items()), key=itemgetter(1)))
