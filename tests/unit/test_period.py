"""The buckets of an instant, in every zone there is and around every change of its offset.

Directed tests and the sweep read the locked tzdata package, so that they mean the same on every
machine; the properties use the zones of the machine, as the service does.
"""

import datetime as dt
import struct
import zoneinfo
from bisect import bisect_left
from functools import cache
from importlib.resources import files
from itertools import groupby, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hitcounter.period import Day, buckets_of, day_before, day_of, is_bucket
from tests.speeds import examples

HOUR_S = 3600
DAY_S = 24 * HOUR_S
YEAR_2038_AT = int(dt.datetime(2038, 1, 1, tzinfo=dt.UTC).timestamp())
YEAR_2201_AT = int(dt.datetime(2201, 1, 1, tzinfo=dt.UTC).timestamp())
TZDATA = files("tzdata")


def tzif(name: str) -> bytes:
    return TZDATA.joinpath("zoneinfo", name).read_bytes()


def zone_of(name: str) -> ZoneInfo:
    with TZDATA.joinpath("zoneinfo", name).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def distinct_zone_names() -> list[str]:
    """Name each zone once: almost half of the names are aliases."""
    names = TZDATA.joinpath("zones").read_text(encoding="utf-8").split()
    return list({tzif(name): name for name in names}.values())


def local(at: int, zone: ZoneInfo) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, zone)


def offset(at: int, zone: ZoneInfo) -> dt.timedelta | None:
    return local(at, zone).utcoffset()


def utc(text: str) -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()


def listed_transitions(data: bytes) -> tuple[int, ...]:
    """Read the transition times of a TZif file (RFC 9636), from its 64-bit block."""
    utcs, stds, leaps, times, types, chars = struct.unpack_from(">6l", data, 20)
    block = 44 + times * 5 + types * 6 + chars + leaps * 8 + stds + utcs
    (count,) = struct.unpack_from(">l", data, block + 32)
    return struct.unpack_from(f">{count}q", data, block + 44)


@cache
def offset_changes(name: str) -> list[int]:
    """List when a zone changes its offset, 1970 to 2037: those in its file, then those by rule."""
    zone = zone_of(name)
    listed = [at for at in listed_transitions(tzif(name)) if 0 < at < YEAR_2038_AT]
    probes = {*range(0, YEAR_2038_AT, 7 * DAY_S), *listed, *(at - 1 for at in listed)}
    offsets = [(at, offset(at, zone)) for at in sorted(probes)]
    return [
        first + bisect_left(range(first, last), True, key=lambda at: offset(at, zone) == new)
        for (first, old), (last, new) in pairwise(offsets)
        if old != new
    ]


def stretches(zone: ZoneInfo, from_at: float, until_at: float) -> list[Day]:
    """Walk from day to day."""
    days, at = [], from_at
    while at < until_at:
        day = day_of(at, zone)
        assert day.start_at <= at < day.end_at
        days.append(day)
        at = day.end_at
    return days


def hours_per_date(zone: ZoneInfo, from_at: float, until_at: float) -> dict[str, float]:
    """Add up the stretches of each whole date between two instants."""
    days = stretches(zone, from_at, until_at)
    sums = {
        name: sum(day.end_at - day.start_at for day in group) / HOUR_S
        for name, group in groupby(days, key=lambda day: day.date)
    }
    return dict(list(sums.items())[1:-1])


def assert_true_to_the_zone(day: Day, zone: ZoneInfo) -> None:
    """Assert that the date holds up to both edges, and that both edges are there for a reason."""
    first, last = local(day.start_at, zone), local(day.end_at - 1, zone)
    before, after = local(day.start_at - 1, zone), local(day.end_at, zone)
    assert str(first.date()) == str(last.date()) == day.date
    assert first.utcoffset() == last.utcoffset()
    assert (before.date(), before.utcoffset()) != (first.date(), first.utcoffset())
    assert (after.date(), after.utcoffset()) != (last.date(), last.utcoffset())


zones = st.sampled_from(sorted(zoneinfo.available_timezones())).map(ZoneInfo)
instants = st.floats(min_value=0, max_value=YEAR_2201_AT, exclude_max=True)
fractions = st.floats(min_value=0, max_value=1, exclude_max=True)


@settings(max_examples=examples(200))
@given(zones, instants, st.lists(fractions, min_size=20, max_size=20))
@example(ZoneInfo("UTC"), 0, [0.0])
@example(ZoneInfo("UTC"), YEAR_2201_AT - 1e-6, [0.0])
def test_every_instant_of_a_day_has_its_date(
    zone: ZoneInfo, instant_s: float, parts: list[float]
) -> None:
    day = day_of(instant_s, zone)
    assert day.start_at <= instant_s < day.end_at <= day.start_at + DAY_S
    assert_true_to_the_zone(day, zone)
    for part in parts:
        inside_at = day.start_at + int(part * (day.end_at - day.start_at))
        assert str(local(inside_at, zone).date()) == day.date
        assert day_of(inside_at, zone) == day


@given(st.dates(min_value=dt.date.min + dt.timedelta(days=1)))
@example(dt.date(7, 1, 2))
@example(dt.date(9999, 12, 31))
def test_the_names_are_iso_and_month_and_year_are_prefixes(date: dt.date) -> None:
    day, month, year, total = buckets_of(str(date))
    assert dt.date.fromisoformat(day) == date
    assert (len(day), len(month), len(year), total) == (10, 7, 4, "total")
    assert day.startswith(month + "-")
    assert month.startswith(year + "-")
    assert dt.date.fromisoformat(day_before(day)) == date - dt.timedelta(days=1)


@pytest.mark.slow
def test_around_every_change_of_every_zone_the_days_tile_time_and_are_true() -> None:
    swept = 0
    for name in distinct_zone_names():
        zone = zone_of(name)
        for change_at in offset_changes(name):
            days = stretches(zone, change_at - DAY_S, change_at + DAY_S)
            assert all(day.end_at == after.start_at for day, after in pairwise(days)), name
            assert change_at in {day.start_at for day in days}, name
            for day in days:
                assert_true_to_the_zone(day, zone)
            swept += 1
    assert swept > 10_000


@pytest.mark.slow
def test_no_zone_changes_its_offset_twice_in_two_days() -> None:
    gaps = [
        later - earlier
        for name in distinct_zone_names()
        for earlier, later in pairwise(offset_changes(name))
    ]
    assert min(gaps) > 2 * DAY_S


def test_the_day_turns_at_17_utc_in_ho_chi_minh() -> None:
    zone = zone_of("Asia/Ho_Chi_Minh")
    midnight = int(utc("2019-04-18T17:00:00"))
    before = Day("2019-04-18", midnight - DAY_S, midnight)
    after = Day("2019-04-19", midnight, midnight + DAY_S)
    assert day_of(utc("2019-04-18T16:59:59"), zone) == before
    assert day_of(utc("2019-04-18T16:59:59.999"), zone) == before
    assert day_of(utc("2019-04-18T17:00:00"), zone) == after
    assert day_of(utc("2019-04-19T16:59:59.999"), zone) == after


@pytest.mark.parametrize(
    ("instant", "day", "yesterday", "month", "year"),
    [
        ("2019-04-30T17:00:00", "2019-05-01", "2019-04-30", "2019-05", "2019"),
        ("2019-02-28T17:00:00", "2019-03-01", "2019-02-28", "2019-03", "2019"),
        ("2020-02-28T17:00:00", "2020-02-29", "2020-02-28", "2020-02", "2020"),
        ("2020-02-29T17:00:00", "2020-03-01", "2020-02-29", "2020-03", "2020"),
        ("2000-02-29T17:00:00", "2000-03-01", "2000-02-29", "2000-03", "2000"),
        ("2100-02-28T17:00:00", "2100-03-01", "2100-02-28", "2100-03", "2100"),
        ("2018-12-31T16:59:59", "2018-12-31", "2018-12-30", "2018-12", "2018"),
        ("2018-12-31T17:00:00", "2019-01-01", "2018-12-31", "2019-01", "2019"),
        ("2199-12-31T17:00:00", "2200-01-01", "2199-12-31", "2200-01", "2200"),
    ],
)
def test_months_and_years_turn_with_the_local_day(
    instant: str, day: str, yesterday: str, month: str, year: str
) -> None:
    found = day_of(utc(instant), zone_of("Asia/Ho_Chi_Minh")).date
    assert buckets_of(found) == (day, month, year, "total")
    assert day_before(found) == yesterday


@pytest.mark.parametrize(
    ("name", "turn", "last", "skipped", "first"),
    [
        ("Pacific/Apia", "2011-12-30T10:00:00", "2011-12-29", "2011-12-30", "2011-12-31"),
        ("Pacific/Kwajalein", "1993-08-21T12:00:00", "1993-08-20", "1993-08-21", "1993-08-22"),
    ],
)
def test_a_skipped_date_has_no_instant_and_is_yesterday_all_the_same(
    name: str, turn: str, last: str, skipped: str, first: str
) -> None:
    zone = zone_of(name)
    before, after = day_of(utc(turn) - 1, zone), day_of(utc(turn), zone)
    assert (before.date, before.end_at) == (last, utc(turn))
    assert (after.date, after.start_at) == (first, utc(turn))
    assert day_before(after.date) == skipped


@pytest.mark.parametrize(
    ("name", "date", "hours"),
    [
        ("America/New_York", "2019-03-09", 24),
        ("America/New_York", "2019-03-10", 23),
        ("America/New_York", "2019-11-03", 25),
        ("Europe/Berlin", "2037-03-29", 23),
        ("Australia/Lord_Howe", "2019-04-07", 24.5),
        ("Australia/Lord_Howe", "2019-10-06", 23.5),
        ("America/Sao_Paulo", "2018-02-17", 25),
        ("America/St_Johns", "2011-03-13", 23),
        ("Antarctica/Vostok", "1994-11-01", 17),
    ],
)
def test_the_stretches_of_a_date_add_up_to_its_length(name: str, date: str, hours: float) -> None:
    noon = utc(f"{date}T12:00:00")
    lengths = hours_per_date(zone_of(name), noon - 2 * DAY_S, noon + 2 * DAY_S)
    assert lengths[date] == hours


@pytest.mark.parametrize(
    ("name", "turn", "date"),
    [
        ("America/Sao_Paulo", "2018-11-04T03:00:00", dt.date(2018, 11, 4)),
        ("Africa/Cairo", "2014-05-15T22:00:00", dt.date(2014, 5, 16)),
    ],
)
def test_a_day_without_midnight_starts_at_one(name: str, turn: str, date: dt.date) -> None:
    zone = zone_of(name)
    turn_at = int(utc(turn))
    assert local(turn_at, zone).time() == dt.time(1)
    assert day_of(turn_at, zone) == Day(str(date), turn_at, turn_at + 23 * HOUR_S)
    assert day_of(turn_at - 1, zone).date == (date - dt.timedelta(days=1)).isoformat()


def test_a_date_that_comes_twice_is_told_apart_minute_by_minute() -> None:
    # St John's set its clock back from 00:01 on the 7th to 23:01 on the 6th.
    days = stretches(
        zone_of("America/St_Johns"), utc("2010-11-06T12:00:00"), utc("2010-11-07T12:00:00")
    )
    assert [(day.date, (day.end_at - day.start_at) / 60) for day in days] == [
        ("2010-11-06", 24 * 60),
        ("2010-11-07", 1),
        ("2010-11-06", 59),
        ("2010-11-07", 24 * 60),
    ]


@pytest.mark.parametrize("name", ["total", "2019", "2019-04", "2019-04-19", "2020-02-29", "0001"])
def test_the_names_of_days_months_and_years_are_buckets(name: str) -> None:
    assert is_bucket(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Total",
        "totals",
        "0000",
        "19",
        "20190419",
        "2019-13",
        "2019-00",
        "2019-02-29",
        "2019-04-31",
        "2019-4-19",
        "2019-04-19T00",
        "2019-04-19-01",
        "2019-W16",
        "2019\n",
        " 2019",
        "-2019",
        "２０１９",
    ],
)
def test_other_names_are_no_buckets(name: str) -> None:
    assert not is_bucket(name)


@given(st.dates())
def test_every_bucket_of_a_hit_has_the_name_of_a_bucket(date: dt.date) -> None:
    assert all(map(is_bucket, buckets_of(str(date))))
