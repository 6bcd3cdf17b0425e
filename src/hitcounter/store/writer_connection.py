"""The connection of one writer to the store."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec
from hiredis import pack_command
from redis.exceptions import ResponseError

from hitcounter.errors import StoreError, StoreFullError, UnknownScriptError
from hitcounter.store import keys, scripts
from hitcounter.store.refusals import no_answer
from hitcounter.store.scripts import Script, reply_of

MAX_IDS = 100_000  # that one writer claims in a stretch, of up to 290 bytes each
STRETCH_S = 600  # for which an id of a hit stands for that hit, and up to twice as long
PROBE_S = 60
_NEVER = -1  # no watermark is so low: nothing is applied

_pack = msgspec.msgpack.Encoder().encode

Values = Mapping[str, int]
Run = tuple[Sequence[str], Sequence[Any]]  # the keys and the arguments of a script


class Commit(NamedTuple):
    """If the watermark of a lane is `expect`, add to counters and make it `last`.

    Pages come by the number of their site's stored pages and its limit.
    """

    lane: int
    expect: int
    last: int
    counters: Mapping[str, int]
    pages: Mapping[tuple[str, int], Mapping[str, int]]

    @classmethod
    def nothing(cls, lane: int) -> "Commit":
        """Only ask for the watermark.

        By the script, never by GET: only a node that may write may say what it holds.
        """
        return cls(lane, _NEVER, 0, {}, {})


class Answer(NamedTuple):
    """The watermark of a lane, and values by key; -1 stands for a page that is not stored.

    Both are those of now, whether or not what was asked for was applied.
    """

    watermark: int
    values: Values


class WriterConnection:
    """The connection of one writer, for all lanes; one packet of questions at a time.

    It bypasses the client and its pool, which cost more per commit than a commit of ten hits, and
    hands the connection packed commands.
    """

    def __init__(self, connection: Any, timeout_s: float, writer: str) -> None:
        """Wrap a connection, which connects when it is first needed."""
        self._connection = connection
        self._timeout_s = timeout_s
        self._writer = writer
        self._stretch = -1
        self._n_claimed = 0  # in this stretch
        self._expiring: set[int] = set()  # the lanes whose ids of this stretch expire

    async def ask(self, commits: Sequence[Commit]) -> list[Answer | StoreError]:
        """Ask for commits in one round trip; give an answer or an error for each."""
        runs = [_run_of(self._writer, commit) for commit in commits]
        replies = await self._run(scripts.COMMIT, runs)
        for commit, reply in zip(commits, replies, strict=True):
            if isinstance(reply, StoreFullError):
                await self._drop_ids(commit.lane)
        return [
            reply if isinstance(reply, StoreError) else _answer(names, reply)
            for (names, _), reply in zip(runs, replies, strict=True)
        ]

    async def claim(
        self, lane: int, record: int, ids: Sequence[str], now_s: float
    ) -> list[bool | None]:
        """Claim ids of hits for a record of this writer.

        Tell per id whether it is ours (True), or was of another record that is counted (False), or
        that may be counted yet (None). Beyond `MAX_IDS`, and where the store is full, ids are not
        kept, and all are ours.
        """
        stretch = int(now_s // STRETCH_S)
        ours = f"{self._writer}:{record}"
        names = [keys.ids_key(lane, stretch), keys.ids_key(lane, stretch - 1)]
        if stretch != self._stretch:
            self._stretch, self._n_claimed, self._expiring = stretch, 0, set()
        if self._n_claimed >= MAX_IDS:
            return [True] * len(ids)
        try:
            replies = await self._run(scripts.CLAIM, [(names, [ours, *ids])])
            holders = [holder.decode() for holder in reply_of(replies)]
        except StoreFullError:
            await self._drop_ids(lane)
            return [True] * len(ids)
        if lane not in self._expiring:
            await self._do("EXPIRE", names[0], 3 * STRETCH_S)
            self._expiring.add(lane)
        self._n_claimed += len(ids)
        counted = {each: await self._is_counted(lane, each) for each in {*holders} - {ours}}
        return [holder == ours or (False if counted[holder] else None) for holder in holders]

    async def _is_counted(self, lane: int, holder: str) -> bool:
        writer, _, record = holder.partition(":")
        run = _run_of(writer, Commit.nothing(lane))
        (watermark,) = reply_of(await self._run(scripts.COMMIT, [run]))
        return int(record) <= int(watermark)

    async def rehearse(self, lane: int) -> None:
        """Do all that a hit may need on a counter of no site; only once, and nothing else."""
        probe = keys.probe_key(lane, self._writer)
        await self._do("EVAL", "return 1", 1, probe)  # which a store that lost our scripts needs
        never_at_s = -time.time()  # so it claims among ids of a time that never was
        await self.claim(lane, 1, [self._writer], never_at_s)
        reply_of(await self.ask([Commit(lane, 0, 1, {probe: 1}, {})]))
        for key in (probe, keys.watermark_key(lane, self._writer)):
            await self._do("EXPIRE", key, PROBE_S)

    async def forget(self, lane: int) -> None:
        """Let go of the watermark of this writer, which will never send again.

        Not at once: others may want to know what became of an id.
        """
        await self._do("EXPIRE", keys.watermark_key(lane, self._writer), 3 * STRETCH_S)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.disconnect(nowait=True)

    async def _drop_ids(self, lane: int) -> None:
        """Make room: counters are worth more than what a retry would need."""
        stretch = int(time.time() // STRETCH_S)
        names = [keys.ids_key(lane, each) for each in range(stretch - 3, stretch + 1)]
        await self._round_trip([("EXPIRE", name, 0) for name in names])

    async def _run(self, script: Script, runs: Sequence[Run]) -> list[Any]:
        """Run a script once or more in one packet; give a reply or an error for each.

        A store that lacks the script is sent its text.
        """
        said = [(len(names), *names, *args) for names, args in runs]
        replies = await self._round_trip([("EVALSHA", script.sha, *each) for each in said])
        lacking = [n for n, reply in enumerate(replies) if isinstance(reply, UnknownScriptError)]
        if lacking:
            again = await self._round_trip([("EVAL", script.text, *said[n]) for n in lacking])
            for n, reply in zip(lacking, again, strict=True):
                replies[n] = reply
        return replies

    async def _do(self, *command: Any) -> None:
        reply_of(await self._round_trip([command]))

    async def _round_trip(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands in one packet; give a reply or an error for each."""
        replies: list[Any] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                # The stub of `pack_command` names no variable tuple.
                packed = b"".join(pack_command(cast(Any, tuple(each))) for each in commands)
                await self._connection.send_packed_command(packed, check_health=False)
                while len(replies) < len(commands):
                    replies.append(await self._reply())
        except Exception as error:
            replies += [no_answer(error)] * (len(commands) - len(replies))
        if any(_ends_connection(reply) for reply in replies):
            # What of the answers may still arrive must not be taken for the next ones.
            await self._connection.disconnect(nowait=True)
        return replies

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response()
        except ResponseError as error:
            return no_answer(error)


def _run_of(writer: str, commit: Commit) -> Run:
    names = [keys.watermark_key(commit.lane, writer), *commit.counters]
    sites = []
    for (count_key, limit), increments in commit.pages.items():
        names += (count_key, *increments)
        sites.append((limit, list(increments.values())))
    # One packed argument: the client packs a number per key twenty times slower.
    args = _pack((commit.expect, commit.last, list(commit.counters.values()), sites))
    return names, [args]


def _answer(names: Sequence[str], reply: Sequence[int]) -> Answer:
    return Answer(reply[0], dict(zip(names[1:], reply[1:], strict=True)))


def _ends_connection(reply: Any) -> bool:
    return isinstance(reply, StoreError) and not isinstance(reply, UnknownScriptError)
