"""A worker as its supervisor sees it: one process, from its start to its end.

The process of operations is one too, as far as this goes.
"""

import asyncio
import logging
import signal
import sys
from asyncio.subprocess import PIPE, Process

from hitcounter.errors import StartError
from hitcounter.process.deadlines import LEFT_S, STOP_S, SUCCESSOR_S
from hitcounter.process.handshake import DRAIN_SIGNAL, READY, TERMINATE_SIGNAL, Job, write_job

log = logging.getLogger(__name__)

_ENDED_BY_SOMEBODY = (-signal.SIGTERM, -signal.SIGKILL)


def _hears_no_hang_up() -> None:
    """Let a hang-up wait that comes before the worker has its handlers."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {DRAIN_SIGNAL})


class WorkerProcess:
    """The supervisor's handle on one worker process."""

    def __init__(self, job: Job) -> None:
        self.is_done = asyncio.Event()  # it has ended, or its successor serves
        self._job = job
        self._process: Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Return whether it was started and still serves."""
        return self._process is not None and not self.is_done.is_set()

    @property
    def code(self) -> int | None:
        """Return the exit code, or the negative signal, that the process ended with."""
        return None if self._process is None else self._process.returncode

    async def start(self) -> bool:
        """Start it; return whether it serves, or was killed; raise `StartError` if it failed."""
        process = self._process = await self._spawned()
        self._watching = asyncio.create_task(self._watch(process))
        assert process.stdin is not None
        assert process.stdout is not None
        # The pipe stays open: its end tells the worker that we are gone.
        process.stdin.write(write_job(self._job))
        report = (await process.stdout.readline()).decode(errors="replace").strip()
        if report == READY:
            return True
        if report or await process.wait() not in _ENDED_BY_SOMEBODY:
            raise StartError(report or f"{self._job.name} failed before it served")
        return False

    async def _spawned(self) -> Process:
        try:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # nothing is loaded from the working directory, which may be data_dir
                "-m",
                self._job.module,
                stdin=PIPE,
                stdout=PIPE,
                pass_fds=[self._job.listener_fd, self._job.limits_fd],
                start_new_session=True,  # ^C is for us; we tell the workers
                preexec_fn=_hears_no_hang_up,
            )
        except OSError as error:  # like a limit on processes
            raise StartError(f"cannot start {self._job.name}: {error.strerror}") from None

    async def _watch(self, process: Process) -> None:
        """Note the end, and take what the process measured out of the metrics."""
        if await process.wait() == -signal.SIGALRM:
            log.error("%s did not end in time; the kernel ended it", self._job.name)
        try:
            from hitcounter.metric_files import forget_gauges  # here, so that we start faster

            forget_gauges(self._job.metrics_dir, self._job.worker_id)
        finally:
            self.is_done.set()

    async def start_as_successor(self) -> None:
        """Start beside another; if it does not serve, end it and raise `StartError`."""
        reason = f"{self._job.name} was ended before it served"
        try:
            async with asyncio.timeout(SUCCESSOR_S):
                if await self.start():
                    return
        except TimeoutError:
            reason = f"{self._job.name} does not serve in time"
        except StartError as error:
            reason = str(error)
        await self._end(signal.SIGKILL, STOP_S)
        raise StartError(reason)

    def drain(self) -> None:
        """Let it end when its clients have left."""
        self.is_done.set()
        self._leaving = asyncio.create_task(self._end(DRAIN_SIGNAL, LEFT_S))

    async def stop(self) -> None:
        """End it soon; it answers what it received first."""
        await self._end(TERMINATE_SIGNAL, STOP_S)

    async def ended(self) -> None:
        """Wait until its process, if it has one, is gone."""
        if self._watching is not None:
            await asyncio.wait([self._watching])

    async def _end(self, number: int, timeout_s: float) -> None:
        if self._process is None or self._watching is None:
            return
        self._signal(self._process, number)
        ended, _ = await asyncio.wait([self._watching], timeout=timeout_s)
        if not ended:
            log.error("%s does not end; killing it", self._job.name)
            self._signal(self._process, signal.SIGKILL)
            await self.ended()

    @staticmethod
    def _signal(process: Process, number: int) -> None:
        if process.returncode is None:
            process.send_signal(number)
