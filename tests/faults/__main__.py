"""`make faults`: many schedules at a time, with a progress bar.

make faults            100 schedules
make faults N=1000     1,000 schedules
make faults SEED=123   this one again
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from tests.faults.run import run_schedules
from tests.faults.schedule import N_SETTINGS, schedule_of
from tests.faults.verdict import Outcome

BATCH = 8
SYSTEMS_PER_CORE = 2


def main() -> int:
    """Run the schedules that the command line asks for; tell how many went wrong."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--n", type=int, default=100, help="how many schedules, from seed 0 on")
    parser.add_argument("--seed", type=int, help="the only schedule to run")
    args = parser.parse_args()
    seeds = range(args.n) if args.seed is None else range(args.seed, args.seed + 1)
    outcomes = run_all(seeds)
    print(summary(outcomes))  # noqa: T201 -- what people asked for
    return int(any(outcome.report for outcome in outcomes))


def run_all(seeds: range) -> list[Outcome]:
    """Run schedules on several systems at a time."""
    outcomes = []
    n_systems = SYSTEMS_PER_CORE * len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(n_systems) as pool, tqdm(total=len(seeds), unit="schedule") as bar:
        running = [pool.submit(run_batch, batch) for batch in batches(seeds)]
        try:
            for done in as_completed(running):
                outcomes += done.result()
                for outcome in done.result():
                    if outcome.report:
                        bar.write(outcome.report)
                bar.update(len(done.result()))
                bar.set_postfix(failed=sum(bool(outcome.report) for outcome in outcomes))
        finally:
            pool.shutdown(cancel_futures=True)  # after ^C no more of them begin
    return outcomes


def batches(seeds: range) -> Iterator[list[int]]:
    """Put seeds together that can share a running system."""
    for number in range(N_SETTINGS):
        same = [seed for seed in seeds if seed % N_SETTINGS == number]
        yield from (same[i : i + BATCH] for i in range(0, len(same), BATCH))


def run_batch(seeds: list[int]) -> list[Outcome]:
    """Run some schedules in a directory that is kept only for this."""
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        return asyncio.run(run_schedules([*map(schedule_of, seeds)], Path(directory)))


def summary(outcomes: list[Outcome]) -> str:
    """Say in one line what came out."""

    def n(field: str) -> str:
        return f"{sum(getattr(outcome, field) for outcome in outcomes):,}"

    return (
        f"{len(outcomes):,} schedules, {n('n_faults')} faults, {n('n_sent')} hits:"
        f" {n('n_acked')} acknowledged ({n('n_stored')} as stored), {n('n_refused')} refused;"
        f" {n('n_lost')} lost, {n('n_doubled')} doubled, {n('n_skewed')} skewed,"
        f" {n('n_journals')} journals left, {n('n_broken')} systems broken or with processes left"
    )


if __name__ == "__main__":
    sys.exit(main())
