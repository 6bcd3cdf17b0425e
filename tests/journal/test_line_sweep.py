"""The connection to the store is cut after n bytes, for every n, in either direction.

Each question ends in its own answer or in a `StoreError`, never in the answer to another one; and
who sends again by the protocol counts once, wherever the cut was.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hitcounter.errors import StoreError
from hitcounter.exactly_once.records import Chunk
from hitcounter.store import keys
from hitcounter.store.client import Store
from hitcounter.store.inspection import Inspection
from hitcounter.store.writer_connection import WriterConnection
from tests.journal.cutting import DIRECTIONS, REPLIES, Cutter, cutter
from tests.journal.entries import DEMO, LIMIT, entry
from tests.support.commits import claim, commit
from tests.support.commits import watermark as watermark_of
from tests.support.servers import StoreServer

Answer = TypeVar("Answer")

SHORT_TIMEOUT_S = 0.3
HANGS_AFTER_S = 10.0
IDS_STEP_BYTES = 3
CHECK_STEP_BYTES = 61
SWALLOW_STEP_BYTES = 19
SPARE_BYTES = 100  # what the store tells of itself is longer now and then
N_AT_ONCE = 64

pytestmark = pytest.mark.timeout(300)


async def answered(ask: Callable[..., Awaitable[Answer]], *args: Any) -> Answer:
    """Ask until there is an answer: a cut costs one, and so may one that came after an answer."""
    for _ in range(2):
        with suppress(StoreError):
            return await ask(*args)
    return await ask(*args)


def page_of(writer: str) -> keys.PageKeys:
    """Name a page that only one writer counts."""
    return keys.page_keys(0, "demo", f"/{writer}", LIMIT)


def chunk(writer: str, last: int) -> Chunk:
    """Make the chunk of one pageview of the writer's own page."""
    return Chunk(last - 1, last, entry(last, f"/{writer}").pageviews)


async def sent_twice(line: WriterConnection, writer: str, raw: Any) -> None:
    """Send two chunks by the protocol, and ask other questions in between."""
    for last in (1, 2):
        watermark, values = await answered(commit, line, chunk(writer, last))
        assert (watermark, values[page_of(writer).key]) == (last, last)
        assert [values[key] for key in DEMO.shown] == [int(n or 0) for n in raw.mget(DEMO.shown)]
        assert await answered(watermark_of, line) == last
    assert raw.get(page_of(writer).key) == b"2"


@pytest.mark.slow
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("is_open", [True, False], ids=["open", "new"])
async def test_a_commit_counts_once_wherever_its_connection_is_cut(
    far_store: Store, way: Cutter, raw: Any, direction: str, is_open: bool
) -> None:
    for n_bytes in count():
        writer = f"w{n_bytes}"
        line = far_store.connect(writer)
        if is_open:
            assert await watermark_of(line) == 0
        way.cut(direction, n_bytes)
        await sent_twice(line, writer, raw)
        await line.close()
        if not way.has_cut:
            break
    assert n_bytes > 100
    assert raw.get(DEMO.shown[-1]) == b"%d" % (2 * (n_bytes + 1))


@pytest.mark.slow
@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_commit_counts_once_if_the_script_is_not_known_either(
    far_store: Store, way: Cutter, raw: Any, direction: str
) -> None:
    for n_bytes in count(step=17):
        writer = f"w{n_bytes}"
        line = far_store.connect(writer)
        assert await watermark_of(line) == 0
        raw.script_flush()
        way.cut(direction, n_bytes)
        await sent_twice(line, writer, raw)
        await line.close()
        if not way.has_cut:
            break
    assert n_bytes > 100


@pytest.mark.slow
@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_ids_are_claimed_once_wherever_the_connection_is_cut(
    far_store: Store, way: Cutter, raw: Any, direction: str
) -> None:
    for n_bytes in count(step=IDS_STEP_BYTES):
        ids, writers = [f"{n_bytes}-a", f"{n_bytes}-b"], (f"v{n_bytes}", f"w{n_bytes}")
        ours, theirs = (far_store.connect(writer) for writer in writers)
        assert await watermark_of(ours) == await watermark_of(theirs) == 0
        way.cut(direction, n_bytes)
        assert await answered(claim, ours, 1, ids, 0.0) == [True, True]
        assert await answered(claim, theirs, 1, ids, 600.0) == [None, None]
        await answered(commit, ours, chunk(writers[0], 1))
        assert await answered(claim, theirs, 2, ids, 600.0) == [False, False]
        for line in (ours, theirs):
            await line.close()
        if not way.has_cut:
            break
    assert n_bytes > 100


Question = Callable[[Store], Awaitable[object]]
ONE = keys.bucket_key(0, "demo", "total")
QUESTIONS: dict[str, tuple[Question, object]] = {
    "read": (lambda store: store.read([ONE, "none"]), [1, None]),
    "admit": (lambda store: store.admit_site("demo", 1), True),
    "refuse": (lambda store: store.admit_site("other", 1), False),
    "sites": (lambda store: store.sites(), {"demo"}),
    "raise": (lambda store: store.replace("demo", {ONE: 1}, only_raise=True), 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("what", QUESTIONS)
async def test_no_question_gets_the_answer_to_another(
    far_store: Store, way: Cutter, raw: Any, direction: str, what: str
) -> None:
    raw.set(ONE, 1)
    assert await far_store.admit_site("demo", 1)
    ask, right = QUESTIONS[what]
    for n_bytes in count():
        way.cut(direction, n_bytes)
        assert await answered(ask, far_store) == right
        for other, answer in QUESTIONS.values():
            assert await answered(other, far_store) == answer
        if not way.has_cut:
            break
    assert n_bytes > 10


async def test_a_question_that_is_cancelled_leaves_no_answer_for_the_next_one(
    far_store: Store,
) -> None:
    for n_steps in range(60):
        writer = f"w{n_steps}"
        line = far_store.connect(writer)
        await commit(line, chunk(writer, 1))
        asking = asyncio.create_task(commit(line, chunk(writer, 2)))
        for _ in range(n_steps):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert await watermark_of(line) in ((2,) if not asking.cancelled() else (1, 2))
        assert (await commit(line, chunk(writer, 2)))[0] == 2
        assert await far_store.read([page_of(writer).key]) == [2]
        await line.close()


@pytest.mark.slow
@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_store_can_be_checked_wherever_a_connection_to_it_is_cut(
    far_store: Store, way: Cutter, direction: str
) -> None:
    for n_bytes in count(step=CHECK_STEP_BYTES):
        way.cut(direction, n_bytes)
        facts = await answered(Inspection(far_store).check)
        assert (facts.role, facts.appendfsync) == ("master", "always")
        if not way.has_cut:
            break
    assert n_bytes > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "ask",
    [
        "watermark",
        "sites",
        "facts",
    ],
)
async def test_a_question_ends_wherever_the_network_begins_to_swallow_everything(
    server: StoreServer, tmp_path: Path, ask: str
) -> None:
    async def ends(n_bytes: int) -> int:
        async with cutter(tmp_path / f"way{n_bytes}", server.socket_path) as way:
            store = Store(way.url, SHORT_TIMEOUT_S)
            line = store.connect("w")
            askers: dict[str, Callable[[], Awaitable[object]]] = {
                "watermark": partial(watermark_of, line),
                "sites": store.sites,
                "facts": Inspection(store).facts,
            }
            way.cut(REPLIES, n_bytes, is_noticed=False)
            try:
                async with asyncio.timeout(HANGS_AFTER_S):
                    with suppress(StoreError):
                        await askers[ask]()
            finally:
                await line.close()
                await store.close()
            return way.carried_bytes[REPLIES]

    most_bytes = max([await ends(1 << 30) for _ in range(3)]) + SPARE_BYTES
    n_bytes = iter(range(0, most_bytes, SWALLOW_STEP_BYTES))
    while batch := list(islice(n_bytes, N_AT_ONCE)):
        found = await asyncio.gather(*map(ends, batch), return_exceptions=True)
        assert [each for each in found if isinstance(each, BaseException)] == []
