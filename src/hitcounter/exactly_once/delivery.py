"""Sends a writer's chunks, applies the watermarks that come back, reports lost records."""

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

from hitcounter.errors import StoreError
from hitcounter.exactly_once.lanes import Lane
from hitcounter.exactly_once.records import Record
from hitcounter.metrics import Metrics
from hitcounter.store.writer_connection import Answer, Commit, Values, WriterConnection

log = logging.getLogger(__name__)


class Delivered(NamedTuple):
    """The records of a lane that an answer confirms, and the values of now by key."""

    records: list[Record]
    values: Values


class Delivery:
    """The exchange of chunks for watermarks, for all lanes at once, one packet at a time."""

    def __init__(self, connection: WriterConnection, metrics: Metrics) -> None:
        """Speak on a connection that nobody else uses."""
        self.connection = connection
        self._metrics = metrics

    async def exchange(self, lanes: Sequence[Lane]) -> list[Delivered | StoreError]:
        """Send the next chunk of every lane, or only ask for its watermark.

        Return what that confirms, or an error where there is no answer: then the same records are
        to be sent again.
        """
        loop = asyncio.get_running_loop()
        asked_at_s = loop.time()
        answers = await self.connection.ask([_next_commit(lane) for lane in lanes])
        answered_at_s = loop.time()
        return [
            self._heard(lane, answer, asked_at_s, answered_at_s)
            for lane, answer in zip(lanes, answers, strict=True)
        ]

    def _heard(
        self, lane: Lane, answer: Answer | StoreError, asked_at_s: float, answered_at_s: float
    ) -> Delivered | StoreError:
        if isinstance(answer, StoreError):
            lane.on_error()
            return answer
        confirmed, n_lost = lane.on_answer(answer.watermark, asked_at_s, answered_at_s)
        if n_lost:
            log.error("the store forgot %d records beyond the kept window: hits are lost", n_lost)
            self._metrics.lost_records.inc(n_lost)
        if confirmed:
            self._metrics.commit_s.observe(answered_at_s - asked_at_s)
        return Delivered(confirmed, answer.values)


def _next_commit(lane: Lane) -> Commit:
    chunk = lane.next_chunk()
    if chunk is None:
        return Commit.nothing(lane.number)
    added = chunk.pageviews
    return Commit(lane.number, chunk.expect, chunk.last, added.counters(), added.page_counters())
