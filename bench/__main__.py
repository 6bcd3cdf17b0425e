"""Measure hitcounter against an empty handler and against the usual way; see README.md."""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import NoReturn

from bench import machine
from bench.contenders import share_cores
from bench.load import require_wrk
from bench.measures import MEASURES
from bench.processes import BenchError
from bench.report import Report, machine_line
from bench.turns import Bench

KEPT, MISSED, FAILED = 0, 1, 2


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each contender (5)")
    parser.add_argument("--seconds", type=int, default=4, help="seconds of each run (4)")
    parser.add_argument("--only", choices=MEASURES, help="measure only this")
    return parser.parse_args()


def measure(options: argparse.Namespace, scratch: Path) -> Report:
    """Measure what was asked for."""
    cores = share_cores(os.sched_getaffinity(0))
    report = Report(machine.describe(cores, scratch))
    print(machine_line(report.machine), flush=True)
    bench = Bench(options.runs, options.seconds, cores, scratch, report)
    for name in [options.only] if options.only else MEASURES:
        MEASURES[name](bench)
    return report


def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Leave every `with`, so that whatever was started is ended."""
    raise SystemExit(FAILED)


def main() -> int:
    """Measure, print, save, and say whether every claim holds."""
    options = arguments()
    signal.signal(signal.SIGTERM, stop)
    try:
        require_wrk()
        with tempfile.TemporaryDirectory(prefix="hitcounter-bench-") as scratch:
            report = measure(options, Path(scratch))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return FAILED
    print(f"\n{report.text()}")
    print(f"\nsaved as {report.save()}")
    return KEPT if all(claim.holds for claim in report.claims) else MISSED


if __name__ == "__main__":
    sys.exit(main())
