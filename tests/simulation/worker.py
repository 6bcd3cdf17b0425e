"""A worker process: the production writer and adoption, which can be killed at any moment.

All its tasks are known by the context that they were started in. A kill cancels them, and what
they still try on their way out has no effect: their files and lines are not theirs any more.
"""

import asyncio
import contextvars
from collections import Counter
from collections.abc import Coroutine, Generator
from typing import Any, Protocol

from hitcounter.errors import JournalBrokenError
from hitcounter.exactly_once.adoption import Adoption
from hitcounter.exactly_once.writer import Writer
from hitcounter.metrics import Metrics
from tests.simulation.disk import Disk, SimulatedJournals
from tests.simulation.events import Events
from tests.simulation.ledger import Sent
from tests.simulation.network import Network, SimulatedLine

# A worker's own end: it flushes for that long at most, and the rest goes fast.
LONGEST_END_S = 5.0
LEAST_GRACE_S = 0.1
SETTLE_S = 0.001  # until the last hits have heard what became of them

_worker: contextvars.ContextVar["SimulatedWorker | None"] = contextvars.ContextVar(
    "worker", default=None
)


class Surroundings(Protocol):
    """What a worker finds when it starts."""

    network: Network
    disk: Disk
    events: Events
    metrics: Metrics
    problems: list[str]
    is_always: bool
    kept_window_s: float
    n_lanes: int

    def ended(self, worker: "SimulatedWorker") -> None:
        """Hear that a worker is gone."""


def owned_task(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
    **options: Any,
) -> "asyncio.Task[Any]":
    """Make a task that its worker knows of: a task factory."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    worker = _worker.get()
    if worker is not None:
        worker.tasks.append(task)
    return task


class SimulatedWorker:
    """One incarnation of a worker."""

    def __init__(self, around: Surroundings, number: int) -> None:
        """Start; the number is that of the incarnation."""
        self.number = number
        self.is_aside = number % 2 == 1
        self.covered: Counter[str] = Counter()
        self.open: dict[Sent, asyncio.Future[Any]] = {}
        self.has_missed_store = False
        self.is_dead = False
        self.is_closing = False
        self.tasks: list[asyncio.Task[Any]] = []
        self._around = around
        self._line: SimulatedLine | None = None
        self._context = contextvars.copy_context()
        self._context.run(self._start)

    def _start(self) -> None:
        _worker.set(self)
        self._around.events.note("starts", self.number, by=self)
        around = self._around
        journals = SimulatedJournals(around.disk, self)
        window_s = around.kept_window_s
        self.writer = Writer(
            self._connect,
            journals,
            around.metrics,
            n_lanes=around.n_lanes,
            kept_window_s=window_s,
        )
        self.writer.is_store_durable = around.is_always
        self.writer.flushing.add_done_callback(self._flush_ended)
        adoption = Adoption(self._connect, journals, around.metrics, window_s)
        self._adopting = asyncio.create_task(adoption.run())
        self._adopting.add_done_callback(self._adoption_ended)

    def _connect(self, writer: str) -> SimulatedLine:
        line = self._around.network.open(writer, self)
        if self._line is None:
            self._line = line
        else:
            line.is_adopting = True
        return line

    @property
    def line(self) -> SimulatedLine:
        """Give the line of its own writer."""
        assert self._line is not None
        return self._line

    def may_die(self) -> bool:
        """Tell whether its promise would outlive it.

        It does not if the store has lost what only this worker still remembers: there level B
        promises nothing, so this death is put off.
        """
        store = self._around.network.store
        return all(
            confirmed <= max(store.watermark(key), self._covered(key))
            for key, confirmed in self.line.confirmed.items()
        )

    def _covered(self, key: str) -> int:
        own = [file for file in self._around.disk.of(self) if file.writer == self.writer.id]
        return max([self.covered[key], *(file.last_numbers()[key] for file in own)])

    def leaves_nothing_behind(self) -> None:
        """Note that it ends without bringing its last records to a journal.

        From now on the store must not lose them: it syncs.
        """
        store = self._around.network.store
        if any(
            max(store.watermark(key), confirmed) > self._covered(key)
            for key, confirmed in self.line.confirmed.items()
        ):
            store.sync()

    def kill(self) -> None:
        """End at once."""
        self._note_kill()
        self.leaves_nothing_behind()
        self.end()

    def _note_kill(self) -> None:
        events, files = self._around.events, self._around.disk.of(self)
        events.note("killed", self.number)
        if not all(question.answer.done() for question in self.line.questions):
            events.note("killed: with a chunk on its way")
        if self.is_closing:
            events.note("killed: while it closes")
        if any(file.is_adopted for file in files):
            events.note("killed: amid an adoption")
        if not all(file.is_adopted for file in files):
            events.note("killed: with a journal")

    def end(self) -> None:
        """Be gone: what it holds is free, and what it does has no effect."""
        self.is_dead = True
        self._around.disk.release(self)
        self._around.network.leave(self)
        for task in self.tasks:
            task.cancel()
        self._around.ended(self)

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Work on something, which ends with this worker."""
        return self._context.copy().run(asyncio.create_task, work)

    def close(self, grace_s: float) -> None:
        """Begin to end in good order."""
        if not self.is_closing and not self.is_dead:
            self.is_closing = True
            self.start(self._close(grace_s)).add_done_callback(self._close_ended)

    async def _close(self, grace_s: float) -> None:
        """Do what the process does at its end."""
        loop, events = asyncio.get_running_loop(), self._around.events
        events.note("closes", self.number, by=self)
        began_s = loop.time()
        self._adopting.cancel()
        await asyncio.gather(self._adopting, return_exceptions=True)
        if grace_s < LEAST_GRACE_S:  # then nobody had the time to wait for an answer
            for waiting in list(self.open.values()):
                events.note("hung up: its worker ends")
                waiting.cancel()
        await self.writer.close(grace_s)
        await asyncio.sleep(SETTLE_S)
        if loop.time() - began_s > grace_s + LONGEST_END_S:
            self._around.problems.append(f"worker {self.number} took too long to end")
        if self.open:
            self._around.problems.append(f"worker {self.number} left {len(self.open)} hits")
        events.note("closed", self.number)
        has_journal = any(
            file.writer == self.writer.id for file in self._around.disk.files.values()
        )
        events.note(f"closed: with{'' if has_journal else 'out'} a journal")
        if loop.time() - began_s >= grace_s:
            events.note("closed: out of time")
        self.end()

    def _close_ended(self, closing: "asyncio.Task[None]") -> None:
        if not closing.cancelled() and closing.exception() is not None:
            self._around.problems.append(f"a worker cannot end: {closing.exception()!r}")

    def _adoption_ended(self, adopting: "asyncio.Task[None]") -> None:
        if not adopting.cancelled() and adopting.exception() is not None:
            self._around.problems.append(f"the adoption ended with {adopting.exception()!r}")

    def _flush_ended(self, flushing: "asyncio.Task[None]") -> None:
        """End a worker that cannot count any more."""
        if self.is_dead or flushing.cancelled() or flushing.exception() is None:
            return
        if not isinstance(flushing.exception(), JournalBrokenError):
            self._around.problems.append(f"the flush ended with {flushing.exception()!r}")
        self.close(grace_s=1.0)
