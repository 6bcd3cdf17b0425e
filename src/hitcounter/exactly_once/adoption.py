"""Replays the journals of dead writers into the store, under the dead writers' ids.

The watermark tells which of the records are there already. A file is removed once all of them are
confirmed and the kept window is over; until then a crash only means that somebody begins again.
The watermark is kept: a late packet of the dead writer may still arrive.
"""

import asyncio
import logging
from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter

from hitcounter.exactly_once.delivery import exchange
from hitcounter.exactly_once.journal import Journal
from hitcounter.exactly_once.journals import Journals
from hitcounter.exactly_once.lanes import Lane
from hitcounter.exactly_once.outage import RETRY_EVERY_S
from hitcounter.exactly_once.records import RecordLog
from hitcounter.exactly_once.writer import PROBE_EVERY_S, Connect
from hitcounter.metrics import Metrics
from hitcounter.store.writer_connection import WriterConnection

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0


class Adoption:
    """Looks for journals without an owner, as long as this worker runs."""

    def __init__(
        self, connect: Connect, journals: Journals, metrics: Metrics, kept_window_s: float
    ) -> None:
        """Replay through connections that `connect` opens for a writer's id."""
        self._connect = connect
        self._journals = journals
        self._metrics = metrics
        self._kept_window_s = kept_window_s
        self._said = ""

    async def run(self) -> None:
        """Adopt whatever is found; when cancelled, leave what is not done to others."""
        async with asyncio.TaskGroup() as replaying:
            while True:
                for journal in await self._orphans():
                    replaying.create_task(self._adopt(journal))
                await asyncio.sleep(LOOK_EVERY_S)

    async def _orphans(self) -> list[Journal]:
        found, trouble = [], ""
        try:
            found = await self._journals.orphans()
        except OSError as error:
            trouble = str(error)
            if trouble != self._said:
                log.error("cannot look for journals: %s", error)
        self._said = trouble
        self._metrics.journals_unread.set(len(self._journals.unread))
        self._metrics.journal_limit_bytes.set(self._journals.limit_bytes)
        return found

    async def _adopt(self, journal: Journal) -> None:
        log.warning("replaying the journal %s, whose writer is gone", journal.name)
        try:
            await self._replay(journal)
        except Exception:
            log.exception("cannot replay the journal %s; it stays for another worker", journal.name)
            await journal.close()
        except asyncio.CancelledError:
            await journal.close()
            raise
        else:
            await journal.remove()
            self._metrics.replayed_journals.inc()
            log.warning("the store holds all of the journal %s", journal.name)

    async def _replay(self, journal: Journal) -> None:
        lanes = [
            Lane(number, RecordLog.restored(self._kept_window_s, entries, journal.rule))
            for number, entries in groupby(await journal.sums(), attrgetter("lane"))
        ]
        connection = self._connect(journal.writer)
        try:
            await self._deliver(connection, lanes)
        finally:
            await connection.close()

    async def _deliver(self, connection: WriterConnection, lanes: Iterable[Lane]) -> None:
        while lanes := [lane for lane in lanes if lane.records.pending or lane.records.kept]:
            await exchange(connection, lanes, self._metrics)
            if not all(lane.is_answered for lane in lanes):
                await asyncio.sleep(RETRY_EVERY_S)
            elif not any(lane.records.pending for lane in lanes):
                await asyncio.sleep(PROBE_EVERY_S)
