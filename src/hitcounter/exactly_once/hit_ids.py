"""Ids of recent hits, so that a retry finds the hit that it repeats."""

import asyncio
import time
from hashlib import blake2b
from typing import Any

MAX_IDS = 50_000
GENERATION_S = 600.0

Outcome = asyncio.Future[Any]


class DuplicateHit(Exception):
    """A hit with this id is already counted."""


class HitIds:
    """The ids of at least ten minutes, or of the last `MAX_IDS` hits where these came faster."""

    def __init__(self) -> None:
        # By the digest of an id, which takes a third: the hit while it waits, then None.
        self._new: dict[bytes, Outcome | None] = {}
        self._old: dict[bytes, Outcome | None] = {}
        self._turn_at_s = time.monotonic() + GENERATION_S

    def add(self, id_: str, hit: Outcome) -> None:
        """Remember a hit, unless it will be refused."""
        if len(self._new) >= MAX_IDS or time.monotonic() >= self._turn_at_s:
            self._old, self._new = self._new, {}
            self._turn_at_s = time.monotonic() + GENERATION_S
        digest = _digest(id_)
        self._new[digest] = hit
        hit.add_done_callback(lambda hit: self._settle(digest, hit))

    def _settle(self, digest: bytes, hit: Outcome) -> None:
        is_refused = not hit.cancelled() and not isinstance(hit.exception(), DuplicateHit | None)
        for ids in (self._new, self._old):
            if ids.get(digest) is hit:
                if is_refused:
                    del ids[digest]
                else:
                    ids[digest] = None

    def knows(self, id_: str) -> bool:
        """Return whether a hit of an id is counted, or on its way."""
        digest = _digest(id_)
        return digest in self._new or digest in self._old

    async def is_repeat(self, id_: str) -> bool:
        """Return whether the hit of an id is counted; wait for one that is on its way."""
        digest = _digest(id_)
        while digest in self._new or digest in self._old:
            hit = self._new.get(digest) or self._old.get(digest)
            if hit is None:
                return True
            await asyncio.wait([hit])
        return False


def _digest(id_: str) -> bytes:
    return blake2b(id_.encode(), digest_size=16).digest()
