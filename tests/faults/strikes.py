"""What each fault does to a system, and how it is undone.

Every function waits until what it broke runs again, so that after the last one has returned the
whole system does. Faults of the network wait for each other, and so do those of the store and
those of the whole service; otherwise they overlap, and faults of workers overlap with everything.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.faults.schedule import Fault
from tests.faults.system import System
from tests.support.processes import signal_all
from tests.support.waiting import POLL_S

SURELY_LOST_S = 1.0
SOME = 0.3
STRANDED = 3


async def strike(system: System, fault: Fault) -> None:
    """Let a fault happen when its time has come, and undo it."""
    await asyncio.sleep(fault.at_s)
    await STRIKES[fault.name](system, fault)


# The network


@asynccontextmanager
async def _network(system: System, fault: Fault) -> AsyncIterator[None]:
    async with system.on_network:
        system.events.note(f"network: {fault.name} for {fault.for_s:.2f} s")
        try:
            yield
            await asyncio.sleep(fault.for_s)
        finally:
            await system.proxy.heal()
        n_lost, n_late = system.proxy.n_lost, system.proxy.n_late
        system.events.note(f"network: well ({n_lost} replies lost, {n_late} late packets so far)")


async def lose_replies(system: System, fault: Fault) -> None:
    """Lose the reply of every write."""
    async with _network(system, fault):
        await _lose(system, 1.0)


async def lose_some_replies(system: System, fault: Fault) -> None:
    """Lose the replies of some writes."""
    async with _network(system, fault):
        await _lose(system, SOME)


async def _lose(system: System, share: float) -> None:
    """Begin to lose replies, and wait for the first one, though not long: maybe nobody writes."""
    proxy = system.proxy
    proxy.loses = share
    give_up_at_s, n_lost = time.monotonic() + SURELY_LOST_S, proxy.n_lost
    while proxy.n_lost == n_lost and time.monotonic() < give_up_at_s:
        await asyncio.sleep(POLL_S)


async def stall(system: System, fault: Fault) -> None:
    """Hold everything."""
    async with _network(system, fault):
        system.proxy.requests_flow.clear()
        system.proxy.replies_flow.clear()


async def hold_requests(system: System, fault: Fault) -> None:
    """Hold requests; those of clients that gave up arrive late."""
    async with _network(system, fault):
        system.proxy.requests_flow.clear()


async def hold_replies(system: System, fault: Fault) -> None:
    """Hold replies."""
    async with _network(system, fault):
        system.proxy.replies_flow.clear()


async def cut_by_reset(system: System, fault: Fault) -> None:
    """Reset all connections."""
    async with _network(system, fault):
        system.proxy.cut(reset=True)


async def cut_by_end(system: System, fault: Fault) -> None:
    """End all connections in order."""
    async with _network(system, fault):
        system.proxy.cut(reset=False)


async def refuse(system: System, fault: Fault) -> None:
    """Reset all connections and refuse new ones."""
    async with _network(system, fault):
        system.proxy.refuse()
        system.proxy.cut(reset=True)


async def strand_writes(system: System, fault: Fault) -> None:
    """Let writes get stuck for a while, and arrive much later."""
    proxy, release = system.proxy, asyncio.Event()
    system.events.note(f"network: {fault.name} for {fault.for_s:.2f} s")
    proxy.strands = release
    await asyncio.sleep(fault.for_s)
    if proxy.strands is release:
        proxy.strands = None
    system.events.note("network: writes do not get stuck any more")
    await asyncio.sleep(STRANDED * fault.for_s)
    release.set()
    system.events.note("network: stuck writes arrive")


# The store


@asynccontextmanager
async def _store(system: System, fault: Fault) -> AsyncIterator[None]:
    """Let the store be broken for a while, then start it again."""
    async with system.on_store:
        system.events.note(f"store: {fault.name} for {fault.for_s:.2f} s")
        yield
        await asyncio.sleep(fault.for_s)
        await system.store.start()
        system.events.note("store: serves again")


async def stop_store(system: System, fault: Fault) -> None:
    """Stop the store as a machine that hangs does, and let it go on."""
    async with system.on_store:
        system.events.note(f"store: stop_store for {fault.for_s:.2f} s")
        system.store.signal(signal.SIGSTOP)
        await asyncio.sleep(fault.for_s)
        system.store.signal(signal.SIGCONT)
        system.events.note("store: goes on")


async def end_store(system: System, fault: Fault) -> None:
    """Tell the store to end."""
    async with _store(system, fault):
        await system.store.end()


async def kill_store(system: System, fault: Fault) -> None:
    """Kill the store."""
    async with _store(system, fault):
        await system.store.kill()


async def cut_power_of_store(system: System, fault: Fault) -> None:
    """Cut the power of the store's machine."""
    async with _store(system, fault):
        system.events.note(f"store: {await system.store.cut_power(fault.pick)}")


# Workers


def _signal_one(system: System, fault: Fault, number: signal.Signals) -> list[int]:
    pids = system.service.worker_pids()
    return _signal_workers(system, [pids[fault.pick % len(pids)]] if pids else [], number)


def _signal_workers(system: System, pids: list[int], number: signal.Signals) -> list[int]:
    system.events.note(f"workers {pids}: {number.name}")
    signal_all(pids, number)
    return pids


async def stop_worker(system: System, fault: Fault) -> None:
    """Stop a worker, and let it go on."""
    pids = _signal_one(system, fault, signal.SIGSTOP)
    await asyncio.sleep(fault.for_s)
    _signal_workers(system, pids, signal.SIGCONT)


async def end_worker(system: System, fault: Fault) -> None:
    """Tell a worker to end."""
    _signal_one(system, fault, signal.SIGTERM)


async def kill_worker(system: System, fault: Fault) -> None:
    """Kill a worker."""
    _signal_one(system, fault, signal.SIGKILL)


async def kill_all_workers(system: System, fault: Fault) -> None:
    """Kill all workers."""
    _signal_workers(system, system.service.worker_pids(), signal.SIGKILL)


# The whole service


@asynccontextmanager
async def _service(system: System, fault: Fault) -> AsyncIterator[None]:
    """Let the service be broken, then start it again."""
    async with system.on_service:
        system.events.note(f"service: {fault.name}")
        yield
        await system.service.start()
        system.events.note("service: serves again")


async def stop_supervisor(system: System, fault: Fault) -> None:
    """Stop the supervisor, and let it go on."""
    async with system.on_service:
        system.events.note(f"service: stop_supervisor for {fault.for_s:.2f} s")
        system.service.signal(signal.SIGSTOP)
        await asyncio.sleep(fault.for_s)
        system.service.signal(signal.SIGCONT)
        system.events.note("service: goes on")


async def kill_supervisor(system: System, fault: Fault) -> None:
    """Kill the supervisor, and start another while its workers are still about to end."""
    async with _service(system, fault):
        await system.service.kill()


async def end_service(system: System, fault: Fault) -> None:
    """Tell the service to end."""
    async with _service(system, fault):
        code = await system.service.end()
        system.events.note(f"service: ended with {code}")
        assert code == 0, f"the service ended with {code}"


async def cut_power_of_all(system: System, fault: Fault) -> None:
    """Cut the power of the one machine that runs everything."""
    async with _service(system, fault), _store(system, fault):
        _signal_workers(system, system.service.worker_pids(), signal.SIGKILL)
        system.service.signal(signal.SIGKILL)
        system.events.note(f"store: {await system.store.cut_power(fault.pick)}")
        await system.service.kill()


Strike = Callable[[System, Fault], Awaitable[None]]
STRIKES: dict[str, Strike] = {
    function.__name__: function
    for function in (
        lose_replies,
        lose_some_replies,
        stall,
        hold_requests,
        hold_replies,
        cut_by_reset,
        cut_by_end,
        refuse,
        strand_writes,
        stop_store,
        end_store,
        kill_store,
        cut_power_of_store,
        stop_worker,
        end_worker,
        kill_worker,
        kill_all_workers,
        stop_supervisor,
        kill_supervisor,
        end_service,
        cut_power_of_all,
    )
}
