"""The lines of writers to the store, and what goes wrong on the way.

A question arrives after some time, or never; its answer comes back after some time, or never. Who
hears nothing for `timeout_s` gives up and hangs up, but what it sent can still arrive much later,
behind younger questions. Only a restart of the store ends what is on its way to it.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from hitcounter.errors import StoreError, StoreRefusesError
from hitcounter.store import keys
from hitcounter.store.writer_connection import Answer as Answered
from hitcounter.store.writer_connection import Commit as AskedCommit
from hitcounter.store.writer_connection import WriterConnection
from tests.simulation.events import Events
from tests.simulation.store import (
    Claim,
    Commit,
    Forget,
    Reply,
    Request,
    SimulatedStore,
    Watermark,
)

LATENCY_S = 0.004
SLOW_LATENCY_S = 0.4
STRANDED_S = (0.05, 0.3, 1.0, 1_000.0, 1_000.0)  # the longest is until all is over
GOES_WRONG = 0.5  # how often, while something is wrong

Answer = Reply | StoreError


class Asker(Protocol):
    """A worker or a command, as the network knows it."""

    is_aside: bool  # whether a split leaves it with the old store
    has_missed_store: bool  # whether a question of its was not answered


class Question:
    """A request on its way, or at the store, or answered."""

    __slots__ = ("answer", "epoch", "is_delivered", "line", "request", "sent_at_s", "store")

    def __init__(self, line: "SimulatedLine", request: Request, sent_at_s: float) -> None:
        """Ask on a line that is connected."""
        self.line = line
        self.request = request
        self.sent_at_s = sent_at_s
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.is_delivered = False
        self.store: SimulatedStore | None = None
        self.epoch = 0

    def end(self, answer: Answer) -> None:
        """Answer whoever still waits."""
        if self.answer.done():
            return
        if isinstance(answer, StoreError):
            self.line.hang_up()
        elif isinstance(self.request, Commit | Watermark):
            self.line.heard(self.request.key, answer.watermark)
        self.answer.set_result(answer)


class SimulatedLine(WriterConnection):
    """The line of one writer, for all lanes."""

    def __init__(self, network: "Network", writer: str, owner: "Asker", events: Events) -> None:
        """Speak for a writer."""
        self.writer = writer
        self.owner = owner
        # The highest watermarks of the writer that anybody here has heard, by key.
        self.confirmed: Counter[str] = Counter()
        self.store: SimulatedStore | None = None
        self.epoch = 0
        self.questions: list[Question] = []
        self.is_adopting = False
        self._network = network
        self._events = events
        self._heard: Counter[str] = Counter()

    async def ask(self, commits: Sequence[AskedCommit]) -> list[Answered | StoreError]:
        """Send chunks, or questions for watermarks, in one packet."""
        self.questions = [self._network.send(self, self._request(commit)) for commit in commits]
        answers = [await question.answer for question in self.questions]
        return [self._answered(*each) for each in zip(self.questions, answers, strict=True)]

    def _request(self, commit: AskedCommit) -> Request:
        key = keys.watermark_key(commit.lane, self.writer)
        if commit.expect < 0:
            return Watermark(key)
        buckets = {keys.counter_of(name).name for name, n in commit.counters.items() if n}
        if sum(len(bucket) == len("2026-11-29") for bucket in buckets) > 1:
            self._events.note("hits of two days in one chunk")
        return Commit(key, *commit[1:])

    def _answered(self, question: Question, answer: Answer) -> Answered | StoreError:
        if isinstance(answer, StoreError):
            self.owner.has_missed_store = True
            self._events.tell("no answer to", *question.request[:3], f"({answer})")
            return answer
        return Answered(answer.watermark, answer.values)

    async def claim(
        self, lane: int, record: int, ids: Sequence[str], _: float
    ) -> list[bool | None]:
        """Claim ids for a record; tell which of the others are counted, as the real one does."""
        ours = f"{self.writer}:{record}"
        key = keys.watermark_key(lane, self.writer)
        reply = await self.ask_one(Claim(key, ours, tuple(ids)))
        self._events.note("ids claimed", ours, *ids, by=self.owner)
        others = dict.fromkeys(holder for holder in reply.holders if holder != ours)
        counted = {holder: await self._is_counted(lane, holder) for holder in others}
        return [holder == ours or (False if counted[holder] else None) for holder in reply.holders]

    async def _is_counted(self, lane: int, holder: str) -> bool:
        writer, _, record = holder.partition(":")
        key = keys.watermark_key(lane, writer)
        is_counted = int(record) <= (await self.ask_one(Watermark(key))).watermark
        self._events.note(f"id is {'counted' if is_counted else 'unsettled'}", holder)
        if is_counted:
            self._network.promise(key, int(record))
        return is_counted

    async def forget(self, lane: int) -> None:
        """Delete the watermark."""
        key = keys.watermark_key(lane, self.writer)
        self._events.note("watermark deleted", key)
        await self.ask_one(Forget(key))

    async def ask_one(self, request: Request) -> Reply:
        """Wait for an answer; raise `StoreError` if there is none."""
        self.questions = [self._network.send(self, request)]
        answer = await self.questions[0].answer
        if isinstance(answer, StoreError):
            self.owner.has_missed_store = True
            self._events.tell("no answer to", *request[:3], f"({answer})")
            raise answer
        return answer

    async def close(self) -> None:
        """Hang up."""
        self.hang_up()
        for question in self.questions:
            question.end(StoreError("the line is closed"))
        self._network.lines.pop(self, None)

    def hang_up(self) -> None:
        """Leave the connection; the next question opens another."""
        self.store = None

    def heard(self, key: str, watermark: int) -> None:
        """Note an answer about this writer."""
        if not key.endswith(f":{self.writer}"):
            return
        heard = self._heard[key]
        if watermark < heard:
            whose = "an adopted journal" if self.is_adopting else "a writer"
            self._events.note(f"fell: of {whose}", key, heard, watermark, by=self.owner)
        if self.is_adopting and heard == 0 < watermark:
            self._events.note("adopted journal confirmed", key, watermark, by=self.owner)
        self._heard[key] = watermark
        self.confirmed[key] = max(self.confirmed[key], watermark)

    def is_ahead_of(self, store: SimulatedStore) -> bool:
        """Return whether somebody here has heard of more than a store holds."""
        return any(n > store.watermark(key) for key, n in self.confirmed.items())


class Network:
    """All lines, the store at their end, and the store that a split leaves aside."""

    def __init__(
        self, faults: Counter[str], chance: random.Random, events: Events, timeout_s: float
    ) -> None:
        """Begin with an empty store; `faults` counts the faults of now by name."""
        self.store = SimulatedStore()
        self.aside: SimulatedStore | None = None
        self.lines: dict[SimulatedLine, None] = {}
        self._loop = asyncio.get_running_loop()
        self._faults = faults
        self._chance = chance
        self._events = events
        self._timeout_s = timeout_s
        self._stalled: list[Question] = []
        self._stranded: list[Question] = []
        self._peaks: Counter[str] = Counter()

    def open(self, writer: str, owner: Asker) -> SimulatedLine:
        """Open a line for a writer."""
        line = SimulatedLine(self, writer, owner, self._events)
        self.lines[line] = None
        return line

    def send(self, line: SimulatedLine, request: Request) -> Question:
        """Bring a request on its way."""
        question = Question(line, request, self._loop.time())
        if not self._is_connected(line) and not self._connect(line):
            self._events.note("connection refused")
            self._later(LATENCY_S, question.end, StoreError("connection refused"))
            return question
        question.store, question.epoch = line.store, line.epoch
        if self._goes_wrong("drop_requests"):
            self._await_nothing(question)
        elif self._goes_wrong("strand_requests"):
            self._await_nothing(question)
            self._stranded.append(question)
            self._later(self._chance.choice(STRANDED_S), self._arrive, question)
        else:
            latency_s = self._latency_s()
            if latency_s >= self._timeout_s:
                self._give_up_later(question)
            self._later(latency_s, self._arrive, question)
        return question

    def _later(self, after_s: float, call: Callable[..., None], *args: object) -> None:
        self._loop.call_later(after_s, call, *args)

    def _goes_wrong(self, fault: str) -> bool:
        return self._faults[fault] > 0 and self._chance.random() < GOES_WRONG

    def _latency_s(self) -> float:
        longest_s = SLOW_LATENCY_S if self._faults["slow_down"] else LATENCY_S
        return longest_s * self._chance.random()

    def _target(self, line: SimulatedLine) -> SimulatedStore:
        return self.aside if self.aside is not None and line.owner.is_aside else self.store

    def _is_connected(self, line: SimulatedLine) -> bool:
        return line.store is not None and line.epoch == line.store.epoch

    def _connect(self, line: SimulatedLine) -> bool:
        if self.is_down or self._faults["refuse"]:
            return False
        line.store = self._target(line)
        line.epoch = line.store.epoch
        return True

    @property
    def is_down(self) -> bool:
        """Tell whether there is no store."""
        return self._faults["kill_store"] + self._faults["lose_power"] > 0

    def _give_up_later(self, question: Question) -> None:
        error = StoreError("no answer in time")
        self._loop.call_at(question.sent_at_s + self._timeout_s, question.end, error)

    def _await_nothing(self, question: Question) -> None:
        """Let a client wait in vain, or see its connection end."""
        if self._chance.random() < 0.5:
            self._give_up_later(question)
        else:
            after_s = self._timeout_s * self._chance.random()
            at_s = min(question.sent_at_s + self._timeout_s, self._loop.time() + after_s)
            self._loop.call_at(at_s, question.end, StoreError("the connection ended"))

    def _arrive(self, question: Question) -> None:
        assert question.store is not None
        if question.is_delivered:
            return
        question.is_delivered = True
        if question.epoch != question.store.epoch:
            if isinstance(question.request, Commit):
                self._events.note("commit died with the store", *question.request[:3])
            # Its line may have hung up before, as another question of the packet had an error.
            question.end(StoreError("connection reset"))
        elif self._faults["stall"]:
            self._give_up_later(question)
            self._stalled.append(question)
        else:
            self._serve(question)

    def _serve(self, question: Question) -> None:
        assert question.store is not None
        request = question.request
        if self._is_error(question):
            question.end(StoreRefusesError("an error of the store", is_forbidden=False))
            return
        before = question.store.watermark(request.key)
        reply: Answer
        try:
            reply = question.store.answer(request, self._loop.time())
        except StoreRefusesError as error:
            self._events.note("commit refused: it takes more than there is", *request[:3])
            reply = error
        if isinstance(request, Commit) and isinstance(reply, Reply):
            self._note(request, before, question)
        if self._goes_wrong("lose_replies"):
            self._events.note("reply lost", *request[:3], by=question.line.owner)
            self._await_nothing(question)
            return
        latency_s = self._latency_s() if self._chance.random() < 0.3 else 0.0
        if not latency_s:
            question.end(reply)
            return
        if self._loop.time() + latency_s > question.sent_at_s + self._timeout_s:
            self._give_up_later(question)
        self._later(latency_s, question.end, reply)

    def promise(self, key: str, record: int) -> None:
        """Note that a client heard that a record is counted, from another worker than its own."""
        lines = [
            line for line in self.lines if key.endswith(f":{line.writer}") and not line.is_adopting
        ]
        for line in lines:
            line.confirmed[key] = max(line.confirmed[key], record)
        if not lines:
            self.store.sync()  # its worker is dead: level B promises this only if it is on disk

    def _is_error(self, question: Question) -> bool:
        request = question.request
        if isinstance(request, Claim) and question.store is not self.store:
            return True  # what it says may be gone soon, and nobody would know of it
        is_commit = isinstance(request, Commit)
        if self._faults["load"] or (self._faults["run_out_of_memory"] and is_commit):
            if is_commit:
                self._events.note("commit answered by an error")
            return True
        return False

    def _note(self, commit: Commit, before: int, question: Question) -> None:
        applies = before == commit.expect
        if question.answer.done():
            event = "commit late: applied" if applies else "commit late: refused"
        elif not applies:
            event = "commit already applied" if before > commit.expect else "commit refused"
        elif commit.last <= self._peaks[commit.key]:
            event = "commit again after a fall"
        else:
            event = "commit applied"
        self._peaks[commit.key] = max(self._peaks[commit.key], commit.last)
        n_hits = sum(commit.counters.values()) // 4
        self._events.note(event, *commit[:3], n_hits, by=question.line.owner)

    def resume(self) -> None:
        """Serve what has arrived during a stall."""
        stalled, self._stalled = self._stalled, []
        for question in stalled:
            if question.store is not None and question.epoch == question.store.epoch:
                self._serve(question)

    def cut(self) -> None:
        """End all connections; what is on its way may still arrive."""
        for line in list(self.lines):
            self._lose(line)
            self._end(line)

    def leave(self, owner: Asker) -> None:
        """Drop the lines of a worker that has ended; what is on its way may still arrive."""
        for line in [line for line in self.lines if line.owner is owner]:
            self._lose(line)
            del self.lines[line]

    def _lose(self, line: SimulatedLine) -> None:
        for question in line.questions:
            question.is_delivered |= self._chance.random() < 0.5

    def restart(self, store: SimulatedStore) -> None:
        """End all connections to a store, and what is on its way to it."""
        store.epoch += 1
        for line in [line for line in self.lines if line.store is store]:
            self._end(line)

    def _end(self, line: SimulatedLine) -> None:
        line.hang_up()
        for question in line.questions:
            question.end(StoreError("connection reset"))

    def split(self) -> None:
        """Go on with a replica, and leave the store aside with some of the lines."""
        self.aside, self.store = self.store, self.store.fork()
        for line in [line for line in self.lines if not line.owner.is_aside]:
            self._end(line)

    def join(self) -> None:
        """Give up the store aside, with all that only it holds."""
        aside, self.aside = self.aside, None
        if aside is not None:
            self.restart(aside)

    def strand_no_longer(self) -> None:
        """Let all arrive that got stuck."""
        stranded, self._stranded = self._stranded, []
        for question in stranded:
            self._arrive(question)
