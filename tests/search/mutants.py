"""Wrong variants of the protocol, each of which a small search catches.

Those of `RecordLog` and `Lane` are the simulation's; the others change what is around a lane.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from hitcounter.exactly_once.lanes import Lane
from tests.search.frozen import pageviews_of
from tests.search.model import (
    ACKNOWLEDGED,
    AGAIN,
    MADE,
    REFUSED,
    Packet,
    Question,
    Rules,
    Store,
    World,
)
from tests.simulation.mutants import MUTANTS as SIMULATED


@dataclass(frozen=True, slots=True)
class Mutant:
    """A wrong variant, and how large a search has to be to catch it: writers, hits, faults.

    Some need others than people.
    """

    name: str
    size: tuple[int, int, int]
    rules: Callable[[], Rules] = Rules
    applied: Callable[[], AbstractContextManager[None]] = nullcontext
    has_others: bool = False


class Unchecked(Rules):
    """The store takes every chunk."""

    def applies(self, packet: Packet, _watermark: int) -> bool:
        return bool(packet.hits)


class Believing(Rules):
    """Every answer is taken for the news that the chunk was applied."""

    def believed(self, lane: Lane, question: Question) -> int:
        return max(question.packet.last, super().believed(lane, question))


class Early(Rules):
    """Hits are answered when their chunk leaves."""

    def left(self, world: World, packet: Packet) -> World:
        fates = list(world.hits)
        for hit in packet.hits:
            fates[hit] = ACKNOWLEDGED
        return world._replace(hits=tuple(fates))


class Unsynced(Rules):
    """Hits are answered when their append begins."""

    def wrote(self, world: World, writer: int) -> World:
        process = world.writers[writer]
        assert process is not None
        fates = list(world.hits)
        for hit in (hit for _, hits in process.appending or () for hit in hits):
            fates[hit] = ACKNOWLEDGED
        return world._replace(hits=tuple(fates))


class Joining(Rules):
    """A hit joins a record that is on its way."""

    def take(self, lane: Lane, hit: int) -> None:
        if lane.records.pending:
            lane.records.pending[-1].pageviews.merge(pageviews_of([hit]))
        else:
            super().take(lane, hit)


class Refusing(Rules):
    """What a chunk has carried is refused as not counted."""

    fate_unknown = REFUSED


class Careless(Rules):
    """The journal goes with the first answer of the store."""

    def journal_looked_at(self, world: World, who: str, writer: int, lane: Lane) -> World:
        world = super().journal_looked_at(world, who, writer, lane)
        if who == "adopters" or lane._appending is not None:
            return world
        journals = [() if n == writer else each for n, each in enumerate(world.journals)]
        return world._replace(journals=tuple(journals))


class Hasty(Rules):
    """An adopted journal goes as soon as its records are confirmed."""

    def is_replayed(self, lane: Lane) -> bool:
        return not lane.records.pending


class Lagging(Rules):
    """The store syncs later than records are kept."""

    def synced(self, world: World) -> Store:
        return world.synced


class Surviving(Rules):
    """A packet outlives a restart of the store."""

    def survives(self, _packet: Packet) -> bool:
        return True


class Separate(Rules):
    """Counters and watermark are written one after the other."""

    def _applied(self, world: World, packet: Packet) -> tuple[World, int]:
        after, watermark = super()._applied(world, packet)
        if after is world or world.n_faults == 0:
            return after, watermark
        return after._replace(synced=Store(world.synced.watermarks, after.store.counts)), watermark


class Demoted(Rules):
    """The watermark is asked by GET, which a node answers that is not the store any more."""

    def believed(self, lane: Lane, question: Question) -> int:
        answer = super().believed(lane, question)
        return answer if question.packet.hits else max(answer, lane.records.watermark)


class Drawn(Rules):
    """A correction has another id each time that it is sent."""

    def applies(self, packet: Packet, watermark: int) -> bool:
        return packet.takes > 0 or super().applies(packet, watermark)


class Assuming(Rules):
    """A refusal is taken for one of all that a correction has asked."""

    def fate_of_refused(self, _run: str) -> str:
        return REFUSED


class Promising(Rules):
    """A correction that was not answered is taken for one that is made."""

    def fate_of_refused(self, run: str) -> str:
        return MADE if run == AGAIN else REFUSED


def _simulated(name: str) -> Callable[[], AbstractContextManager[None]]:
    (mutant,) = [each for each in SIMULATED if each.name == name]
    return mutant.applied


def _of_simulation(name: str, size: tuple[int, int, int]) -> Mutant:
    return Mutant(name, size, applied=_simulated(name))


MUTANTS = (
    Mutant("repeats a commit without comparing the watermark", (1, 1, 1), Unchecked),
    Mutant("takes every answer for success", (1, 2, 2), Believing),
    Mutant("answers before the store does", (1, 1, 1), Early),
    Mutant("answers from the journal before the sync", (1, 1, 2), Unsynced),
    Mutant("adds hits to a numbered record", (1, 2, 1), Joining),
    Mutant("refuses a hit on its way as not counted", (1, 1, 2), Refusing),
    Mutant("removes the journal at the first answer", (1, 1, 3), Careless),
    Mutant("removes an adopted journal at confirmation", (1, 1, 3), Hasty),
    Mutant("keeps records for less than the store needs to sync", (1, 1, 1), Lagging),
    Mutant("moves the watermark in a separate command", (1, 1, 2), Separate),
    Mutant("draws the id of a correction", (1, 2, 0), Drawn, has_others=True),
    Mutant(
        "takes a refusal for one of what was asked before", (1, 1, 1), Assuming, has_others=True
    ),
    Mutant("takes no answer to a correction for one", (1, 1, 1), Promising, has_others=True),
    Mutant("asks a node that is not the store any more", (1, 1, 1), Demoted),
    _of_simulation("journals without the batch of unknown fate", (1, 1, 2)),
    _of_simulation("journals without the kept records", (1, 2, 3)),
    _of_simulation("sends again under new numbers after a lost reply", (1, 1, 1)),
    _of_simulation("removes the journal at confirmation", (1, 1, 3)),
    _of_simulation("never believes a lower watermark", (1, 1, 1)),
    _of_simulation("numbers hits while the journal is written", (1, 2, 2)),
    _of_simulation("numbers the records of a journal anew", (1, 2, 3)),
    _of_simulation("divides what is held in another way than the journal's reader", (1, 3, 2)),
    _of_simulation("journals again what the journal holds", (1, 2, 3)),
)
# Not a mistake of ours, but what the protocol assumes not to happen.
ASSUMED = Mutant("a packet outlives a restart of the store", (1, 2, 3), Surviving)
