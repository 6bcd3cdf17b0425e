"""What became of the hits of each declared site before today, for who asks for those of today.

Metrics know of no days. So where a day begins, operations write down what they said until then.
"""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from hitcounter import disk
from hitcounter.operations import collector
from hitcounter.period import day_of
from hitcounter.site import Site

_LOOK_EVERY_S = 2.0
_FILE = "before-today.json"


class Before(msgspec.Struct):
    """How many hits of a site had each result until `at`, in epoch seconds: the begin of a day."""

    date: str
    at: float
    hits: dict[str, int]


def read(directory: Path) -> dict[str, Before]:
    """Return what was written down last, by site."""
    try:
        return msgspec.json.decode((directory / _FILE).read_bytes(), type=dict[str, Before])
    except FileNotFoundError:
        return {}


async def note(directory: Path, sites: Iterable[Site]) -> None:
    """Write down the begin of each day of the sites, and of the first day that we see."""
    before = read(directory)
    while True:
        now_s = time.time()
        dates = {site.name: day_of(now_s, site.timezone).date for site in sites}
        begun = dates.items() - {(name, day.date) for name, day in before.items()}
        if begun:
            # With the first note, all hits are of now: the directory is as old as the service.
            hits = collector.results(directory) if before else {}
            noted = {name: Before(date, now_s, hits.get(name, {})) for name, date in begun}
            with suppress(OSError):  # the disk is full, which others say: tried again
                disk.replace(directory / _FILE, msgspec.json.encode(before | noted))
                before |= noted
        await asyncio.sleep(_LOOK_EVERY_S)
