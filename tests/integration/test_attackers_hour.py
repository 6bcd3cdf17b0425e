"""What clients add, whatever they change: one within an hour, many in days; real counter and store.

Only the clock of the limits is ours, so an hour takes seconds.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import values

from hitcounter.client_address import Client, Clients
from hitcounter.config import Config
from hitcounter.counting.counter import Counter
from hitcounter.exactly_once.journals import Journals
from hitcounter.exactly_once.writer import Writer
from hitcounter.hit import Hit
from hitcounter.limits import Limits, shared_memory
from hitcounter.metrics import Metrics
from hitcounter.store.client import Store
from hitcounter.transfer import housekeeping
from tests.support.clocks import TurnedClock
from tests.support.servers import StoreServer, connected, store_server

HOUR_S, STEP_S = 3600, 10
AGENT = "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/{}.0"


class Attack(NamedTuple):
    """What a client changes from hit to hit, where it comes from, and the most that it adds."""

    totals: int
    pages: int = 1
    sites: int = 1
    peer: str = "203.0.113.9"
    forwarded: str = ""
    agents: int = 1
    trusted: str = "10.0.0.0/8"
    changes_page: bool = False
    changes_site: bool = False
    a_step: int = 10  # hits in ten seconds

    def hit(self, number: int) -> Hit:
        """Make the hit of a number."""
        clients = Clients([ip_network(self.trusted)])
        return Hit(
            f"site-{number}" if self.changes_site else "demo",
            f"/{number}" if self.changes_page else "/",
            None,
            time.time(),
            client=clients.find(self.peer, self.forwarded.format(number % 250)),
            agent=AGENT.format(number % self.agents),
            languages="vi",
        )


NEW_PAGES = 100  # that one address may begin at once
ONE_AGENT, MANY_AGENTS = 2_000 + 167, 10_000 + 834
PROXY, VIA_PROXY = "10.0.0.1", "198.51.100.{0}, 203.0.113.9"
UNNAMED, VIA_UNNAMED = "172.18.0.1", "198.51.100.{0}"
ATTACKS = {
    "with one agent": Attack(ONE_AGENT),
    "with one agent, forging an address": Attack(ONE_AGENT, forwarded=VIA_UNNAMED),
    "through a named proxy, forging": Attack(ONE_AGENT, peer=PROXY, forwarded=VIA_PROXY),
    "with changing agents": Attack(MANY_AGENTS, agents=500, a_step=40),
    "with changing pages": Attack(ONE_AGENT, pages=130, changes_page=True),
    "with changing pages and agents, through a named proxy": Attack(
        MANY_AGENTS, 130, 1, PROXY, VIA_PROXY, agents=500, changes_page=True, a_step=40
    ),
    "with changing sites": Attack(10, 10, sites=10, changes_site=True),
    "with changing sites, through an unnamed proxy": Attack(
        10, 10, 10, UNNAMED, VIA_UNNAMED, changes_site=True
    ),
    "with changing pages, through an unnamed proxy": Attack(
        HOUR_S // STEP_S * 10, 1_200, 1, UNNAMED, VIA_UNNAMED, changes_page=True
    ),
}
QUICK = {"with changing pages"}


@pytest.fixture
def clock() -> TurnedClock:
    """Give the clock of the limits."""
    return TurnedClock()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoreServer]:
    """Run a server."""
    with store_server(tmp_path / "store") as server:
        yield server


@pytest.fixture
async def counter(
    server: StoreServer, clock: TurnedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Counter]:
    """Put the parts together as a worker does."""
    # Metrics set both for a whole worker process; here they are given back.
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    config, metrics = Config(store_timeout_s=10), Metrics(tmp_path, 0, ())
    store = Store(server.unix_url, config.store_timeout_s)
    journals = Journals(tmp_path / "journal", max_bytes=1 << 20)
    journals.prepare()
    writer = Writer(store.connect, journals, metrics, n_lanes=1, kept_window_s=5)
    with shared_memory() as fd:
        yield Counter(config, store, writer, metrics, limits=Limits(fd, clock))
    await writer.close(5)
    await store.close()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in ATTACKS],
)
async def test_an_hour_of_one_client_adds_what_the_document_says(
    counter: Counter, clock: TurnedClock, server: StoreServer, name: str
) -> None:
    attack = ATTACKS[name]
    for step in range(HOUR_S // STEP_S):
        clock.now_s += STEP_S
        numbers = range(step * attack.a_step, (step + 1) * attack.a_step)
        await asyncio.gather(*(counter.count(attack.hit(number)) for number in numbers))
    with connected(server.socket_path) as redis:
        keys = [key.decode() for key in redis.scan_iter("hc:*", count=10_000)]
        total = sum(int(redis.get(key)) for key in keys if key.endswith(":total"))
    pages = sum(":page:" in key for key in keys)
    sites = sum(key.endswith(":total") for key in keys)
    assert attack.totals - attack.a_step <= total <= attack.totals + 1
    assert attack.pages - 1 <= pages <= attack.pages + 1
    assert sites == attack.sites


async def test_hits_at_once_begin_no_more_pages_than_one_after_the_other(
    counter: Counter, server: StoreServer
) -> None:
    attack = ATTACKS["with changing pages"]
    await asyncio.gather(*(counter.count(attack.hit(number)) for number in range(400)))
    await asyncio.gather(*(counter.count(attack.hit(number)) for number in range(400)))
    with connected(server.socket_path) as redis:
        assert sum(1 for _ in redis.scan_iter("hc:*:page:*", count=10_000)) == NEW_PAGES


def of_many(numbers: range, path: str) -> list[Hit]:
    """Make hits of as many addresses; the path may name the number."""
    return [
        Hit(
            "demo",
            path.format(number),
            None,
            time.time(),
            client=Client(number.to_bytes(4), is_visitor=True),
            agent=AGENT.format(1),
            languages="vi",
        )
        for number in numbers
    ]


async def page_totals(counter: Counter, hits: list[Hit]) -> list[int | None]:
    """Count hits at once; tell what is known of the page of each."""
    return [each.page_total for each in await asyncio.gather(*map(counter.count, hits))]


async def test_invented_pages_of_one_address_leave_room_for_real_ones_at_once(
    counter: Counter,
) -> None:
    attack = Attack(0, agents=500, changes_page=True)
    for first in range(0, 10_000, 500):
        invented = [attack.hit(number) for number in range(first, first + 500)]
        await asyncio.gather(*map(counter.count, invented))
    real = of_many(range(500), "/tin-tuc/{}")
    assert await page_totals(counter, real) == [1] * len(real)


@pytest.mark.slow
async def test_many_addresses_take_45_hours_for_all_room_and_prune_gives_it_back(
    counter: Counter, clock: TurnedClock, server: StoreServer, tmp_path: Path
) -> None:
    store = Store(server.unix_url, 10)
    assert await page_totals(counter, of_many(range(1), "/real")) == [1]
    assert await page_totals(counter, of_many(range(1), "/real")) == [2]
    await page_totals(counter, of_many(range(1, 1_500), "/{}"))
    for hour in range(45):
        assert (await housekeeping.summaries(store))[0].n_pages <= 1_000 + 200 * hour
        clock.now_s += HOUR_S
        await page_totals(counter, of_many(range(10_000 + 300 * hour, 10_300 + 300 * hour), "/{}"))
    assert 9_999 <= (await housekeeping.summaries(store))[0].n_pages <= 10_000
    clock.now_s += HOUR_S
    await page_totals(counter, of_many(range(2), "/filling-{}"))
    assert await page_totals(counter, of_many(range(2), "/late")) == [None, None]
    assert await page_totals(counter, of_many(range(1), "/real")) == [3]
    pages = await housekeeping.pages_below(store, "demo", 2)
    file = tmp_path / "pruned.ndjson"
    assert await housekeeping.prune(store, "demo", pages, 2, file, iter) == 9_999
    assert await page_totals(counter, of_many(range(150), "/tin-tuc/{}")) == [1] * 150
    assert await page_totals(counter, of_many(range(1), "/real")) == [4]
    await store.close()
