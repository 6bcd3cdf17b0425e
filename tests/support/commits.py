"""Chunks, as a writer brings them to the store."""

from hitcounter.exactly_once.records import Chunk
from hitcounter.store.writer_connection import WriterConnection


async def commit(connection: WriterConnection, chunk: Chunk) -> tuple[int, dict[str, int]]:
    """Send a chunk; return the watermark and the values by key."""
    added = chunk.pageviews
    counters, pages = added.counters(), added.page_counters()
    return await connection.commit(chunk.expect, chunk.last, counters, pages)
