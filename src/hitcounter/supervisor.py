"""The parent: binds the socket once, keeps the store and the workers running, and ends them.

A worker that dies is replaced. One that fails before it serves would fail again, so it stops the
service with its reason; one that somebody ended then did not fail.
"""

import asyncio
import errno
import logging
import pickle
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hitcounter.config import Config
from hitcounter.embedded import EmbeddedStore, url
from hitcounter.errors import StartError
from hitcounter.job import READY, Job

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10.0
LISTEN_TIMEOUT_S = 1.0
RESTART_AFTER_S = 0.1
_POLL_S = 0.005
_ENDED_BY_SOMEBODY = (-signal.SIGTERM, -signal.SIGKILL)


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT; raise `StartError` if that cannot begin or go on."""
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    with (
        await _listener(config.host, config.port) as listener,
        TemporaryDirectory(prefix="hitcounter-", ignore_cleanup_errors=True) as metrics_dir,
    ):
        async with _store(config) as store_url:
            jobs = [
                Job(i, config, store_url, listener.fileno(), Path(metrics_dir))
                for i in range(config.workers)
            ]
            await _supervise([_Worker(job) for job in jobs], stop, listener)


async def _listener(host: str, port: int) -> socket.socket:
    """Bind; a predecessor that was killed leaves workers that take a moment to follow it."""
    give_up_at_s = time.monotonic() + LISTEN_TIMEOUT_S
    while True:
        try:
            return _bound(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= give_up_at_s:
                raise StartError(f"cannot listen on {host} port {port}: {error.strerror}") from None
        await asyncio.sleep(_POLL_S)


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    # Bound, but not listening: until a worker serves, a client is refused and can try elsewhere.
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def _store(config: Config) -> AsyncIterator[str]:
    """Give the address of the configured store, or of our own while it runs."""
    if config.redis_url:
        yield config.redis_url
        return
    store = await EmbeddedStore.locked(config.data_dir, config.store_binary)
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
    workers: list["_Worker"], stop: asyncio.Event, listener: socket.socket
) -> None:
    """Keep the workers running until told to stop, or until one cannot even start."""
    running = [asyncio.create_task(worker.run()) for worker in workers]
    stopping = asyncio.create_task(stop.wait())
    announcing = asyncio.create_task(_announce(workers, _address(listener)))
    try:
        done, _ = await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (*running, stopping, announcing):
            task.cancel()
        # Workers stop to listen first of all: a new client is refused and can try elsewhere.
        listener.close()
        await asyncio.gather(*(worker.stop() for worker in workers))


async def _announce(workers: list["_Worker"], address: str) -> None:
    for worker in workers:
        await worker.is_serving.wait()
    print(f"hitcounter is serving on {address}", flush=True)  # noqa: T201 -- what people wait for


class _Worker:
    """One serving process after the other, all under one id."""

    def __init__(self, job: Job) -> None:
        """Prepare to run; nothing is started yet."""
        self.is_serving = asyncio.Event()
        self._job = job
        self._process: Process | None = None

    async def run(self) -> None:
        """Start the worker, and again whenever it ends; raise `StartError` if it cannot serve."""
        while True:
            process = await self._start()
            code = await process.wait()
            log.warning("worker %d ended with %s; starting it again", self._job.worker_id, code)
            await asyncio.sleep(RESTART_AFTER_S)

    async def _start(self) -> Process:
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "hitcounter.worker",
            stdin=PIPE,
            stdout=PIPE,
            pass_fds=[self._job.listener_fd],
            start_new_session=True,  # ^C is for us; we tell the workers
        )
        assert process.stdin is not None
        assert process.stdout is not None
        # The pipe stays open: its end tells the worker that we are gone.
        process.stdin.write(pickle.dumps(self._job))
        report = (await process.stdout.readline()).decode().strip()
        if report == READY:
            self.is_serving.set()
        elif report or await process.wait() not in _ENDED_BY_SOMEBODY:
            raise StartError(report or f"worker {self._job.worker_id} failed before it served")
        return process

    async def stop(self) -> None:
        """End the worker; it answers what it received first."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            log.error("worker %d does not stop; killing it", self._job.worker_id)
            process.kill()
            await process.wait()
