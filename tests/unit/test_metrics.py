"""The files of the metrics never grow: what a worker can need is reserved when it starts."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hitcounter.metric_files import forget_gauges, keep_values
from hitcounter.metrics import Metrics
from hitcounter.operations.collector import measured
from hitcounter.outcomes import RESULTS, RESULTS_OF_OTHERS

SITES = [f"{n:0>63}" for n in range(40)]


def test_a_file_has_room_for_all_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))  # it is set anew, and taken back
    metrics = Metrics(tmp_path, 123_456, SITES)
    reserved = {path: path.stat().st_size for path in tmp_path.iterdir()}
    assert all(path.stat().st_blocks * 512 >= size for path, size in reserved.items())
    for site in [*SITES, "another"]:
        for result in RESULTS + RESULTS_OF_OTHERS:
            metrics.not_counted(site, result)
        metrics.page_refused(metrics.label(site))
    assert {path: path.stat().st_size for path in tmp_path.iterdir()} == reserved


def test_whoever_reads_while_a_worker_begins_meets_no_file_that_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))

    def begin_often() -> None:
        for _ in range(200):
            keep_values(tmp_path, 0, len(SITES))
            forget_gauges(tmp_path, 0)

    with ThreadPoolExecutor(1) as pool:
        beginning = pool.submit(begin_often)
        while not beginning.done():
            assert measured(tmp_path, "hitcounter_workers") == {}
        beginning.result()
