"""The connection of one writer to the store."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
from hiredis import pack_command
from redis.exceptions import NoScriptError

from hitcounter.errors import StoreFullError
from hitcounter.store import keys, scripts
from hitcounter.store.refusals import no_answer
from hitcounter.store.scripts import Script

MAX_IDS = 100_000  # that one writer claims in a stretch, of up to 290 bytes each
STRETCH_S = 600  # for which an id of a hit stands for that hit, and up to twice as long
PROBE_S = 60
_NEVER = -1  # no watermark is so low: nothing is applied

_pack = msgspec.msgpack.Encoder().encode


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

    async def commit(
        self,
        expect: int,
        last: int,
        counters: Mapping[str, int],
        pages: Mapping[tuple[str, int], Mapping[str, int]],
    ) -> tuple[int, dict[str, int]]:
        """Add to counters and make the watermark `last`, if it is `expect`.

        Pages come by the number of their site's stored pages and its limit. Return the watermark
        and the values by key: those of now, whether or not this was applied; -1 stands for a page
        that is not stored.
        """
        names = [self._watermark_key, *counters]
        sites = []
        for (count_key, limit), increments in pages.items():
            names += (count_key, *increments)
            sites.append((limit, list(increments.values())))
        # One packed argument: the client packs a number per key twenty times slower.
        args = _pack((expect, last, list(counters.values()), sites))
        reply = await self._run(scripts.COMMIT, names, args)
        return reply[0], dict(zip(names[1:], reply[1:], strict=True))

    async def watermark(self) -> int:
        """Ask up to which record the store holds this writer."""
        return await self._watermark(self._watermark_key)

    async def _watermark(self, key: str) -> int:
        # By the script, never by GET: only a node that may write may say what it holds.
        (watermark,) = await self._run(scripts.COMMIT, [key], _pack((_NEVER, 0, (), ())))
        return int(watermark)

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
            holders = [
                holder.decode() for holder in await self._run(scripts.CLAIM, names, ours, *ids)
            ]
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
        await self.commit(0, 1, {probe: 1}, {})
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

    async def _run(self, script: Script, names: Sequence[str], *args: str | bytes) -> Any:
        try:
            return await scripts.run(self._ask, script, names, args)
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
        except Exception as error:
            if not isinstance(error, NoScriptError):
                # What of the answer may still arrive must not be taken for the next one.
                await self._connection.disconnect(nowait=True)
            raise no_answer(error) from error
