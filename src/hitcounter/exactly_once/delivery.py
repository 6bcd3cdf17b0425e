"""Sends a writer's chunks, applies the watermarks that come back, reports lost records."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

from hitcounter.errors import StoreError
from hitcounter.exactly_once.lanes import Lane
from hitcounter.exactly_once.records import Record
from hitcounter.metrics import Metrics
from hitcounter.store.writer_connection import Commit, Values, WriterConnection

log = logging.getLogger(__name__)


class Delivered(NamedTuple):
    """The records of a lane that an answer confirms, and the values of now by key."""

    records: list[Record]
    values: Values


async def exchange(
    connection: WriterConnection, lanes: Sequence[Lane], metrics: Metrics
) -> list[Delivered | StoreError]:
    """Send the next chunk of every lane, or only ask for its watermark, in one packet.

    Return what that confirms, or an error where there is no answer: then the same records are to be
    sent again.
    """
    loop = asyncio.get_running_loop()
    asked_at_s, began_s = loop.time(), time.perf_counter()  # a loop may know milliseconds only
    answers = await connection.ask([_next_commit(lane) for lane in lanes])
    answered_at_s, took_s = loop.time(), time.perf_counter() - began_s
    delivered: list[Delivered | StoreError] = []
    for lane, answer in zip(lanes, answers, strict=True):
        if isinstance(answer, StoreError):
            lane.on_error()
            delivered.append(answer)
            continue
        confirmed, n_lost = lane.on_answer(answer.watermark, asked_at_s, answered_at_s)
        if n_lost:
            log.error("the store forgot %d records beyond the kept window: hits are lost", n_lost)
            metrics.lost_records.inc(n_lost)
        if confirmed:
            metrics.commit_s.observe(took_s)
        delivered.append(Delivered(confirmed, answer.values))
    return delivered


def _next_commit(lane: Lane) -> Commit:
    chunk = lane.next_chunk()
    if chunk is None:
        return Commit.nothing(lane.number)
    added = chunk.pageviews
    return Commit(lane.number, chunk.expect, chunk.last, added.counters(), added.page_counters())
