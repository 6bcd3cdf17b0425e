"""How a worker and the process of operations begin, and are told to end."""

import asyncio
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from hitcounter import logs
from hitcounter.errors import SURROUNDINGS, HitcounterError, StartError
from hitcounter.process.deadlines import DRAIN_S, LEAVE_S, WORKER_END_S
from hitcounter.process.handshake import (
    DRAIN_SIGNAL,
    READY,
    TERMINATE_SIGNAL,
    Job,
    kill_self_after,
    read_job,
    refuse,
)
from hitcounter.web.server import MAX_BEYOND, require_c_parser

log = logging.getLogger(__name__)

# For clients that are about to end, and for all that is no client.
SPARE_FILES = MAX_BEYOND + 40


def begin(serve: Callable[[Job], Coroutine[Any, Any, None]]) -> None:
    """Serve the job on standard input; refuse it in one line where that cannot be."""
    try:
        job = read_job(sys.stdin.buffer)
        logs.set_up(job.name, job.config.log_format)
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


def report_ready() -> None:
    """Tell the supervisor, which reads no further: whatever we say later belongs to the log."""
    with suppress(BrokenPipeError):  # of a supervisor that is gone: standard input tells us
        print(READY, flush=True)  # noqa: T201
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def allowed_connections(wanted: int) -> int:
    """Return how many clients may connect, so that journal and store can always be opened.

    Raise `StartError` where none may.
    """
    n_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if n_files != resource.RLIM_INFINITY and n_files <= SPARE_FILES:
        raise StartError(
            f"a worker may open only {n_files} files, which leaves none for visitors: allow 1024"
            " (ulimit -n; LimitNOFILE in a systemd unit)"
        )
    return wanted if n_files == resource.RLIM_INFINITY else min(wanted, n_files - SPARE_FILES)


class Shutdown:
    """What this process is told about its end: whether it must, and whether soon."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.urgent = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(TERMINATE_SIGNAL, self._soon)
        loop.add_signal_handler(DRAIN_SIGNAL, self._when_left)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {DRAIN_SIGNAL})  # which was born blocked
        loop.add_reader(sys.stdin.fileno(), self._orphaned)

    def _soon(self) -> None:
        if not self.urgent.is_set():
            kill_self_after(DRAIN_S + WORKER_END_S)
        self.urgent.set()
        self.requested.set()

    def _when_left(self) -> None:
        if not self.requested.is_set():
            kill_self_after(LEAVE_S + WORKER_END_S)
        self.requested.set()

    def _orphaned(self) -> None:
        # The end of a pipe can be read again and again.
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        self._soon()

    def task_ended(self, task: "asyncio.Task[None]") -> None:
        """End a worker that has lost a part of itself."""
        if not task.cancelled() and task.exception() is not None:
            log.critical("this worker fails and ends", exc_info=task.exception())
            self._soon()
