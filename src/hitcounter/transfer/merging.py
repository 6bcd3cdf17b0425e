"""Gives all that was counted for one site to another.

Each step moves counters at one moment between two commits: what goes from one site is added to the
other. So nothing is lost or counted twice beside a running service, and a command that was cut off
is repeated as it stands.
"""

import time
from collections.abc import Sequence

from hitcounter.config import Config
from hitcounter.errors import CommandError
from hitcounter.site import Site
from hitcounter.store import keys
from hitcounter.store.client import BATCH_KEYS, Store
from hitcounter.store.corrections import inherit, merged
from hitcounter.transfer import housekeeping
from hitcounter.transfer.export import Progress, batches
from hitcounter.transfer.sites import admit


async def merge(store: Store, config: Config, old: str, new: Site, progress: Progress) -> int:
    """Move all counters of a site to another; return how many there were.

    Raise `CommandError` where the store does not hold it, or the other has no room for its pages.
    """
    names = (await housekeeping.counters_of(store, {old}))[old]
    if not names and old not in await merged(store, new.name):
        raise CommandError(f"nothing was changed: the store does not hold {old}")
    await _require_room(store, names, new)
    await admit(store, config, new.name)
    await inherit(store, old, new.name, time.time())

    async def move(some: Sequence[str], removed_ms: int) -> bool:
        return await store.move(old, new.name, some, removed_ms=removed_ms)

    for some in progress(list(batches(names[:-BATCH_KEYS]))):
        await move(some, 0)
    await housekeeping.empty(store, old, names[-BATCH_KEYS:], move)
    return len(names)


async def _require_room(store: Store, names: Sequence[str], new: Site) -> None:
    paths = {counter.name for counter in map(keys.counter_of, names) if counter.is_page}
    there = {keys.counter_of(name).name async for name in store.counter_keys(["page"], new.name)}
    if paths and len(paths | there) > new.max_pages:
        raise CommandError(
            f"nothing was changed: {new.name} would have {len(paths | there)} pages, and its"
            f" max_pages is {new.max_pages}; raise it, or prune pages of both"
        )
