"""`hitcounter correct`: the production code, as a process that can be killed at any moment."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from hitcounter.config import Config
from hitcounter.errors import CommandError, StoreError
from hitcounter.store import corrections as notes
from hitcounter.store.client import Answer, Store
from hitcounter.store.writer_connection import WriterConnection
from hitcounter.transfer import corrections
from tests.simulation.events import Events
from tests.simulation.ledger import SITES, Ledger, Taken
from tests.simulation.network import Network, SimulatedLine
from tests.simulation.schedule import CORRECTS
from tests.simulation.store import Note, Notes, Read

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

    async def ask(self, question: Callable[[Any], Awaitable[Answer]]) -> Answer:
        """Ask for notes, or leave one."""
        return await question(_Notes(self._line, self._around.events))


class _Notes:
    """What the client of a store can do with a hash."""

    def __init__(self, line: SimulatedLine, events: Events) -> None:
        self._line = line
        self._events = events

    async def hset(self, key: str, name: str, text: bytes) -> None:
        self._events.note(CORRECTS, key, name)
        await self._line.ask_one(Note(key, name, text))

    async def hgetall(self, key: str) -> dict[str, bytes]:
        return dict((await self._line.ask_one(Notes(key))).notes)


class Command:
    """One run of `hitcounter correct`."""

    def __init__(self, around: Surroundings, taken: Taken, *, is_aside: bool) -> None:
        """Start; with `is_aside`, it talks to the store that a split leaves."""
        self.is_aside = is_aside
        self.has_missed_store = False
        self._around = around
        self._taken = taken
        self.running = asyncio.create_task(self._run())
        self.running.add_done_callback(self._ended)

    async def _run(self) -> None:
        taken, site = self._taken, Config().site(SITES[self._taken.site])
        said = taken.date, taken.minus, taken.page, f"{BECAUSE} {taken.number}"
        now_s = asyncio.get_running_loop().time()
        writer = corrections.writer_of(site.name, *said)
        correction = notes.Correction(*said, at=now_s, writer=writer)
        await corrections.correct(CommandStore(self._around, self), site, correction)

    def kill(self) -> None:
        """End at once, if it still runs."""
        self.running.cancel()

    def _ended(self, running: "asyncio.Task[None]") -> None:
        self._around.network.leave(self)
        self._around.ledger.corrected(self._taken, _outcome(running))


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
