"""The day changes in a running service: at local midnight, and for nobody a second earlier.

The real service, writer, journal, store and server; only the clock is ours.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from prometheus_client import values

from hitcounter.block import LINE_KEYS
from hitcounter.config import Config
from hitcounter.counting.counter import Counter
from hitcounter.counting.numbers import Numbers
from hitcounter.exactly_once.adoption import Adoption
from hitcounter.exactly_once.journals import Journals
from hitcounter.exactly_once.writer import Writer
from hitcounter.hit import NO_PAGE, Hit
from hitcounter.metrics import Metrics
from hitcounter.store.client import Store
from hitcounter.store.keys import bucket_key, watermark_key
from tests.conftest import StartService
from tests.support.clocks import Clock, FakeClock
from tests.support.load import Tally, Target, ask, declared, expect_exact, more, settled, visiting
from tests.support.servers import MortalStore, connected, mortal_store
from tests.support.waiting import comes_true, eventually

SITE = "demo"
HANOI = "Asia/Ho_Chi_Minh"
PATH = "/tin-tuc"


class Running:
    """A service in this process, on a real server."""

    def __init__(self, url: str, directory: Path, zone: str) -> None:
        """Put the parts together as a worker does."""
        config = Config(timezone=ZoneInfo(zone), store_timeout_s=10)
        metrics = Metrics(directory, 0, ())
        self.clock = Clock()
        self.store = Store(url, config.store_timeout_s)
        journals = Journals(directory / "journal", max_bytes=1 << 20)
        journals.prepare()
        self.writer = Writer(self.store.connect, journals, metrics, n_lanes=1, kept_window_s=0.1)
        self.service = Counter(config, self.store, self.writer, metrics, self.clock)
        self.adoption = Adoption(self.store.connect, journals, metrics, kept_window_s=0.1)
        self._is_closed = False

    async def count(self) -> Numbers:
        """Count a hit that arrives now."""
        return await self.service.count(Hit(SITE, PATH, None, self.clock()))

    async def numbers(self) -> Numbers:
        """Read the numbers without a page."""
        return await self.service.read(self.service.sites.find_or_describe(SITE), NO_PAGE)

    async def hits(self, instant: str, n: int) -> dict[str, int]:
        """Count some hits at an instant; return the lines that the last one saw."""
        self.clock.set(instant)
        for _ in range(n):
            numbers = await self.count()
        return lines(numbers)

    async def read(self, instant: str) -> dict[str, int]:
        """Read the lines at an instant."""
        self.clock.set(instant)
        return lines(await self.numbers())

    async def close(self) -> None:
        """End the writer and the store's connections."""
        if not self._is_closed:
            await self.writer.close(5)
            await self.store.close()
        self._is_closed = True


def lines(numbers: Numbers) -> dict[str, int]:
    """Name the numbers."""
    return dict(zip(LINE_KEYS, numbers.values, strict=True))


StartRunning = Callable[[str], Running]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[MortalStore]:
    """Run a server."""
    async with mortal_store(tmp_path / "store") as store:
        yield store


@pytest.fixture
async def running(
    store: MortalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[StartRunning]:
    """Start services on one server; all end with the test."""
    # Metrics set both for a whole worker process; here they are given back.
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    started = []

    def start(zone: str = HANOI) -> Running:
        started.append(Running(store.url, tmp_path, zone))
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


async def test_a_record_that_crosses_midnight_holds_both_days(
    running: StartRunning, store: MortalStore
) -> None:
    service = running(HANOI)
    service.clock.set("2019-12-31 16:59:59", "2019-12-31 17:00:00", "2019-12-31 16:59:59")
    await service.service.sites.register(SITE)
    counting = [service.count() for _ in range(3)]
    old, new, late = [lines(numbers) for numbers in await asyncio.gather(*counting)]
    with connected(store.socket_path) as redis:
        assert redis.get(watermark_key(0, service.writer.id)) == b"1"
    assert old == late == block(2, 0, 2, 2, 3)
    assert new == block(1, 2, 1, 1, 3)


# While the store is away


async def left(service: Running) -> None:
    """Wait until the writer has noticed that its store is away."""
    await comes_true(lambda: service.writer.lanes.is_away, "the writer notices")


async def returned(service: Running) -> None:
    """Wait until the writer has brought everything to its store."""
    await comes_true(lambda: not service.writer.lanes.is_away, "the store holds everything")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last_second", "midnight", "month", "year"),
    [
        pytest.param("2019-04-19 16:59:59.999", "2019-04-19 17:00:00", 5, 5, id="a day"),
        pytest.param("2019-04-30 16:59:59.999", "2019-04-30 17:00:00", 0, 5, id="1 May"),
        pytest.param("2019-12-31 16:59:59.999", "2019-12-31 17:00:00", 0, 0, id="1 Jan"),
    ],
)
async def test_stale_numbers_change_their_day_at_midnight_and_hits_stay_on_theirs(
    running: StartRunning,
    store: MortalStore,
    last_second: str,
    midnight: str,
    month: int,
    year: int,
) -> None:
    service = running(HANOI)
    await service.hits(last_second, 3)
    await store.kill()
    await left(service)
    assert await service.hits(last_second, 2) == block(5, 0, 5, 5, 5)
    assert await service.read(midnight) == block(0, 5, month, year, 5)
    assert await service.hits(midnight, 4) == block(4, 5, month + 4, year + 4, 9)
    await store.start()
    await returned(service)
    assert await service.read(midnight) == block(4, 5, month + 4, year + 4, 9)
    assert await service.read(last_second) == block(
        5, 0, 5 + 4 * bool(month), 5 + 4 * bool(year), 9
    )


async def test_stale_numbers_of_two_days_ago_are_nobodys_yesterday(
    running: StartRunning, store: MortalStore
) -> None:
    service = running(HANOI)
    await service.hits("2019-04-17 16:59:59", 3)
    await store.kill()
    await left(service)
    assert await service.read("2019-04-17 17:00:00") == block(0, 3, 3, 3, 3)
    assert await service.read("2019-04-18 17:00:00") == block(0, 0, 3, 3, 3)
    numbers = await service.numbers()
    assert (numbers.state, numbers.age_s) == ("stale", 24 * 3600 + 1)
    await store.start()
    await returned(service)


async def test_every_zone_has_its_own_midnight_while_the_store_is_away(
    running: StartRunning, store: MortalStore
) -> None:
    hanoi, paris = running(HANOI), running("Europe/Paris")
    await hanoi.hits("2019-12-31 16:59:59", 1)
    await paris.hits("2019-12-31 16:59:59", 1)
    await store.kill()
    await asyncio.gather(left(hanoi), left(paris))
    # Each knows of the other's hits only what the store told it before.
    assert await hanoi.hits("2019-12-31 17:00:00", 2) == block(2, 1, 2, 2, 3)
    assert await paris.hits("2019-12-31 17:00:00", 4) == block(6, 0, 6, 6, 6)
    await store.start()
    await asyncio.gather(returned(hanoi), returned(paris))
    assert await hanoi.read("2019-12-31 17:00:00") == block(2, 6, 2, 2, 8)
    assert await paris.read("2019-12-31 23:00:00") == block(2, 6, 2, 2, 8)


@pytest.mark.slow
async def test_an_outage_at_1000_hits_per_second_across_midnight_counts_each_on_its_day(
    running: StartRunning, store: MortalStore
) -> None:
    service = running(HANOI)
    await service.hits("2019-12-31 16:59:00", 10)
    await store.kill()
    await left(service)
    old = [f"2019-12-31 16:59:{second:02}" for second in range(60)]
    new = [f"2019-12-31 17:00:{second:02}" for second in range(60)]
    for instant in (*old, *new):
        await burst(service, instant, 1_000)
    await store.start()
    await returned(service)
    assert await service.read(new[-1]) == block(60_000, 60_010, 60_000, 60_000, 120_010)
    assert await service.read(old[-1]) == block(60_010, 0, 60_010, 60_010, 120_010)


async def burst(service: Running, instant: str, n: int) -> None:
    """Count hits that arrive in one second; all are stored."""
    service.clock.set(instant)
    numbers = await asyncio.gather(*(service.count() for _ in range(n)))
    assert {each.state for each in numbers} == {"stored"}


@pytest.mark.slow
async def test_the_journal_of_yesterday_is_replayed_to_yesterday_by_another_process(
    running: StartRunning, store: MortalStore, tmp_path: Path
) -> None:
    dying = running(HANOI)
    await dying.hits("2019-12-31 16:59:58", 3)
    await store.kill()
    await left(dying)
    await dying.hits("2019-12-31 16:59:59", 4)
    await dying.hits("2019-12-31 17:00:00", 5)
    await dying.close()
    await store.start()
    heir = running(HANOI)
    adopting = asyncio.create_task(heir.adoption.run())
    await comes_true(lambda: not list(tmp_path.glob("journal/*")), "the journal is replayed")
    adopting.cancel()
    await asyncio.wait([adopting])
    assert await heir.read("2020-01-05 12:00:00") == block(0, 0, 5, 5, 12)
    assert await heir.read("2019-12-31 17:00:00") == block(5, 7, 5, 5, 12)


@pytest.mark.slow
async def test_processes_whose_clocks_pass_midnight_in_an_outage_count_each_hit_on_its_day(
    start_service: StartService, store: MortalStore, tmp_path: Path
) -> None:
    targets = [Target(f"site{n % 20}.example.vn", f"/tin-tuc/{n}") for n in range(200)]
    clock = FakeClock(tmp_path / "clock")
    clock.set("2019-04-19 16:59:59")
    settings = {"redis_url": store.url, "timezone": HANOI, "kept_window_s": 1}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in clock.environment().items():
            patch.setenv(name, value)
        service = start_service(workers=2, config=declared(tmp_path / "toml", targets), **settings)
    tally = Tally(equal=("month", "year", "total"))
    async with visiting(service.port, tally, targets, n_clients=64, per_s=1_000):
        await more(tally, "counted", 500)
        await store.kill()
        await more(tally, "stored", 1_000)
        clock.set("2019-04-19 17:00:00")
        await comes_true(lambda: is_new_day(tally, "2019-04-20"), "the next day has begun")
        await more(tally, "stored", 1_000)
        await store.start()
        await more(tally, "counted", 500)
    assert (tally.refused, tally.unanswered) == ({}, {})
    await settled(service)
    await expect_exact(service.port, tally)
    assert {day for _, day in tally.on_day} == {"2019-04-19", "2019-04-20"}
    for (site, day), n in tally.on_day.items():
        assert int(store.ask("GET", bucket_key(0, site, day))) == n
    assert await asyncio.to_thread(service.stop) == 0


def is_new_day(tally: Tally, date: str) -> bool:
    """Tell whether hits are answered with a date."""
    return any(day == date for _, day in tally.on_day)


@pytest.mark.slow
async def test_operators_are_told_of_the_hits_of_today(
    start_service: StartService,
    store: MortalStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock(tmp_path / "clock")
    clock.set("2019-04-19 16:58:59")
    for name, value in clock.environment().items():
        monkeypatch.setenv(name, value)
    settings = {"redis_url": store.url, "timezone": HANOI, "operations_port": 0}
    service = start_service(config=declared(tmp_path / "toml", [Target("demo")]), **settings)

    def told(expected: str) -> bool:
        return expected in service.run("show", "demo").stdout

    for _ in range(3):
        assert (await ask(service.port, "POST", "/v1/sites/demo/hits")).status == 200
    await eventually(
        lambda: asyncio.to_thread(told, "hits since 23:58 today: 3 counted\n"), "they are told"
    )
    clock.set("2019-04-19 17:00:00")
    (notes,) = service.data_dir.glob("metrics-*/before-today.json")
    await comes_true(lambda: "2019-04-20" in notes.read_text(), "the day is noted")
    for _ in range(2):
        assert (await ask(service.port, "POST", "/v1/sites/demo/hits")).status == 200
    assert await asyncio.to_thread(told, "hits since 00:00 today: 2 counted\n")
