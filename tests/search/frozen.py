"""Lanes as values: what a search keeps of a state, and what it makes of it again.

A hit is a number, and has a site of its own, so that a loss cannot hide behind a double. Each is a
record, as hits are where a record takes one. A chunk or a sum is the sorted hits that it holds.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from hitcounter.exactly_once.increments import Pageviews
from hitcounter.exactly_once.kept import Kept, unpacked
from hitcounter.exactly_once.lanes import Lane
from hitcounter.exactly_once.records import Record, RecordLog
from hitcounter.store import keys

Hits = tuple[int, ...]

MAX_HITS = 8
NOW_S = 3.0
KEPT_WINDOW_S = 1.0

_DAY = "2026-11-29"
_SITES = [keys.site_keys(0, f"s{hit}", _DAY) for hit in range(MAX_HITS)]
_HITS = {site: hit for hit, site in enumerate(_SITES)}


class FrozenLane(NamedTuple):
    """A lane between two steps."""

    unsent: Hits  # each in a record of its own
    pending: tuple[tuple[int, Hits], ...]
    kept: tuple[tuple[int, Hits, int], ...]  # and the age, in kept windows
    held: Hits
    appending: Hits | None
    watermark: int
    numbered: int
    journaled: int
    dropped: int
    is_restored: bool
    is_answered: bool
    is_away: bool


def pageviews_of(hits: Iterable[int]) -> Pageviews:
    """Count each hit once, on its site."""
    pageviews = Pageviews()
    for hit in hits:
        pageviews.add(_SITES[hit], None)
    return pageviews


def hits_of(pageviews: Pageviews) -> Hits:
    """List the hits that are counted; one that is counted twice is there twice."""
    return tuple(sorted(_HITS[site] for site, n in pageviews.sites.items() for _ in range(n)))


def freeze(lane: Lane) -> FrozenLane:
    """Keep a lane."""
    records = lane.records
    assert not records.open.pageviews.sites
    assert not records._lost
    taken = lane._appending
    return FrozenLane(
        tuple(hit for record in records._closed for hit in hits_of(record.pageviews)),
        tuple((record.number, hits_of(record.pageviews)) for record in records.pending),
        tuple(
            (number, hits_of(pageviews), min(2, int(NOW_S - kept.confirmed_at_s)))
            for kept, (number, pageviews) in zip(records.kept, unpacked(records.kept), strict=True)
        ),
        hits_of(records._held),
        None if taken is None else hits_of(taken.pageviews),
        records.watermark,
        records._numbered,
        records._journaled,
        records._dropped,
        records._is_restored,
        lane.is_answered,
        lane.is_away,
    )


def thaw(frozen: FrozenLane) -> Lane:
    """Make a lane again."""
    records = RecordLog(KEPT_WINDOW_S)
    lane = Lane(0, records)
    records._closed = deque(Record(pageviews=pageviews_of([hit])) for hit in frozen.unsent)
    records.pending = deque(Record(number, pageviews_of(hits)) for number, hits in frozen.pending)
    records.kept = deque(
        Kept.of(number, NOW_S - age, pageviews_of(hits)) for number, hits, age in frozen.kept
    )
    records._held = pageviews_of(frozen.held)
    records.watermark = frozen.watermark
    records._numbered = frozen.numbered
    records._journaled = frozen.journaled
    records._dropped = frozen.dropped
    records._is_restored = frozen.is_restored
    if frozen.appending is not None:
        lane._appending = Record(pageviews=pageviews_of(frozen.appending))
    lane.is_answered = frozen.is_answered
    lane.is_away = frozen.is_away
    return lane
