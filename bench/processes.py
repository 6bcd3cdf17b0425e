"""Start, pin and end processes, and read what they cost.

A process is started inside a `with`; on leaving it, the process and everything that it started
are ended by pid. What had to be killed, or outlived its parent, is an error: a bench leaves
nothing behind.
"""

import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE_S = 30
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
POLL_S = 0.001


class BenchError(Exception):
    """Something that makes the figures worthless."""


@contextmanager
def on_cores(cores: frozenset[int]) -> Iterator[None]:
    """Start what is started inside on `cores`: a child takes over its parent's affinity."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(
    command: Sequence[str], cores: frozenset[int], log: Path
) -> Iterator[subprocess.Popen[str]]:
    """Run `command` on `cores`, its standard error in `log`."""
    with log.open("a") as errors, on_cores(cores):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        family = [(pid, started_at(pid)) for pid in descendants(process.pid)]
        end(process)
        end_orphans(family)


def end(process: subprocess.Popen[str]) -> None:
    """End `process` as an operator would, by force if it does not comply."""
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise BenchError(f"{process.args!r} did not end on SIGTERM") from None
    finally:
        if process.stdout:
            process.stdout.close()


def end_orphans(family: list[tuple[int, int]]) -> None:
    """Kill what outlived its parent; the start time tells a process from a later one of its pid."""
    left = [(pid, start) for pid, start in family if start and started_at(pid) == start]
    for pid, _ in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if left:
        raise BenchError(f"processes outlived their parent: {[pid for pid, _ in left]}")


def first_line(process: subprocess.Popen[str], log: Path) -> str:
    """Wait for the line that `process` prints when it is ready."""
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
    line = process.stdout.readline().strip() if ready else ""
    if not line:
        raise BenchError(f"{process.args!r} did not start:\n{log.read_text()[-2000:]}")
    return line


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll `condition` every millisecond until it holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {PATIENCE_S} s in vain for {what}")
        time.sleep(POLL_S)


def stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; none if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def started_at(pid: int) -> int:
    """Return the tick at which `pid` started, 0 if it is gone or only waits to be reaped."""
    fields = stat(pid)
    return int(fields[19]) if fields and fields[0] != "Z" else 0


def cpu_s(pid: int) -> float:
    """Return the processor seconds that `pid` has used so far."""
    fields = stat(pid)
    if not fields:
        raise BenchError(f"process {pid} ended during the measurement")
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def own_cpu_s() -> float:
    """Return the processor seconds of this process and of all that it started and saw end."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def machine_cpu_s() -> float:
    """Return the processor seconds that all programs have used, here and on the same host."""
    user, nice, system, _, _, _, _, steal = map(
        int, Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    )
    return (user + nice + system + steal) / TICKS_PER_S


def parents() -> dict[int, int]:
    """Map every process to its parent."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return {pid: int(fields[1]) for pid in pids if (fields := stat(pid))}


def descendants(root: int) -> list[int]:
    """Return every process below `root`."""
    parent_of = parents()
    found = {root}
    while more := {pid for pid, parent in parent_of.items() if parent in found} - found:
        found |= more
    return sorted(found - {root})


def command_line(pid: int) -> str:
    """Return the command that `pid` runs, or what it calls itself."""
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()


def pss_mb(pid: int) -> float:
    """Return the proportional set size of `pid`: what it shares with others is divided by them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (size_kb,) = (line.split()[1] for line in lines if line.startswith("Pss:"))
    return int(size_kb) * 1024 / 1e6


def pin(pid: int, cores: frozenset[int]) -> None:
    """Move every thread of `pid` to `cores`."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cores)
