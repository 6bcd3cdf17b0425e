"""The only module that speaks Redis.

Every question ends in an answer, a `StoreError` (no answer: done or not done, nobody knows) or a
`StoreUnfitError`. Nothing is ever sent twice behind our back: the write protocol resends by
itself, and a client that repeats an increment would count it twice.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib import resources
from typing import Any, Self, TypeVar, cast

import msgspec
from hiredis import pack_command
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError

from hitcounter import keys
from hitcounter.errors import ConfigError, CounterError, StoreError, StoreUnfitError
from hitcounter.guard import StoreFacts, faults
from hitcounter.stream import Chunk

LANES = 1
BATCH_KEYS = 1_000
_CONNECTIONS = 8
_POLL_S = 0.05
STRETCH_S = 600  # for which an id of a hit stands for that hit, and up to twice as long

Answer = TypeVar("Answer")

_pack = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class _Script:
    text: str
    sha: str

    @classmethod
    def read(cls, name: str) -> Self:
        text = resources.files("hitcounter").joinpath("lua", name).read_text("utf-8")
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


_COMMIT = _Script.read("commit.lua")
_REPLACE = _Script.read("replace.lua")
_ADMIT = _Script.read("admit.lua")
_CLAIM = _Script.read("claim.lua")


class Store:
    """One store, reached through one small pool of connections."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Prepare to talk to the store at `url`; nothing is sent yet."""
        self._timeout_s = timeout_s
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

    def line(self, lane: int, writer: str) -> "Line":
        """Open a line for one writer."""
        return Line(self._new_connection(), self._timeout_s, lane, writer)

    def _new_connection(self) -> Any:
        return self._redis.connection_pool.make_connection()

    async def read(self, names: Sequence[str]) -> list[int | None]:
        """Read counters, all at one moment; None where nothing was counted yet.

        Raise `CounterError` where one holds no integer.
        """
        return [number(name, raw) for name, raw in (await self.read_raw(names)).items()]

    async def read_raw(self, names: Iterable[str]) -> dict[str, bytes | None]:
        """Read counters, all at one moment, for `number` to understand."""
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
        return bool(await self._run(_ADMIT, [keys.SITES], [site, limit]))

    async def n_sites(self) -> int:
        """Count the registered sites."""
        return int(await self._ask(lambda redis: redis.scard(keys.SITES)))

    async def sites(self) -> set[str]:
        """List the registered sites."""
        members = await self._ask(lambda redis: redis.smembers(keys.SITES))
        return {member.decode() for member in members}

    async def counter_keys(self) -> AsyncIterator[str]:
        """Walk through the keys of all counters; one that appears meanwhile may be missed."""
        for kind in ("site", "page"):
            cursor = 0
            while True:
                cursor, found = await self._scan(cursor, f"hc:{{*}}:{kind}:*")
                for key in found:
                    yield key.decode(errors="surrogateescape")
                if cursor == 0:
                    break

    async def _scan(self, cursor: int, pattern: str) -> tuple[int, list[bytes]]:
        answer = await self._ask(lambda redis: redis.scan(cursor, match=pattern, count=BATCH_KEYS))
        return int(answer[0]), answer[1]

    async def facts(self) -> StoreFacts:
        """Ask the store about itself, and fix the number of lanes if it is new."""
        info = await self._ask(lambda redis: redis.info())
        lanes = await self._ask(lambda redis: redis.get(keys.LANES))
        if lanes is None and info["role"] == "master":
            await self._ask(lambda redis: redis.set(keys.LANES, LANES, nx=True))
            lanes = await self._ask(lambda redis: redis.get(keys.LANES))
        server = "valkey" if "valkey_version" in info else "redis"
        return StoreFacts(
            server=server,
            version=tuple(int(part) for part in str(info[f"{server}_version"]).split(".")[:3]),
            maxmemory_policy=str(info["maxmemory_policy"]),
            appendonly=bool(info["aof_enabled"]),
            appendfsync=await self._appendfsync(),
            role=str(info["role"]),
            lanes=int(lanes or LANES),
            clock_skew_s=await self._clock_skew_s(),
        )

    async def _clock_skew_s(self) -> float:
        asked_at_s = time.time()
        seconds, microseconds = await self._ask(lambda redis: redis.time())
        return float(seconds + microseconds / 1e6 - (asked_at_s + time.time()) / 2)

    async def _appendfsync(self) -> str:
        async def ask(redis: Any) -> str:
            try:
                answer = await redis.config_get("appendfsync")
            except ResponseError:  # managed stores forbid CONFIG
                return ""
            return str(answer.get("appendfsync", ""))

        return await self._ask(ask)

    async def check(self, wait_s: float = 0.0) -> StoreFacts:
        """Return the store's facts; raise `StoreUnfitError` if it cannot keep exact counts.

        A store that does not answer yet, because it loads its data, has `wait_s` to do so.
        """
        deadline_s = time.monotonic() + wait_s
        while True:
            try:
                facts = await self.facts()
                break
            except StoreError:
                if time.monotonic() >= deadline_s:
                    raise
            await asyncio.sleep(_POLL_S)
        found = faults(facts, LANES)
        if found:
            raise StoreUnfitError("; ".join(found))
        return facts

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


def number(name: str, raw: bytes | None) -> int | None:
    """Understand what a counter holds; None where nothing was counted yet."""
    try:
        return None if raw is None else int(raw)
    except ValueError:
        raise CounterError(f"{name} does not hold an integer") from None


class Line:
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
        that may be counted yet (None).
        """
        stretch = int(now_s // STRETCH_S)
        ours = f"{self._writer}:{record}"
        names = [keys.ids_key(self._lane, stretch), keys.ids_key(self._lane, stretch - 1)]
        holders = [holder.decode() for holder in await self._run(_CLAIM, names, ours, *ids)]
        if stretch != self._expiring_stretch:
            await self._ask("EXPIRE", names[0], 3 * STRETCH_S)
            self._expiring_stretch = stretch
        counted = {holder: await self._is_counted(holder) for holder in {*holders} - {ours}}
        return [holder == ours or (False if counted[holder] else None) for holder in holders]

    async def _is_counted(self, holder: str) -> bool:
        writer, _, record = holder.partition(":")
        return int(record) <= await self._watermark(keys.watermark_key(self._lane, writer))

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
    if isinstance(error, ResponseError):
        return StoreError(f"the store refuses: {error}")
    return StoreError(f"the store does not answer: {error or type(error).__name__}")
