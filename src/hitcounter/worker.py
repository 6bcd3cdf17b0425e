"""One serving process.

It is told everything through standard input, which it then watches: its end means that the
supervisor is gone, and that the worker goes too. It reports through standard output: one line,
"ready" or why it cannot serve.

Told to end, it stops to listen, and every answer is the last of its connection. Whatever hangs
then, the kernel ends the process a while later.
"""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from aiohttp import web

from hitcounter import logs
from hitcounter.adoption import Adoption
from hitcounter.config import Config
from hitcounter.errors import SURROUNDINGS, HitcounterError, StartError, StoreError
from hitcounter.job import (
    END_SOON,
    END_WHEN_LEFT,
    READY,
    Job,
    end_within,
    read_job,
    refuse,
)
from hitcounter.journal import Journals
from hitcounter.listener import HINT
from hitcounter.metrics import Metrics
from hitcounter.service import Service
from hitcounter.store import Store
from hitcounter.watch import Watch
from hitcounter.web.acceptor import Acceptor
from hitcounter.web.answering import KEEPALIVE_S
from hitcounter.web.app import App, Server, require_c_parser
from hitcounter.writer import Writer

log = logging.getLogger(__name__)

BACKLOG = 1024
DRAIN_S = 0.5
# A connection that is idle for longer is closed anyway.
LEAVE_S = KEEPALIVE_S + 1.0
FLUSH_S = 1.0
REQUESTS_END_S = 3.0
# From the end of the drain to the end of the process; the rest is for a slow disk.
END_S = REQUESTS_END_S + FLUSH_S + 3.0
SPARE_FILES = 64
_POLL_S = 0.01


def main() -> None:
    """Serve as the job on standard input says."""
    begin(lambda job: _serve(job, allowed_connections(job.config.max_connections)))


def begin(serve: Callable[[Job], Coroutine[Any, Any, None]]) -> None:
    """Serve the job on standard input; refuse it in one line where that cannot be."""
    try:
        job = read_job(sys.stdin.buffer)
        logs.set_up(job.name)
        require_c_parser()
        _run(serve(job))
    except (HitcounterError, *SURROUNDINGS) as error:
        refuse(error)


def _run(serving: Coroutine[Any, Any, None]) -> None:
    try:
        from uvloop import run
    except ImportError:
        asyncio.run(serving)
    else:
        run(serving)


async def _serve(job: Job, max_connections: int) -> None:
    ending = Ending()
    config = job.config
    metrics = Metrics(job.metrics_dir, job.worker_id, config.sites)
    store = Store(job.store_url, config.store_timeout_s)
    journals = Journals(config.data_dir / "journal", config.journal_max_mb << 20)
    journals.prepare()
    writer = Writer(store.line, journals, metrics, lane=0, kept_window_s=config.kept_window_s)
    service = Service(config, store, writer, metrics)
    watch = Watch(store, service, writer, metrics, config.watch_every_s)
    await _check(watch, metrics, is_successor=job.is_successor)
    app = App(service)
    timeouts_s = config.head_timeout_s, config.send_timeout_s
    server = Server(app.handle, metrics.connections_refused.inc, max_connections, *timeouts_s)
    runner = web.ServerRunner(server, shutdown_timeout=REQUESTS_END_S)
    await runner.setup()
    acceptor = Acceptor(socket.socket(fileno=job.listener_fd), server)
    _listen(acceptor, config)
    _tame_collector()
    report_ready()

    writer.flushing.add_done_callback(ending.task_ended)
    adoption = Adoption(store.line, journals, metrics, config.kept_window_s)
    background = [asyncio.create_task(task) for task in (watch.run(), adoption.run())]
    for task in background:
        task.add_done_callback(ending.task_ended)
    await ending.is_told.wait()
    await acceptor.close()
    app.is_draining = True
    await _drained(server, ending.is_urgent)
    await runner.cleanup()
    await _cancelled(background)
    await writer.close(FLUSH_S)
    await store.close()


def _listen(acceptor: Acceptor, config: Config) -> None:
    try:
        acceptor.start(BACKLOG)
    except OSError as error:  # another service bound the port at the same moment
        where = f"{config.host} port {config.port}"
        raise StartError(f"cannot listen on {where}: {error.strerror}; {HINT}") from None


def report_ready() -> None:
    """Tell the supervisor, which reads no further: whatever we say later belongs to the log."""
    with suppress(BrokenPipeError):  # of a supervisor that is gone: standard input tells us
        print(READY, flush=True)  # noqa: T201
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def allowed_connections(wanted: int) -> int:
    """Tell how many clients may connect, so that journal and store can always be opened.

    Raise `StartError` where none may.
    """
    n_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if n_files != resource.RLIM_INFINITY and n_files <= SPARE_FILES:
        raise StartError(
            f"a worker may open only {n_files} files, which leaves none for visitors: allow 1024"
            " (ulimit -n; LimitNOFILE in a systemd unit)"
        )
    return wanted if n_files == resource.RLIM_INFINITY else min(wanted, n_files - SPARE_FILES)


def _tame_collector() -> None:
    """Keep full collections rare: one walks all kept records, and nobody is answered meanwhile.

    Records hold no cycles and need none; what makes cycles, like errors, is collected young.
    """
    gc.freeze()  # what is loaded now stays
    gc.set_threshold(5_000, 20, 1_000)


class Ending:
    """What this process is told about its end: that it shall, and whether soon."""

    def __init__(self) -> None:
        self.is_told = asyncio.Event()
        self.is_urgent = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(END_SOON, self._soon)
        loop.add_signal_handler(END_WHEN_LEFT, self._when_left)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {END_WHEN_LEFT})  # which was born blocked
        loop.add_reader(sys.stdin.fileno(), self._orphaned)

    def _soon(self) -> None:
        if not self.is_urgent.is_set():
            end_within(DRAIN_S + END_S)
        self.is_urgent.set()
        self.is_told.set()

    def _when_left(self) -> None:
        if not self.is_told.is_set():
            end_within(LEAVE_S + END_S)
        self.is_told.set()

    def _orphaned(self) -> None:
        # The end of a pipe can be read again and again.
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        self._soon()

    def task_ended(self, task: "asyncio.Task[None]") -> None:
        """End a worker that has lost a part of itself."""
        if not task.cancelled() and task.exception() is not None:
            log.critical("this worker fails and ends", exc_info=task.exception())
            self._soon()


async def _cancelled(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _check(watch: Watch, metrics: Metrics, *, is_successor: bool) -> None:
    """Refuse a store that cannot count exactly; one that is away may come back.

    A successor is refused without a store: whoever serves now knows more.
    """
    try:
        await watch.check()
    except StoreError as error:
        if is_successor:
            raise StartError(f"{error}; without it a new worker would refuse hits") from None
        metrics.store_up.set(0)
        log.error("%s; hits are refused until it does", error)


async def _drained(server: Server, is_urgent: asyncio.Event) -> None:
    """Let open connections have their last answer, which closes them."""
    leaving = asyncio.create_task(_left(server))
    urgent = asyncio.create_task(is_urgent.wait())
    await asyncio.wait([leaving, urgent], timeout=LEAVE_S, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait([leaving], timeout=DRAIN_S if is_urgent.is_set() else 0)
    leaving.cancel()
    urgent.cancel()


async def _left(server: Server) -> None:
    await asyncio.sleep(_POLL_S)  # a connection that is accepted shows up a moment later
    while server.connections:
        await asyncio.sleep(_POLL_S)


if __name__ == "__main__":
    main()
