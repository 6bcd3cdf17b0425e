"""A write that arrives when its writer is long gone counts nothing.

Its writer's first write is the most dangerous one: it expects a watermark of 0, which is also what
a watermark that was deleted reads as. Nothing here is left to chance: every hit is acknowledged
before its worker ends, so every number is exact.
"""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.faults.schedule import N_SETTINGS, setting_of
from tests.faults.system import System, running
from tests.faults.verdict import read
from tests.support.load import Tally, Target, send
from tests.support.processes import is_running, signal_all
from tests.support.servers import connected, programs
from tests.support.waiting import eventually

ALWAYS_AND_DECLARED = N_SETTINGS // 2
HITS = [Target("late.example.vn", f"/{n}") for n in range(8)]
SITES = {target.site for target in HITS}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_first_write_that_arrives_when_its_writer_is_gone_counts_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    setting = setting_of(ALWAYS_AND_DECLARED, programs())
    async with running(tmp_path, setting, sorted(SITES)) as system:
        proxy, tally = system.proxy, Tally()
        proxy.strands = stuck = asyncio.Event()
        await send(system.service.port, tally, HITS, len(HITS))
        assert tally.acked == tally.sent  # by the journal: no write has come through
        proxy.strands = None
        pids = system.service.worker_pids()
        signal_all(pids, number)
        await eventually(lambda: is_counted(system, tally, pids), "others have brought all of it")
        n_runs, n_late = scripts_run(system), proxy.n_late
        stuck.set()
        await eventually(lambda: has_run(system, n_runs + 1), "late packets arrive")
        n_late = proxy.n_late - n_late
        await eventually(lambda: has_run(system, n_runs + n_late), "all of them have arrived")
        assert n_late > 0
        assert (await read(system.service.port, HITS)).totals == tally.sent


async def is_counted(system: System, tally: Tally, ending: list[int]) -> bool:
    """Tell whether the store holds all hits, and neither journals nor old workers are left."""
    if any(map(is_running, ending)) or system.service.journals():
        return False
    reading = await read(system.service.port, HITS)
    return reading.is_fresh and reading.totals == tally.sent


async def has_run(system: System, n: int) -> bool:
    """Tell whether the store has run so many scripts."""
    return scripts_run(system) >= n


def scripts_run(system: System) -> int:
    """Count the scripts that the store was asked to run."""
    with connected(system.store.socket_path) as redis:
        commands: dict[str, Any] = redis.info("commandstats")
    return sum(
        commands.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha")
    )
