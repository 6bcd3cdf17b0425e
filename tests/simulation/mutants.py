"""Wrong variants of the protocol: each loses or doubles hits, and the simulation has to see it.

A mutant replaces a method of the production code, or of what the simulation puts in its place,
by a plausible mistake. `bound` is within how many schedules, from seed 0 on, it has to be caught.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from types import ModuleType
from typing import Any
from unittest import mock

from hitcounter.errors import CommandError, StoreError, Unavailable
from hitcounter.exactly_once.adoption import Adoption
from hitcounter.exactly_once.delivery import exchange
from hitcounter.exactly_once.increments import CutRule, Pageviews
from hitcounter.exactly_once.journal import Journal
from hitcounter.exactly_once.journal_format import packed
from hitcounter.exactly_once.lanes import Lane
from hitcounter.exactly_once.outage import RETRY_EVERY_S, Outage
from hitcounter.exactly_once.records import Entry, Record, RecordLog
from hitcounter.exactly_once.writer import Writer
from hitcounter.store import corrections as notes
from hitcounter.store import keys
from hitcounter.store.client import Store
from hitcounter.store.keys import SiteKeys
from hitcounter.store.writer_connection import Answer as Answered
from hitcounter.store.writer_connection import Commit as AskedCommit
from hitcounter.store.writer_connection import WriterConnection
from hitcounter.transfer import corrections, merging
from tests.simulation.disk import File, SimulatedJournal, SimulatedJournals
from tests.simulation.network import SimulatedLine
from tests.simulation.store import Commit, Move, Reply, SimulatedStore
from tests.simulation.store import Values as StoreValues

Replacement = tuple[type | ModuleType, str, Callable[..., Any] | property]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A wrong variant: what it replaces by what."""

    name: str
    bound: int
    replacements: tuple[Replacement, ...]
    is_endless: bool = False  # whether its schedules go on until they are stopped

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Make the mistake for a while."""
        with ExitStack() as stack:
            for owner, name, replacement in self.replacements:
                stack.enter_context(mock.patch.object(owner, name, replacement))
            yield


_writers_exchange = Writer._exchange
_run = Outage.run
_on_error = Lane.on_error
_finish = Writer._finish
_count = Writer.count
_replay = Adoption._replay
_init = RecordLog.__init__
_to_journal = RecordLog.to_journal
_confirm = RecordLog.confirm
_number_held = RecordLog._number_held
_restored = RecordLog.restored.__func__  # type: ignore[attr-defined]  # of a classmethod
_counters = Pageviews.counters
_ask = SimulatedLine.ask
_create = SimulatedJournals.create
_commit_in_store = SimulatedStore.commit
_write = SimulatedStore.write
_commit_correction = corrections._commit
_move = SimulatedStore.move
_inherit = notes.inherit
_random_ids = count(1)


async def exchange_answered_early(self: Writer, lanes: Sequence[Lane]) -> None:
    """Answer the hits of a chunk as soon as it leaves."""
    for lane in lanes:
        lane.number_next()
        for record in lane.records.pending:
            self.waiting.answer_journaled(lane.number, record)
    await _writers_exchange(self, lanes)


async def create_under_another_id(self: SimulatedJournals, writer: str) -> Journal:
    """Make a journal whose records are those of a new writer."""
    return await _create(self, f"{writer}x")


async def ask_in_two_commands(
    self: SimulatedLine, commits: Sequence[AskedCommit]
) -> list[Answered | StoreError]:
    """Add to the counters first, and move the watermark then."""
    added = await _ask(self, [commit._replace(last=commit.expect) for commit in commits])
    moved = await _ask(self, [commit._replace(counters={}, pages={}) for commit in commits])
    return [
        to
        if isinstance(of, StoreError) or isinstance(to, StoreError)
        else to._replace(values=of[1])
        for of, to in zip(added, moved, strict=True)
    ]


def init_with_short_window(self: RecordLog, kept_window_s: float) -> None:
    """Keep records for less time than a store may need to sync them."""
    _init(self, 0.1 * kept_window_s)


def to_journal_without_pending(self: RecordLog, unsent: Pageviews) -> list[Entry]:
    """Leave out the records on their way, whose fate nobody knows."""
    pending, self.pending = self.pending, deque()
    try:
        return _to_journal(self, unsent)
    finally:
        self.pending = pending


def to_journal_without_kept(self: RecordLog, unsent: Pageviews) -> list[Entry]:
    """Leave out the records that the store has confirmed."""
    kept, self.kept = self.kept, deque()
    try:
        return _to_journal(self, unsent)
    finally:
        self.kept = kept


def commit_whatever_is_expected(self: SimulatedStore, commit: Commit, at_s: float) -> Reply:
    """Apply every chunk that arrives, as a client that repeats increments has it."""
    expect = self.watermark(commit.key)
    return _commit_in_store(self, commit._replace(expect=expect), at_s)


def on_error_with_new_numbers(self: Lane) -> None:
    """Give new numbers to what was not answered."""
    for record in self.records.pending:
        self.records._numbered += 1
        record.number = self.records._numbered
    _on_error(self)


def count_into_numbered_record(self: Writer, lane: Lane, *hit: Any) -> "asyncio.Future[Any]":
    """Add a hit to a record that is on its way."""
    records = lane.records
    if not records.pending:
        return _count(self, lane, *hit)
    records.open, opened = records.pending[-1], records.open
    try:
        return _count(self, lane, *hit)
    finally:
        records.open = opened


async def append_without_sync(self: SimulatedJournal, entries: Sequence[Entry]) -> int:
    """Say that entries are written before they are."""
    asyncio.get_running_loop().call_later(0.05, _append_late, self, packed(entries))
    return 0


def _append_late(journal: SimulatedJournal, row: bytes) -> None:
    if journal._file.owner is journal._owner:
        journal._file.rows.append(row)


async def run_to_first_answer(self: Outage, *args: Any) -> None:
    """Remove the journal as soon as the store answers."""
    await _run(self, *args)
    await self.remove_journal()


def needs_no_confirmed_records(self: RecordLog) -> bool:
    """Keep a journal only until its records are confirmed."""
    is_pending = bool(self.pending) and self.pending[0].number <= self._journaled
    return bool(self._held.sites) or is_pending


async def deliver_until_confirmed(
    self: Adoption, connection: WriterConnection, lanes: Iterable[Lane]
) -> None:
    """Let an adopted journal go as soon as its records are confirmed."""
    while lanes := [lane for lane in lanes if lane.records.pending]:
        await exchange(connection, lanes, self._metrics)
        await asyncio.sleep(RETRY_EVERY_S)


async def replay_and_forget(self: Adoption, journal: Journal) -> None:
    """Delete the watermark of a writer once its journal is replayed."""
    lanes = {entry.lane for entry in await journal.sums()}
    await _replay(self, journal)
    line = self._connect(journal.writer)
    with suppress(StoreError):
        for lane in sorted(lanes):
            await line.forget(lane)
    await line.close()


async def finish_and_forget(self: Writer) -> None:
    """Delete the watermark at the end, although a question was never answered."""
    self.outage.ever_began = False
    await _finish(self)


def is_free_for_all(self: SimulatedJournals, file: File) -> bool:
    """Adopt what another worker replays already."""
    return (file.owner is None or file.is_adopted) and file.name not in self._known


def confirm_only_upwards(
    self: RecordLog, watermark: int, asked_at_s: float, answered_at_s: float
) -> tuple[list[Record], int]:
    """Never believe a watermark that is lower than before."""
    return _confirm(self, max(watermark, self.watermark), asked_at_s, answered_at_s)


def refuse_all_as_not_counted(self: Outage, lanes: Iterable[Lane], refusal: Unavailable) -> None:
    """Tell the hits of a chunk on its way that they are not counted."""
    for lane in lanes:
        taken, unknown = lane.on_refused()
        for record in (taken, *unknown):
            self._waiting.refuse(record, refusal)


def counters_of_latest_day(self: Pageviews) -> dict[str, int]:
    """Decide on the day when a chunk leaves, not when a hit arrives."""
    latest: dict[str, SiteKeys] = {}
    for site in sorted(self.sites, key=lambda site: site.date):
        latest[keys.counter_of(site.today).site] = site
    moved = Pageviews()
    for site, n in self.sites.items():
        moved.merge(Pageviews({latest[keys.counter_of(site.today).site]: n}))
    return _counters(moved)


def write_one_by_one(self: SimulatedStore, writes: StoreValues, at_s: float) -> None:
    """Write every key by a command of its own, and lose the end of a log between two of them."""
    for name, value in writes.items():
        _write(self, {name: value}, at_s)


def number_always(self: Lane) -> list[Record]:
    """Give numbers to new hits while the journal is written."""
    return self.records.number_next()


def restored_from_one(
    cls: type[RecordLog], kept_window_s: float, entries: Iterable[Entry], rule: CutRule
) -> RecordLog:
    """Number the records of a journal anew."""
    renumbered = [Entry(number, each.pageviews) for number, each in enumerate(entries, 1)]
    restored: RecordLog = _restored(cls, kept_window_s, renumbered, rule)
    return restored


def number_held_as_one(self: RecordLog) -> None:
    """Make one record of what is held, where whoever reads the journal makes several."""
    if self._held.sites:
        self._number(Record(pageviews=self._held))
        self._held = Pageviews()
        self._journaled = self._numbered


def number_held_and_journal_again(self: RecordLog) -> None:
    """Take what was held, once it has a number, for something that the journal lacks."""
    journaled = self._journaled
    _number_held(self)
    self._journaled = journaled


async def ask_without_looking(
    self: SimulatedLine, commits: Sequence[AskedCommit]
) -> list[Answered | StoreError]:
    """Take every answer for the news that the chunk was applied."""
    return [
        answer
        if isinstance(answer, StoreError) or commit.expect < 0
        else answer._replace(watermark=commit.last)
        for commit, answer in zip(commits, await _ask(self, commits), strict=True)
    ]


async def is_counted_once_claimed(self: SimulatedLine, lane: int, holder: str) -> bool:
    """Tell whoever repeats a hit that it is counted, before it is."""
    return True


def writer_of_nothing(*_: object) -> str:
    """Draw the id of a correction, as that of a writer is."""
    return f"drawn{next(_random_ids)}"


async def commit_and_forget(store: Store, commit: AskedCommit, writer: str) -> None:
    """Let go of the watermark of a correction that is made."""
    await _commit_correction(store, commit, writer)
    connection = store.connect(writer)
    with suppress(StoreError):
        await connection.forget(commit.lane)
    await connection.close()


async def commit_once(store: Store, commit: AskedCommit, writer: str) -> None:
    """Take a question that was not answered for a correction that was not made."""
    connection = store.connect(writer)
    try:
        (answer,) = await connection.ask([commit])
    finally:
        await connection.close()
    if isinstance(answer, StoreError):
        raise CommandError(f"nothing was changed: {answer}")


def move_a_copy(self: SimulatedStore, move: Move, at_s: float) -> tuple[int, ...]:
    """Add what a site has to another, and leave it where it was."""
    before = {name: self.values[name] for name in move.names if name in self.values}
    moved = _move(self, move, at_s)
    self.write({name: n for name, n in before.items() if name not in self.values}, at_s)
    return moved


async def inherit_once(store: Store, old: str, new: str, at: float) -> None:
    """Take a merge that has begun for one that is done."""
    if old in await notes.merged(store, new):
        raise CommandError(f"nothing was changed: {old} went into {new} before")
    await _inherit(store, old, new, at)


async def never_probe(self: Writer) -> None:
    """Let an idle writer never ask what the store still holds."""


MUTANTS = (
    Mutant("answers before the store does", 50, ((Writer, "_exchange", exchange_answered_early),)),
    Mutant(
        "journals under another id", 50, ((SimulatedJournals, "create", create_under_another_id),)
    ),
    Mutant(
        "moves the watermark in a separate command",
        50,
        ((SimulatedLine, "ask", ask_in_two_commands),),
    ),
    Mutant(
        "keeps records for less than the store needs to sync",
        200,
        ((RecordLog, "__init__", init_with_short_window),),
    ),
    Mutant(
        "journals without the batch of unknown fate",
        50,
        ((RecordLog, "to_journal", to_journal_without_pending),),
    ),
    Mutant(
        "journals without the kept records",
        200,
        ((RecordLog, "to_journal", to_journal_without_kept),),
    ),
    Mutant(
        "repeats a commit without comparing the watermark",
        50,
        ((SimulatedStore, "commit", commit_whatever_is_expected),),
    ),
    Mutant(
        "sends again under new numbers after a lost reply",
        50,
        ((Lane, "on_error", on_error_with_new_numbers),),
    ),
    Mutant("adds hits to a numbered record", 50, ((Writer, "count", count_into_numbered_record),)),
    Mutant(
        "answers from the journal before the sync",
        200,
        ((SimulatedJournal, "append", append_without_sync),),
    ),
    Mutant(
        "removes the journal at the first answer",
        200,
        ((Outage, "run", run_to_first_answer),),
    ),
    Mutant(
        "removes the journal at confirmation",
        1_000,
        ((RecordLog, "needs_journal", property(needs_no_confirmed_records)),),
    ),
    Mutant(
        "removes an adopted journal at confirmation",
        1_000,
        ((Adoption, "_deliver", deliver_until_confirmed),),
    ),
    Mutant(
        "deletes the watermark after an adoption",
        200,
        ((Adoption, "_replay", replay_and_forget),),
    ),
    Mutant(
        "deletes the watermark although a question was not answered",
        1_000,
        ((Writer, "_finish", finish_and_forget),),
    ),
    Mutant(
        "adopts without a lock, and deletes the watermark",
        200,
        (
            (SimulatedJournals, "_is_free", is_free_for_all),
            (Adoption, "_replay", replay_and_forget),
        ),
    ),
    Mutant(
        "never believes a lower watermark",
        50,
        ((RecordLog, "confirm", confirm_only_upwards),),
        is_endless=True,
    ),
    Mutant(
        "refuses a hit on its way as not counted",
        200,
        ((Outage, "_refuse", refuse_all_as_not_counted),),
    ),
    Mutant(
        "decides on the day when a chunk leaves",
        50,
        ((Pageviews, "counters", counters_of_latest_day),),
    ),
    Mutant(
        "leaves half a chunk in a log that lost its end",
        200,
        ((SimulatedStore, "write", write_one_by_one),),
    ),
    Mutant(
        "numbers hits while the journal is written",
        1_000,
        ((Lane, "number_next", number_always),),
    ),
    Mutant(
        "numbers the records of a journal anew",
        1_000,
        ((RecordLog, "restored", classmethod(restored_from_one)),),  # type: ignore[arg-type]
    ),
    Mutant(
        "divides what is held in another way than the journal's reader",
        1_000,
        ((RecordLog, "_number_held", number_held_as_one),),
    ),
    Mutant(
        "journals again what the journal holds",
        1_000,
        ((RecordLog, "_number_held", number_held_and_journal_again),),
    ),
    Mutant("takes every answer for success", 200, ((SimulatedLine, "ask", ask_without_looking),)),
    Mutant(
        "answers a repeat before the hit is counted",
        5_000,
        ((SimulatedLine, "_is_counted", is_counted_once_claimed),),
    ),
    Mutant("draws the id of a correction", 50, ((corrections, "writer_of", writer_of_nothing),)),
    Mutant(
        "forgets that a correction was made", 1_000, ((corrections, "_commit", commit_and_forget),)
    ),
    Mutant(
        "takes no answer to a correction for a refusal",
        1_000,
        ((corrections, "_commit", commit_once),),
    ),
    Mutant("moves a copy", 50, ((SimulatedStore, "move", move_a_copy),)),
    Mutant("merges what was cut off no further", 200, ((merging, "inherit", inherit_once),)),
    Mutant("never asks while it is idle", 50, ((Writer, "_probe", never_probe),)),
)
