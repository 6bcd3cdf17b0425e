"""One serving process.

It is told everything through standard input, which it then watches: its end means that the
supervisor is gone, and that the worker goes too. It reports through standard output: one line,
"ready" or why it cannot serve.
"""

import asyncio
import gc
import logging
import pickle
import shutil
import signal
import socket
import sys
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from hitcounter import logs
from hitcounter.errors import HitcounterError, StartError, StoreError
from hitcounter.guard import level, promise
from hitcounter.job import FAILED_TO_START, READY, Job
from hitcounter.metrics import Metrics
from hitcounter.service import Service
from hitcounter.store import Store
from hitcounter.web.app import App, Server
from hitcounter.writer import Writer

log = logging.getLogger(__name__)

BACKLOG = 1024
DRAIN_S = 0.5
FLUSH_S = 1.0
REQUESTS_END_S = 3.0
_POLL_S = 0.01


def main() -> None:
    """Serve as the job on standard input says."""
    job: Job = pickle.load(sys.stdin.buffer)  # noqa: S301 -- from our own supervisor
    logs.set_up(f"worker {job.worker_id}")
    try:
        _run(_serve(job))
    except HitcounterError as error:
        print(error, flush=True)  # noqa: T201
        sys.exit(FAILED_TO_START)


def _run(serving: Coroutine[Any, Any, None]) -> None:
    try:
        from uvloop import run
    except ImportError:
        asyncio.run(serving)
    else:
        run(serving)


async def _serve(job: Job) -> None:
    stop = _stop_event(job)
    config = job.config
    metrics = Metrics(job.metrics_dir, job.worker_id, config.sites)
    store = Store(job.store_url, config.store_timeout_s)
    await _check(store, metrics)
    writer = Writer(
        store,
        metrics,
        lane=0,
        kept_window_s=config.kept_window_s,
        patience_s=config.store_timeout_s,
    )
    app = App(Service(config, store, writer, metrics))
    server = Server(app)
    runner = web.ServerRunner(server, shutdown_timeout=REQUESTS_END_S)
    await runner.setup()
    listener = web.SockSite(runner, socket.socket(fileno=job.listener_fd), backlog=BACKLOG)
    try:
        await listener.start()
    except OSError as error:  # another service bound the port at the same moment
        where = f"{config.host} port {config.port}"
        raise StartError(f"cannot listen on {where}: {error.strerror}") from None
    _tame_collector()
    print(READY, flush=True)  # noqa: T201 -- the supervisor waits for it

    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([stopping, writer.flushing], return_when=asyncio.FIRST_COMPLETED)
    if writer.flushing.done():
        log.critical("the writer failed; this worker ends", exc_info=writer.flushing.exception())
    await listener.stop()
    app.is_draining = True
    await _drained(server)
    await runner.cleanup()
    await writer.close(FLUSH_S)
    await store.close()


def _tame_collector() -> None:
    """Keep full collections rare: one walks all kept records, and nobody is answered meanwhile.

    Records hold no cycles and need none; what makes cycles, like errors, is collected young.
    """
    gc.freeze()  # what is loaded now stays
    gc.set_threshold(5_000, 20, 1_000)


def _stop_event(job: Job) -> asyncio.Event:
    """Make an event that SIGTERM sets, and the end of the supervisor."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def orphaned() -> None:
        loop.remove_reader(sys.stdin.fileno())  # the end of a pipe can be read again and again
        shutil.rmtree(job.metrics_dir, ignore_errors=True)  # nobody else is left to do it
        stop.set()

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin.fileno(), orphaned)
    return stop


async def _check(store: Store, metrics: Metrics) -> None:
    """Refuse a store that cannot count exactly; one that is away may come back."""
    try:
        facts = await store.check()
    except StoreError as error:
        log.error("%s; hits are refused until it does", error)
    else:
        metrics.store_up.set(1)
        log.info("store %s, promise level %s: %s", facts.name, level(facts), promise(facts))


async def _drained(server: Server) -> None:
    """Let open connections have their last answer, which closes them."""
    deadline_s = asyncio.get_running_loop().time() + DRAIN_S
    await asyncio.sleep(_POLL_S)  # a connection that is accepted shows up a moment later
    while server.connections and asyncio.get_running_loop().time() < deadline_s:
        await asyncio.sleep(_POLL_S)


if __name__ == "__main__":
    main()
