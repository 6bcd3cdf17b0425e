"""The three services that are measured, each pinned alike: worker on one core, store on another.

Every contender lives for a whole measurement, so that runs can alternate between them.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as StoreAway

from bench import load
from bench.processes import (
    BenchError,
    cpu_s,
    descendants,
    first_line,
    machine_cpu_s,
    own_cpu_s,
    pin,
    program,
    running,
    wait_until,
)
from hitcounter.store.programs import find

HITCOUNTER = Path(sys.executable).with_name("hitcounter")
MAX_SITES = 2_000


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores do what."""

    worker: frozenset[int]
    store: frozenset[int]
    load: frozenset[int]

    def describe(self) -> str:
        """Say who runs where."""
        shared = " (shared: too few cores for a fair run)" if self.load & self.store else ""
        return f"worker on core {_list(self.worker)}, store on {_list(self.store)}, " + (
            f"wrk on {_list(self.load)}{shared}"
        )


def _list(cores: frozenset[int]) -> str:
    return "+".join(map(str, sorted(cores)))


def share_cores(available: set[int]) -> Cores:
    """Give one core to the worker, one to the store and the rest to wrk."""
    worker, *others = sorted(available)
    store = others[0] if others else worker
    rest = frozenset(others[1:]) or frozenset({store})
    return Cores(frozenset({worker}), frozenset({store}), rest)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of wrk, and the processor seconds of the worker, the store and all others."""

    outcome: load.Outcome
    worker_s: float
    store_s: float
    others_s: float

    @property
    def worker_us(self) -> float:
        """Return the microseconds of the worker's core per answer."""
        return self.worker_s / self.outcome.answered * 1e6

    @property
    def store_us(self) -> float:
        """Return the microseconds of the store's core per answer."""
        return self.store_s / self.outcome.answered * 1e6

    @property
    def busy(self) -> float:
        """Return the share of the run in which the worker was on its core."""
        return self.worker_s / self.outcome.seconds

    @property
    def others(self) -> float:
        """Return how many cores were busy with what has nothing to do with the run."""
        # Interrupts are booked on the process that they hit but not on the machine's own line.
        return max(0.0, self.others_s / self.outcome.seconds)


@dataclass(frozen=True, slots=True)
class Contender:
    """A running service."""

    name: str
    url: str
    cores: Cores
    worker: int
    store: int | None = None
    tally: load.Tally | None = None

    def drive(self, what: load.Load) -> Run:
        """Load the service once, and check what it counted."""
        before = self._spent()
        outcome = load.drive(self.url, what, self.cores.load)
        worker_s, store_s, bench_s, machine_s = (
            after - earlier for after, earlier in zip(self._spent(), before, strict=True)
        )
        if self.tally:
            self.tally.add(outcome)
            self.tally.check(load.counted_total(self.url, MAX_SITES))
        return Run(outcome, worker_s, store_s, machine_s - worker_s - store_s - bench_s)

    def _spent(self) -> tuple[float, float, float, float]:
        """Read the processor seconds of the worker, the store, the bench and the machine."""
        store_s = cpu_s(self.store) if self.store else 0.0
        return cpu_s(self.worker), store_s, own_cpu_s(), machine_cpu_s()


@contextmanager
def empty(cores: Cores, scratch: Path) -> Iterator[Contender]:
    """Run aiohttp with an empty handler."""
    log = scratch / "empty.log"
    with running([sys.executable, "-m", "bench.empty"], cores.worker, log) as process:
        yield Contender("empty", first_line(process, log), cores, process.pid)


@contextmanager
def naive(cores: Cores, scratch: Path) -> Iterator[Contender]:
    """Run one transaction per hit against a server as durable as ours."""
    data_dir = scratch / "naive"
    data_dir.mkdir()
    log = scratch / "naive.log"
    with store(data_dir, cores.store, log) as (store_pid, socket_path):
        command = [sys.executable, "-m", "bench.naive", str(socket_path)]
        with running(command, cores.worker, log) as process:
            yield Contender("naive", first_line(process, log), cores, process.pid, store_pid)


@contextmanager
def hitcounter(cores: Cores, scratch: Path) -> Iterator[Contender]:
    """Run the real service with its own store."""
    log = scratch / "hitcounter.log"
    with running(serve_command(scratch / "hitcounter"), cores.store, log) as process:
        url = first_line(process, log).rpartition(" ")[2]
        worker, store_pid = family(process.pid)
        pin(worker, cores.worker)
        pin(store_pid, cores.store)
        yield Contender("hitcounter", url, cores, worker, store_pid, load.Tally())
        if family(process.pid) != (worker, store_pid):
            raise BenchError("a process of hitcounter was replaced during the measurement")


CONTENDERS: dict[str, Callable[[Cores, Path], AbstractContextManager[Contender]]] = {
    "empty": empty,
    "naive": naive,
    "hitcounter": hitcounter,
}


def serve_command(data_dir: Path, port: int = 0) -> list[str]:
    """Return the command that serves `data_dir` with one worker, and no setting from outside."""
    for name in [name for name in os.environ if name.startswith("HITCOUNTER_")]:
        del os.environ[name]
    flags = {"--data-dir": data_dir, "--port": port, "--workers": 1, "--max-sites": MAX_SITES}
    flags |= {"--operations-port": "off", "--limits": "off"}  # all hits come from one address
    return [str(HITCOUNTER), "serve", *(str(part) for flag in flags.items() for part in flag)]


def family(supervisor: int) -> tuple[int, int]:
    """Find the worker and the store of a running service."""
    children = [(pid, program(pid)) for pid in descendants(supervisor)]
    stores = [pid for pid, name in children if name.startswith(("valkey", "redis"))]
    workers = [pid for pid, name in children if name.startswith("python")]
    if len(stores) != 1 or len(workers) != 1:
        raise BenchError(f"hitcounter should run one worker and one store, but runs {children}")
    return workers[0], stores[0]


@contextmanager
def store(data_dir: Path, cores: frozenset[int], log: Path) -> Iterator[tuple[int, Path]]:
    """Run a server that fsyncs every write before it answers, as the service's own one does."""
    socket_path = data_dir / "store.sock"
    settings = {"port": 0, "unixsocket": socket_path, "dir": data_dir, "save": ""}
    settings |= {"appendonly": "yes", "appendfsync": "always"}
    flags = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
    with running([str(find("")[0].path), *flags], cores, log) as process:
        wait_until(lambda: answers(socket_path), "the store of naive")
        yield process.pid, socket_path


def answers(socket_path: Path) -> bool:
    """Tell whether a server answers on `socket_path`."""
    with Redis(unix_socket_path=str(socket_path)) as client:
        try:
            return bool(client.ping())
        except StoreAway:
            return False
