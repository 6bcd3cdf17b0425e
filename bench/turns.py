"""How measures are taken: what is compared runs side by side and takes turns (a, b, c, a, b, c, …).

So whatever else the machine does meanwhile hits all alike; a figure is the median of its runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from bench.contenders import Contender, Cores, Run
from bench.load import Load
from bench.report import QUIET_CORES, Claim, Figure, Report

TRIES = 3


@dataclass(slots=True)
class Bench:
    """How to measure, and what was found so far."""

    runs: int
    seconds: int
    cores: Cores
    scratch: Path
    report: Report
    peaks: dict[str, float] = field(default_factory=dict)

    def directory(self, name: str) -> Path:
        """Make a directory for one measure."""
        path = self.scratch / name
        path.mkdir()
        return path

    def note(self, figure: Figure) -> float:
        """Note a figure, and return its median."""
        self.report.figures.append(figure)
        return figure.median

    def claim(self, what: str, value: float, bound: str = "", unit: str = "") -> None:
        """Note how a claim such as `≥ 0.70` came out."""
        self.report.claims.append(Claim(what, value, bound, unit))


@dataclass(frozen=True, slots=True)
class Job:
    """One contender under one load."""

    name: str
    contender: Contender
    load: Load


def alternate(label: str, jobs: Sequence[Job], rounds: int) -> dict[str, list[Run]]:
    """Run the jobs in turns."""
    runs: dict[str, list[Run]] = {job.name: [] for job in jobs}
    for job in tqdm([*jobs] * rounds, label, unit="run", leave=False, disable=None):
        runs[job.name].append(undisturbed(job))
    return runs


def undisturbed(job: Job) -> Run:
    """Run a job again while others use the machine too; return the run that they disturbed least.

    What the run itself came to plays no part in the choice.
    """
    runs: list[Run] = []
    while len(runs) < TRIES and all(run.others > QUIET_CORES for run in runs):
        runs.append(job.contender.drive(job.load))
    return min(runs, key=lambda run: run.others)
