"""Measure what a network of sites takes: `python -m bench.capacity`.

Each network has a year behind it: every day of it, and twenty pages of each site. Then people come
through a proxy, from ten thousand addresses, as unevenly as to real sites (Zipf): for a minute, and
for two more in which the store does not answer. What they were told is held against the store.
"""

import argparse
import asyncio
import datetime as dt
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from aiohttp import ClientError, ClientSession
from redis import Redis
from tqdm import tqdm

from bench.__main__ import FAILED, KEPT, stop
from bench.contenders import BROWSER, family, serve_command
from bench.processes import BenchError, cpu_s, first_line, pss_mb, running, wait_until
from bench.report import Row, aligned
from hitcounter.config import Config
from hitcounter.store import keys
from hitcounter.store.client import Store
from hitcounter.store.embedded import socket_path
from hitcounter.transfer.export import import_counts

NETWORKS = {750: 26, 10_000: 350}  # sites, hits a second
MAX_SITES = 20_000
N_DAYS, N_PAGES, N_ADDRESSES = 365, 20, 10_000
HOUR_S = 3_600
TIMEOUT_S = 60.0
HEADER: Row = ("sites", "hits/s", "worker", "store", "service", "store", "on disk")
HEADER += ("a site's year", "a page", "journal")


@dataclass(frozen=True, slots=True)
class Service:
    """A service that runs, and its store."""

    url: str
    data_dir: Path
    pids: dict[str, int]  # of its processes, by name
    redis: Redis

    def store_bytes(self) -> int:
        """Return how much memory the store uses."""
        return int(self.redis.info("memory")["used_memory"])

    def journal_bytes(self) -> int:
        """Return how much hits that wait for the store take on the disk."""
        return size_bytes(self.data_dir / "journal")


@contextmanager
def serving(data_dir: Path) -> Iterator[Service]:
    """Serve as the documents advise, behind a proxy on this machine."""
    flags = ("--max-sites", str(MAX_SITES), "--limits", "on", "--trusted-proxies", "127.0.0.1")
    command, log = [*serve_command(data_dir), *flags], data_dir.with_suffix(".log")
    with running(command, frozenset(os.sched_getaffinity(0)), log) as process:
        url = first_line(process, log).rpartition(" ")[2]
        pids = {**family(process.pid), "supervisor": process.pid}
        with Redis(unix_socket_path=str(socket_path(data_dir))) as redis:
            yield Service(url, data_dir, pids, redis)


def size_bytes(directory: Path) -> int:
    """Return how much the files of a directory take."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def sites(n_sites: int) -> list[str]:
    """Name sites as long as real ones."""
    return [f"lienhiephoi-{number}.example.vn" for number in range(n_sites)]


def a_year() -> dict[str, int]:
    """Count one hit on every day of the last year, by bucket."""
    today = dt.datetime.now(dt.UTC).date()
    days = [(today - dt.timedelta(days=days)).isoformat() for days in range(N_DAYS)]
    return Counter(bucket for day in days for bucket in (day, day[:7], day[:4], "total"))


def some_pages() -> dict[str, int]:
    """Count one hit on every page."""
    return {f"/tin-tuc/hoi-nghi-thuong-nien-{n}.html": 1 for n in range(N_PAGES)}


def counts_of(site: str) -> dict[keys.CounterName, int]:
    """Count the same for every site."""
    counts = {keys.CounterName(site, False, bucket): n for bucket, n in a_year().items()}
    return counts | {keys.CounterName(site, True, path): n for path, n in some_pages().items()}


async def bring(service: Service, names: list[str]) -> None:
    """Import the counts of all sites."""
    store = Store(f"unix://{socket_path(service.data_dir)}", TIMEOUT_S)
    try:
        await import_counts(
            store,
            Config(max_sites=MAX_SITES),
            {name: counts_of(name) for name in names},
            lambda each: tqdm(each, "import", unit="site", leave=False, disable=None),
        )
    finally:
        await store.close()


def counter_bytes(service: Service, names: Iterable[str]) -> int:
    """Return how much memory some counters take in the store."""
    return sum(service.redis.memory_usage(name) or 0 for name in names)


def disk_bytes(service: Service) -> int:
    """Let the store write its log anew; return how much it takes then."""
    service.redis.bgrewriteaof()
    wait_until(
        lambda: service.redis.info("persistence")["aof_rewrite_in_progress"] == 0,
        "the store to write its log anew",
    )
    return size_bytes(service.data_dir / "store")


class People:
    """They come at a steady pace, each to a page of a site."""

    def __init__(self, url: str, names: list[str], rate: int) -> None:
        """Draw the same ones every time."""
        self.n_sent = 0
        self.told: Counter[str] = Counter()
        self._url = url
        self._names = names
        self._weights = list(accumulate(1 / rank for rank in range(1, len(names) + 1)))
        self._draw = random.Random(0)  # noqa: S311 -- the same people every time
        self._rate = rate

    async def come(self, seconds: int, what: str) -> None:
        """Come for a while, and wait for all answers."""
        async with ClientSession(self._url) as session, asyncio.TaskGroup() as group:
            begin_s = time.monotonic()
            for n in tqdm(range(seconds * self._rate), what, unit="hit", leave=False, disable=None):
                await asyncio.sleep(begin_s + n / self._rate - time.monotonic())
                group.create_task(self._hit(session))

    async def _hit(self, session: ClientSession) -> None:
        (site,) = self._draw.choices(self._names, cum_weights=self._weights)
        page = f"/tin-tuc/hoi-nghi-thuong-nien-{self._draw.randrange(N_PAGES)}.html"
        address = f"10.1.{self._draw.randrange(N_ADDRESSES) // 250}.{self._draw.randrange(250)}"
        self.n_sent += 1
        headers = {**BROWSER, "X-Forwarded-For": address}
        try:
            async with session.post(
                f"/v1/sites/{site}/hits", json={"path": page}, headers=headers
            ) as answer:
                self.told[(await answer.json()).get("state", str(answer.status))] += 1
        except ClientError as error:
            self.told[repr(error)] += 1


def counted(service: Service, names: list[str]) -> int:
    """Return the total of all sites, without what they had before."""
    totals = service.redis.mget([keys.bucket_key(0, name, "total") for name in names])
    return sum(int(total or 0) for total in totals) - N_DAYS * len(names)


async def measure(scratch: Path, n_sites: int, rate: int, seconds: int) -> Row:
    """Measure one network; return the line of the table."""
    names = sites(n_sites)
    with serving(scratch / f"{n_sites}") as service:
        await bring(service, names)
        year_bytes = counter_bytes(service, (keys.bucket_key(0, names[0], k) for k in a_year()))
        page_bytes = counter_bytes(service, (keys.page_key(0, names[0], k) for k in some_pages()))
        on_disk_bytes, people = disk_bytes(service), People(service.url, names, rate)
        spent_s = {name: cpu_s(pid) for name, pid in service.pids.items()}
        await people.come(seconds, "hits")
        busy = {name: (cpu_s(pid) - spent_s[name]) / seconds for name, pid in service.pids.items()}
        sizes_mb = {name: pss_mb(pid) for name, pid in service.pids.items() if name != "store"}
        in_memory_bytes = service.store_bytes()
        journal_bytes = await without_store(service, people, seconds)
        check(service, people, names)
    return (
        f"{n_sites:,}",
        f"{rate}",
        f"{busy['worker']:.1%}",
        f"{busy['store']:.1%}",
        f"{sum(sizes_mb.values()):.0f} MB",
        f"{in_memory_bytes / 1e6:.0f} MB",
        f"{on_disk_bytes / 1e6:.0f} MB",
        f"{year_bytes / 1e3:.1f} kB",
        f"{page_bytes / N_PAGES:.0f} B",
        f"{journal_bytes / seconds * HOUR_S / 1e6:.1f} MB/h",
    )


async def without_store(service: Service, people: People, seconds: int) -> int:
    """Let the store not answer; return by how much the journal grew once SQLite's log was full."""
    os.kill(service.pids["store"], signal.SIGSTOP)
    try:
        await people.come(seconds, "hits without the store")
        before = service.journal_bytes()
        await people.come(seconds, "hits without the store")
        return service.journal_bytes() - before
    finally:
        os.kill(service.pids["store"], signal.SIGCONT)


def check(service: Service, people: People, names: list[str]) -> None:
    """Hold what people were told against the store."""
    told = people.told["counted"] + people.told["stored"]
    wait_until(lambda: counted(service, names) >= told, "the store to hold all hits")
    if not counted(service, names) <= people.n_sent < 1.1 * told:
        raise BenchError(f"{counted(service, names)} hits were counted: {people.told}")


async def measure_all(scratch: Path, seconds: int) -> None:
    """Measure every network, and print the table."""
    lines = [await measure(scratch, *network, seconds) for network in NETWORKS.items()]
    print(aligned([HEADER, *lines]))


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="seconds of each run (60)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    try:
        with tempfile.TemporaryDirectory(prefix="hitcounter-bench-") as scratch:
            asyncio.run(measure_all(Path(scratch), options.seconds))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return FAILED
    return KEPT


if __name__ == "__main__":
    sys.exit(main())
