"""Writers, a store, journals and a network as one value, and every step that can come next.

The writers are the production `Lane`; what is around them is the least that can go wrong:

- a question reaches the store once, late, or never; its answer comes back or not;
- the store goes back to what it had synced. A tick is a kept window: whatever was applied before
  it is synced. A restart of the store ends what is on its way to it, which the protocol assumes;
- a writer is killed at any moment, amid an append too; whoever adopts its journal is killed too.
  At level B that is not promised where only the killed one still knew what the store has lost;
- the journal refuses an append.

With others than people, the last of several hits is a robot's, which nobody waits for, and a
correction takes one of the total: the only record of a writer of its own, which two processes send
that may be killed, and refused where the total has less.

All but ticks, arrivals and answers cost one of the faults that a search allows.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from hitcounter.exactly_once.increments import CutRule
from hitcounter.exactly_once.lanes import Lane
from hitcounter.exactly_once.records import Chunk, Entry, RecordLog
from tests.search.frozen import (
    KEPT_WINDOW_S,
    NOW_S,
    FrozenLane,
    Hits,
    freeze,
    hits_of,
    pageviews_of,
    thaw,
)

ONE_SITE = CutRule(5, 5, 2)  # so what is held becomes as many records as it has hits
SENT = -1  # of a question that the store has not answered
COMING, WAITING, ACKNOWLEDGED, REFUSED, UNKNOWN = "coming", "waiting", "acked", "refused", "unknown"
ROBOT = "robot"  # that is coming
IDLE, AGAIN, MADE = "idle", "asking again", "made"

Step = tuple[str, "World"]
Entries = tuple[tuple[int, Hits], ...]  # of a journal: the sums, by number


class Packet(NamedTuple):
    """A chunk of a writer; or a question for its watermark, which expects what never is."""

    writer: int
    expect: int
    last: int
    hits: Hits
    takes: int = 0  # of the total


class Question(NamedTuple):
    """A packet on its way, or its answer; and how many ticks ago it was asked."""

    packet: Packet
    answer: int
    age: int


class Process(NamedTuple):
    """A writer, or whoever speaks for a dead one: its lane, what it asks and what it writes."""

    lane: FrozenLane
    question: Question | None = None
    appending: Entries | None = None


class Store(NamedTuple):
    """Watermarks by writer and then of the correction, how often each hit is counted, and a sum."""

    watermarks: tuple[int, ...]
    counts: tuple[int, ...]
    total: int = 0


class World(NamedTuple):
    """Everything at one moment."""

    writers: tuple[Process | None, ...]  # None where it is dead
    adopters: tuple[Process | None, ...]  # of the journals of dead writers
    journals: tuple[Entries, ...]  # nothing where there is none
    store: Store
    synced: Store
    late: frozenset[Packet]
    hits: tuple[str, ...]
    runs: tuple[str, ...]  # of the correction: what operators know, in order, whoever it is
    # All records that ever got a number, by writer: they never change.
    records: tuple[tuple[Hits, ...], ...]
    covered: tuple[int, ...]  # the last record that a journal has held, by writer
    forgotten: frozenset[int]  # hits that the store held, and lost
    n_faults: int


Value = TypeVar("Value")


class Wrong(Exception):
    """What must never be; it says why."""


def beginning(n_writers: int, n_hits: int, n_faults: int, *, has_others: bool = False) -> World:
    """Make a world in which nothing has happened; every writer gets `n_hits`."""
    lane = freeze(Lane(0, RecordLog(KEPT_WINDOW_S)))
    hits = (*(COMING,) * (n_hits - 1), ROBOT if has_others and n_hits > 1 else COMING) * n_writers
    store = Store((0,) * (n_writers + has_others), (0,) * len(hits))
    return World(
        (Process(lane),) * n_writers,
        (None,) * n_writers,
        ((),) * n_writers,
        store,
        store,
        frozenset(),
        hits,
        (IDLE, IDLE) if has_others else (),
        ((),) * n_writers,
        (0,) * n_writers,
        frozenset(),
        n_faults,
    )


class Rules:
    """All that can happen next; a mutant changes one of them."""

    def steps(self, world: World) -> Iterator[Step]:
        """List what can happen, and the world after it."""
        for writer in range(len(world.writers)):
            yield from self._of_writer(world, writer)
            yield from self._of_adopter(world, writer)
        for run in {*world.runs} & {IDLE, AGAIN}:
            yield from self._of_run(world, run)
        for packet in world.late:
            left = world._replace(late=world.late - {packet})
            yield f"late {packet}", self._applied(left, packet)[0]
        if self._can_tick(world):
            yield "a kept window passes", self._ticked(world)
        if world.n_faults and world.store != world.synced:
            yield "the store goes back", self._rolled_back(_with_fault(world))

    # A writer

    def _of_writer(self, world: World, writer: int) -> Iterator[Step]:
        process = world.writers[writer]
        if process is None:
            return
        hit = self._next_hit(world, writer)
        if hit is not None:
            yield f"hit {hit} comes to {writer}", self._came(world, writer, hit)
        yield from self._asking(world, "writers", writer, process)
        yield from self._appending(world, writer, process)
        if world.n_faults and self._may_die(world, writer, process.lane):
            yield from self._killed(_with_fault(world), writer, process)

    def _next_hit(self, world: World, writer: int) -> int | None:
        n_each = len(world.hits) // len(world.writers)
        mine = range(writer * n_each, (writer + 1) * n_each)
        return next((hit for hit in mine if world.hits[hit] in (COMING, ROBOT)), None)

    def _came(self, world: World, writer: int, hit: int) -> World:
        process = world.writers[writer]
        assert process is not None
        lane = thaw(process.lane)
        self.take(lane, hit)
        world = _with_hits(world, [hit], WAITING if world.hits[hit] == COMING else UNKNOWN)
        return _with_process(world, "writers", writer, process._replace(lane=freeze(lane)))

    def take(self, lane: Lane, hit: int) -> None:
        """Let a hit be a record."""
        lane.records.open.pageviews.merge(pageviews_of([hit]))
        lane.records.close_record()

    def _appending(self, world: World, writer: int, process: Process) -> Iterator[Step]:
        if process.appending is None:
            if not process.lane.is_answered:
                yield from self._began_to_append(world, writer, process)
            return
        yield f"{writer} has appended", self._appended(world, writer, process)
        if world.n_faults:
            yield (
                f"the journal refuses {writer}",
                self._refused(_with_fault(world), writer, process),
            )

    def _began_to_append(self, world: World, writer: int, process: Process) -> Iterator[Step]:
        lane = thaw(process.lane)
        entries = tuple((entry.number, hits_of(entry.pageviews)) for entry in lane.next_append())
        process = process._replace(lane=freeze(lane), appending=entries)
        if entries:
            began = self.wrote(_with_process(world, "writers", writer, process), writer)
            yield f"{writer} begins to append", began
            return
        after = self._appended(world, writer, process)
        if after != world:
            yield f"{writer} has nothing to append", after

    def wrote(self, world: World, _writer: int) -> World:
        """Return the world in which a writer waits for its journal."""
        return world

    def _appended(self, world: World, writer: int, process: Process) -> World:
        lane = thaw(process.lane)
        world = _written(world, writer, process.appending or ())
        stored = [hit for record in lane.on_appended() for hit in hits_of(record.pageviews)]
        world = _with_hits(world, _waiting(world, stored), ACKNOWLEDGED)
        return _with_process(world, "writers", writer, Process(freeze(lane), process.question))

    def _refused(self, world: World, writer: int, process: Process) -> World:
        lane = thaw(process.lane)
        taken, unknown = lane.on_refused()
        world = _with_hits(world, _waiting(world, hits_of(taken.pageviews)), REFUSED)
        for record in unknown:
            world = _with_hits(world, _waiting(world, hits_of(record.pageviews)), self.fate_unknown)
        return _with_process(world, "writers", writer, Process(freeze(lane), process.question))

    fate_unknown = UNKNOWN

    # A death

    def _may_die(self, world: World, writer: int, lane: FrozenLane) -> bool:
        """Return whether the promise outlives a writer: it is not the last to know of a hit."""
        return world.forgotten.isdisjoint(self._only_in_memory(world, writer, lane))

    def _only_in_memory(self, world: World, writer: int, lane: FrozenLane) -> list[int]:
        """List the acknowledged hits whose records no journal has held."""
        records = [*lane.pending, *(record[:2] for record in lane.kept)]
        hits = [hit for number, each in records if number > world.covered[writer] for hit in each]
        return [hit for hit in hits if world.hits[hit] == ACKNOWLEDGED]

    def _killed(self, world: World, writer: int, process: Process) -> Iterator[Step]:
        lane = process.lane
        if self._only_in_memory(world, writer, lane):
            world = world._replace(synced=world.store)
        n_each = len(world.hits) // len(world.writers)
        mine = range(writer * n_each, (writer + 1) * n_each)
        endings = [("", world)]
        if process.appending is not None:
            written = _written(world, writer, process.appending)
            endings.append((" with its append written", written))
        for how, ended in endings:
            unknown = [hit for hit in mine if ended.hits[hit] == WAITING]
            dead = _with_process(_with_hits(ended, unknown, UNKNOWN), "writers", writer, None)
            yield f"{writer} is killed{how}", dead
            if _is_sent(process):
                assert process.question is not None
                late = dead._replace(late=dead.late | {process.question.packet})
                yield f"{writer} is killed{how}, its packet is late", late

    # Whoever adopts a journal

    def _of_adopter(self, world: World, writer: int) -> Iterator[Step]:
        journal, adopter = world.journals[writer], world.adopters[writer]
        if adopter is not None:
            yield from self._asking(world, "adopters", writer, adopter)
            if world.n_faults:
                yield from self._adopter_killed(_with_fault(world), writer, adopter)
        elif journal and world.writers[writer] is None:
            lane = self.adopted(journal)
            after = _with_process(world, "adopters", writer, Process(freeze(lane)))
            yield f"the journal of {writer} is adopted", _numbered(after, writer, lane)

    def adopted(self, journal: Entries) -> Lane:
        """Take up the records of a journal."""
        entries = [Entry(number, pageviews_of(hits)) for number, hits in journal]
        return Lane(0, RecordLog.restored(KEPT_WINDOW_S, entries, ONE_SITE))

    def _adopter_killed(self, world: World, writer: int, adopter: Process) -> Iterator[Step]:
        dead = _with_process(world, "adopters", writer, None)
        yield f"who adopted {writer} is killed", dead
        if _is_sent(adopter):
            assert adopter.question is not None
            late = dead._replace(late=dead.late | {adopter.question.packet})
            yield f"who adopted {writer} is killed, the packet is late", late

    # What is asked, by either

    def _asking(self, world: World, who: str, writer: int, process: Process) -> Iterator[Step]:
        name = f"{who[:-1]} {writer}"
        question = process.question
        if question is None:
            if _may_learn(process.lane, world.store.watermarks[writer]):
                yield f"{name} asks", self._asked(world, who, writer, process)
            return
        if question.answer == SENT:
            after, watermark = self._applied(world, question.packet)
            answered = process._replace(question=question._replace(answer=watermark))
            if question.packet.hits:
                yield f"{name} reaches the store", _with_process(after, who, writer, answered)
            else:  # nobody can tell when it was there
                yield f"{name} hears {watermark}", self._heard(after, who, writer, answered)
        else:
            yield f"{name} hears {question.answer}", self._heard(world, who, writer, process)
        if world.n_faults:
            lost = self._missed(_with_fault(world), who, writer, process)
            yield f"{name} hears nothing", lost
            if question.answer == SENT and question.packet.hits:
                late = lost._replace(late=lost.late | {question.packet})
                yield f"{name} hears nothing, its packet is late", late

    def _asked(self, world: World, who: str, writer: int, process: Process) -> World:
        lane = thaw(process.lane)
        lane.number_next()
        world = _numbered(world, writer, lane)
        packet = _packet(writer, lane.next_chunk())
        world = self.left(world, packet)
        asking = process._replace(lane=freeze(lane), question=Question(packet, SENT, 0))
        return _with_process(world, who, writer, asking)

    def left(self, world: World, _packet: Packet) -> World:
        """Return the world in which a packet is on its way."""
        return world

    def _applied(self, world: World, packet: Packet) -> tuple[World, int]:
        """Do what the commit script does; return the watermark of then."""
        watermarks, counts, total = world.store
        total += len(packet.hits) - packet.takes
        if not self.applies(packet, watermarks[packet.writer]) or total < 0:
            return world, watermarks[packet.writer]
        added = list(counts)
        for hit in packet.hits:
            added[hit] += 1
        moved = _with(watermarks, packet.writer, packet.last)
        forgotten = world.forgotten.difference(packet.hits)
        store = Store(moved, tuple(added), total)
        return world._replace(store=store, forgotten=forgotten), packet.last

    def applies(self, packet: Packet, watermark: int) -> bool:
        """Return whether the store takes a chunk."""
        return packet.expect == watermark

    def _heard(self, world: World, who: str, writer: int, process: Process) -> World:
        question = process.question
        assert question is not None
        lane = thaw(process.lane)
        asked_at_s = NOW_S - question.age
        confirmed, n_lost = lane.on_answer(self.believed(lane, question), asked_at_s, NOW_S)
        if n_lost:
            raise Wrong(f"{n_lost} records are lost")
        counted = [hit for record in confirmed for hit in hits_of(record.pageviews)]
        world = _with_hits(world, _waiting(world, counted), ACKNOWLEDGED)
        lane.has_returned()
        world = self.journal_looked_at(world, who, writer, lane)
        heard = process._replace(lane=freeze(lane), question=None)
        after = None if self._is_done(who, lane) else heard
        return _with_process(world, who, writer, after)

    def believed(self, _lane: Lane, question: Question) -> int:
        """Return the watermark that an answer tells."""
        return question.answer

    def _is_done(self, who: str, lane: Lane) -> bool:
        return who == "adopters" and self.is_replayed(lane)

    def is_replayed(self, lane: Lane) -> bool:
        """Return whether a journal that is replayed is needed no more."""
        return not lane.records.pending and not lane.records.kept

    def journal_looked_at(self, world: World, who: str, writer: int, lane: Lane) -> World:
        """Remove the journal once it is needed no more."""
        goes = self.is_replayed(lane) if who == "adopters" else not lane.needs_journal
        return _without_journal(world, writer) if goes else world

    def _missed(self, world: World, who: str, writer: int, process: Process) -> World:
        lane = thaw(process.lane)
        lane.on_error()
        missed = process._replace(lane=freeze(lane), question=None)
        return _with_process(world, who, writer, missed)

    # A correction

    def _of_run(self, world: World, run: str) -> Iterator[Step]:
        """Send it; what an operator knows changes nothing else, so the answer comes at once."""
        packet = Packet(len(world.writers), 0, 1, (), takes=1)
        applied, watermark = self._applied(world, packet)
        fate = MADE if watermark else self.fate_of_refused(run)
        yield f"the correction is {fate}", _with_run(applied, run, fate)
        if not world.n_faults:
            return
        late = world._replace(late=world.late | {packet})
        for how, there in (("", applied), ("out, and is lost", world), ("out, and is late", late)):
            cut_off = _with_fault(there)
            yield f"the correction is sent{how}: no answer", _with_run(cut_off, run, AGAIN)
            yield f"the correction is sent{how}: it is killed", _with_run(cut_off, run, UNKNOWN)

    def fate_of_refused(self, run: str) -> str:
        """Return what a refusal says: of what was asked before, it says nothing."""
        return REFUSED if run == IDLE else UNKNOWN

    # The store and the time

    def _can_tick(self, world: World) -> bool:
        """Return whether a kept window can pass, as no question is that old, and matters."""
        processes = [each for each in (*world.writers, *world.adopters) if each is not None]
        if any(each.question is not None and each.question.age for each in processes):
            return False
        ages = [age for each in processes for _, _, age in each.lane.kept]
        questions = any(each.question is not None for each in processes)
        return world.store != world.synced or any(age < 2 for age in ages) or questions

    def _ticked(self, world: World) -> World:
        world = world._replace(synced=self.synced(world))
        writers, adopters = (
            tuple(each and _aged(each) for each in processes)
            for processes in (world.writers, world.adopters)
        )
        return world._replace(writers=writers, adopters=adopters)

    def synced(self, world: World) -> Store:
        """Return what is safe in a store once a kept window has passed."""
        return world.store

    def _rolled_back(self, world: World) -> World:
        late = frozenset(filter(self.survives, world.late))
        both = zip(world.store.counts, world.synced.counts, strict=True)
        lost = [hit for hit, (before, after) in enumerate(both) if before > after]
        forgotten = world.forgotten.union(lost)
        is_made = any(world.synced.watermarks[len(world.writers) :])
        runs = tuple(sorted(IDLE if run == MADE and not is_made else run for run in world.runs))
        world = world._replace(store=world.synced, late=late, forgotten=forgotten, runs=runs)
        for who in ("writers", "adopters"):
            for writer, process in enumerate(getattr(world, who)):
                if process is not None and process.question is not None:
                    world = self._missed(world, who, writer, process)
        return world

    def survives(self, _packet: Packet) -> bool:
        """Return whether a packet arrives after a restart of the store: it is assumed not to."""
        return False


def check(world: World) -> None:
    """Raise `Wrong` if the promise is broken, or is going to be."""
    counted = [0] * len(world.hits)
    for watermark, records in zip(world.store.watermarks, world.records, strict=False):
        for hits in records[:watermark]:
            for hit in hits:
                counted[hit] += 1
    taken = sum(world.store.watermarks[len(world.writers) :])
    if (tuple(counted), sum(counted) - taken) != world.store[1:]:
        raise Wrong("the counters are not the sum of the records up to the watermarks")
    if MADE in world.runs and not taken:
        raise Wrong("a correction is lost")
    if taken and {*world.runs} <= {IDLE, REFUSED}:
        raise Wrong("a correction is made, and was refused")
    for hit, (fate, n) in enumerate(zip(world.hits, world.store.counts, strict=True)):
        if n > 1:
            raise Wrong(f"hit {hit} is counted {n} times")
        if n and fate in (COMING, ROBOT, REFUSED):
            raise Wrong(f"hit {hit} is counted, and is {fate}")
        if fate == ACKNOWLEDGED and not n and hit not in _known(world):
            raise Wrong(f"hit {hit} is lost")


def is_quiet(world: World) -> bool:
    """Return whether nothing is left to do, and all that was acknowledged is counted."""
    processes = [each for each in world.writers if each is not None]
    return (
        not any(world.adopters)
        and not any(world.journals)
        and not world.late
        and AGAIN not in world.runs
        and not any(each.question or _has_something_to_ask(each.lane) for each in processes)
        and not any(each.lane.is_away or each.appending is not None for each in processes)
        and all(
            fate in (COMING, ROBOT, REFUSED, UNKNOWN) or n == 1
            for fate, n in zip(world.hits, world.store.counts, strict=True)
        )
    )


def _known(world: World) -> set[int]:
    """List the hits that somebody still knows: a writer that lives, or a journal."""
    lanes = [each.lane for each in (*world.writers, *world.adopters) if each is not None]
    known = {hit for lane in lanes for hit in (*lane.unsent, *lane.held, *(lane.appending or ()))}
    known |= {hit for lane in lanes for _, hits in lane.pending for hit in hits}
    known |= {hit for lane in lanes for _, hits, _ in lane.kept for hit in hits}
    return known.union(*map(_hits_in, world.journals))


def _hits_in(journal: Entries) -> set[int]:
    return {hit for _, hits in journal for hit in hits}


def _has_something_to_ask(lane: FrozenLane) -> bool:
    return bool(lane.unsent or lane.pending or lane.kept or lane.held or lane.is_away)


def _may_learn(lane: FrozenLane, watermark: int) -> bool:
    """Return whether a question changes anything: to ask is otherwise the same as not to ask."""
    has_more = lane.unsent or lane.pending or lane.held or lane.is_away
    return bool(has_more) or any(age for *_, age in lane.kept) or watermark < lane.watermark


def _packet(writer: int, chunk: Chunk | None) -> Packet:
    if chunk is None:
        return Packet(writer, -1, 0, ())
    return Packet(writer, chunk.expect, chunk.last, hits_of(chunk.pageviews))


def _is_sent(process: Process) -> bool:
    question = process.question
    return question is not None and question.answer == SENT and bool(question.packet.hits)


def _numbered(world: World, writer: int, lane: Lane) -> World:
    """Note the records that have a number; one that had it must be the same."""
    known = list(world.records[writer])
    for record in lane.records.pending:
        hits = hits_of(record.pageviews)
        if record.number <= len(known):
            if known[record.number - 1] != hits:
                raise Wrong(f"record {record.number} was {known[record.number - 1]}, is {hits}")
        elif record.number == len(known) + 1:
            known.append(hits)
        else:
            raise Wrong(f"record {record.number} follows {len(known)}")
    return world._replace(records=_with(world.records, writer, tuple(known)))


def _written(world: World, writer: int, entries: Entries) -> World:
    if not entries:
        return world
    sums = dict(world.journals[writer])
    for number, hits in entries:
        sums[number] = tuple(sorted(sums.get(number, ()) + hits))
    # Each hit of a sum becomes a record.
    last = max(number + len(hits) - 1 for number, hits in sums.items())
    return world._replace(
        journals=_with(world.journals, writer, tuple(sorted(sums.items()))),
        covered=_with(world.covered, writer, max(last, world.covered[writer])),
    )


def _without_journal(world: World, writer: int) -> World:
    return world._replace(journals=_with(world.journals, writer, ()))


def _aged(process: Process) -> Process:
    kept = tuple((number, hits, min(2, age + 1)) for number, hits, age in process.lane.kept)
    question = process.question and process.question._replace(age=process.question.age + 1)
    return process._replace(lane=process.lane._replace(kept=kept), question=question)


def _waiting(world: World, hits: list[int] | Hits) -> list[int]:
    return [hit for hit in hits if world.hits[hit] == WAITING]


def _with_fault(world: World) -> World:
    return world._replace(n_faults=world.n_faults - 1)


def _with_run(world: World, before: str, after: str) -> World:
    runs = list(world.runs)
    runs[runs.index(before)] = after
    return world._replace(runs=tuple(sorted(runs)))


def _with_hits(world: World, hits: list[int], fate: str) -> World:
    if not hits:
        return world
    fates = list(world.hits)
    for hit in hits:
        fates[hit] = fate
    return world._replace(hits=tuple(fates))


def _with_process(world: World, who: str, writer: int, process: Process | None) -> World:
    if who == "writers":
        return world._replace(writers=_with(world.writers, writer, process))
    return world._replace(adopters=_with(world.adopters, writer, process))


def _with(values: tuple[Value, ...], n: int, value: Value) -> tuple[Value, ...]:
    return (*values[:n], value, *values[n + 1 :])
