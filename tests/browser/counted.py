"""What the store holds, read past the service and the script: the only witness of what counts."""

import asyncio
import re
from typing import NamedTuple

from playwright.async_api import BrowserContext, Request

from hitcounter.store.client import N_LANES
from hitcounter.store.embedded import socket_path
from hitcounter.store.keys import bucket_key, lane_of, page_key
from tests.conftest import RunningService
from tests.support.servers import connected
from tests.support.waiting import comes_true

_SITE = re.compile(r"/v1/sites/[^/]*/")


class Counted(NamedTuple):
    """The pageviews of a site, and of its pages."""

    total: int
    pages: dict[str, int]


def counted(service: RunningService, site: str = "") -> Counted:
    """Read the counters of the test's site, or another, from the store itself."""
    site = site or service.site
    lane = lane_of(site, N_LANES)
    start = page_key(lane, site, "")
    with connected(socket_path(service.data_dir)) as redis:
        names = [name.decode() for name in redis.scan_iter(f"{start}*")]
        pages = {name.removeprefix(start): int(redis.get(name)) for name in names}
        return Counted(int(redis.get(bucket_key(lane, site, "total")) or 0), pages)


class Traffic:
    """What the pages of a visitor have asked the counter, and whether an answer is still due.

    A browser reports a request before the script that sent it goes on: so when all that was
    reported is answered, nothing else is on its way.
    """

    def __init__(self, context: BrowserContext) -> None:
        """Watch a visitor, before the first page."""
        self.asked: list[str] = []
        self._pending: set[Request] = set()
        context.on("request", self._begin)
        context.on("requestfinished", self._end)
        context.on("requestfailed", self._end)

    def _begin(self, request: Request) -> None:
        if "/v1/" not in request.url:
            return
        self._pending.add(request)
        self.asked.append(f"{request.method} {_SITE.split(request.url, maxsplit=1)[1]}")

    def _end(self, request: Request) -> None:
        self._pending.discard(request)

    @property
    def hits(self) -> int:
        """Tell how many hits were sent, again after a fault as well."""
        return sum(line.startswith("POST") for line in self.asked)

    async def settled(self) -> None:
        """Wait until nothing is on its way."""
        await comes_true(lambda: not self._pending, "all requests are answered")
        await asyncio.sleep(0)
