"""One serving process.

It is told everything through standard input, which it then watches: its end means that the
supervisor is gone, and that the worker goes too. It reports through standard output: one line,
"ready" or why it cannot serve.

On shutdown it stops listening, and closes each connection after its next answer. If anything hangs,
a timer of the kernel ends the process.
"""

import asyncio
import gc
import logging
import socket

from hitcounter.config import Config
from hitcounter.counting.counter import Counter
from hitcounter.counting.store_watch import StoreWatch
from hitcounter.errors import StartError, StoreError
from hitcounter.exactly_once.adoption import Adoption
from hitcounter.exactly_once.journals import Journals
from hitcounter.exactly_once.writer import Writer
from hitcounter.limits import Limits
from hitcounter.metrics import Metrics
from hitcounter.pages import index
from hitcounter.process.deadlines import DRAIN_S, FLUSH_S, LEAVE_S, REQUESTS_END_S
from hitcounter.process.handshake import Job
from hitcounter.process.listener import HINT
from hitcounter.process.serving import Shutdown, allowed_connections, report_ready
from hitcounter.store.client import Store
from hitcounter.store.durability import ANY_PROMISE, PROMISES
from hitcounter.web.acceptor import Acceptor
from hitcounter.web.answering import Terms
from hitcounter.web.app import App
from hitcounter.web.server import Server

log = logging.getLogger(__name__)

BACKLOG = 1024
BEAT_EVERY_S = 1.0
_POLL_S = 0.01


async def serve(job: Job) -> None:
    """Serve visitors, as a job says, until told to end."""
    shutdown = Shutdown()
    config = job.config
    max_connections = allowed_connections(config.max_connections)
    metrics = Metrics(job.metrics_dir, job.worker_id, config.sites)
    metrics.worker_restarts.inc(job.is_restart)
    metrics.store_promise_wanted.set(PROMISES.get(config.promise_wanted, ANY_PROMISE))
    store = Store(job.store_url, config.store_timeout_s)
    journals = Journals(config.data_dir / "journal", config.journal_max_mb << 20)
    journals.prepare()
    window_s = config.kept_window_s
    writer = Writer(store.connect, journals, metrics, n_lanes=store.n_lanes, kept_window_s=window_s)
    limits = Limits(job.limits_fd) if config.limits == "on" else None
    counter = Counter(config, store, writer, metrics, limits=limits)
    watch = StoreWatch(counter, store, writer, metrics, config.watch_every_s)
    await _check(watch, metrics, is_successor=job.is_successor)
    app = App(counter, index.ROUTES)
    terms = Terms(config.head_timeout_s, config.send_timeout_s, app.at_once)
    server = Server(app.handle, terms, max_connections, metrics.connections_refused.inc)
    acceptor = Acceptor(socket.socket(fileno=job.listener_fd), server, server.room)
    _listen(acceptor, config)
    _tune_gc()
    report_ready()

    writer.flushing.add_done_callback(shutdown.task_ended)
    adoption = Adoption(store.connect, journals, metrics, window_s)
    tasks = watch.run(), adoption.run(), _beat(metrics, terms)
    background = [asyncio.create_task(task) for task in tasks]
    for task in background:
        task.add_done_callback(shutdown.task_ended)
    await shutdown.requested.wait()
    await acceptor.close()
    app.is_draining = True
    await _drained(server, shutdown.urgent)
    server.pre_shutdown()
    await server.shutdown(REQUESTS_END_S)
    await _cancelled(background)
    await writer.close(FLUSH_S)
    await store.close()


def _listen(acceptor: Acceptor, config: Config) -> None:
    try:
        acceptor.start(BACKLOG)
    except OSError as error:  # another service bound the port at the same moment
        where = f"{config.host} port {config.port}"
        raise StartError(f"cannot listen on {where}: {error.strerror}; {HINT}") from None


async def _beat(metrics: Metrics, terms: Terms) -> None:
    """Show that the loop goes round, whatever the store and the disk do."""
    while True:
        metrics.beat()
        terms.repeats.clear()  # nobody's request is kept for longer
        await asyncio.sleep(BEAT_EVERY_S)


def _tune_gc() -> None:
    """Keep full collections rare: one walks all kept records, and nobody is answered meanwhile.

    Records hold no cycles and need none; what makes cycles, like errors, is collected young.
    """
    gc.freeze()  # what is loaded now stays
    gc.set_threshold(5_000, 20, 1_000)


async def _cancelled(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _check(watch: StoreWatch, metrics: Metrics, *, is_successor: bool) -> None:
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


async def _drained(server: Server, urgent: asyncio.Event) -> None:
    """Let open connections have their last answer, which closes them."""
    now_s = asyncio.get_running_loop().time
    until_s = now_s() + LEAVE_S
    await asyncio.sleep(_POLL_S)  # a connection that is accepted shows up a moment later
    while server.connections and now_s() < until_s:
        if urgent.is_set():
            until_s = min(until_s, now_s() + DRAIN_S)
        await asyncio.sleep(_POLL_S)
