"""What commands and workers ask the store, besides the commits of writers.

Every question ends in an answer, a `StoreError` (no answer: done or not done, nobody knows; or a
refusal) or a `StoreUnfitError`. Nothing is ever sent twice behind our back: the write protocol
resends by itself, and a client that repeats an increment would count it twice.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from hitcounter.errors import ConfigError, CounterError, UnknownScriptError
from hitcounter.store import keys, scripts
from hitcounter.store.keys import MAX_COUNT
from hitcounter.store.refusals import no_answer
from hitcounter.store.scripts import Script
from hitcounter.store.writer_connection import WriterConnection

N_LANES = 1
BATCH_KEYS = 1_000
_CONNECTIONS = 8
REMOVED = b"removed"  # what a counter says that was taken out, until it is deleted
# Longer than an outage that a worker with a removed site in mind may be in.
TOMBSTONE_S = 30 * 24 * 3600

Answer = TypeVar("Answer")


class Store:
    """One store, reached through one small pool of connections."""

    def __init__(self, url: str, timeout_s: float, n_lanes: int = N_LANES) -> None:
        self.n_lanes = n_lanes
        self._timeout_s = timeout_s
        try:
            # Any: the client has no types for `make_connection`, and wrong ones for replies: bytes.
            self._pool: Any = BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=timeout_s,
                socket_timeout=None,  # whoever asks holds the clock for the whole question
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
                legacy_responses=False,
            )
            self.connect("")  # which reads the rest of the URL
        except (ValueError, TypeError) as error:
            raise ConfigError(f"redis_url: {error}") from None
        self._redis: Any = Redis(connection_pool=self._pool)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.disconnect()

    def connect(self, writer: str) -> WriterConnection:
        """Open a connection for one writer."""
        return WriterConnection(self._pool.make_connection(), self._timeout_s, writer)

    def lane_of(self, site: str) -> int:
        """Return the number of the lane that a site is in."""
        return keys.lane_of(site, self.n_lanes)

    async def read(self, names: Sequence[str]) -> list[int | None]:
        """Read counters, all at one moment; None where nothing was counted yet.

        Raise `CounterError` where one holds no integer.
        """
        return [parse_count(name, raw) for name, raw in (await self.read_raw(names)).items()]

    async def read_raw(self, names: Iterable[str]) -> dict[str, bytes | None]:
        """Read counters, all at one moment, for `parse_count` to understand."""
        names = list(names)
        values = await self.ask(lambda redis: redis.mget(names)) if names else []
        return dict(zip(names, values, strict=True))

    async def replace(self, site: str, counts: Mapping[str, int], *, only_raise: bool) -> int:
        """Set pages and counters of one site at once, or with `only_raise` those that grow.

        Return how many changed.
        """
        names = sorted(counts, key=_is_page, reverse=True)
        args = [_n_pages(names), int(only_raise), *(counts[name] for name in names)]
        pages_key = keys.pages_key(self.lane_of(site), site)
        return int(await self.run(scripts.REPLACE, [pages_key, *names], args))

    async def admit_site(self, site: str, limit: int) -> bool:
        """Register a site unless it would be one more than `limit`; tell whether it is known."""
        return not await self.refused_sites([site], limit)

    async def refused_sites(self, sites: Sequence[str], limit: int) -> list[str]:
        """Register sites as long as there are no more than `limit`; list those that are not."""
        refused: list[str] = []
        for start in range(0, len(sites), BATCH_KEYS):
            batch = sites[start : start + BATCH_KEYS]
            admitted = await self.run(scripts.ADMIT, [keys.SITES_KEY], [limit, *batch])
            refused += [site for site, is_in in zip(batch, admitted, strict=True) if not is_in]
        return refused

    async def n_sites(self) -> int:
        """Count the registered sites."""
        return int(await self.ask(lambda redis: redis.scard(keys.SITES_KEY)))

    async def sites(self) -> set[str]:
        """List the registered sites."""
        members = await self.ask(lambda redis: redis.smembers(keys.SITES_KEY))
        return {member.decode() for member in members}

    async def take(
        self, site: str, names: Sequence[str], *, below: int = MAX_COUNT + 1, removed_ms: int = 0
    ) -> dict[str, int] | None:
        """Take pages and counters of a site out, the pages only where they are `below` a number.

        With `removed_ms`, leave a tombstone; then None says that the site has other pages, and that
        nothing was done. Return what was taken. Pages come before other counters in `names`.
        """
        lane = self.lane_of(site)
        pages_key, removed_key = keys.pages_key(lane, site), keys.removed_key(lane, site)
        args = [_n_pages(names), below, removed_ms or ""]
        values = await self.run(scripts.TAKE, [pages_key, *names, removed_key], args)
        if len(values) < len(names):
            return None
        await self._sweep(site, names, is_removed=bool(removed_ms))
        return {name: int(value) for name, value in zip(names, values, strict=True) if value}

    async def move(self, old: str, new: str, names: Sequence[str], *, removed_ms: int = 0) -> bool:
        """Move pages and counters of one site to another, where they are added.

        With `removed_ms`, leave a tombstone; return False, having done nothing, where the old
        site has other pages. Pages come before other counters in `names`.
        """
        lane, to_lane = self.lane_of(old), self.lane_of(new)
        to = [keys.counter_of(name)._replace(site=new).key(to_lane) for name in names]
        pages_keys = [keys.pages_key(lane, old), keys.pages_key(to_lane, new)]
        args = [_n_pages(names), removed_ms or ""]
        all_names = [*pages_keys, *names, *to, keys.removed_key(lane, old)]
        moved = await self.run(scripts.MOVE, all_names, args)
        if len(moved) < len(names):
            return False
        await self._sweep(old, names, is_removed=bool(removed_ms))
        return True

    async def _sweep(self, site: str, names: Sequence[str], *, is_removed: bool) -> None:
        """Delete what was marked as removed, and all else of a site that is."""
        lane = self.lane_of(site)
        if is_removed:
            notes = keys.corrections_key(lane, site), keys.merged_key(lane, site)
            removed_key = keys.removed_key(lane, site)
            await self.ask(lambda redis: redis.expire(removed_key, TOMBSTONE_S))
            await self.ask(lambda redis: redis.srem(keys.SITES_KEY, site))
            await self.ask(lambda redis: redis.delete(*notes))
        # Last: as long as anything is there, whoever was cut off can go on.
        await self.sweep([keys.pages_key(lane, site), *names])

    async def sweep(self, names: Sequence[str]) -> None:
        """Delete what is marked as taken out."""
        await self.run(scripts.SWEEP, names, [])

    async def removed_sites(self, sites: Sequence[str]) -> set[str]:
        """Find the sites that were taken out."""
        names = [keys.removed_key(self.lane_of(site), site) for site in sites]
        found = await self.read_raw(names)
        return {site for site, value in zip(sites, found.values(), strict=True) if value}

    async def counter_keys(
        self, kinds: Iterable[str] = ("site", "page"), site: str = "*"
    ) -> AsyncIterator[str]:
        """Walk through the keys of all counters; one that appears meanwhile may be missed."""
        # A page of another site may be called `/}:page:demo:/x`: only a whole prefix tells.
        lane = "*" if site == "*" else self.lane_of(site)
        for kind in kinds:
            cursor = 0
            while True:
                cursor, found = await self._scan(cursor, f"hc:{{{lane}}}:{kind}:{site}:*")
                for key in found:
                    yield key.decode(errors="surrogateescape")
                if cursor == 0:
                    break

    async def _scan(self, cursor: int, pattern: str) -> tuple[int, list[bytes]]:
        answer = await self.ask(lambda redis: redis.scan(cursor, match=pattern, count=BATCH_KEYS))
        return int(answer[0]), answer[1]

    async def run(self, script: Script, names: Sequence[str], args: Iterable[Any]) -> Any:
        """Run a script; a store that lacks it is sent its text."""
        said = (len(names), *names, *args)
        try:
            return await self.ask(lambda redis: redis.evalsha(script.sha, *said))
        except UnknownScriptError:
            return await self.ask(lambda redis: redis.eval(script.text, *said))

    async def ask(self, question: Callable[[Any], Awaitable[Answer]]) -> Answer:
        """Put a question to the client; raise `StoreError` where there is no answer."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await question(self._redis)
        except Exception as error:
            raise no_answer(error) from error


def _is_page(name: str) -> bool:
    return keys.counter_of(name).is_page


def _n_pages(names: Iterable[str]) -> int:
    return sum(map(_is_page, names))


def parse_count(name: str, raw: bytes | None) -> int | None:
    """Understand what a counter holds; None where nothing was counted yet."""
    try:
        return None if raw in (None, REMOVED) else int(raw)
    except ValueError:
        raise CounterError(f"{name} does not hold an integer") from None
