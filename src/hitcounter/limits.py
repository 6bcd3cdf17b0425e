"""How much one visitor, one address and one site may add, in memory that all workers share.

Each bucket is one number, the time at which it would be full again (GCRA), in a slot that a keyed
hash of its name chooses; so a million addresses take no more room than one. Who shares a slot with
somebody heavy is limited with them: of 65,536 slots a thousand heavy ones take 1.5 %. Two workers
that write a slot at the same moment let one hit more pass.

Sizes are derived from 300 people behind one address who all read 40 pages a day, and come within a
few seconds: none of them is limited. Whoever sends hits all day adds 4,000 a day to a site
with one agent, and 20,000 with many.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import count
from mmap import mmap
from tempfile import TemporaryFile
from typing import NamedTuple

from hitcounter.client_address import Client

N_SLOTS = 1 << 16
N_SAMPLE = 1 << 10  # of them, to tell how many are in use
_HOUR_S, _DAY_S = 3600.0, 86_400.0
KEY_BYTES = 16
_NUMBERS = count()


class Bucket(NamedTuple):
    """Where the slots of one kind begin, and how far ahead of now one of them may be."""

    start: int
    interval_s: float
    ahead_s: float

    @classmethod
    def of(cls, burst: int, per_s: float) -> "Bucket":
        """Lay out slots for what may come at once, and what flows in."""
        return cls(next(_NUMBERS) * N_SLOTS, 1 / per_s, (burst - 0.5) / per_s)


# Of one site: by what a visitor is told apart, then by address alone; for minutes, and for a day.
HIT = (
    *(Bucket.of(300, 2), Bucket.of(2_000, 4_000 / _DAY_S)),
    *(Bucket.of(1_000, 10), Bucket.of(10_000, 20_000 / _DAY_S)),
)
# Of all sites: ten seconds of what is no more than one address can mean.
FLOOD = Bucket.of(1_000, 100)
# A site that begins has its pages within hours; 10,000 invented ones take one address 14 days.
NEW_PAGES_OF_ADDRESS = Bucket.of(100, 30 / _HOUR_S)
NEW_PAGES_OF_SITE = Bucket.of(1_000, 200 / _HOUR_S)
NEW_SITES = Bucket.of(5, 5 / _HOUR_S)
_SIZE = KEY_BYTES + 8 * N_SLOTS * next(_NUMBERS)


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
        self._clock = clock

    @property
    def fill(self) -> float:
        """Return the share of the slots of visitors that are in use, by a sample."""
        start, now_s = HIT[1].start, self._clock()
        sample = self._full_at_s[start : start + N_SLOTS : N_SLOTS // N_SAMPLE]
        return sum(full_at_s > now_s for full_at_s in sample) / N_SAMPLE

    def take_request(self, client: Client) -> bool:
        """Return whether an address may ask for more, and take one of that."""
        return self._take([(FLOOD, self._slot(client.network))])

    def take_hit(self, site: str, client: Client, agent: str) -> bool:
        """Return whether a hit may count, and take one of what its visitor and address have."""
        name = site.encode() + b"\0" + client.network
        visitor, address = self._slot(name + agent.encode(errors="replace")), self._slot(name)
        a, b, c, d = HIT
        return self._take(((a, visitor), (b, visitor), (c, address), (d, address)))

    def take_site(self, client: Client) -> bool:
        """Return whether an address may bring another site, and take one."""
        return self._take([(NEW_SITES, self._slot(client.network))])

    def has_room_for_page(self, site: str, client: Client) -> bool:
        """Return whether a hit may begin a page."""
        now_s = self._clock()
        return all(
            self._full_at_s[bucket.start + slot] - now_s <= bucket.ahead_s
            for bucket, slot in self._of_new_page(site, client)
        )

    def page_began(self, site: str, client: Client) -> None:
        """Take a new page of what is left, be it more than that."""
        now_s = self._clock()
        for bucket, slot in self._of_new_page(site, client):
            at = bucket.start + slot
            self._full_at_s[at] = max(self._full_at_s[at], now_s) + bucket.interval_s

    def page_was_there(self, site: str, client: Client) -> None:
        """Give back what a page was taken for that did not begin."""
        for bucket, slot in self._of_new_page(site, client):
            self._full_at_s[bucket.start + slot] -= bucket.interval_s

    def _of_new_page(self, site: str, client: Client) -> Iterator[tuple[Bucket, int]]:
        name = site.encode()
        yield NEW_PAGES_OF_SITE, self._slot(name)
        if client.is_visitor:
            yield NEW_PAGES_OF_ADDRESS, self._slot(name + b"\0" + client.network)

    def _slot(self, name: bytes) -> int:
        hash_ = self._hash.copy()
        hash_.update(name)
        return int.from_bytes(hash_.digest())

    def _take(self, buckets: Sequence[tuple[Bucket, int]]) -> bool:
        """Take one of each bucket, or of none."""
        now_s, full_at_s = self._clock(), self._full_at_s
        for (start, _, ahead_s), slot in buckets:
            if full_at_s[start + slot] - now_s > ahead_s:
                return False
        for (start, interval_s, _), slot in buckets:
            was_s = full_at_s[start + slot]
            full_at_s[start + slot] = (was_s if was_s > now_s else now_s) + interval_s
        return True
