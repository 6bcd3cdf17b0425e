"""The faults are what they say: seen from a client of the proxy and from the store itself."""

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.faults.power import MEASURED_EVERY_S, PoweredStore
from tests.faults.proxy import Proxy
from tests.faults.schedule import KINDS
from tests.support.servers import programs
from tests.support.waiting import eventually

INCREMENT = "return redis.call('INCR', KEYS[1])"
KEY = "n"


def client(**where: Any) -> Any:
    """Make a client that sends nothing twice."""
    return Redis(**where, retry=Retry(NoBackoff(), 0))


async def store_at(directory: Path, appendfsync: str = "always") -> PoweredStore:
    """Start a store."""
    store = PoweredStore(directory / "store", programs()[0], appendfsync)
    await store.start()
    return store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[PoweredStore]:
    """Run a store."""
    running = await store_at(tmp_path)
    yield running
    await running.end()


@pytest.fixture
async def proxy(store: PoweredStore) -> AsyncIterator[Proxy]:
    """Run a proxy before the store."""
    running = Proxy(store.socket_path)
    await running.heal()
    yield running
    await running.close()


@pytest.fixture
async def far(proxy: Proxy) -> AsyncIterator[Any]:
    """Talk to the store through the proxy."""
    async with client(port=proxy.port) as redis:
        yield redis


@pytest.fixture
async def near(store: PoweredStore) -> AsyncIterator[Any]:
    """Talk to the store past the proxy."""
    async with client(unix_socket_path=str(store.socket_path)) as redis:
        yield redis


async def test_a_lost_reply_is_that_of_an_applied_write(proxy: Proxy, far: Any, near: Any) -> None:
    proxy.loses = 1.0
    with pytest.raises(RedisConnectionError):
        await far.eval(INCREMENT, 1, KEY)
    assert (await near.get(KEY), proxy.n_lost) == (b"1", 1)
    assert await far.get(KEY) == b"1"  # what only reads is not lost
    await proxy.heal()
    assert await far.eval(INCREMENT, 1, KEY) == 2


async def test_a_held_request_arrives_also_when_its_client_has_gone(
    proxy: Proxy, far: Any, near: Any
) -> None:
    await far.ping()
    proxy.requests_flow.clear()
    await gives_up(far)
    assert await near.get(KEY) is None
    await proxy.heal()
    await eventually(lambda: holds(near, b"1"), "the late packet arrives")
    assert proxy.n_late == 1


async def test_a_write_gets_stuck_while_new_connections_work(
    proxy: Proxy, far: Any, near: Any
) -> None:
    await far.ping()
    proxy.strands = stuck = asyncio.Event()
    await gives_up(far)
    proxy.strands = None
    assert await far.eval(INCREMENT, 1, KEY) == 1
    assert await near.get(KEY) == b"1"
    stuck.set()
    await eventually(lambda: holds(near, b"2"), "the late packet arrives")


async def gives_up(redis: Any) -> None:
    """Send a write that is not answered, and hang up."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(redis.eval(INCREMENT, 1, KEY), 0.1)
    await redis.connection_pool.disconnect()


async def holds(redis: Any, value: bytes) -> bool:
    """Tell whether the store holds a value."""
    return bool(await redis.get(KEY) == value)


async def test_a_held_reply_is_that_of_an_applied_write(proxy: Proxy, far: Any, near: Any) -> None:
    await far.ping()
    proxy.replies_flow.clear()
    writing = asyncio.create_task(far.eval(INCREMENT, 1, KEY))
    await eventually(lambda: holds(near, b"1"), "the write is applied")
    assert not writing.done()
    await proxy.heal()
    assert await writing == 1


@pytest.mark.parametrize("reset", [True, False])
async def test_connections_are_cut_and_refused_and_come_back(
    proxy: Proxy, far: Any, *, reset: bool
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    await far.ping()
    proxy.refuse()
    proxy.cut(reset=reset)
    if reset:
        with pytest.raises(ConnectionResetError):
            await reader.read()
    else:
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)
    await proxy.heal()
    await far.connection_pool.disconnect()
    assert await far.ping()


@pytest.mark.slow
@pytest.mark.parametrize("pick", range(3))
async def test_a_store_that_syncs_always_keeps_all_it_answered(tmp_path: Path, pick: int) -> None:
    store = await store_at(tmp_path)
    async with client(unix_socket_path=str(store.socket_path)) as redis:
        for n in range(1, 50):
            assert await redis.incr(KEY) == n
        torn = await store.cut_power(10 * pick + 7)
        assert torn == f"{10 * pick + 7} unanswered bytes are in the log"
        await store.start()
        assert (await redis.get(KEY), await redis.get("unanswered")) == (b"49", None)
    await store.end()


@pytest.mark.slow
@pytest.mark.parametrize("pick", range(2))
async def test_a_store_that_syncs_every_second_forgets_less_than_is_kept(
    tmp_path: Path, pick: int
) -> None:
    kept_window_s = KINDS[-1].kept_window_s
    store = await store_at(tmp_path, "everysec")
    measuring = asyncio.create_task(store.measure())
    async with client(unix_socket_path=str(store.socket_path)) as redis:
        answered_at_s = await incremented_for(redis, 1.2 * kept_window_s)
        await store.cut_power(pick)
        killed_at_s = time.monotonic()
        await store.start()
        held = int(await redis.get(KEY))
    measuring.cancel()
    await store.end()
    n_old = sum(at_s < killed_at_s - kept_window_s for at_s in answered_at_s)
    assert 0 < n_old <= held <= len(answered_at_s)


async def incremented_for(redis: Any, for_s: float) -> list[float]:
    """Increment for some seconds; return when each increment was answered."""
    began_s, answered_at_s = time.monotonic(), []
    for n in count(1):
        assert await redis.incr(KEY) == n
        answered_at_s.append(time.monotonic())
        if answered_at_s[-1] > began_s + for_s:
            break
        await asyncio.sleep(MEASURED_EVERY_S)  # a load, not a benchmark
    return answered_at_s
