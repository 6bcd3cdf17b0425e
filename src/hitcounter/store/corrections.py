"""The notes on what was taken back from a site: how much, when and why.

A note is there before its correction, and is shown where the watermark of its writer says that it
was made: whatever breaks between both, no number changes that nobody can explain.
"""

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
    await store.ask(lambda redis: redis.hsetnx(key, correction.writer, _encode(correction)))


async def made(store: Store, site: str) -> list[Correction]:
    """List the corrections of a site that were made, the oldest first."""
    lane = store.lane_of(site)
    notes = await store.ask(lambda redis: redis.hvals(keys.corrections_key(lane, site)))
    read = (msgspec.json.decode(note, type=Correction) for note in notes)
    noted = sorted(read, key=lambda correction: correction.at)
    watermarks = await store.read([keys.watermark_key(lane, each.writer) for each in noted])
    return [each for each, watermark in zip(noted, watermarks, strict=True) if watermark]
