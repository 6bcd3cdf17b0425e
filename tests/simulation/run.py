"""Runs schedules one after the other, and reports those that break the promise."""

import asyncio
import datetime as dt
import itertools
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from hitcounter.exactly_once import increments, records, writer
from hitcounter.metrics import Metrics
from hitcounter.transfer import housekeeping, merging
from tests.simulation.clock import VirtualLoop
from tests.simulation.schedule import Schedule, schedule_of
from tests.simulation.worker import owned_task
from tests.simulation.world import World

LOG = logging.getLogger("hitcounter")
STEP_KEYS = 3  # so a merge takes several steps; the last has what a hit of now may begin besides
LAST_STEP_KEYS = 22


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one schedule; it has problems if anything went wrong."""

    seed: int
    n_lost: int
    n_doubled: int
    n_skewed: int
    problems: tuple[str, ...]
    events: Counter[str]
    log: tuple[str, ...]

    @property
    def report(self) -> str:
        """Tell what happened, and what went wrong."""
        again = f"make simulate SEED={self.seed} runs it again"
        return "\n  ".join([f"seed {self.seed}:", *self.log, *self.problems, again])


@dataclass(slots=True)
class Tally:
    """What became of many schedules."""

    n_schedules: int = 0
    n_lost: int = 0
    n_doubled: int = 0
    n_skewed: int = 0
    failed: list[Outcome] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Add a schedule."""
        self.n_schedules += 1
        self.n_lost += outcome.n_lost
        self.n_doubled += outcome.n_doubled
        self.n_skewed += outcome.n_skewed
        self.events.update(outcome.events)
        if outcome.problems:
            self.failed.append(outcome)

    def merge(self, other: "Tally") -> None:
        """Add all that another one holds."""
        self.n_schedules += other.n_schedules
        self.n_lost += other.n_lost
        self.n_doubled += other.n_doubled
        self.n_skewed += other.n_skewed
        self.events.update(other.events)
        self.failed += other.failed


def run_all(seeds: Iterable[int]) -> Tally:
    """Run the schedules of some seeds."""
    tally = Tally()
    for outcome in run_schedules(seeds):
        tally.add(outcome)
    return tally


def run_schedules(seeds: Iterable[int]) -> Iterator[Outcome]:
    """Run schedules one by one; those that fail run again, with a log of what happens."""
    metrics = _metrics()
    for seed in seeds:
        outcome = _run(schedule_of(seed), metrics, is_logging=False)
        yield _run(schedule_of(seed), metrics, is_logging=True) if outcome.problems else outcome


def run_logged(seed: int) -> Outcome:
    """Run the schedule of a seed, and log what happens."""
    return _run(schedule_of(seed), _metrics(), is_logging=True)


def _metrics() -> Metrics:
    """Make metrics that stay in memory, as those of a worker whose directory cannot be."""
    return Metrics(Path(os.devnull, "metrics"), 0, [""])


def _run(schedule: Schedule, metrics: Metrics, *, is_logging: bool) -> Outcome:
    loop = VirtualLoop()
    loop.set_task_factory(owned_task)
    try:
        with _sizes(schedule), _day(schedule), _writers_by_number():
            return loop.run_until_complete(_outcome(schedule, metrics, is_logging=is_logging))
    except Exception as error:
        error.add_note(f"the simulation itself fails with seed {schedule.seed}")
        raise
    finally:
        loop.close()


async def _outcome(schedule: Schedule, metrics: Metrics, *, is_logging: bool) -> Outcome:
    world = World(schedule, metrics, is_logging=is_logging)
    n_lost_before = _lost_records(metrics)
    with _heard(world):
        await world.run()
        await world.stop()
    n_lost_records = _lost_records(metrics) - n_lost_before
    if n_lost_records:
        world.problems.append(f"{n_lost_records} records are reported as lost")
    n_lost, n_doubled, n_skewed = world.ledger.differences(world.network.store.values)
    return Outcome(
        schedule.seed,
        n_lost,
        n_doubled,
        n_skewed,
        tuple(world.problems),
        world.events.counts,
        tuple(world.events.log),
    )


def _lost_records(metrics: Metrics) -> int:
    (metric,) = metrics.lost_records.collect()
    return int(metric.samples[0].value)


@contextmanager
def _sizes(schedule: Schedule) -> Iterator[None]:
    limits = schedule.limits
    with (
        mock.patch.object(records, "MAX_CHUNK_KEYS", limits.chunk_keys),
        mock.patch.object(increments, "CUT", increments.CUT._replace(max_keys=limits.cut_keys)),
        mock.patch.object(writer, "MAX_RECORD_HITS", limits.record_hits),
        mock.patch.object(merging, "BATCH_KEYS", STEP_KEYS),
        mock.patch.object(housekeeping, "BATCH_KEYS", STEP_KEYS),
        mock.patch.object(housekeeping, "_LAST_STEP_KEYS", LAST_STEP_KEYS),
    ):
        yield


@contextmanager
def _day(schedule: Schedule) -> Iterator[None]:
    """Tell a merge, which takes along what may begin meanwhile, which days these are."""
    noon = dt.datetime.fromisoformat(f"{schedule.date}T12:00+00:00")
    with mock.patch.object(housekeeping, "time", SimpleNamespace(time=noon.timestamp)):
        yield


@contextmanager
def _writers_by_number() -> Iterator[None]:
    """Number the writers instead of drawing their ids, so that every run is the same."""
    numbers = itertools.count(1)

    def next_id(_: int) -> str:
        return f"w{next(numbers)}"

    with mock.patch("secrets.token_hex", next_id):
        yield


@contextmanager
def _heard(world: World) -> Iterator[None]:
    """Hear what the code under test logs, and what nobody has caught."""
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: world.problems.append(f"nobody caught {context}")
    )
    listener, propagate, level = _Listener(world), LOG.propagate, LOG.level
    LOG.addHandler(listener)
    LOG.propagate = False
    LOG.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOG.removeHandler(listener)
        LOG.propagate = propagate
        LOG.setLevel(level)


class _Listener(logging.Handler):
    """Takes a traceback in the log for a problem."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.exc_info:
            self._world.problems.append(f"{message}: {record.exc_info[1]!r}")
        self._world.events.tell("log:", message)
