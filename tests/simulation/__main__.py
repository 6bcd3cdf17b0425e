"""`make simulate`: many schedules on all cores, with a progress bar.

make simulate              10,000 schedules
make simulate N=1000000    1,000,000 schedules
make simulate SEED=123     this one again, with all that happens in it
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed

from tqdm import tqdm

from tests.simulation.events import EXPECTED
from tests.simulation.run import Tally, run_all, run_logged

BATCH = 100
MAX_REPORTS = 5


def main() -> int:
    """Run the schedules that the command line asks for; return 1 if any went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="how many schedules")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="the only schedule to run")
    parser.add_argument("-v", action="store_true", help="tell what happens in it")
    args = parser.parse_args()
    tally = Tally()
    if args.seed is None:
        tally = run_on_all_cores(range(args.first, args.first + args.n))
    else:
        outcome = run_logged(args.seed)
        tally.add(outcome)
        if args.v and not outcome.problems:
            print(outcome.report)  # noqa: T201 -- what people asked for
    reports = [outcome.report for outcome in tally.failed[:MAX_REPORTS]]
    print(*reports, summary(tally), sep="\n")  # noqa: T201 -- what people asked for
    return min(1, len(tally.failed))


def run_on_all_cores(seeds: range) -> Tally:
    """Run schedules, a batch at a time on every core."""
    tally = Tally()
    batches = (seeds[i : i + BATCH] for i in range(0, len(seeds), BATCH))
    with ProcessPoolExecutor() as pool, tqdm(total=len(seeds), unit="schedule") as bar:
        for done in as_completed([pool.submit(run_all, batch) for batch in batches]):
            tally.merge(done.result())
            bar.update(done.result().n_schedules)
            bar.set_postfix(failed=len(tally.failed))
    return tally


def summary(tally: Tally) -> str:
    """Say what came out, and how often what happened."""
    events = [f"  {tally.events[event]:12,}  {event}" for event in EXPECTED]
    failed = [str(outcome.seed) for outcome in tally.failed]
    return "\n".join(
        [
            *events,
            f"{tally.n_schedules:,} schedules: {tally.n_lost} lost, {tally.n_doubled} doubled,"
            f" {tally.n_skewed} skewed, {len(failed)} failed {' '.join(failed)}".rstrip(),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
