"""What a journal's file says: the formats that we read, and the one that we write.

1    an entry names counters by their keys in the store; the file's name tells the lane
2    an entry names lane, sites, dates and paths; `head` tells how its sums are cut, and what
     kinds of increments there are. One that we do not know makes the file unreadable to us:
     to count the rest and remove the file would lose it.
"""

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from typing import Any

import msgspec

from hitcounter.exactly_once import increments
from hitcounter.exactly_once.increments import CutRule, Pageviews
from hitcounter.exactly_once.records import Entry
from hitcounter.store import keys

FORMAT = 2
ROBOTS = "robots"
KINDS = frozenset({"pageviews", ROBOTS})
_CUT_OF_FORMAT_1 = CutRule(2_900, 5, 2)
_TABLES = (
    "CREATE TABLE log (id INTEGER PRIMARY KEY, written_at REAL NOT NULL, entries BLOB NOT NULL)",
    "CREATE TABLE head (max_keys INTEGER NOT NULL, site_keys INTEGER NOT NULL,"
    " page_keys INTEGER NOT NULL, kinds TEXT NOT NULL)",
)

# Per entry: lane, number, [site, date, n] …, [site, path, limit, n] …, further increments by kind.
_Row = tuple[int, int, list[tuple[str, str, int]], list[tuple[str, str, int, int]], dict[str, Any]]
# Of format 1, per entry: number, [key of the day, n] of every site, [key, limit, n] of every page.
_Row1 = tuple[int, list[tuple[str, int]], list[tuple[str, int, int]]]

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[_Row]).decode
_unpack_1 = msgspec.msgpack.Decoder(list[_Row1]).decode


def declare(connection: sqlite3.Connection) -> None:
    """Lay out a new file, within the transaction of the caller."""
    for table in _TABLES:
        connection.execute(table)
    head = (*increments.CUT, " ".join(sorted(KINDS)))
    connection.execute("INSERT INTO head VALUES (?, ?, ?, ?)", head)
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def read_head(connection: sqlite3.Connection) -> tuple[int, CutRule]:
    """Read the format of a file, and how whoever reads it cuts its sums.

    Raise `ValueError` where only a newer version can read the rest.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 1:
        return version, _CUT_OF_FORMAT_1
    if version != FORMAT:
        raise ValueError(
            f"it is of format {version}, and this program reads 1 to {FORMAT}: use a newer version"
        )
    heads = connection.execute("SELECT max_keys, site_keys, page_keys, kinds FROM head").fetchall()
    ((*rule, kinds),) = heads
    _check_kinds(kinds.split())
    return version, CutRule(*rule)


def _check_kinds(kinds: Iterable[str]) -> None:
    if unknown := sorted(set(kinds) - KINDS):
        raise ValueError(
            f"it holds {', '.join(unknown)}, which this program does not count: use a newer version"
        )


def packed(entries: Iterable[Entry]) -> bytes:
    """Pack entries into a row of the log."""
    rows: list[_Row] = [
        (
            lane,
            number,
            _days_of(pageviews, False),
            [(page.site, page.path, page.limit, n) for page, n in pageviews.pages.items()],
            {ROBOTS: robots} if (robots := _days_of(pageviews, True)) else {},
        )
        for number, pageviews, lane in entries
    ]
    return zlib.compress(_pack(rows), 1)


def _days_of(pageviews: Pageviews, robots: bool) -> list[tuple[str, str, int]]:
    return [(s.site, s.date, n) for s, n in pageviews.sites.items() if s.is_of_robots is robots]


def sums(packed: Iterable[bytes], version: int = FORMAT, lane_of_1: int = 0) -> list[Entry]:
    """Unpack rows and sum up the entries of each lane and number, in that order.

    The rows of a file of format 1 are those of a lane that its name tells.
    """
    unpacked = map(zlib.decompress, packed)
    rows = (
        _rows_1(lane_of_1, unpacked)
        if version == 1
        else chain.from_iterable(map(_unpack, unpacked))
    )
    site_keys, robot_keys = cache(keys.site_keys), cache(keys.robot_keys)
    page_keys = cache(keys.page_keys)
    totals: dict[tuple[int, int], Pageviews] = {}
    for lane, number, by_site, by_page, others in rows:
        _check_kinds(others)
        total = totals.setdefault((lane, number), Pageviews())
        for names_of, days in ((site_keys, by_site), (robot_keys, others.get(ROBOTS, ()))):
            for site, date, n in days:
                names = names_of(lane, site, date)
                total.sites[names] = total.sites.get(names, 0) + n
        for site, path, limit, n in by_page:
            page = page_keys(lane, site, path, limit)
            total.pages[page] = total.pages.get(page, 0) + n
    return [Entry(number, totals[lane, number], lane) for lane, number in sorted(totals)]


def _rows_1(lane: int, unpacked: Iterable[bytes]) -> Iterator[_Row]:
    for number, n_by_site, n_by_page in chain.from_iterable(map(_unpack_1, unpacked)):
        sites = [(*_named(key), n) for key, n in n_by_site]
        pages = [(*_named(key), limit, n) for key, limit, n in n_by_page]
        yield lane, number, sites, pages, {}


def _named(key: str) -> tuple[str, str]:
    """Read the site, and the date or the path, from a counter's key."""
    counter = keys.counter_of(key)
    return counter.site, counter.name
