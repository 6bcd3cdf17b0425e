"""Measure how long an hour of journal takes to reach the store: `python -m bench.recovery`.

A worker died at the end of an hour without its store, at 1,000 hits per second on 750 sites of 20
pages, visited as unevenly as real ones (Zipf). Its journal is written the way a worker writes it,
one synced row for the hits of every 20 ms or so. Then a service starts beside it.
"""

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from itertools import accumulate
from pathlib import Path
from zoneinfo import ZoneInfo

from redis import Redis
from tqdm import tqdm

from bench.__main__ import FAILED, KEPT, MISSED, stop
from bench.contenders import serve_command
from bench.processes import BenchError, first_line, running
from hitcounter.exactly_once.increments import Pageviews
from hitcounter.exactly_once.journals import Journals
from hitcounter.exactly_once.records import Entry
from hitcounter.period import day_of
from hitcounter.store import keys
from hitcounter.store.embedded import socket_path
from hitcounter.store.keys import PageKeys, SiteKeys

N_HITS = 3_600_000
HITS_PER_ROW = (20, 50)
N_SITES, N_PAGES = 750, 20
WRITER = "0123456789abcdef"
MAX_BYTES = 1 << 30
PATIENCE_S = 120.0
BOUND_S = 10.0

Pair = tuple[SiteKeys, PageKeys]


def pairs() -> list[Pair]:
    """Name the counters of all pages and of their sites, today."""
    date = day_of(time.time(), ZoneInfo("Asia/Ho_Chi_Minh")).date
    found = []
    for site in (f"site{n}.example.vn" for n in range(N_SITES)):
        names = keys.site_keys(0, site, date)
        paths = (f"/tin-tuc/{n}" for n in range(N_PAGES))
        found += [(names, keys.page_keys(0, site, path, 10_000)) for path in paths]
    return found


def rows(pairs: Sequence[Pair]) -> Iterator[Pageviews]:
    """Draw the hits of an hour, row by row."""
    draw = random.Random(0)  # noqa: S311 -- the same hits every time
    pages = draw.sample(pairs, len(pairs))
    weights = list(accumulate(1 / rank for rank in range(1, len(pages) + 1)))
    n_left = N_HITS
    while n_left:
        n = min(n_left, draw.randint(*HITS_PER_ROW))
        row = Pageviews()
        for site, page in draw.choices(pages, cum_weights=weights, k=n):
            row.add(site, page)
        yield row
        n_left -= n


async def write(directory: Path, pairs: Sequence[Pair]) -> int:
    """Write the journal of a worker that died; return its size in bytes."""
    journals = Journals(directory, MAX_BYTES)
    journals.prepare()
    journal = await journals.create(WRITER)
    size_bytes, n_rows = 0, 2 * N_HITS // sum(HITS_PER_ROW)
    for row in tqdm(
        rows(pairs), "write the journal", n_rows, unit="row", leave=False, disable=None
    ):
        size_bytes = await journal.append([Entry(1, row)])
    await journal.close()
    return size_bytes


def recover(data_dir: Path, names: Sequence[str]) -> tuple[float, float]:
    """Serve until the store holds all hits; return how long that took, and the slowest answer.

    The time begins when the service says that it serves; both are in seconds.
    """
    log = data_dir.with_suffix(".log")
    with (
        running(serve_command(data_dir), frozenset(os.sched_getaffinity(0)), log) as process,
        Redis(unix_socket_path=str(socket_path(data_dir))) as store,
    ):
        address = first_line(process, log).rpartition("/")[2]
        began_at_s, slowest_s = time.monotonic(), 0.0
        while (n_hits := sum(int(n or 0) for n in store.mget(names))) < N_HITS:
            asked_at_s = time.monotonic()
            if asked_at_s > began_at_s + PATIENCE_S:
                raise BenchError(f"only {n_hits} hits arrived:\n{log.read_text()}")
            ask(address)
            slowest_s = max(slowest_s, time.monotonic() - asked_at_s)
        if n_hits > N_HITS:
            raise BenchError(f"{n_hits} hits were counted, and only {N_HITS} were written")
        return time.monotonic() - began_at_s, slowest_s


def ask(address: str) -> None:
    """Ask the service for something that needs no store."""
    connection = HTTPConnection(address, timeout=PATIENCE_S)
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    connection.close()


def measure(scratch: Path) -> float:
    """Write and recover; print what was found, and return how long it took."""
    all_pairs = pairs()
    size_bytes = asyncio.run(write(scratch / "data" / "journal", all_pairs))
    took_s, slowest_s = recover(
        scratch / "data", sorted({site.counted[-1] for site, _ in all_pairs})
    )
    print(f"{N_HITS:,} hits in a journal of {size_bytes / 1e6:.0f} MB: in the store {took_s:.1f} s")
    print(f"after the start (claim: ≤ {BOUND_S:.0f}); slowest answer meanwhile {slowest_s:.2f} s")
    return took_s


def main() -> int:
    """Measure, and say whether the bound holds."""
    signal.signal(signal.SIGTERM, stop)
    try:
        with tempfile.TemporaryDirectory(prefix="hitcounter-bench-") as scratch:
            took_s = measure(Path(scratch))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return FAILED
    return KEPT if took_s <= BOUND_S else MISSED


if __name__ == "__main__":
    sys.exit(main())
