"""The names of everything in the store.

The hash tag `{lane}` puts all keys of a lane in one slot; it comes first, so nothing later in a
key can be taken for a tag. A site name holds no colon, so every key reads back without doubt.

    hc:{0}:site:demo:2019-04-19    pageviews of one bucket (also 2019-04, 2019, total)
    hc:{0}:site:demo:robots:2019   hits of robots in one bucket
    hc:{0}:page:demo:/tin-tuc/1    pageviews of a page
    hc:{0}:pages:demo              how many pages of the site are stored
    hc:{0}:removed:demo            when the site was last taken out, in ms; it expires
    hc:{0}:corrections:demo        what was taken back, when and why
    hc:{0}:merged:demo             which sites went into it, and when
    hc:{0}:writer:9f…              the watermark of a writer
    hc:{0}:ids:2592000             who holds which ids of sites' hits, per stretch of ten minutes
    hc:{0}:probe:9f…               what the rehearsal of a hit adds to; it expires
    hc:{meta}:sites, :lanes        the sites seen here; the number of lanes, fixed at first start
    hc:{meta}:format               the format of all this, and the oldest version that reads it
    hc:{meta}:robots               that this store knows robots apart from people
    hc:{meta}:probe:9f…            the set that the rehearsal of a new site adds to; it expires
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

from hitcounter.period import buckets_of, day_before

PATTERN = "hc:*"  # of all of them
SITES_KEY = "hc:{meta}:sites"
LANES_KEY = "hc:{meta}:lanes"
FORMAT_KEY = "hc:{meta}:format"
ROBOTS_KEY = "hc:{meta}:robots"
PAGE = ":page:"  # before the name of a page, which is its site and its path
ROBOTS = "robots:"  # before the bucket of hits of robots
MAX_COUNT = 10**15 - 1  # that a command may set: the store counts on from there, up to 2**53

_COUNTER = re.compile(r"hc:\{\d+\}:(site|page):([^:]+):(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity: they are made once a day
class SiteKeys:
    """The keys of one site on one day.

    `counted` are the buckets that a pageview adds to; `shown` are those of the block's lines.
    """

    site: str
    date: str
    yesterday: str
    counted: tuple[str, ...]
    shown: tuple[str, ...]

    @property
    def today(self) -> str:
        """Return the key of the day, which names site and day."""
        return self.counted[0]

    @property
    def is_of_robots(self) -> bool:
        """Return whether robots are counted here, and nobody else: no block shows them."""
        return not self.shown


@dataclass(frozen=True, slots=True, eq=False)
class PageKeys:
    """The key of a page, and of the number of its site's stored pages, of which `limit` fit."""

    key: str
    count_key: str
    limit: int

    @property
    def stored(self) -> tuple[str, str]:
        """Return both keys."""
        return self.key, self.count_key

    @property
    def site(self) -> str:
        """Return the site's name, which is kept in its keys only."""
        return self.key.split(":", 4)[3]

    @property
    def path(self) -> str:
        """Return the path, which is long, and so kept in the key only."""
        return self.key.split(":", 4)[4]


class CounterName(NamedTuple):
    """What a counter's key says: its site, and its bucket or the path of its page.

    Sorted, buckets come before pages.
    """

    site: str
    is_page: bool
    name: str

    def key(self, lane: int) -> str:
        """Name it in the store."""
        return (page_key if self.is_page else bucket_key)(lane, self.site, self.name)


def lane_of(site: str, lanes: int) -> int:
    """Return the lane of a site."""
    return crc32(site.encode()) % lanes


def is_in_lane(key: str, lane: int) -> bool:
    """Return whether a key is one of a lane."""
    return key.startswith(f"hc:{{{lane}}}:")


def site_keys(lane: int, site: str, date: str) -> SiteKeys:
    """Name the five counters that the block shows on a day like 2019-04-19."""
    counted = tuple(bucket_key(lane, site, bucket) for bucket in buckets_of(date))
    yesterday = bucket_key(lane, site, day_before(date))
    return SiteKeys(site, date, yesterday, counted, (counted[0], yesterday, *counted[1:]))


def robot_keys(lane: int, site: str, date: str) -> SiteKeys:
    """Name the counters of robots on a day, which no block shows."""
    names = tuple(bucket_key(lane, site, ROBOTS + bucket) for bucket in buckets_of(date))
    return SiteKeys(site, date, names[0], names, ())


def bucket_key(lane: int, site: str, bucket: str) -> str:
    """Name the counter of a site in a bucket."""
    return f"hc:{{{lane}}}:site:{site}:{bucket}"


def page_key(lane: int, site: str, path: str) -> str:
    """Name the counter of a page."""
    return f"hc:{{{lane}}}{PAGE}{site}:{path}"


@lru_cache(maxsize=4_096)  # 1.4 kB each, where paths are long
def page_keys(lane: int, site: str, path: str, limit: int) -> PageKeys:
    """Name the counters that a pageview of a page touches."""
    return PageKeys(page_key(lane, site, path), pages_key(lane, site), limit)


def page_keys_of(key: str, limit: int) -> PageKeys:
    """Name the same counters by the key of a page."""
    _, lane, _, site, _ = key.split(":", 4)
    return PageKeys(key, pages_key(int(lane.strip("{}")), site), limit)


@lru_cache(maxsize=2048)  # one string for all pages of a site
def pages_key(lane: int, site: str) -> str:
    """Name the number of stored pages of a site."""
    return f"hc:{{{lane}}}:pages:{site}"


def removed_key(lane: int, site: str) -> str:
    """Name the tombstone of a site that was taken out."""
    return f"hc:{{{lane}}}:removed:{site}"


def corrections_key(lane: int, site: str) -> str:
    """Name the notes on what was taken back from a site."""
    return f"hc:{{{lane}}}:corrections:{site}"


def merged_key(lane: int, site: str) -> str:
    """Name the notes on the sites that went into a site."""
    return f"hc:{{{lane}}}:merged:{site}"


def watermark_key(lane: int, writer: str) -> str:
    """Name the watermark of a writer."""
    return f"hc:{{{lane}}}:writer:{writer}"


def probe_key(lane: int, writer: str) -> str:
    """Name the counter of no site, which shows whether hits can be counted in a lane."""
    return f"hc:{{{lane}}}:probe:{writer}"


def sites_probe_key(writer: str) -> str:
    """Name the set of no sites, which shows whether new ones can be registered."""
    return f"hc:{{meta}}:probe:{writer}"


def ids_key(lane: int, stretch: int) -> str:
    """Name the ids that were claimed in a stretch of time."""
    return f"hc:{{{lane}}}:ids:{stretch}"


def counter_of(key: str) -> CounterName:
    """Read the key of a counter back."""
    match = _COUNTER.fullmatch(key)
    if match is None:
        raise ValueError(f"{key!r} is not the key of a counter")
    return CounterName(match[2], match[1] == "page", match[3])
