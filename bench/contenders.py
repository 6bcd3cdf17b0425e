"""The services that are measured, each pinned alike: worker on one core, store on another.

Every contender lives for a whole measurement, so that runs can alternate between them.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as StoreAway

from bench import load
from bench.processes import (
    BenchError,
    command_line,
    cpu_s,
    descendants,
    first_line,
    machine_cpu_s,
    own_cpu_s,
    pin,
    running,
    wait_until,
)
from hitcounter.store.programs import find

HITCOUNTER = Path(sys.executable).with_name("hitcounter")
MAX_SITES = 2_000
# A client that says less than a browser is a robot, whose hits are not those to be measured.
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64)", "Accept-Language": "vi"}


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
    """One run of wrk, and the processor seconds of the service, the store and all others."""

    outcome: load.Outcome
    service_s: float
    store_s: float
    others_s: float

    @property
    def service_us(self) -> float:
        """Return the processor time, in microseconds, that the service took for each answer."""
        return self.service_s / self.outcome.answered * 1e6

    @property
    def store_us(self) -> float:
        """Return the processor time, in microseconds, that the store took for each answer."""
        return self.store_s / self.outcome.answered * 1e6

    @property
    def busy(self) -> float:
        """Return the share of the run in which the service was on its core."""
        return self.service_s / self.outcome.seconds

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
    service: dict[str, int]  # its processes but the store, by name
    store: int | None = None
    tally: load.Tally | None = None

    def drive(self, what: load.Load) -> Run:
        """Load the service once, and check what it counted."""
        before = self._spent()
        outcome = load.drive(self.url, what, self.cores.load)
        service_s, store_s, bench_s, machine_s = (
            after - earlier for after, earlier in zip(self._spent(), before, strict=True)
        )
        if self.tally:
            self.tally.add(what, outcome)
            self.tally.check(load.counted_total(self.url, self.tally.sites))
        return Run(outcome, service_s, store_s, machine_s - service_s - store_s - bench_s)

    def _spent(self) -> tuple[float, float, float, float]:
        """Read the processor seconds of the service, the store, the bench and the machine."""
        store_s = cpu_s(self.store) if self.store else 0.0
        return sum(map(cpu_s, self.service.values())), store_s, own_cpu_s(), machine_cpu_s()


@contextmanager
def without_store(name: str, cores: Cores, scratch: Path) -> Iterator[Contender]:
    """Run the module of that name, which counts nothing."""
    log = scratch / f"{name}.log"
    with running([sys.executable, "-m", f"bench.{name}"], cores.worker, log) as process:
        yield Contender(name, first_line(process, log), cores, {name: process.pid})


@contextmanager
def naive(cores: Cores, scratch: Path) -> Iterator[Contender]:
    """Run one transaction per hit against a server as durable as ours."""
    data_dir = scratch / "naive"
    data_dir.mkdir()
    log = scratch / "naive.log"
    with store(data_dir, cores.store, log) as (store_pid, socket_path):
        command = [sys.executable, "-m", "bench.naive", str(socket_path)]
        with running(command, cores.worker, log) as process:
            service = {"naive": process.pid}
            yield Contender("naive", first_line(process, log), cores, service, store_pid)


@contextmanager
def hitcounter(cores: Cores, scratch: Path, *flags: str) -> Iterator[Contender]:
    """Run the real service with its own store; with `flags` it need not count all that comes."""
    log = scratch / "hitcounter.log"
    command = [*serve_command(scratch / "hitcounter"), *flags]
    with running(command, cores.store, log) as process:
        url = first_line(process, log).rpartition(" ")[2]
        found = family(process.pid)
        pin(found["worker"], cores.worker)
        service = found | {"supervisor": process.pid}
        store_pid = service.pop("store")
        yield Contender(
            "hitcounter", url, cores, service, store_pid, None if flags else load.Tally()
        )
        if family(process.pid) != found:
            raise BenchError("a process of hitcounter was replaced during the measurement")


CONTENDERS: dict[str, Callable[[Cores, Path], AbstractContextManager[Contender]]] = {
    "floor": partial(without_store, "floor"),
    "empty": partial(without_store, "empty"),
    "naive": naive,
    "hitcounter": hitcounter,
}


def serve_command(data_dir: Path, port: int = 0) -> list[str]:
    """Return the command that serves `data_dir` with one worker, and no setting from outside."""
    for name in [name for name in os.environ if name.startswith("HITCOUNTER_")]:
        del os.environ[name]
    flags = {"--data-dir": data_dir, "--port": port, "--workers": 1, "--max-sites": MAX_SITES}
    # All hits come from one address.
    flags |= {"--operations-port": 0, "--limits": "off"}
    return [str(HITCOUNTER), "serve", *(str(part) for flag in flags.items() for part in flag)]


# What the command lines of the processes of a service hold.
FAMILY = {"worker": "worker_start", "operations": "operations_start", "store": "-server "}


def family(supervisor: int) -> dict[str, int]:
    """Find the processes that a running service consists of, by name."""
    commands = {pid: command_line(pid) for pid in descendants(supervisor)}
    pids = {
        name: pid
        for name, part in FAMILY.items()
        for pid, command in commands.items()
        if part in command
    }
    if len(commands) != len(FAMILY) or pids.keys() != FAMILY.keys():
        raise BenchError(f"there should run one each of {[*FAMILY]}, but there are {commands}")
    return pids


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
