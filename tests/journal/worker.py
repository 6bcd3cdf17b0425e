"""A writer in a process of its own, which lives through two outages while a test breaks its disk.

It reaches the socket of the store by a link that it removes and makes again. It writes under an id
that the test gives, which so knows the files before they are made. When it is told to, it begins,
and tells at the end what became of every hit, by its path.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from redis import Redis

from hitcounter.errors import Unavailable
from hitcounter.exactly_once.journals import Journals
from hitcounter.exactly_once.writer import Writer
from hitcounter.metrics import Metrics
from hitcounter.store.client import Store
from tests.journal.entries import MAX_BYTES
from tests.journal.forks import Fork, forked
from tests.journal.hits import hit, outcome
from tests.support.waiting import eventually

KEPT_WINDOW_S = 0.2
ANSWER_WITHIN_S = 15.0
READY, UNANSWERED = "ready", "unanswered"
N_OUTAGES = 2


class _Gate:
    """The link by which a writer reaches the store."""

    def __init__(self, link: Path, store_path: Path, writer: str) -> None:
        self.url = f"unix://{link}?client_name={writer}"
        self._link = link
        self._store_path = store_path
        self._writer = writer
        self.open()

    def open(self) -> None:
        self._link.symlink_to(self._store_path)

    def close(self) -> None:
        self._link.unlink()
        with Redis(unix_socket_path=str(self._store_path)) as redis:
            for client in redis.client_list():
                if client["name"] == self._writer:
                    redis.client_kill_filter(_id=client["id"])


async def _count(writer: Writer, *paths: str) -> dict[str, str]:
    said = await asyncio.gather(*(_said_of(writer, path) for path in paths))
    return dict(zip(paths, said, strict=True))


async def _said_of(writer: Writer, path: str) -> str:
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await outcome(hit(writer, path))
    except Unavailable as refusal:  # at once: its flush has ended
        return refusal.code
    except TimeoutError:
        return UNANSWERED


async def _noticed(writer: Writer, *, is_away: bool) -> None:
    async def has_noticed() -> bool:
        return writer.lanes.is_away == is_away or writer.flushing.done()

    await eventually(has_noticed, f"is_away is {is_away}")


async def _live(writer: Writer, gate: _Gate, connection: "Connection[str, str]") -> dict[str, str]:
    said = await _count(writer, f"/{writer.id}/a", f"/{writer.id}/b")
    connection.send(READY)
    await asyncio.to_thread(connection.recv)
    for outage in range(N_OUTAGES):
        paths = [f"/{writer.id}/{outage}/{n}" for n in range(4)]
        gate.close()
        await _noticed(writer, is_away=True)
        said |= await _count(writer, *paths[:2])
        said |= await _count(writer, paths[2])
        gate.open()
        await _noticed(writer, is_away=False)
        said |= await _count(writer, paths[3])
    last = asyncio.create_task(_count(writer, f"/{writer.id}/z"))
    await asyncio.sleep(0)
    await writer.close(1.0)
    return said | await last


async def _serve(
    directory: Path, store_path: Path, writer_id: str, connection: "Connection[str, str]"
) -> dict[str, str]:
    with TemporaryDirectory() as own:
        gate = _Gate(Path(own, "store"), store_path, writer_id)
        store, journals = Store(gate.url, 20.0), Journals(directory, MAX_BYTES)
        metrics = Metrics(Path(own), 0, [])
        with patch("secrets.token_hex", return_value=writer_id):
            writer = Writer(
                store.connect, journals, metrics, n_lanes=1, kept_window_s=KEPT_WINDOW_S
            )
        said = await _live(writer, gate, connection)
        await store.close()
    return said


@contextmanager
def worker_of(directory: Path, store_path: Path, writer_id: str) -> Iterator[Fork]:
    """Run a writer until it is ready; it is killed at the end if it still runs."""
    with forked(live_through, str(directory), str(store_path), writer_id) as fork:
        assert fork.answer() == READY
        yield fork


def lived(fork: Fork) -> dict[str, str]:
    """Let a writer live; tell what became of its hits."""
    fork.tell("go")
    said: dict[str, str] = json.loads(fork.answer())
    fork.end()  # strace may not be told to let go of a process that is ending
    return said


def live_through(
    connection: "Connection[str, str]", directory: str, store_path: str, writer_id: str
) -> None:
    """Live through the outages; tell what became of the hits."""
    serving = _serve(Path(directory), Path(store_path), writer_id, connection)
    connection.send(json.dumps(asyncio.run(serving)))
