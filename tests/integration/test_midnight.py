"""The day changes in a running service: at local midnight, and for nobody a second earlier.

The real service, writer, store and server; only the clock is ours.
"""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from prometheus_client import values

from hitcounter.block import LINE_KEYS
from hitcounter.config import Config
from hitcounter.keys import watermark_key
from hitcounter.metrics import Metrics
from hitcounter.service import Numbers, Service
from hitcounter.store import Store
from hitcounter.writer import Writer
from tests.integration.servers import StoreServer, connected, store_server

SITE = "demo"
HANOI = "Asia/Ho_Chi_Minh"
PATH = "/tin-tuc"


class Clock:
    """A clock that shows what the test sets."""

    def __init__(self) -> None:
        """Start at the epoch."""
        self._shown_s = [0.0]

    def __call__(self) -> float:
        """Read the clock; of several instants, the next one each time, and the last for good."""
        return self._shown_s.pop(0) if len(self._shown_s) > 1 else self._shown_s[0]

    def set(self, *instants: str) -> None:
        """Set the clock to instants like 2019-04-19 16:59:59, in UTC."""
        times = [dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC) for text in instants]
        self._shown_s = [time.timestamp() for time in times]


class Running:
    """A service in this process, on a real server."""

    def __init__(self, server: StoreServer, directory: Path, zone: str) -> None:
        """Put the parts together as a worker does."""
        config = Config(timezone=ZoneInfo(zone), store_timeout_s=10)
        metrics = Metrics(directory, 0, ())
        self.clock = Clock()
        self.server = server
        self.store = Store(server.unix_url, config.store_timeout_s)
        self.writer = Writer(self.store, metrics, lane=0, kept_window_s=5, patience_s=10)
        self.service = Service(config, self.store, self.writer, metrics, self.clock)

    async def hits(self, instant: str, n: int) -> dict[str, int]:
        """Count some hits at an instant; return the lines that the last one saw."""
        self.clock.set(instant)
        site = await self.service.admit(SITE)
        for _ in range(n):
            numbers = await self.service.count(site, PATH)
        return lines(numbers)

    async def read(self, instant: str) -> dict[str, int]:
        """Read the lines at an instant."""
        self.clock.set(instant)
        return lines(await self.service.read(self.service.site(SITE), None))

    async def close(self) -> None:
        """End the writer and the store's connections."""
        await self.writer.close(5)
        await self.store.close()


def lines(numbers: Numbers) -> dict[str, int]:
    """Name the numbers."""
    return dict(zip(LINE_KEYS, numbers.values, strict=True))


StartRunning = Callable[[str], Running]


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StartRunning]:
    """Start services on one server; all end with the test."""
    # Metrics set both for a whole worker process; here they are given back.
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    started = []
    with store_server(tmp_path / "store") as server:

        def start(zone: str = HANOI) -> Running:
            started.append(Running(server, tmp_path, zone))
            return started[-1]

        yield start
        for each in started:
            await each.close()


@pytest.mark.parametrize(
    ("last_second", "midnight", "is_same_month", "is_same_year"),
    [
        pytest.param("2019-04-19 16:59:59.999", "2019-04-19 17:00:00", True, True, id="a day"),
        pytest.param("2019-04-30 16:59:59.999", "2019-04-30 17:00:00", False, True, id="1 May"),
        pytest.param("2020-02-28 16:59:59.999", "2020-02-28 17:00:00", True, True, id="29 Feb"),
        pytest.param("2020-02-29 16:59:59.999", "2020-02-29 17:00:00", False, True, id="1 March"),
        pytest.param("2019-12-31 16:59:59.999", "2019-12-31 17:00:00", False, False, id="1 Jan"),
    ],
)
async def test_at_midnight_in_hanoi_today_becomes_yesterday(
    running: StartRunning,
    last_second: str,
    midnight: str,
    is_same_month: bool,
    is_same_year: bool,
) -> None:
    service = running(HANOI)
    assert await service.hits(last_second, 3) == block(3, 0, 3, 3, 3)
    month, year = 3 * is_same_month, 3 * is_same_year
    assert await service.read(midnight) == block(0, 3, month, year, 3)
    assert await service.hits(midnight, 2) == block(2, 3, month + 2, year + 2, 5)
    month, year = 3 + 2 * is_same_month, 3 + 2 * is_same_year
    assert await service.read(last_second) == block(3, 0, month, year, 5)


def block(today: int, yesterday: int, month: int, year: int, total: int) -> dict[str, int]:
    """Name the lines."""
    return dict(zip(LINE_KEYS, (today, yesterday, month, year, total), strict=True))


async def test_the_day_before_yesterday_is_shown_no_more(running: StartRunning) -> None:
    service = running(HANOI)
    await service.hits("2019-04-17 16:59:59", 3)
    assert await service.hits("2019-04-18 17:00:00", 1) == block(1, 0, 4, 4, 4)


async def test_every_zone_has_its_own_midnight(running: StartRunning) -> None:
    hanoi, paris = running(HANOI), running("Europe/Paris")
    await hanoi.hits("2019-12-31 17:00:00", 1)
    assert await hanoi.read("2019-12-31 22:59:59") == block(1, 0, 1, 1, 1)
    assert await paris.read("2019-12-31 22:59:59") == block(0, 0, 0, 0, 1)
    assert await paris.read("2019-12-31 23:00:00") == block(1, 0, 1, 1, 1)


async def test_a_day_that_a_zone_skipped_was_yesterday_and_had_no_pageviews(
    running: StartRunning,
) -> None:
    service = running("Pacific/Apia")  # which went from 29 to 31 December 2011
    await service.hits("2011-12-30 09:59:59", 3)
    assert await service.hits("2011-12-30 10:00:00", 1) == block(1, 0, 4, 4, 4)


async def test_a_record_that_crosses_midnight_holds_both_days(running: StartRunning) -> None:
    service = running(HANOI)
    site = await service.service.admit(SITE)
    service.clock.set("2019-12-31 16:59:59", "2019-12-31 17:00:00", "2019-12-31 16:59:59")
    counting = [service.service.count(site, PATH) for _ in range(3)]
    old, new, late = [lines(numbers) for numbers in await asyncio.gather(*counting)]
    with connected(service.server.socket_path) as redis:
        assert redis.get(watermark_key(0, service.writer.id)) == b"1"
    assert old == late == block(2, 0, 2, 2, 3)
    assert new == block(1, 2, 1, 1, 3)
