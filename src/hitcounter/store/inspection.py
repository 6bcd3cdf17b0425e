"""Is this store fit for exact counts, and what does it say of itself?"""

import asyncio
import re
import time
from collections.abc import Awaitable
from dataclasses import replace
from secrets import token_hex
from typing import TypeVar

from hitcounter.errors import StoreError, StoreRefusesError, StoreUnfitError
from hitcounter.store import keys, scripts
from hitcounter.store.client import Store
from hitcounter.store.durability import FORMAT, OLDEST_READER, StoreFacts
from hitcounter.store.refusals import forbidden
from hitcounter.store.writer_connection import PROBE_S

REHEARSE_EVERY_S = 1.0  # at most
_POLL_S = 0.05
_FORMAT = re.compile(rb"(\d{1,9}) (\d[\d.]{0,20})")

Answer = TypeVar("Answer")


class Inspection:
    """Asks one store about itself, and tries what a hit does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rehearsing = asyncio.Lock()
        self._rehearse_at_s = 0.0

    async def facts(self, *, create: bool = True) -> StoreFacts:
        """Ask the store about itself, each question by itself.

        With `create`, fix the format and the number of lanes of a new store.
        """
        refusals: dict[str, str] = {}

        async def told(question: str, asking: Awaitable[Answer]) -> Answer | None:
            try:
                return await asking
            except StoreRefusesError as error:  # managed stores forbid some questions
                refusals[question] = str(error.__cause__)
                return None

        info = await told("INFO", self._store.ask(lambda redis: redis.info())) or {}
        config = await told(
            "CONFIG GET", self._store.ask(lambda redis: redis.config_get("appendfsync"))
        )
        known = (name for name in ("valkey", "redis") if f"{name}_version" in info)
        server = next(known, "server")
        if create and info.get("role") in ("master", None):
            await self._set_up()
        format_, reader = await self._format()
        return StoreFacts(
            server=server,
            version=_version(info.get(f"{server}_version")),
            maxmemory_policy=info.get("maxmemory_policy"),
            appendonly=bool(info["aof_enabled"]) if "aof_enabled" in info else None,
            appendfsync=(config or {}).get("appendfsync"),
            role=info.get("role"),
            lanes=await self._lanes(),
            format=format_,
            reader=reader,
            clock_skew_s=await told("TIME", self._clock_skew_s()),
            memory_bytes=info.get("used_memory", 0),
            memory_limit_bytes=info.get("maxmemory", 0),
            refusals=refusals,
        )

    async def _set_up(self) -> None:
        """Say in a new store what it holds; the lanes come last, and tell that this is done."""
        if await self._store.ask(lambda redis: redis.get(keys.LANES_KEY)) is None:
            format_ = f"{FORMAT} {OLDEST_READER}"
            await self._store.ask(lambda redis: redis.set(keys.FORMAT_KEY, format_, nx=True))
            await self.begins_to_know_robots()
            await self._store.ask(
                lambda redis: redis.set(keys.LANES_KEY, self._store.n_lanes, nx=True)
            )

    async def begins_to_know_robots(self) -> bool:
        """Return whether robots counted as people here until now; whoever asks is the first."""
        begins = await self._store.ask(lambda redis: redis.set(keys.ROBOTS_KEY, 1, nx=True))
        return bool(begins)

    async def _format(self) -> tuple[int, str]:
        stored = await self._store.ask(lambda redis: redis.get(keys.FORMAT_KEY))
        if stored is None:  # set up by a version that wrote the first and did not say so
            return 1, OLDEST_READER
        found = _FORMAT.fullmatch(stored)
        if found is None:
            raise StoreUnfitError(f"{keys.FORMAT_KEY} does not hold a format and a version")
        return int(found[1]), found[2].decode()

    async def _lanes(self) -> int:
        stored = await self._store.ask(lambda redis: redis.get(keys.LANES_KEY))
        if not (stored or b"0").isdigit():
            raise StoreUnfitError(f"{keys.LANES_KEY} does not hold a number of lanes")
        return int(stored or self._store.n_lanes)

    async def _clock_skew_s(self) -> float:
        asked_at_s = time.time()
        seconds, microseconds = await self._store.ask(lambda redis: redis.time())
        return float(seconds + microseconds / 1e6 - (asked_at_s + time.time()) / 2)

    async def check(self, wait_s: float = 0.0, *, create: bool = True) -> StoreFacts:
        """Return the store's facts; raise `StoreUnfitError` if it cannot keep exact counts.

        A store that does not answer yet, because it loads its data, has `wait_s` to do so.
        """
        deadline_s = time.monotonic() + wait_s
        while True:
            try:
                facts = await self.facts(create=create)
                break
            except StoreError as error:
                if isinstance(error, StoreRefusesError) and error.is_forbidden:
                    raise forbidden(error) from None
                if time.monotonic() >= deadline_s:
                    raise
            await asyncio.sleep(_POLL_S)
        found = facts.faults(self._store.n_lanes)
        if found:
            raise StoreUnfitError("; ".join(found))
        return facts

    async def rehearsed(self, *, is_open: bool, create: bool = True) -> StoreFacts:
        """Check the store, and do once what a hit does, on keys that no counter has.

        Raise as `check` does, and `StoreForbidsError` where our user may not do it.
        """
        facts = await self.check(create=create)
        try:
            async with self._rehearsing:  # which costs a write: not for everybody who asks at once
                if time.monotonic() >= self._rehearse_at_s:
                    await self._rehearse(is_open=is_open)
                    self._rehearse_at_s = time.monotonic() + REHEARSE_EVERY_S
        except StoreRefusesError as error:
            if error.is_forbidden:
                raise forbidden(error) from None
            return replace(facts, hit_refusal=str(error.__cause__))
        return facts

    async def _rehearse(self, *, is_open: bool) -> None:
        name = f"probe{token_hex(8)}"  # a writer that never counts a hit
        connection = self._store.connect(name)
        try:
            await connection.rehearse(lane=0)
        finally:
            await connection.close()
        if is_open:
            await self._store.n_sites()
            await self._store.sites()
            probe = keys.sites_probe_key(name)
            await self._store.run(scripts.ADMIT, [probe], [1, name])
            await self._store.ask(lambda redis: redis.expire(probe, PROBE_S))


def _version(text: object) -> tuple[int, ...] | None:
    numbers = re.match(r"\d+(\.\d+)*", str(text))
    return None if numbers is None else tuple(map(int, numbers[0].split(".")[:3]))
