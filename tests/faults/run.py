"""Schedules, one after the other on one system: load, faults, heal, drain, compare.

After the last one everything is compared again, so that nothing is added later unnoticed.
"""

import asyncio
import itertools
import json
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tests.faults.following import Follower, events_of
from tests.faults.schedule import Schedule, Setting, setting_of
from tests.faults.strikes import strike
from tests.faults.system import LANE_TRACE, System, running
from tests.faults.verdict import (
    Difference,
    Outcome,
    Reading,
    differences,
    is_complete,
    read,
    targets_of,
)
from tests.support.load import KEPT_EQUAL, Connection, Tally, Target, Unanswered
from tests.support.servers import programs
from tests.support.waiting import POLL_S
from tests.support.wire import Answer

N_CLIENTS = 6
PAGES = ("/", "/tin-tuc/1", "/tin-tuc/2")
PAUSE_S = 0.01
HEAL_DEADLINE_S = 20.0
UNKNOWN = "outcome_unknown"  # the only refusal of a hit that may be counted all the same
REFUSALS = {UNKNOWN, "store_unavailable", "overloaded"}
STATES = {"counted", "stored"}
N_LOG_LINES = 40
N_WRONG = 5  # events that are shown


class Load:
    """Clients that send hits all the time, and what became of these."""

    def __init__(self, port: int, schedule: Schedule) -> None:
        """Prepare clients for the sites of a schedule."""
        self.tally = Tally()
        self.states: Counter[str] = Counter()
        self._port = port
        self._targets = itertools.cycle(
            [Target(site, path) for site in schedule.sites for path in PAGES]
        )
        self._is_done = False

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send hits; at the end wait for the last answers."""
        async with asyncio.TaskGroup() as group:
            for _ in range(N_CLIENTS):
                group.create_task(self._client())
            try:
                yield
            finally:
                self._is_done = True

    async def _client(self) -> None:
        connection = Connection(self._port)
        try:
            while not self._is_done:
                await self._hit(connection, next(self._targets))
                await asyncio.sleep(PAUSE_S)  # a site's visitors, not a benchmark
        finally:
            connection.close()

    async def _hit(self, connection: Connection, target: Target) -> None:
        body = json.dumps({"path": target.path}).encode()
        try:
            answer = await connection.ask("POST", f"/v1/sites/{target.site}/hits", body)
        except Unanswered:
            self.tally.unanswered[target] += 1
        except ConnectionError:  # no connection: nothing was sent
            return
        else:
            self._note(target, answer)
        self.tally.sent[target] += 1

    def _note(self, target: Target, answer: Answer) -> None:
        """Take an answer, and expect of it what every answer promises."""
        numbers = answer.json
        if answer.status != 200:
            assert (answer.status, answer.code in REFUSALS) == (503, True), answer
            assert int(answer.headers["retry-after"]) > 0, answer
            self.tally.refused[answer.code] += 1
            self.tally.unanswered[target] += answer.code == UNKNOWN
            return
        assert len({numbers[key] for key in KEPT_EQUAL}) == 1, numbers
        page_total = numbers["page"]["total"]
        # A worker that never saw a page while the store was there does not know its number.
        is_unknown = page_total is None and numbers["state"] == "stored"
        assert is_unknown or 0 < page_total <= numbers["total"], numbers
        assert numbers["state"] in STATES, numbers
        self.states[numbers["state"]] += 1
        self.tally.acked[target] += 1

    async def counts(self) -> None:
        """Wait until hits are counted in the store."""
        enough = self.states["counted"] + 2 * N_CLIENTS
        give_up_at_s = time.monotonic() + HEAL_DEADLINE_S
        while self.states["counted"] < enough:
            assert time.monotonic() < give_up_at_s, "no hits are counted"
            await asyncio.sleep(POLL_S)


async def run_schedules(
    schedules: Sequence[Schedule], directory: Path, *, is_naive: bool = False
) -> list[Outcome]:
    """Run schedules that share a setting; one that fails costs the system, the next gets a new."""
    outcomes: list[Outcome] = []
    while len(outcomes) < len(schedules):
        where = directory / str(len(outcomes))
        where.mkdir(parents=True)
        outcomes += await _run_some(schedules[len(outcomes) :], where, is_naive)
    return outcomes


async def _run_some(schedules: Sequence[Schedule], where: Path, is_naive: bool) -> list[Outcome]:
    """Run schedules on one system, up to the first that fails."""
    setting = setting_of(schedules[0].seed, programs())
    sites = [site for schedule in schedules for site in schedule.sites]
    done: list[tuple[Outcome, Tally]] = []
    try:
        async with running(where, setting, sites, is_naive=is_naive) as system:
            for schedule in schedules:
                done.append(await _run(system, schedule))
                if done[-1][0].report:
                    break
            outcomes = [await _again(system, *each) for each in done]
        if not is_naive:
            _follow(where, setting)
        return outcomes
    except Exception:  # it did not start, or left a process
        return _broken([outcome for outcome, _ in done], schedules[0])


def _follow(where: Path, setting: Setting) -> None:
    """Raise `AssertionError` if a worker has done what the model of `tests.search` forbids."""
    kind = setting.kind
    follower = Follower(kind.kept_window_s, is_always=kind.appendfsync == "always")
    wrong = list(follower.follow(events_of(where / LANE_TRACE)))
    assert follower.n_events > 0, "no worker has told what it does"
    assert not wrong, "\n".join(["the model does not allow this:", *wrong[:N_WRONG]])


def _broken(outcomes: list[Outcome], first: Schedule) -> list[Outcome]:
    """Put down a failure of the system itself to the last schedule that it ran."""
    last = outcomes.pop() if outcomes else Outcome(first.seed, len(first.faults))
    report = last.report + f"\n--- seed {last.seed}: the system\n{traceback.format_exc()}"
    return [*outcomes, replace(last, n_broken=1, report=report)]


async def _run(system: System, schedule: Schedule) -> tuple[Outcome, Tally]:
    """Run one schedule."""
    system.events.lines.clear()
    system.events.note(f"seed {schedule.seed}: {system.setting}")
    load = Load(system.service.port, schedule)
    outcome = Outcome(schedule.seed, len(schedule.faults))
    try:
        await _suffer(system, schedule, load)
        reading, journals = await _drained(system, load.tally)
        outcome = _judge(system, outcome, load, reading, journals)
    except Exception as error:
        wrong = "".join(sorted({*_causes(error)}))
        outcome = replace(outcome, report=_report(system, schedule.seed, wrong))
    return outcome, load.tally


def _causes(error: BaseException) -> Iterator[str]:
    """Give the tracebacks of the errors that a group is made of."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _causes(each)
    else:
        yield "".join(traceback.format_exception(error))


async def _suffer(system: System, schedule: Schedule, load: Load) -> None:
    strikes: list[asyncio.Task[None]] = []
    try:
        async with load.sending():
            await load.counts()
            strikes += [asyncio.create_task(strike(system, fault)) for fault in schedule.faults]
            await asyncio.wait(strikes)
            system.events.note("all is healed")
            await load.counts()
            system.events.note("hits are counted again")
    finally:
        await asyncio.gather(*strikes)  # also after a failure: each one heals what it broke


async def _drained(system: System, tally: Tally) -> tuple[Reading, list[str]]:
    """Wait until nothing waits anywhere and all acknowledged hits are counted, or for too long.

    Return the numbers and the journals of one look: a worker that is told to end may leave another
    journal at any later time.
    """
    give_up_at_s = time.monotonic() + HEAL_DEADLINE_S
    while True:
        is_late, journals = time.monotonic() > give_up_at_s, system.service.journals()
        reading = await read(system.service.port, targets_of(tally))
        if is_late or (is_complete(tally, reading) and not journals):
            system.events.note("nothing waits any more" if not is_late else "waited in vain")
            return reading, journals
        await asyncio.sleep(POLL_S)


def _judge(
    system: System, outcome: Outcome, load: Load, reading: Reading, journals: list[str]
) -> Outcome:
    found = differences(load.tally, reading)
    wrong = [str(each) for each in found]
    wrong += [f"skewed: {target} {numbers}" for target, numbers in reading.skewed.items()]
    wrong += [f"journals left: {journals}"] if journals else []
    wrong += [] if reading.is_fresh else ["the last answers were not fresh"]
    return replace(
        _with_differences(outcome, found),
        n_sent=load.tally.sent.total(),
        n_acked=load.tally.n_acked,
        n_stored=load.states["stored"],
        n_refused=load.tally.refused.total(),
        n_skewed=len(reading.skewed),
        n_journals=len(journals),
        report=_report(system, outcome.seed, "\n".join(wrong)) if wrong else "",
    )


def _with_differences(outcome: Outcome, found: Sequence[Difference]) -> Outcome:
    """Count what is lost and doubled, by pages: every hit has one."""
    pages = [each for each in found if each.target.path]
    n_lost, n_doubled = sum(each.n_lost for each in pages), sum(each.n_doubled for each in pages)
    return replace(outcome, n_lost=n_lost, n_doubled=n_doubled)


async def _again(system: System, outcome: Outcome, tally: Tally) -> Outcome:
    """Compare once more, when later schedules have run."""
    if outcome.report:
        return outcome
    reading, journals = await _drained(system, tally)
    found = differences(tally, reading)
    if not found and not journals:
        return outcome
    what = "\n".join(["after later schedules:", *map(str, found), *journals])
    report = _report(system, outcome.seed, what)
    return replace(_with_differences(outcome, found), report=report)


def _report(system: System, seed: int, wrong: str) -> str:
    events, log = "\n".join(system.events.lines), system.service.log().splitlines()[-N_LOG_LINES:]
    head = f"--- seed {seed}; again: make faults SEED={seed}"
    return f"{head}\n{wrong}\n{events}\n--- log of the service\n" + "\n".join(log)
