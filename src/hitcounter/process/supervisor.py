"""The parent: binds the socket once, keeps the store and the workers running, and ends them.

A worker that dies is started again. One that fails before it serves would fail again, so it stops
the service with its reason; one that was killed from outside while it started is started again. The
process of operations is kept running beside them, on a socket of its own, and never ends the
counting.

On SIGHUP the workers are replaced one at a time, with the current settings. A successor serves on
the same socket before the old worker stops listening, so no client is refused; the old one ends
when its clients have disconnected. Two living workers never have the same id (see `metrics`).
"""

import asyncio
import dataclasses
import logging
import os
import secrets
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from hitcounter import filter_lists, limits
from hitcounter.config import Config
from hitcounter.errors import ConfigError, StartError
from hitcounter.process import memory
from hitcounter.process.deadlines import SUPERVISOR_END_S
from hitcounter.process.handshake import OPERATIONS, Job, kill_self_after
from hitcounter.process.listener import address, listen, listen_for_operations
from hitcounter.process.worker_slot import OperationsSlot, WorkerSlot, all_serve
from hitcounter.store.data_dir_lock import lock, note_address
from hitcounter.store.embedded import EmbeddedStore, url

log = logging.getLogger(__name__)

# What holds for all that runs here, and so until the next start.
OF_THE_STORE = ("data_dir", "redis_url", "store_binary", "store_max_mb")
LISTENERS = ("host", "port", "operations_host", "operations_port")
FIXED = (*LISTENERS, "workers", *OF_THE_STORE, "log_format")

Reload = Callable[[], Config]
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def serve(config: Config, reload: Reload) -> None:
    """Serve until SIGTERM or SIGINT; raise `StartError` if that cannot begin or go on.

    On SIGHUP, `reload` reads the settings again; it raises `ConfigError` if they are wrong.
    """
    # Until there is anything to end in order, the signals of `__main__` end the process at once.
    with (
        await listen(config.host, config.port) as listener,
        await listen_for_operations(config) or nullcontext() as operations,
    ):
        reload_wanted = asyncio.Event()
        listeners = [listener, *([operations] if operations else [])]
        serving = asyncio.create_task(_serve(config, reload, reload_wanted, listeners))
        _hear_signals(serving, reload_wanted)
        try:
            with suppress(asyncio.CancelledError):  # which is how it is told to stop
                await serving
        finally:
            _pass_over_signals()


async def _serve(
    config: Config, reload: Reload, reload_wanted: asyncio.Event, listeners: Sequence[socket.socket]
) -> None:
    """Serve on the first listener, and operations on the second, if there is one."""
    async with AsyncExitStack() as stack:
        store_url = await stack.enter_async_context(_store(config))
        metrics_dir = stack.enter_context(_metrics_dir(config.data_dir))
        limits_fd = stack.enter_context(limits.shared_memory())
        job = Job(0, config, store_url, listeners[0].fileno(), metrics_dir, limits_fd)
        jobs = [dataclasses.replace(job, worker_id=i) for i in range(config.workers)]
        workers = slots = [WorkerSlot(job, job.worker_id + config.workers) for job in jobs]
        for listener in listeners[1:]:
            job = dataclasses.replace(job, worker_id=OPERATIONS, listener_fd=listener.fileno())
            slots = [*workers, OperationsSlot(job, workers)]
        following = _follow(reload_wanted, slots, lambda: _settings(config, reload))
        announcing = _announce(workers, config, [*map(address, listeners)])
        await _supervise(slots, following, announcing, listeners)


def _hear_signals(serving: "asyncio.Task[None]", reload_wanted: asyncio.Event) -> None:
    """Let signals stop what serves, and order to reload the settings."""
    has_terminal = os.isatty(0)

    def stop() -> None:
        if not serving.cancelling():
            kill_self_after(SUPERVISOR_END_S)
            serving.cancel()

    def hang_up() -> None:
        # The same signal says that the terminal we were started in is gone.
        if has_terminal and not os.isatty(0):
            stop()
        else:
            reload_wanted.set()

    loop = asyncio.get_running_loop()
    for number, then in zip(_SIGNALS, (stop, stop, hang_up), strict=True):
        # Not by the loop, which lets signals end the process once it is closed.
        signal.signal(number, lambda *_, then=then: loop.call_soon_threadsafe(then))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # with one that came before


def _pass_over_signals() -> None:
    """Let nothing cancel an end, or cut it short."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _settings(config: Config, reload: Reload) -> Config:
    """Read the settings again; what cannot change while we run stays."""
    read = reload()
    fixed = {name: getattr(config, name) for name in FIXED}
    changed = [name for name, value in fixed.items() if getattr(read, name) != value]
    if changed:
        log.warning("only a restart changes these settings: %s", ", ".join(changed))
    return dataclasses.replace(read, **fixed)


async def _follow(
    reload_wanted: asyncio.Event, slots: Sequence[WorkerSlot], reload: Reload
) -> None:
    """Replace all workers whenever told; any number of orders meanwhile counts as one."""
    while True:
        await reload_wanted.wait()
        reload_wanted.clear()
        try:
            config = reload()
        except ConfigError as error:
            log.error("the settings stay as they were: %s", error)
        else:
            _warn_of_names(config)
            await _replace(slots, config)


async def _replace(slots: Sequence[WorkerSlot], config: Config) -> None:
    log.info("replacing all workers, one after the other")
    for n_replaced, slot in enumerate(slots):
        try:
            await slot.replace(config)
        except StartError as error:
            log.error("replaced %d of %d workers: %s", n_replaced, config.workers, error)
            return
    log.info("replaced all workers: the new settings hold")


@contextmanager
def _metrics_dir(data_dir: Path) -> Iterator[Path]:
    """Name a directory for the metrics of these workers, whom we tell to make it.

    It is a new one each time: a worker of a predecessor that was killed may live for seconds yet.
    """
    for old in data_dir.glob("metrics-*"):
        shutil.rmtree(old, ignore_errors=True)
    directory = data_dir / f"metrics-{secrets.token_hex(4)}"
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def _store(config: Config) -> AsyncIterator[str]:
    """Yield the address of the configured store, or of our own while it runs."""
    if config.redis_url:
        # Journals of one store must not be replayed into another.
        lock_fd = await lock(config.data_dir)
        try:
            yield config.redis_url
        finally:
            os.close(lock_fd)
        return
    store = await EmbeddedStore.locked(config.data_dir, config.store_binary)
    store.max_bytes = (config.store_max_mb << 20) or memory.half_bytes()
    try:
        await store.start()
        running = asyncio.create_task(store.run())
        try:
            yield url(config.data_dir)
        finally:
            running.cancel()
            await asyncio.wait([running])
    finally:
        await store.stop()
        store.unlock()


async def _supervise(
    slots: Sequence[WorkerSlot],
    following: Coroutine[Any, Any, None],
    announcing: Coroutine[Any, Any, None],
    listeners: Sequence[socket.socket],
) -> None:
    """Keep the workers running until cancelled, or until one cannot even start."""
    running = [asyncio.create_task(slot.run()) for slot in slots]
    decisive = [*running, asyncio.create_task(following)]
    announced = asyncio.create_task(announcing)
    try:
        await asyncio.gather(*decisive)
    finally:
        _pass_over_signals()
        for task in (*decisive, announced):
            task.cancel()
        # From here on nobody is started.
        await asyncio.gather(*decisive, announced, return_exceptions=True)
        # Close the listeners first: new clients are refused and can try elsewhere.
        for listener in listeners:
            listener.close()
        await asyncio.gather(*(slot.stop() for slot in slots))


async def _announce(
    workers: Sequence[WorkerSlot], config: Config, addresses: Sequence[str]
) -> None:
    await all_serve(workers)
    if config.is_open:
        log.warning("no site is declared: any name is counted, up to %d", config.max_sites)
    _warn_of_names(config)
    note_address(config.data_dir, addresses[0])
    # What people wait for, and programs, which read the first line; the second is of operations.
    said = map(str.__add__, ("hitcounter is serving on ", "operations are on "), addresses)
    try:  # past any buffer: what cannot be written now is not written later
        os.write(1, "".join(f"{line}\n" for line in said).encode())
    except OSError as error:
        log.warning("serving on %s; standard output: %s", " and ".join(addresses), error.strerror)


def _warn_of_names(config: Config) -> None:
    for line in filter_lists.warnings(config):
        log.warning("%s", line)
