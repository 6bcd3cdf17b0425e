"""Measure what clients that never finish do to one that does: `python -m bench.slow_clients`.

slowhttptest opens 1,000 connections, and sends heads or bodies, or reads answers, slower than they
end. Meanwhile one client counts hits, each on a connection of its own as a visitor's is.
"""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from tqdm import tqdm

from bench.__main__ import FAILED, KEPT, MISSED, stop
from bench.contenders import BROWSER, family, serve_command
from bench.processes import BenchError, first_line, running

N_CONNECTIONS = 1000
FIXED = ("-c", f"{N_CONNECTIONS}", "-r", "500", "-l", "120", "-p", "5", "-u")
ATTACKS = {
    "heads": ("/v1/sites/demo/hits", "-H", "-i", "5"),
    "bodies": ("/v1/sites/demo/hits", "-B", "-i", "5", "-s", "2000", "-t", "POST"),
    "reads": ("/openapi.yaml", "-X", "-w", "10", "-y", "20", "-n", "5", "-z", "5", "-k", "3"),
}
N_FILES = (1024, 8192)
FEW = 20
BETWEEN_HITS_S = 0.01
PATIENCE_S = 120
P99_BOUND_MS, GONE_BOUND_S = 250.0, 15.0


@dataclass(slots=True)
class Found:
    """How long the hits took, and when all was over after the last connection was made."""

    hits_ms: list[float]
    gone_after_s: float

    @property
    def p99_ms(self) -> float:
        """Return what 99 of 100 hits stayed below."""
        return statistics.quantiles(self.hits_ms, n=100)[-1]


@contextmanager
def attacking(url: str, name: str, output: Path) -> Iterator[int]:
    """Run one attack until the end of the block; give its pid."""
    path, *options = ATTACKS[name]
    with output.open("w") as file:
        command = ["slowhttptest", *options, *FIXED, url + path]
        attack = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            yield attack.pid
        finally:
            attack.kill()
            attack.wait()


def hit_ms(address: str) -> float:
    """Count a hit on a new connection, and return how long that took."""
    begin_s = time.perf_counter()
    connection = HTTPConnection(address, timeout=PATIENCE_S)
    connection.request("POST", "/v1/sites/demo/hits", None, BROWSER)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 200:
        raise BenchError(f"a hit was answered with {answer.status} during the attack")
    return (time.perf_counter() - begin_s) * 1000


def outlast(url: str, worker: int, name: str, output: Path) -> Found:
    """Count hits from the begin of an attack until all its connections have ended."""
    n_before = n_open(worker)
    hits_ms: list[float] = []
    # Whoever makes room for others may be gone before the last ones come.
    seen: set[str] = set()
    last_at_s = time.monotonic()
    with attacking(url, name, output) as attack:
        while len(seen) < N_CONNECTIONS // 2 or n_open(worker) > n_before + FEW:
            new = sockets(attack) - seen
            seen |= new
            if len(new) > 1:  # one alone is how slowhttptest looks whether we still answer
                last_at_s = time.monotonic()
            if time.monotonic() - last_at_s > PATIENCE_S:
                raise BenchError(f"{name}: {n_open(worker)} connections do not end: see {output}")
            hits_ms.append(hit_ms(url.rpartition("/")[2]))
            time.sleep(BETWEEN_HITS_S)
        gone_after_s = time.monotonic() - last_at_s
    return Found(hits_ms, gone_after_s)


def n_open(pid: int) -> int:
    """Return how many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def sockets(pid: int) -> set[str]:
    """Name the sockets that a process has open."""
    found = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(str(file.readlink()))
    return {name for name in found if name.startswith("socket:")}


def measure(scratch: Path) -> bool:
    """Attack a service in every way, print what was found, and say whether the claims hold."""
    everywhere = frozenset(os.sched_getaffinity(0))
    holds = True
    cases = [(n_files, name) for n_files in N_FILES for name in ATTACKS]
    for n_files, name in tqdm(cases, "attacks", unit="attack", leave=False, disable=None):
        case = f"{name}-{n_files}"
        serve = ["prlimit", f"--nofile={n_files}", *serve_command(scratch / case)]
        with running(serve, everywhere, log := scratch / f"{case}.log") as process:
            url = first_line(process, log).split()[-1]
            found = outlast(url, family(process.pid)["worker"], name, scratch / f"{case}.attack")
        tqdm.write(
            f"{name}, {n_files} files: p99 of {len(found.hits_ms)} hits {found.p99_ms:.1f} ms"
            f" (claim: ≤ {P99_BOUND_MS:.0f}), slowest {max(found.hits_ms):.1f} ms;"
            f" all gone after {found.gone_after_s:.1f} s (claim: ≤ {GONE_BOUND_S:.0f})"
        )
        holds = holds and found.p99_ms <= P99_BOUND_MS and found.gone_after_s <= GONE_BOUND_S
    return holds


def main() -> int:
    """Measure, and say whether the claims hold."""
    signal.signal(signal.SIGTERM, stop)
    try:
        if not shutil.which("slowhttptest"):
            raise BenchError("slowhttptest is missing; install it: apt-get install slowhttptest")
        with tempfile.TemporaryDirectory(prefix="hitcounter-bench-") as scratch:
            holds = measure(Path(scratch))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return FAILED
    return KEPT if holds else MISSED


if __name__ == "__main__":
    sys.exit(main())
