"""The ids of the hits that this worker was given lately: a retry finds the hit that it repeats."""

import asyncio
import time
from typing import Any

MAX_IDS = 100_000
HALF_LIFE_S = 600.0

Hit = asyncio.Future[Any]


class SameHit(Exception):
    """Another hit with this id is counted."""


class RecentIds:
    """The ids of at least ten minutes, or of the last `MAX_IDS` hits where these came faster."""

    def __init__(self) -> None:
        """Know no id."""
        # By id: the hit while it waits, then None.
        self._new: dict[str, Hit | None] = {}
        self._old: dict[str, Hit | None] = {}
        self._turn_at_s = time.monotonic() + HALF_LIFE_S

    def add(self, id_: str, hit: Hit) -> None:
        """Remember a hit, unless it will be refused."""
        if len(self._new) >= MAX_IDS or time.monotonic() >= self._turn_at_s:
            self._old, self._new = self._new, {}
            self._turn_at_s = time.monotonic() + HALF_LIFE_S
        self._new[id_] = hit
        hit.add_done_callback(lambda hit: self._settle(id_, hit))

    def _settle(self, id_: str, hit: Hit) -> None:
        is_refused = not hit.cancelled() and not isinstance(hit.exception(), SameHit | None)
        for ids in (self._new, self._old):
            if ids.get(id_) is hit:
                if is_refused:
                    del ids[id_]
                else:
                    ids[id_] = None

    async def is_repeat(self, id_: str) -> bool:
        """Tell whether the hit of an id is counted; wait for one that is on its way."""
        while id_ in self._new or id_ in self._old:
            hit = self._new.get(id_) or self._old.get(id_)
            if hit is None:
                return True
            await asyncio.wait([hit])
        return False
