"""What is measured: throughput, tail latency at half load, many sites against one, start.

All contenders of a measure run side by side and take turns (a, b, c, a, b, c, …), so that whatever
else the machine does meanwhile hits them alike; every figure is the median of its runs.
"""

import json
import os
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

from tqdm import tqdm

from bench.contenders import CONTENDERS, Contender, Cores, Run, hitcounter, serve_command
from bench.load import Load
from bench.processes import PATIENCE_S, BenchError, running, wait_until
from bench.report import QUIET_CORES, Claim, Figure, Report

MANY_SITES = 1_000
# Enough connections that one slow answer hardly lowers the rate at which the others arrive.
HALF_LOAD_CONNECTIONS = 256
TRIES = 3
CALIBRATIONS = 3
CALIBRATION_S = 2


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

    def claim(self, what: str, value: float, bound: str, unit: str = "") -> None:
        """Note how a claim such as `≥ 0.60` came out."""
        sign, number = bound.split()
        self.report.claims.append(Claim(what, value, float(number), sign == "≥", unit))


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


def start_all(stack: ExitStack, bench: Bench, directory: Path) -> list[Contender]:
    """Start every contender."""
    return [stack.enter_context(start(bench.cores, directory)) for start in CONTENDERS.values()]


def rate_figure(measure: str, subject: str, runs: list[Run]) -> Figure:
    """Make a figure of the answers per second."""
    rates = [run.outcome.rate for run in runs]
    return Figure(measure, subject, "hits/s", rates, cost(runs), [run.others for run in runs])


def cost(runs: list[Run]) -> str:
    """Say what a hit cost; it wavers less than the rate when the machine is not ours alone."""
    worker = statistics.median(run.worker_us for run in runs)
    store = statistics.median(run.store_us for run in runs)
    busy = statistics.median(run.busy for run in runs)
    told = f"worker {worker:.1f} µs/hit, {busy:.0%} busy"
    return f"{told}; store {store:.1f} µs/hit" if store else told


def median_rate(runs: list[Run]) -> float:
    """Return the answers per second of the run in the middle."""
    return statistics.median(run.outcome.rate for run in runs)


def measure_throughput(bench: Bench) -> None:
    """Measure the hits per second of every contender."""
    with ExitStack() as stack:
        contenders = start_all(stack, bench, bench.directory("throughput"))
        jobs = [Job(one.name, one, Load(bench.seconds)) for one in contenders]
        alternate("warm-up", jobs, 1)
        found = alternate("throughput", jobs, bench.runs)
    for name, runs in found.items():
        bench.peaks[name] = bench.note(rate_figure("throughput", name, runs))
    ours = bench.peaks["hitcounter"]
    bench.claim("throughput hitcounter / empty", ours / bench.peaks["empty"], "≥ 0.60")
    bench.claim("throughput hitcounter / naive", ours / bench.peaks["naive"], "≥ 4")


def measure_p99(bench: Bench) -> None:
    """Measure the 99th percentile of the latency at half of each contender's own peak."""
    with ExitStack() as stack:
        contenders = start_all(stack, bench, bench.directory("p99"))
        if not bench.peaks:
            jobs = [Job(one.name, one, Load(bench.seconds)) for one in contenders]
            peaks = alternate("peaks", jobs, bench.runs)
            bench.peaks = {name: median_rate(runs) for name, runs in peaks.items()}
        jobs = [Job(one.name, one, half_load(bench, one)) for one in contenders]
        found = alternate("p99", jobs, bench.runs)
    p99_ms = {name: bench.note(p99_figure(bench, name, runs)) for name, runs in found.items()}
    bench.claim("p99 hitcounter / empty", p99_ms["hitcounter"] / p99_ms["empty"], "≤ 3")


def half_load(bench: Bench, contender: Contender) -> Load:
    """Find the think time that brings `contender` to half of its peak."""
    cycle_ms = HALF_LOAD_CONNECTIONS / (bench.peaks[contender.name] / 2) * 1000
    think_ms = cycle_ms
    answers_ms: list[float] = []
    for _ in tqdm(range(CALIBRATIONS), contender.name, leave=False, disable=None):
        load = Load(CALIBRATION_S, connections=HALF_LOAD_CONNECTIONS, think_ms=think_ms)
        run = undisturbed(Job(contender.name, contender, load))
        answers_ms.append(HALF_LOAD_CONNECTIONS / run.outcome.rate * 1000 - think_ms)
        think_ms = max(0.1, cycle_ms - statistics.median(answers_ms))
    return Load(bench.seconds, connections=HALF_LOAD_CONNECTIONS, think_ms=think_ms)


def p99_figure(bench: Bench, name: str, runs: list[Run]) -> Figure:
    """Make a figure of the latency, and say how near the load came to half of the peak."""
    rate = median_rate(runs)
    p50_ms = statistics.median(run.outcome.p50_ms for run in runs)
    told = (
        f"p50 {p50_ms:.2f} ms; {rate:,.0f} hits/s reached, {rate / bench.peaks[name]:.0%} of peak"
    )
    p99_ms = [run.outcome.p99_ms for run in runs]
    return Figure("p99 at half peak", name, "ms", p99_ms, told, [run.others for run in runs])


def measure_flat(bench: Bench) -> None:
    """Measure how much throughput many sites cost."""
    with hitcounter(bench.cores, bench.directory("flat")) as ours:
        jobs = [
            Job(f"hitcounter, {sites:,} site{'s' * (sites > 1)}", ours, Load(bench.seconds, sites))
            for sites in (1, MANY_SITES)
        ]
        alternate("warm-up", jobs, 1)
        found = alternate("flat", jobs, bench.runs)
    one, many = (bench.note(rate_figure("flat", name, runs)) for name, runs in found.items())
    bench.claim(f"throughput {MANY_SITES:,} sites / 1 site", many / one, "≥ 0.80")


def measure_start(bench: Bench) -> None:
    """Measure the time from exec to the first hit that is answered."""
    directory = bench.directory("start")
    with hitcounter(bench.cores, directory) as ours:
        ours.drive(Load(bench.seconds, MANY_SITES))
    found: dict[str, list[float]] = {"empty": [], "existing": []}
    for number in tqdm(range(bench.runs), "start", unit="start", leave=False, disable=None):
        fresh = directory / f"fresh-{number}"
        found["empty"].append(seconds_to_first_hit(fresh, directory, total=1))
        found["existing"].append(
            seconds_to_first_hit(directory / "hitcounter", directory, total=number + 1)
        )
    for state, times_s in found.items():
        figure = Figure("start", f"hitcounter, {state} data_dir", "s", times_s, "not pinned")
        bench.claim(f"start with {state} data_dir", bench.note(figure), "≤ 0.70", " s")


def seconds_to_first_hit(data_dir: Path, directory: Path, total: int) -> float:
    """Start the service, send one hit as soon as it listens, and return when that was answered."""
    port = free_port()
    everywhere = frozenset(os.sched_getaffinity(0))
    begin = time.perf_counter()
    with running(serve_command(data_dir, port), everywhere, directory / "start.log"):
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        wait_until(lambda: connects(connection), "hitcounter to listen")
        connection.request("POST", "/v1/sites/start.example.vn/hits")
        answer = connection.getresponse()
        took_s = time.perf_counter() - begin
        body = answer.read()
        connection.close()
    if answer.status != 200 or json.loads(body)["total"] != total:
        raise BenchError(f"hit {total} was answered with {answer.status}: {body!r}")
    return took_s


def connects(connection: HTTPConnection) -> bool:
    """Tell whether somebody listens."""
    try:
        connection.connect()
    except ConnectionRefusedError:
        return False
    return True


def free_port() -> int:
    """Let the system pick a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


MEASURES: dict[str, Callable[[Bench], None]] = {
    "throughput": measure_throughput,
    "p99": measure_p99,
    "flat": measure_flat,
    "start": measure_start,
}
