"""The only module that speaks Redis.

Every question ends in an answer, a `StoreError` (no answer: done or not done, nobody knows; or a
refusal) or a `StoreUnfitError`. Nothing is ever sent twice behind our back: the write protocol
resends by itself, and a client that repeats an increment would count it twice.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha1
from importlib import resources
from secrets import token_hex
from typing import Any, Self, TypeVar, cast

import msgspec
from hiredis import pack_command
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, NoScriptError, OutOfMemoryError, ResponseError

from hitcounter.errors import (
    ConfigError,
    CounterError,
    StoreError,
    StoreForbidsError,
    StoreFullError,
    StoreRefusesError,
    StoreUnfitError,
)
from hitcounter.exactly_once.records import Chunk, Pageviews
from hitcounter.store import keys
from hitcounter.store.durability import StoreFacts, faults
from hitcounter.store.keys import MAX_COUNT, SiteKeys

N_LANES = 1
BATCH_KEYS = 1_000
_CONNECTIONS = 8
_POLL_S = 0.05
REHEARSE_EVERY_S = 1.0  # at most
PROBE_S = 60
REMOVED = b"removed"  # what a counter says that was taken out, until it is deleted
# Longer than an outage that a worker with a removed site in mind may be in.
TOMBSTONE_S = 30 * 24 * 3600
MAX_IDS = 100_000  # that one writer claims in a stretch, of up to 290 bytes each
STRETCH_S = 600  # for which an id of a hit stands for that hit, and up to twice as long

Answer = TypeVar("Answer")

_pack = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class _Script:
    text: str
    sha: str

    @classmethod
    def read(cls, name: str) -> Self:
        text = resources.files("hitcounter.store").joinpath("lua", name).read_text("utf-8")
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


_COMMIT = _Script.read("commit.lua")
_REPLACE = _Script.read("replace.lua")
_ADMIT = _Script.read("admit.lua")
_CLAIM = _Script.read("claim.lua")
_TAKE = _Script.read("take.lua")
_SWEEP = _Script.read("sweep.lua")
_SCRIPTS = (_COMMIT, _REPLACE, _ADMIT, _CLAIM)
# How servers say that something is never done for us, rather than not now.
_FORBIDDEN = re.compile(r"^unknown command|ACL failure|can't (run this command|access)")
_COMMAND = re.compile(r"'([\w|]+)'")
_SCRIPT_LINE = re.compile(r"script: (\w{40}), on @user_script:(\d+)")
_CALL = re.compile(r"redis\.call\('(\w+)'")


class Store:
    """One store, reached through one small pool of connections."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Prepare to talk to the store at `url`; nothing is sent yet."""
        self._timeout_s = timeout_s
        self._rehearsing = asyncio.Lock()
        self._rehearse_at_s = 0.0
        try:
            # Any: the client's own types know neither that replies are bytes nor execute_command.
            self._redis: Any = self._client(url, timeout_s)
            self._new_connection()  # which reads the rest of the URL
        except (ValueError, TypeError) as error:
            raise ConfigError(f"redis_url: {error}") from None

    @staticmethod
    def _client(url: str, timeout_s: float) -> Redis:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=timeout_s,
            socket_timeout=None,  # `_ask` and `Line` hold the clock for the whole question
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            legacy_responses=False,
        )
        return Redis(connection_pool=pool)

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    def connect(self, lane: int, writer: str) -> "WriterConnection":
        """Open a line for one writer."""
        return WriterConnection(self._new_connection(), self._timeout_s, lane, writer)

    def _new_connection(self) -> Any:
        return self._redis.connection_pool.make_connection()

    async def read(self, names: Sequence[str]) -> list[int | None]:
        """Read counters, all at one moment; None where nothing was counted yet.

        Raise `CounterError` where one holds no integer.
        """
        return [parse_count(name, raw) for name, raw in (await self.read_raw(names)).items()]

    async def read_raw(self, names: Iterable[str]) -> dict[str, bytes | None]:
        """Read counters, all at one moment, for `parse_count` to understand."""
        names = list(names)
        values = await self._ask(lambda redis: redis.mget(names)) if names else []
        return dict(zip(names, values, strict=True))

    async def replace(
        self,
        pages_key: str,
        pages: Mapping[str, int],
        counters: Mapping[str, int],
        *,
        only_raise: bool,
    ) -> int:
        """Set pages and counters of one site at once, or with `only_raise` those that grow.

        Return how many changed.
        """
        names = [pages_key, *pages, *counters]
        args = [len(pages), int(only_raise), *pages.values(), *counters.values()]
        return int(await self._run(_REPLACE, names, args))

    async def admit_site(self, site: str, limit: int) -> bool:
        """Register a site unless it would be one more than `limit`; tell whether it is known."""
        return not await self.refused_sites([site], limit)

    async def refused_sites(self, sites: Sequence[str], limit: int) -> list[str]:
        """Register sites as long as there are no more than `limit`; list those that are not."""
        refused: list[str] = []
        for start in range(0, len(sites), BATCH_KEYS):
            batch = sites[start : start + BATCH_KEYS]
            admitted = await self._run(_ADMIT, [keys.SITES_KEY], [limit, *batch])
            refused += [site for site, is_in in zip(batch, admitted, strict=True) if not is_in]
        return refused

    async def n_sites(self) -> int:
        """Count the registered sites."""
        return int(await self._ask(lambda redis: redis.scard(keys.SITES_KEY)))

    async def sites(self) -> set[str]:
        """List the registered sites."""
        members = await self._ask(lambda redis: redis.smembers(keys.SITES_KEY))
        return {member.decode() for member in members}

    async def take(
        self, site: str, names: Sequence[str], *, below: int = MAX_COUNT + 1, removed_ms: int = 0
    ) -> dict[str, int] | None:
        """Take pages and counters of a site out, the pages only where they are `below` a number.

        With `removed_ms`, leave a tombstone; then None says that the site has other pages, and that
        nothing was done. Return what was taken. Pages come before other counters in `names`.
        """
        lane = keys.lane_of(site, N_LANES)
        pages_key, removed_key = keys.pages_key(lane, site), keys.removed_key(lane, site)
        n_pages = sum(keys.counter_of(name).is_page for name in names)
        args = [n_pages, below, removed_ms or ""]
        values = await self._run(_TAKE, [pages_key, *names, removed_key], args)
        if len(values) < len(names):
            return None
        await self._run(_SWEEP, [pages_key, *names], [])
        if removed_ms:
            await self._ask(lambda redis: redis.expire(removed_key, TOMBSTONE_S))
            await self._ask(lambda redis: redis.srem(keys.SITES_KEY, site))
        return {name: int(value) for name, value in zip(names, values, strict=True) if value}

    async def removed_sites(self, sites: Sequence[str]) -> set[str]:
        """Find the sites that were taken out."""
        names = [keys.removed_key(keys.lane_of(site, N_LANES), site) for site in sites]
        found = await self.read_raw(names)
        return {site for site, value in zip(sites, found.values(), strict=True) if value}

    async def counter_keys(
        self, kinds: Iterable[str] = ("site", "page"), site: str = "*"
    ) -> AsyncIterator[str]:
        """Walk through the keys of all counters; one that appears meanwhile may be missed."""
        # A page of another site may be called `/}:page:demo:/x`: only a whole prefix tells.
        lane = "*" if site == "*" else keys.lane_of(site, N_LANES)
        for kind in kinds:
            cursor = 0
            while True:
                cursor, found = await self._scan(cursor, f"hc:{{{lane}}}:{kind}:{site}:*")
                for key in found:
                    yield key.decode(errors="surrogateescape")
                if cursor == 0:
                    break

    async def _scan(self, cursor: int, pattern: str) -> tuple[int, list[bytes]]:
        answer = await self._ask(lambda redis: redis.scan(cursor, match=pattern, count=BATCH_KEYS))
        return int(answer[0]), answer[1]

    async def facts(self, *, create: bool = True) -> StoreFacts:
        """Ask the store about itself, each question by itself.

        With `create`, fix the number of lanes of a new store.
        """
        refusals: dict[str, str] = {}

        async def told(question: str, asking: Awaitable[Answer]) -> Answer | None:
            try:
                return await asking
            except StoreRefusesError as error:  # managed stores forbid some questions
                refusals[question] = str(error.__cause__)
                return None

        info = await told("INFO", self._ask(lambda redis: redis.info())) or {}
        config = await told("CONFIG GET", self._ask(lambda redis: redis.config_get("appendfsync")))
        known = (name for name in ("valkey", "redis") if f"{name}_version" in info)
        server = next(known, "server")
        return StoreFacts(
            server=server,
            version=_version(info.get(f"{server}_version")),
            maxmemory_policy=info.get("maxmemory_policy"),
            appendonly=bool(info["aof_enabled"]) if "aof_enabled" in info else None,
            appendfsync=(config or {}).get("appendfsync"),
            role=info.get("role"),
            lanes=await self._lanes(may_set=create and info.get("role") in ("master", None)),
            clock_skew_s=await told("TIME", self._clock_skew_s()),
            refusals=refusals,
        )

    async def _lanes(self, *, may_set: bool) -> int:
        stored = await self._ask(lambda redis: redis.get(keys.LANES_KEY))
        if stored is None and may_set:
            await self._ask(lambda redis: redis.set(keys.LANES_KEY, N_LANES, nx=True))
            stored = await self._ask(lambda redis: redis.get(keys.LANES_KEY))
        if not (stored or b"0").isdigit():
            raise StoreUnfitError(f"{keys.LANES_KEY} does not hold a number of lanes")
        return int(stored or N_LANES)

    async def _clock_skew_s(self) -> float:
        asked_at_s = time.time()
        seconds, microseconds = await self._ask(lambda redis: redis.time())
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
                    raise _forbidden(error) from None
                if time.monotonic() >= deadline_s:
                    raise
            await asyncio.sleep(_POLL_S)
        found = faults(facts, N_LANES)
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
                raise _forbidden(error) from None
            return replace(facts, hit_refusal=str(error.__cause__))
        return facts

    async def _rehearse(self, *, is_open: bool) -> None:
        name = f"probe{token_hex(8)}"  # a writer that never counts a hit
        line = self.connect(0, name)
        try:
            await line.rehearse()
        finally:
            await line.close()
        if is_open:
            await self.n_sites()
            await self.sites()
            probe = keys.sites_probe_key(name)
            await self._run(_ADMIT, [probe], [1, name])
            await self._ask(lambda redis: redis.expire(probe, PROBE_S))

    async def _run(self, script: _Script, names: Iterable[str], args: Iterable[Any]) -> Any:
        names = list(names)

        async def run(redis: Any) -> Any:
            try:
                return await redis.execute_command("EVALSHA", script.sha, len(names), *names, *args)
            except NoScriptError:
                return await redis.execute_command("EVAL", script.text, len(names), *names, *args)

        return await self._ask(run)

    async def _ask(self, question: Callable[[Any], Awaitable[Answer]]) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await question(self._redis)
        except Exception as error:  # clients also leak AttributeError and the like under churn
            raise _no_answer(error) from error


def parse_count(name: str, raw: bytes | None) -> int | None:
    """Understand what a counter holds; None where nothing was counted yet."""
    try:
        return None if raw in (None, REMOVED) else int(raw)
    except ValueError:
        raise CounterError(f"{name} does not hold an integer") from None


class WriterConnection:
    """The connection of one writer in one lane; one question at a time.

    It bypasses the client and its pool, which cost more per commit than a commit of ten hits, and
    hands the connection one packed command.
    """

    def __init__(self, connection: Any, timeout_s: float, lane: int, writer: str) -> None:
        """Wrap a connection, which connects when it is first needed."""
        self._connection = connection
        self._timeout_s = timeout_s
        self._lane = lane
        self._writer = writer
        self._watermark_key = keys.watermark_key(lane, writer)
        self._expiring_stretch = -1
        self._n_claimed = 0  # in this stretch

    async def commit(self, chunk: Chunk) -> tuple[int, dict[str, int]]:
        """Apply a chunk if its time has come; return the watermark and the values by key.

        The values are those of now, whether or not the chunk was applied by this; -1 stands for a
        page that is not stored.
        """
        counters = chunk.pageviews.counters()
        names = [self._watermark_key, *counters]
        sites = []
        for (count_key, limit), pages in chunk.pageviews.page_counters().items():
            names += (count_key, *pages)
            sites.append((limit, list(pages.values())))
        # One packed argument: the client packs a number per key twenty times slower.
        args = _pack((chunk.expect, chunk.last, list(counters.values()), sites))
        reply = await self._run(_COMMIT, names, args)
        return reply[0], dict(zip(names[1:], reply[1:], strict=True))

    async def watermark(self) -> int:
        """Ask up to which record the store holds this writer."""
        return await self._watermark(self._watermark_key)

    async def _watermark(self, key: str) -> int:
        value = await self._ask("GET", key) or b"0"
        if not value.isdigit():
            raise StoreError(f"{key} does not hold a number")
        return int(value)

    async def claim(self, record: int, ids: Sequence[str], now_s: float) -> list[bool | None]:
        """Claim ids of hits for a record of this writer.

        Tell per id whether it is ours (True), or was of another record that is counted (False), or
        that may be counted yet (None). Beyond `MAX_IDS`, and where the store is full, ids are not
        kept, and all are ours.
        """
        stretch = int(now_s // STRETCH_S)
        ours = f"{self._writer}:{record}"
        names = [keys.ids_key(self._lane, stretch), keys.ids_key(self._lane, stretch - 1)]
        if stretch == self._expiring_stretch and self._n_claimed >= MAX_IDS:
            return [True] * len(ids)
        try:
            holders = [holder.decode() for holder in await self._run(_CLAIM, names, ours, *ids)]
        except StoreFullError:
            return [True] * len(ids)
        if stretch != self._expiring_stretch:
            await self._ask("EXPIRE", names[0], 3 * STRETCH_S)
            self._expiring_stretch, self._n_claimed = stretch, 0
        self._n_claimed += len(ids)
        counted = {holder: await self._is_counted(holder) for holder in {*holders} - {ours}}
        return [holder == ours or (False if counted[holder] else None) for holder in holders]

    async def _is_counted(self, holder: str) -> bool:
        writer, _, record = holder.partition(":")
        return int(record) <= await self._watermark(keys.watermark_key(self._lane, writer))

    async def rehearse(self) -> None:
        """Do all that a hit may need on a counter of no site; only once, and nothing else."""
        probe = keys.probe_key(self._lane, self._writer)
        await self._ask("EVAL", "return 1", 1, probe)  # which a store that lost our scripts needs
        await self.claim(1, [self._writer], -time.time())  # among ids of a time that never was
        await self.commit(Chunk(0, 1, Pageviews({SiteKeys("", probe, (probe,), (probe,)): 1})))
        for key in (probe, self._watermark_key):
            await self._ask("EXPIRE", key, PROBE_S)

    async def forget(self) -> None:
        """Let go of the watermark of this writer, which will never send again.

        Not at once: others may want to know what became of an id.
        """
        await self._ask("EXPIRE", self._watermark_key, 3 * STRETCH_S)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.disconnect(nowait=True)

    async def _run(self, script: _Script, names: Sequence[str], *args: str | bytes) -> Any:
        try:
            return await self._ask("EVALSHA", script.sha, len(names), *names, *args)
        except _UnknownScriptError:
            return await self._ask("EVAL", script.text, len(names), *names, *args)
        except StoreFullError:
            await self._drop_ids(int(time.time() // STRETCH_S))
            raise

    async def _drop_ids(self, stretch: int) -> None:
        """Make room: counters are worth more than what a retry would need."""
        for each in range(stretch - 3, stretch + 1):
            await self._ask("EXPIRE", keys.ids_key(self._lane, each), 0)

    async def _ask(self, *command: str | int | bytes) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                packed = pack_command(cast(Any, command))  # its stub names no variable tuple
                await self._connection.send_packed_command(packed, check_health=False)
                return await self._connection.read_response()
        except NoScriptError as error:
            raise _UnknownScriptError from error
        except Exception as error:
            # What of the answer may still arrive must not be taken for the next one.
            await self._connection.disconnect(nowait=True)
            raise _no_answer(error) from error


class _UnknownScriptError(StoreError):
    """The server does not have the script that we named."""


def _no_answer(error: Exception) -> StoreError:
    if isinstance(error, TimeoutError):
        return StoreError("the store does not answer in time")
    if isinstance(error, OutOfMemoryError):
        return StoreFullError(
            f"the store is full, raise its store_max_mb or maxmemory: {error}", is_forbidden=False
        )
    if isinstance(error, ResponseError):
        return StoreRefusesError(f"the store refuses: {error}", is_forbidden=_is_forbidden(error))
    return StoreError(f"the store does not answer: {error or type(error).__name__}")


def _is_forbidden(error: ResponseError) -> bool:
    return isinstance(error, NoPermissionError) or _FORBIDDEN.search(str(error)) is not None


def _forbidden(error: StoreRefusesError) -> StoreForbidsError:
    """Name the right that is missing; older servers tell only the line of a script."""
    text = str(error)
    named = _COMMAND.search(text)
    if (place := _SCRIPT_LINE.search(text)) and named is None:
        (script,) = [each for each in _SCRIPTS if each.sha == place[1]]
        named = _CALL.search(script.text.splitlines()[int(place[2]) - 1])
    right = f"+{named[1].lower()}" if named else f"~{keys.PATTERN}"
    return StoreForbidsError(f"{text}; a hit needs the right {right}, see docs/operating.md")


def _version(text: object) -> tuple[int, ...] | None:
    numbers = re.match(r"\d+(\.\d+)*", str(text))
    return None if numbers is None else tuple(map(int, numbers[0].split(".")[:3]))
