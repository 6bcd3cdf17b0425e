"""Every metric, declared together.

No label can be chosen by a visitor: `site` is a declared site or `(other)`, `result` is a code of
ours. What a hit costs in metrics is paid once per flush.

All workers write into one directory, each under an id that survives its restarts, so operations can
answer for all of them (see `metric_files`).
"""

import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

from hitcounter import __version__
from hitcounter.metric_files import Mode, keep_values
from hitcounter.outcomes import COUNTED, RESULTS, RESULTS_OF_OTHERS
from hitcounter.store.durability import PROMISES

OTHER_SITES = "(other)"
# What becomes of a hit now, the best first: acknowledged by the store, by the journal, or refused.
READY = "ready"
JOURNALING = "journaling"
UNAVAILABLE = "store_unavailable"
UNFIT = "store_unfit"
STATES = (READY, JOURNALING, UNAVAILABLE, UNFIT, "journal_full", "journal_failed")


class Metrics:
    """The metrics of one worker."""

    def __init__(self, directory: Path, worker_id: int, sites: Iterable[str]) -> None:
        """Declare every metric; `sites` are the declared ones, the only ones to become labels."""
        self._sites = frozenset(sites)
        self._worker_id = worker_id
        self.directory = directory
        # To find a series takes longer than to add to it.
        self._inc_of = cache(lambda label, result: self._hits.labels(label, result).inc)
        self._last_hit_of = cache(lambda label: self._last_hit.labels(label))
        n_series = (len(self._sites) + 1) * (len(RESULTS + RESULTS_OF_OTHERS) + 1)
        keep_values(directory, worker_id, n_series)

        self._hits = _counter(
            "hitcounter_hits",
            "Requests to a counting endpoint, by what became of them",
            ["site", "result"],
        )
        self._pages_refused = _counter(
            "hitcounter_pages_refused",
            "Pageviews counted for the site only: it stores max_pages pages, or too many wait",
            ["site"],
        )
        # So that both are known to whoever answers, who adds the series that begin at 0.
        self._hits.labels(OTHER_SITES, COUNTED)
        self._pages_refused.labels(OTHER_SITES)
        self.connections_refused = _counter(
            "hitcounter_connections_refused",
            "Connections ended, idle ones first, as the worker had as many as it may open",
        )
        self.unnamed_proxy_hits = _counter(
            "hitcounter_unnamed_proxy_hits", "Hits through a private proxy that nobody named"
        )
        self._declare_counters_of_losses()
        self.worker_restarts = _counter(
            "hitcounter_worker_restarts", "Workers that were started in the place of one that ended"
        )
        self._declare_histograms()
        self._declare_gauges()
        self._declare_gauges_of_the_store()

    def _declare_counters_of_losses(self) -> None:
        self.lost_records = _counter(
            "hitcounter_lost_records",
            "Acknowledged records that the store lost and that could not be sent again",
        )
        self.replayed_journals = _counter(
            "hitcounter_replayed_journals",
            "Journals of workers that were gone, whose hits are in the store now",
        )
        self.fallen_totals = _counter(
            "hitcounter_fallen_totals", "Times that the total of a site was found lower than before"
        )

    def _declare_histograms(self) -> None:
        self.commit_s = _histogram(
            "hitcounter_commit_duration_seconds",
            "Time from sending a chunk to the store's answer",
            (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
        )
        self.chunk_hits = _histogram(
            "hitcounter_chunk_hits",
            "Hits committed together in one chunk",
            (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
        )

    def _declare_gauges(self) -> None:
        self.in_flight = _gauge(
            "hitcounter_hits_in_flight", "Hits in the chunk that is on its way to the store"
        )
        self.pending = _gauge("hitcounter_hits_pending", "Hits that wait for the chunk before them")
        self.journal_bytes = _gauge("hitcounter_journal_bytes", "Size of the journals on disk")
        self.journal_limit_bytes = _gauge(
            "hitcounter_journal_limit_bytes", "Size to which the journals may grow, besides logs"
        )
        self.journals_unread = _gauge(
            "hitcounter_journals_unread",
            "Files in the directory of the journals that cannot be read: their hits are missing",
            mode="livemax",
        )
        self.hits_stored = _gauge(
            "hitcounter_hits_stored", "Acknowledged hits that wait in the journal for the store"
        )
        self._workers = _gauge(
            "hitcounter_workers", "Workers, by what becomes of a hit there now", ["state"]
        )
        self.limits_fill = _gauge(
            "hitcounter_limits_fill", "Share of the limits' slots that are in use", mode="max"
        )
        self._last_hit = _gauge(
            "hitcounter_last_hit_timestamp_seconds",
            "When a site was hit last",
            ["site"],
            mode="max",
        )
        self._heartbeat = _gauge(
            "hitcounter_worker_heartbeat_timestamp_seconds",
            "When a worker last had time for what is to be done",
            ["worker"],
            mode="livemax",
        )
        build = _gauge(
            "hitcounter_build_info", "The version that runs", ["version", "python"], mode="max"
        )
        build.labels(__version__, platform.python_version()).set(1)

    def _declare_gauges_of_the_store(self) -> None:
        self.store_up = _gauge(
            "hitcounter_store_up",
            "Whether the store answers (1) or not (0), as the worst-off worker sees it",
            mode="livemin",
        )
        self.store_full = _gauge(
            "hitcounter_store_full",
            "Whether the store has no room for hits (1), as the worst-off worker sees it",
            mode="livemax",
        )
        self.store_promise = _gauge(
            "hitcounter_store_promise",
            "Which promise the store keeps: 2 is level A, 1 is level B, 0 none, -1 unknown",
            mode="livemin",
        )
        self.store_promise_wanted = _gauge(
            "hitcounter_store_promise_wanted",
            "Which promise the store should keep: 2 is level A, 1 is level B, -1 any",
            mode="livemax",
        )
        self.store_memory_bytes = _gauge(
            "hitcounter_store_memory_bytes", "Memory that the store uses", mode="livemax"
        )
        self.store_memory_limit_bytes = _gauge(
            "hitcounter_store_memory_limit_bytes",
            "Memory that the store may use, or 0 where it has no bound or does not tell",
            mode="livemax",
        )
        self.clock_skew_s = _gauge(
            "hitcounter_store_clock_skew_seconds",
            "How far the clock of the store is from ours, in either direction",
            mode="livemax",
        )
        # A worker that has only begun knows nothing bad of the store.
        self.store_up.set(1)
        self.store_promise.set(max(PROMISES.values()))

    def beat(self) -> None:
        """Note that this worker is not stuck."""
        self._heartbeat.labels(self._worker_id).set_to_current_time()

    def set_state(self, now: str) -> None:
        """Show what becomes of a hit now, one of `STATES`."""
        for state in STATES:
            self._workers.labels(state).set(state == now)

    def acknowledged(self, hits: Mapping[str, int], result: str) -> None:
        """Add pageviews by label: `COUNTED` in the store, or `STORED` in the journal."""
        now_s = time.time()
        for label, n in hits.items():
            self._inc_of(label, result)(n)
            self._last_hit_of(label).set(now_s)

    def not_counted(self, site: str, result: str) -> None:
        """Add one hit that was refused or ignored, by the code of its answer."""
        self._inc_of(self.label(site), result)(1)

    def page_refused(self, label: str) -> None:
        """Add one pageview whose page is not stored."""
        self._pages_refused.labels(label).inc()

    def label(self, site: str) -> str:
        """Name a site in metrics."""
        return site if site in self._sites else OTHER_SITES


def _counter(name: str, doc: str, labels: Sequence[str] = ()) -> Counter:
    return Counter(name, doc, labels, registry=None)


def _histogram(name: str, doc: str, buckets: Sequence[float]) -> Histogram:
    return Histogram(name, doc, buckets=buckets, registry=None)


def _gauge(name: str, doc: str, labels: Sequence[str] = (), mode: Mode = "livesum") -> Gauge:
    return Gauge(name, doc, labels, multiprocess_mode=mode, registry=None)
