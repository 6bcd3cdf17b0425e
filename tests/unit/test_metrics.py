"""The files of the metrics never grow: what a worker can need is reserved when it starts."""

from pathlib import Path

import pytest

from hitcounter.metrics import Metrics
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
