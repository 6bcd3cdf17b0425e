"""Hits as tests of writers count them: each on a page of its own tells how often it counted."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from hitcounter.errors import Unavailable
from hitcounter.exactly_once.hit_ids import DuplicateHit
from hitcounter.exactly_once.writer import Writer
from hitcounter.store import keys
from hitcounter.store.keys import PageKeys
from hitcounter.store.writer_connection import Values
from tests.journal.entries import DEMO, LIMIT

Hit = asyncio.Future[Values | None]

COUNTED, STORED, SAME, UNKNOWN = "counted", "stored", "same", "outcome_unknown"
ACKNOWLEDGED = {COUNTED, STORED}


def page(path: str, limit: int = LIMIT) -> PageKeys:
    """Name the counters of a page."""
    return keys.page_keys(0, "demo", path, limit)


def hit(writer: Writer, path: str, id_: str | None = None) -> Hit:
    """Count a hit."""
    return writer.count(writer.lanes.of("demo"), "demo", DEMO, page(path), id_)


async def outcome(hit: Hit) -> str:
    """Tell what became of a hit."""
    try:
        values = await hit
    except Unavailable as refusal:
        return refusal.code
    except DuplicateHit:
        return SAME
    return STORED if values is None else COUNTED


def n_counted(raw: Any, *paths: str) -> list[int]:
    """Tell how often the store holds pages."""
    return [int(n or 0) for n in raw.mget([page(path).key for path in paths])]


def expect_truth(raw: Any, outcomes: Mapping[str, str]) -> None:
    """Expect of hits, by path, that what was said of them is what the store holds."""
    counted = dict(zip(outcomes, n_counted(raw, *outcomes), strict=True))
    wrong = {
        path: (said, counted[path])
        for path, said in outcomes.items()
        if counted[path] not in _right(said)
    }
    assert wrong == {}
    assert {int(n or 0) for n in raw.mget(DEMO.counted)} == {sum(counted.values())}


def _right(said: str) -> Sequence[int]:
    if said in ACKNOWLEDGED:
        return [1]
    return [0, 1] if said == UNKNOWN else [0]
