"""What the service itself takes: time to start, and memory after many hits."""

import json
import os
import socket
import statistics
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from tqdm import tqdm

from bench.contenders import BROWSER, hitcounter, serve_command
from bench.load import Load
from bench.processes import (
    PATIENCE_S,
    BenchError,
    cpu_s,
    descendants,
    machine_cpu_s,
    own_cpu_s,
    pss_mb,
    running,
    wait_until,
)
from bench.report import Figure
from bench.turns import Bench

N_SITES, N_MANY_SITES = 100, 1_000
N_PAGES, N_HITS = 500, 400_000


def measure_start(bench: Bench) -> None:
    """Measure the time from exec to the first hit that is answered."""
    directory = bench.directory("start")
    with hitcounter(bench.cores, directory) as ours:
        ours.drive(Load(bench.seconds, N_MANY_SITES))
    found: dict[str, list[Start]] = {"empty": [], "existing": []}
    for number in tqdm(range(bench.runs), "start", unit="start", leave=False, disable=None):
        fresh = directory / f"fresh-{number}"
        found["empty"].append(started(fresh, directory, total=1))
        found["existing"].append(started(directory / "hitcounter", directory, total=number + 1))
    for state, starts in found.items():
        spent_s = statistics.median(start.processor_s for start in starts)
        told = f"not pinned; {spent_s:.2f} s of processor time"
        times_s, others = [start.time_s for start in starts], [start.others for start in starts]
        figure = Figure("start", f"hitcounter, {state} data_dir", "s", times_s, told, others)
        bench.claim(f"start with {state} data_dir", bench.note(figure), "≤ 0.70", " s")


@dataclass(frozen=True, slots=True)
class Start:
    """How long a start took, what it cost, and how many cores all others used meanwhile."""

    time_s: float
    processor_s: float
    others: float


def started(data_dir: Path, directory: Path, total: int) -> Start:
    """Start the service, send one hit as soon as it listens, and measure until its answer."""
    port = free_port()
    everywhere = frozenset(os.sched_getaffinity(0))
    begin, machine_s, bench_s = time.perf_counter(), machine_cpu_s(), own_cpu_s()
    log = directory / "start.log"
    with running(serve_command(data_dir, port), everywhere, log) as process:
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        wait_until(lambda: connects(connection), "hitcounter to listen")
        connection.request("POST", "/v1/sites/start.example.vn/hits", None, BROWSER)
        answer = connection.getresponse()
        took_s = time.perf_counter() - begin
        spent_s = sum(map(cpu_s, [process.pid, *descendants(process.pid)]))
        others_s = machine_cpu_s() - machine_s - (own_cpu_s() - bench_s) - spent_s
        body = answer.read()
        connection.close()
    if answer.status != 200 or json.loads(body)["total"] != total:
        raise BenchError(f"hit {total} was answered with {answer.status}: {body!r}")
    return Start(took_s, spent_s, max(0.0, others_s / took_s))


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


def measure_memory(bench: Bench) -> None:
    """Measure what the processes of the service take after many hits on many pages."""
    with hitcounter(bench.cores, bench.directory("memory")) as ours:
        n_hits = 0
        while n_hits < N_HITS:
            n_hits += ours.drive(Load(bench.seconds, N_SITES, N_PAGES)).outcome.answered
        sizes_mb = {name: pss_mb(pid) for name, pid in ours.service.items()}
    told = f"after {n_hits:,} hits on {N_SITES} sites of {N_PAGES} pages"
    for name, size_mb in sizes_mb.items():
        bench.note(Figure("memory (PSS)", f"hitcounter, {name}", "MB", [size_mb], told))
    bench.claim("memory of these processes together", sum(sizes_mb.values()), "≤ 105", " MB")
