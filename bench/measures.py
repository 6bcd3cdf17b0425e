"""What is measured: throughput with some sites and with many, tail latency, start, memory."""

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from bench.contenders import CONTENDERS, Contender, Run
from bench.footprint import measure_memory, measure_start
from bench.load import Load
from bench.people import measure_people
from bench.report import Figure
from bench.turns import Bench, Job, alternate, undisturbed

MANY_SITES = 1_000
# Enough connections that one slow answer hardly lowers the rate at which the others arrive.
HALF_LOAD_CONNECTIONS = 256
CALIBRATIONS = 3
CALIBRATION_S = 2


def start_all(stack: ExitStack, bench: Bench, directory: Path) -> list[Contender]:
    """Start every contender."""
    return [stack.enter_context(start(bench.cores, directory)) for start in CONTENDERS.values()]


def rate_figure(subject: str, runs: list[Run]) -> Figure:
    """Make a figure of the answers per second."""
    rates = [run.outcome.rate for run in runs]
    busy = statistics.median(run.busy for run in runs)
    told = f"{busy:.0%} busy"
    return Figure("throughput", subject, "hits/s", rates, told, [run.others for run in runs])


def cost_figures(subject: str, runs: list[Run]) -> Iterator[Figure]:
    """Make figures of what a hit costs: that wavers less when the machine is not ours alone."""
    parts = {"service": [run.service_us for run in runs], "store": [run.store_us for run in runs]}
    others = [run.others for run in runs]
    for part, costs_us in parts.items():
        if any(costs_us):
            yield Figure(f"processor time, {part}", subject, "µs/hit", costs_us, "", others)


def median_rate(runs: list[Run]) -> float:
    """Return the answers per second of the run in the middle."""
    return statistics.median(run.outcome.rate for run in runs)


def measure_throughput(bench: Bench) -> None:
    """Measure the hits per second of every contender, and what each hit costs."""
    with ExitStack() as stack:
        contenders = start_all(stack, bench, bench.directory("throughput"))
        jobs = [Job(one.name, one, Load(bench.seconds)) for one in contenders]
        many = [one for one in contenders if one.name in ("empty", "hitcounter")]
        jobs += [Job(with_many(one.name), one, Load(bench.seconds, MANY_SITES)) for one in many]
        alternate("warm-up", jobs, 1)
        found = alternate("throughput", jobs, bench.runs)
    rates = {name: bench.note(rate_figure(name, runs)) for name, runs in found.items()}
    for name, runs in found.items():
        for figure in cost_figures(name, runs):
            bench.note(figure)
    bench.peaks |= rates
    claim_ratios(bench, rates, found)


def with_many(name: str) -> str:
    """Name a contender that is asked for many sites."""
    return f"{name}, {MANY_SITES:,} sites"


def claim_ratios(bench: Bench, rates: dict[str, float], found: dict[str, list[Run]]) -> None:
    """Note how much slower hitcounter is than what does nothing, and how much faster than usual."""
    cases = ("hitcounter", "empty", "≥ 0.70"), (*map(with_many, ("hitcounter", "empty")), "≥ 0.60")
    for ours, empty, bound in cases:
        bench.claim(f"hits/s: {ours} / empty", rates[ours] / rates[empty], bound)
        shorter_us, longer_us = (
            statistics.median(run.service_us for run in found[name]) for name in (empty, ours)
        )
        bench.claim(f"the same in processor time of the service: {ours}", shorter_us / longer_us)
    for name in ("empty", "hitcounter"):
        bench.claim(f"hits/s: {name} / floor", rates[name] / rates["floor"])
    bench.claim("hits/s: hitcounter / naive", rates["hitcounter"] / rates["naive"], "≥ 4")


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


MEASURES: dict[str, Callable[[Bench], None]] = {
    "throughput": measure_throughput,
    "p99": measure_p99,
    "people": measure_people,
    "start": measure_start,
    "memory": measure_memory,
}
