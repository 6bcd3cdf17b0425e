"""Sends one writer's chunks, applies the watermark that the store returns, reports lost records."""

import asyncio
import logging
from collections.abc import Mapping

from hitcounter.exactly_once.records import Chunk, Record, RecordLog
from hitcounter.metrics import Metrics
from hitcounter.store.writer_connection import WriterConnection

log = logging.getLogger(__name__)

Values = Mapping[str, int]


class Delivery:
    """The exchange of chunks for watermarks, one at a time."""

    def __init__(self, records: RecordLog, connection: WriterConnection, metrics: Metrics) -> None:
        """Speak for the records of a writer on a connection that nobody else uses."""
        self.records = records
        self.connection = connection
        self._metrics = metrics

    async def exchange(self, chunk: Chunk | None) -> tuple[list[Record], Values]:
        """Send a chunk, or only ask for the watermark; return what that confirms, and the values.

        Raise `StoreError` where there is no answer: then the same records are to be sent again.
        """
        loop = asyncio.get_running_loop()
        asked_at_s = loop.time()
        values: Values = {}
        if chunk is None:
            watermark = await self.connection.watermark()
        else:
            watermark, values = await self.connection.commit(
                chunk.expect,
                chunk.last,
                chunk.pageviews.counters(),
                chunk.pageviews.page_counters(),
            )
        answered_at_s = loop.time()
        confirmed, n_lost = self.records.confirm(watermark, asked_at_s, answered_at_s)
        if n_lost:
            log.error("the store forgot %d records beyond the kept window: hits are lost", n_lost)
            self._metrics.lost_records.inc(n_lost)
        if confirmed:
            self._metrics.commit_s.observe(answered_at_s - asked_at_s)
        return confirmed, values
