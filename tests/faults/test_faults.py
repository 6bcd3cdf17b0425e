"""The promise, held by a real service before a real store while anything may die or hang.

Per site and page: acknowledged <= counted <= sent; the four lines never drift apart; no process
and no journal is left. Every schedule comes from its seed, which a failure prints with all that
was done and when; `make faults SEED=123` runs that one again, `make faults N=1000` many more.
The times of a machine are never the same twice, so a rare failure may take some runs to return.
"""

from pathlib import Path

import pytest

from tests.faults.run import run_schedules
from tests.faults.schedule import FAULTS, N_SETTINGS, Schedule, schedule_of
from tests.faults.strikes import STRIKES
from tests.faults.verdict import Outcome
from tests.speeds import N_FAULT_SCHEDULES

N_DRAWN = 100
N_OF_CONTROL = 3

pytestmark = pytest.mark.timeout(600)  # some of them can wait in vain for tens of seconds


@pytest.mark.parametrize("number", range(min(N_SETTINGS, N_FAULT_SCHEDULES)))
async def test_every_acknowledged_hit_is_counted_once_whatever_fails(
    number: int, tmp_path: Path
) -> None:
    schedules = [schedule_of(seed) for seed in range(number, N_FAULT_SCHEDULES, N_SETTINGS)]
    outcomes = await run_schedules(schedules, tmp_path)
    assert [outcome.seed for outcome in outcomes] == [schedule.seed for schedule in schedules]
    reports = [outcome.report for outcome in outcomes if outcome.report]
    if reports:
        pytest.fail("\n".join(reports), pytrace=False)
    assert sum(outcome.n_acked for outcome in outcomes) > 0


@pytest.mark.slow
async def test_the_usual_way_of_counting_fails_under_the_same_schedules(tmp_path: Path) -> None:
    losing = filter(_loses_replies, map(schedule_of, range(0, 10_000, N_SETTINGS)))
    found: list[Outcome] = []
    # A reply can be lost only while one is on its way, which a busy machine may not bring about.
    while sum(outcome.n_doubled > 0 for outcome in found) < N_OF_CONTROL:
        assert len(found) < 4 * N_OF_CONTROL, found
        where = tmp_path / str(len(found))
        found += await run_schedules([next(losing)], where, is_naive=True)


def _loses_replies(schedule: Schedule) -> bool:
    return any(fault.name == "lose_replies" for fault in schedule.faults)


def test_a_schedule_is_its_seed_and_every_fault_has_its_turn() -> None:
    schedules = [schedule_of(seed) for seed in range(N_DRAWN)]
    assert schedules == [schedule_of(seed) for seed in range(N_DRAWN)]
    drawn = {fault.name for schedule in schedules for fault in schedule.faults}
    assert drawn == set(FAULTS) == STRIKES.keys()
