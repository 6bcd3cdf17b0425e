"""slowhttptest, with heads, bodies and reads that do not end, while somebody else counts hits."""

import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from hitcounter.process.serving import SPARE_FILES
from tests import conftest
from tests.conftest import StartService
from tests.support.servers import program
from tests.support.wire import ask

N_CONNECTIONS, FEW = 1000, 20
ATTACKS = {
    "heads": ["-H", "-i", "5"],
    "bodies": ["-B", "-i", "5", "-s", "2000", "-t", "POST"],
    "reads": ["-X", "-w", "10", "-y", "20", "-n", "5", "-z", "5", "-k", "3"],
}


def n_open(pid: int) -> int:
    """Return how many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("n_files", [1024, 4096])
def test_slow_clients_are_gone_in_time_and_keep_nobody_from_counting(
    start_service: StartService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_files: int
) -> None:
    starter = tmp_path / "hitcounter"
    starter.write_text(f'#!/bin/sh\nulimit -n {n_files}\nexec {conftest.PROGRAM} "$@"\n')
    starter.chmod(0o700)
    monkeypatch.setattr(conftest, "PROGRAM", starter)
    service = start_service()
    log, n_hits, n_before = service.log, 0, n_open(service.worker_pids()[0])
    hits = f"{service.url}/v1/sites/demo/hits"
    with ExitStack() as stack:
        attackers = []
        for name, options in ATTACKS.items():
            target = f"{service.url}/openapi.yaml" if name == "reads" else hits
            fixed = ["-c", f"{N_CONNECTIONS}", "-r", "300", "-l", "60", "-p", "5", "-u", target]
            output = stack.enter_context((tmp_path / name).open("w"))
            command = [program("slowhttptest"), *options, *fixed]
            attackers.append(subprocess.Popen(command, stdout=output, stderr=output))
            stack.callback(attackers[-1].wait)
            stack.callback(attackers[-1].kill)
        (worker,) = service.worker_pids()
        has_filled = False
        while not has_filled or n_open(worker) > n_before + FEW:
            has_filled = has_filled or n_open(worker) > N_CONNECTIONS // 2
            assert ask(service.port, "POST", "/v1/sites/demo/hits").status == 200
            n_hits += 1
            # It ends by itself only when it has lost all, or after its 60 seconds.
            assert attackers[-1].poll() is None, "the readers are still here"
    assert ask(service.port, "GET", "/v1/sites/demo/counts").json["total"] >= n_hits > SPARE_FILES
    assert service.log == log
