"""How much one visitor, one address and one site may add, in memory that all workers share.

Each bucket is one number, the time at which it would be full again (GCRA), in a row that keyed
hashes of its names choose, by their exclusive or; so a million addresses take no more room than
one. Who shares a row with somebody heavy is limited with them: of 65,536 rows a thousand heavy
ones take 1.5 %. Two workers that write a number at the same moment let one hit more pass.

Sizes are derived from 300 people behind one address who all read 40 pages a day, and come within a
few seconds: none of them is limited. Whoever sends hits all day adds 4,000 a day to a site
with one agent, and 20,000 with many.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b
from mmap import mmap
from tempfile import TemporaryFile
from typing import NamedTuple

from hitcounter.client_address import Client

N_ROWS = 1 << 16
N_COLUMNS = 8  # so that a row is one line of the processor's cache
N_SAMPLE = 1 << 10  # rows, to tell how many are in use
_HOUR_S, _DAY_S = 3600.0, 86_400.0
KEY_BYTES = 64
_SIZE = KEY_BYTES + 8 * N_ROWS * N_COLUMNS


class Bucket(NamedTuple):
    """The column of one kind, and how far ahead of now a number in it may be."""

    column: int
    interval_s: float
    ahead_s: float

    @classmethod
    def of(cls, column: int, burst: int, per_s: float) -> "Bucket":
        """Bound what may come at once, and what flows in."""
        return cls(column, 1 / per_s, (burst - 0.5) / per_s)


# Of one site: by what a visitor is told apart, then by address alone; for minutes, and for a day.
HIT = (
    *(Bucket.of(0, 300, 2), Bucket.of(1, 2_000, 4_000 / _DAY_S)),
    *(Bucket.of(2, 1_000, 10), Bucket.of(3, 10_000, 20_000 / _DAY_S)),
)
_A_AHEAD_S, _B_AHEAD_S, _C_AHEAD_S, _D_AHEAD_S = (bucket.ahead_s for bucket in HIT)
_A_INTERVAL_S, _B_INTERVAL_S, _C_INTERVAL_S, _D_INTERVAL_S = (bucket.interval_s for bucket in HIT)
# Of all sites: ten seconds of what is no more than one address can mean.
FLOOD = Bucket.of(4, 1_000, 100)
# A site that begins has its pages within hours; 10,000 invented ones take one address 14 days.
NEW_PAGES_OF_ADDRESS = Bucket.of(5, 100, 30 / _HOUR_S)
NEW_PAGES_OF_SITE = Bucket.of(6, 1_000, 200 / _HOUR_S)
NEW_SITES = Bucket.of(7, 5, 5 / _HOUR_S)


@contextmanager
def shared_memory() -> Iterator[int]:
    """Make the memory for all workers; give its descriptor."""
    is_here = hasattr(os, "memfd_create")
    with os.fdopen(os.memfd_create("hitcounter"), "w+b") if is_here else TemporaryFile() as file:
        file.write(os.urandom(KEY_BYTES))
        file.truncate(_SIZE)
        yield file.fileno()


class Limits:
    """The limits of one host."""

    def __init__(self, fd: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Use shared memory, by a clock that all who share it have."""
        memory = memoryview(mmap(fd, _SIZE))
        self._full_at_s = memory[KEY_BYTES:].cast("d")
        self._hash = blake2b(key=bytes(memory[:KEY_BYTES]), digest_size=2)
        self._row_of_text = lru_cache(maxsize=4096)(self._hashed)
        self._row_of = lru_cache(maxsize=256)(self._row_of_client)  # asked for twice a hit
        self._clock = clock

    @property
    def fill(self) -> float:
        """Return the share of the rows of visitors that are in use, by a sample.

        Hashes choose the rows, so the first ones are as good as any; what nobody looks at or uses
        takes no memory.
        """
        now_s = self._clock()
        sample = self._full_at_s[HIT[1].column : N_COLUMNS * N_SAMPLE : N_COLUMNS]
        return sum(full_at_s > now_s for full_at_s in sample) / N_SAMPLE

    def take_request(self, client: Client) -> bool:
        """Return whether an address may ask for more, and take one of that."""
        return self._take_one(FLOOD, self._row_of(client))

    def refuses(self, client: Client) -> bool:
        """Return whether an address may ask for no more, and take nothing."""
        at = self._row_of(client) + FLOOD.column
        return self._full_at_s[at] - self._clock() > FLOOD.ahead_s

    def take_hit(self, site: str, client: Client, agent: str) -> bool:
        """Return whether a hit may count, and take one of what its visitor and address have."""
        address = self._row_of_text(site) ^ self._row_of(client)
        visitor = address ^ self._row_of_text(agent)
        now_s, full_at_s = self._clock(), self._full_at_s
        # One after the other: loops over `HIT`, whose columns are 0 to 3, take three times as long.
        a, b, c, d = visitor, visitor + 1, address + 2, address + 3
        a_s, b_s, c_s, d_s = full_at_s[a], full_at_s[b], full_at_s[c], full_at_s[d]
        if a_s - now_s > _A_AHEAD_S or b_s - now_s > _B_AHEAD_S:
            return False
        if c_s - now_s > _C_AHEAD_S or d_s - now_s > _D_AHEAD_S:
            return False
        full_at_s[a] = (a_s if a_s > now_s else now_s) + _A_INTERVAL_S
        full_at_s[b] = (b_s if b_s > now_s else now_s) + _B_INTERVAL_S
        full_at_s[c] = (c_s if c_s > now_s else now_s) + _C_INTERVAL_S
        full_at_s[d] = (d_s if d_s > now_s else now_s) + _D_INTERVAL_S
        return True

    def take_site(self, client: Client) -> bool:
        """Return whether an address may bring another site, and take one."""
        return self._take_one(NEW_SITES, self._row_of(client))

    def has_room_for_page(self, site: str, client: Client) -> bool:
        """Return whether a hit may begin a page."""
        now_s = self._clock()
        return all(
            self._full_at_s[row + bucket.column] - now_s <= bucket.ahead_s
            for bucket, row in self._of_new_page(site, client)
        )

    def page_began(self, site: str, client: Client) -> None:
        """Take a new page of what is left, be it more than that."""
        now_s = self._clock()
        for bucket, row in self._of_new_page(site, client):
            at = row + bucket.column
            self._full_at_s[at] = max(self._full_at_s[at], now_s) + bucket.interval_s

    def page_was_there(self, site: str, client: Client) -> None:
        """Give back what a page was taken for that did not begin."""
        for bucket, row in self._of_new_page(site, client):
            self._full_at_s[row + bucket.column] -= bucket.interval_s

    def _of_new_page(self, site: str, client: Client) -> Iterator[tuple[Bucket, int]]:
        row = self._row_of_text(site)
        yield NEW_PAGES_OF_SITE, row
        if client.is_visitor:
            yield NEW_PAGES_OF_ADDRESS, row ^ self._row_of(client)

    def _row(self, name: bytes) -> int:
        """Return where the row of a name begins."""
        hash_ = self._hash.copy()
        hash_.update(name)
        return int.from_bytes(hash_.digest()) * N_COLUMNS

    def _row_of_client(self, client: Client) -> int:
        return self._row(client.network)

    def _hashed(self, text: str) -> int:
        return self._row(text.encode(errors="replace"))

    def _take_one(self, bucket: Bucket, row: int) -> bool:
        column, interval_s, ahead_s = bucket
        now_s, at = self._clock(), row + column
        was_s = self._full_at_s[at]
        if was_s - now_s > ahead_s:
            return False
        self._full_at_s[at] = (was_s if was_s > now_s else now_s) + interval_s
        return True
