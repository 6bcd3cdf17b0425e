"""Chunks and questions, as a writer brings them to the store in the first lane."""

from collections.abc import Sequence

from hitcounter.exactly_once.records import Chunk
from hitcounter.store.scripts import reply_of
from hitcounter.store.writer_connection import Answer, Commit, WriterConnection


async def commit(connection: WriterConnection, chunk: Chunk) -> Answer:
    """Send a chunk; return the watermark and the values by key."""
    added = chunk.pageviews
    return await _ask(
        connection, Commit(0, chunk.expect, chunk.last, added.counters(), added.page_counters())
    )


async def watermark(connection: WriterConnection) -> int:
    """Ask up to which record the store holds a writer."""
    return (await _ask(connection, Commit.nothing(0))).watermark


async def claim(
    connection: WriterConnection, record: int, ids: Sequence[str], now_s: float
) -> list[bool | None]:
    """Claim ids of hits for a record."""
    return await connection.claim(0, record, ids, now_s)


async def _ask(connection: WriterConnection, commit: Commit) -> Answer:
    answer: Answer = reply_of(await connection.ask([commit]))
    return answer
