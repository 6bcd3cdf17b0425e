"""The slots in which workers serve: one that dies is started again, and on request it is replaced.

A worker that fails before it serves would fail again: that is an error, for the supervisor.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Sequence

from hitcounter.config import Config
from hitcounter.errors import StartError, one_line
from hitcounter.process.handshake import Job
from hitcounter.process.worker_process import WorkerProcess

log = logging.getLogger(__name__)

OPERATIONS_RETRY_S = 10.0


class WorkerSlot:
    """One slot: the current worker and, during a replacement, the old one."""

    restart_after_s = 0.1

    def __init__(self, job: Job, spare_id: int) -> None:
        """Run a worker by a job; it and its successor swap ids, the first one being `spare_id`."""
        self.is_serving = asyncio.Event()
        self._job = job
        self._spare_id = spare_id
        self._worker = WorkerProcess(job)
        self._other = WorkerProcess(job)  # the next worker, or the last one
        self._changing = asyncio.Lock()

    async def run(self) -> None:
        """Start a worker, and again whenever it ends; raise `StartError` if it cannot serve."""
        is_restart = False
        while True:
            async with self._changing:
                worker = self._worker
                if not worker.is_running:
                    job = dataclasses.replace(self._job, is_restart=is_restart)
                    worker = self._worker = WorkerProcess(job)
                    if await worker.start():
                        self.is_serving.set()
            await worker.is_done.wait()
            if worker is self._worker:
                log.warning("%s ended with %s; starting it again", self._job.name, worker.code)
                is_restart = True
                await asyncio.sleep(self.restart_after_s)

    async def replace(self, config: Config) -> None:
        """Let a new worker serve, and the old one end; raise `StartError` if the new one cannot."""
        await self._other.ended()  # its id is the one to take
        async with self._changing:
            job = dataclasses.replace(self._job, config=config, worker_id=self._spare_id)
            self._other = WorkerProcess(dataclasses.replace(job, is_successor=True))
            await self._other.start_as_successor()
            self._spare_id, self._job = self._job.worker_id, job
            self._worker, self._other = self._other, self._worker
        self._other.drain()

    async def stop(self) -> None:
        """End who is here; they answer what they received first."""
        await asyncio.gather(self._worker.stop(), self._other.stop())


async def all_serve(workers: Sequence[WorkerSlot]) -> None:
    """Wait until all slots have a worker that serves."""
    for worker in workers:
        await worker.is_serving.wait()


class OperationsSlot(WorkerSlot):
    """Where operations are served: begins after the workers, and never ends the service."""

    restart_after_s = 1.0  # one that dies again and again must leave the cores to the workers

    def __init__(self, job: Job, workers: Sequence[WorkerSlot]) -> None:
        super().__init__(job, job.worker_id)
        self._workers = workers

    async def run(self) -> None:
        """Keep operations served, also where their process cannot start yet."""
        await all_serve(self._workers)  # whose start takes all cores
        while True:
            try:
                await super().run()
            except (StartError, OSError) as error:
                log.error("%s; operations are not served, trying again", one_line(error))
            await asyncio.sleep(OPERATIONS_RETRY_S)

    async def replace(self, config: Config) -> None:
        """Let operations be served with new settings, or else go on with the old ones."""
        try:
            await super().replace(config)
        except StartError as error:
            log.error("operations keep the settings that they had: %s", error)
