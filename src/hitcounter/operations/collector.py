"""The metrics of all workers, put together from the files that they write (see `metrics`)."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from hitcounter.metrics import OTHER_SITES
from hitcounter.outcomes import RESULTS, RESULTS_OF_OTHERS


def measured(directory: Path, name: str) -> dict[str, float]:
    """Return a gauge of all workers, by the value of its only label."""
    samples = _samples(directory, "gauge_*.db", name)
    return {"".join(sample.labels.values()): sample.value for sample in samples}


def results(directory: Path) -> dict[str, dict[str, int]]:
    """Return what became of the hits of each declared site, by result."""
    hits: dict[str, dict[str, int]] = {}
    for sample in _samples(directory, "counter_*.db", "hitcounter_hits"):
        hits.setdefault(sample.labels["site"], {})[sample.labels["result"]] = int(sample.value)
    return hits


def _samples(directory: Path, files: str, name: str) -> Iterator[Sample]:
    for metric in _merged(directory, files):
        if metric.name == name:
            yield from metric.samples


def _merged(directory: Path, files: str = "*.db") -> Iterable[Metric]:
    paths = map(str, directory.glob(files))
    return MultiProcessCollector.merge(paths)  # type: ignore[no-any-return, no-untyped-call]


def of_all_workers(directory: Path, sites: Iterable[str]) -> CollectorRegistry:
    """Collect what all workers have written; `sites` are the declared ones."""
    registry = CollectorRegistry()
    registry.register(_AllWorkers(directory, sites))
    return registry


class _AllWorkers(Collector):
    """Adds up the files of all workers, and begins every series of a declared site at 0.

    A series that appears with its first hit gives `increase` nothing to compare with, and an alert
    on it never fires.
    """

    def __init__(self, directory: Path, sites: Iterable[str]) -> None:
        self._directory = directory
        results = dict.fromkeys(sites, RESULTS) | {OTHER_SITES: RESULTS + RESULTS_OF_OTHERS}
        self._begin = {
            "hitcounter_hits": [
                {"site": s, "result": r} for s in sorted(results) for r in results[s]
            ],
            "hitcounter_pages_refused": [{"site": site} for site in sorted(results)],
        }

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, with all of its samples."""
        for metric in _merged(self._directory):
            there = {tuple(sorted(sample.labels.items())) for sample in metric.samples}
            for labels in self._begin.get(metric.name, ()):
                if tuple(sorted(labels.items())) not in there:
                    metric.samples.append(Sample(f"{metric.name}_total", labels, 0.0))
            yield metric
