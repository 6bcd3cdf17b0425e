"""`hitcounter correct` and `merge`: the production code, as processes that die at any moment."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from hitcounter.config import Config
from hitcounter.errors import CommandError, StoreError
from hitcounter.store import corrections as notes
from hitcounter.store import scripts
from hitcounter.store.client import Answer, Store
from hitcounter.store.scripts import Script
from hitcounter.store.writer_connection import WriterConnection
from hitcounter.transfer import corrections, merging
from tests.simulation.events import Events
from tests.simulation.ledger import SITES, Ledger, Merged, Taken
from tests.simulation.network import Network, SimulatedLine
from tests.simulation.schedule import CORRECTS, MERGES
from tests.simulation.store import Move, Note, Notes, Read, Scan

BECAUSE = "a simulation"


class Surroundings(Protocol):
    """What a command finds when it starts."""

    network: Network
    events: Events
    ledger: Ledger
    n_lanes: int


class CommandStore(Store):
    """The store, as a command asks it."""

    def __init__(self, around: Surroundings, command: "Command") -> None:
        """Ask on a line of its own, beside those of writers."""
        self.n_lanes = around.n_lanes
        self._around = around
        self._command = command
        self._line = around.network.open("", command)

    def connect(self, writer: str) -> WriterConnection:
        """Open a line for a writer."""
        return self._around.network.open(writer, self._command)

    async def read(self, names: Sequence[str]) -> list[int | None]:
        """Read counters."""
        if not names:
            return []
        reply = await self._line.ask_one(Read(names[0], tuple(names)))
        return [reply.values.get(name) for name in names]

    async def _scan(self, _: int, pattern: str) -> tuple[int, list[bytes]]:
        reply = await self._line.ask_one(Scan("", pattern))
        return 0, [key.encode() for key in reply.values]

    async def run(self, script: Script, names: Sequence[str], args: Iterable[Any]) -> Any:
        """Run a script: what is moved is gone at once, so there is nothing to sweep."""
        if script is scripts.ADMIT:
            return [True]
        if script is scripts.MOVE:
            self._around.events.note(MERGES, *names[:2])
            n_pages, tombstone = args
            reply = await self._line.ask_one(Move(names[0], tuple(names), n_pages, tombstone))
            return reply.moved
        await self._line.ask_one(Read(names[0], ()))
        return None

    async def ask(self, question: Callable[[Any], Awaitable[Answer]]) -> Answer:
        """Ask for notes, or leave one."""
        return await question(_Client(self._line, self._around.events))


class _Client:
    """What the client of a store can do with a hash; and what changes no number."""

    def __init__(self, line: SimulatedLine, events: Events) -> None:
        self._line = line
        self._events = events

    async def hset(self, key: str, name: str, text: bytes) -> None:
        self._events.note(CORRECTS, key, name)
        await self._line.ask_one(Note(key, name, text))

    async def hgetall(self, key: str) -> dict[bytes, bytes]:
        notes = (await self._line.ask_one(Notes(key))).notes
        return {name.encode(): text for name, text in notes}

    async def expire(self, key: str, _: int) -> None:
        await self._line.ask_one(Read(key, ()))

    async def srem(self, key: str, _: str) -> None:
        await self._line.ask_one(Read(key, ()))

    async def delete(self, *names: str) -> None:
        await self._line.ask_one(Read(names[0], ()))


class Command:
    """One run of a command."""

    def __init__(self, around: Surroundings, doing: Taken | Merged, *, is_aside: bool) -> None:
        """Start; with `is_aside`, it talks to the store that a split leaves."""
        self.is_aside = is_aside
        self.has_missed_store = False
        self._around = around
        self._doing = doing
        store = CommandStore(around, self)
        command = _correct(store, doing) if isinstance(doing, Taken) else _merge(store, doing)
        self.running = asyncio.create_task(command)
        self.running.add_done_callback(self._ended)

    def kill(self) -> None:
        """End at once, if it still runs."""
        self.running.cancel()

    def _ended(self, running: "asyncio.Task[None]") -> None:
        self._around.network.leave(self)
        self._around.ledger.ended(self._doing, _outcome(running))


async def _correct(store: Store, taken: Taken) -> None:
    site = Config().site(SITES[taken.site])
    said = taken.date, taken.minus, taken.page, f"{BECAUSE} {taken.number}"
    now_s = asyncio.get_running_loop().time()
    writer = corrections.writer_of(site.name, *said)
    correction = notes.Correction(*said, at=now_s, writer=writer)
    await corrections.correct(store, site, correction)


async def _merge(store: Store, merged: Merged) -> None:
    config = Config()
    await merging.merge(store, config, merged.old, config.site(merged.new), lambda steps: steps)


def _outcome(running: "asyncio.Task[None]") -> str:
    """Tell what its operator knows of it."""
    if running.cancelled():
        return "killed"
    error = running.exception()
    if error is None:
        return "made"
    if "already" in str(error):
        return "made before"
    if isinstance(error, StoreError):  # in answer to what comes before
        return "not sent"
    if not isinstance(error, CommandError):
        raise error
    return "refused" if "nothing was changed" in str(error) else "unanswered"
