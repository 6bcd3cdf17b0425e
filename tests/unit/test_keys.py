"""The names of everything in the store: one slot per lane, and no two things under one name."""

import datetime as dt
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitcounter.store import keys
from hitcounter.store.keys import CounterName

lanes = st.integers(min_value=0, max_value=255)
sites = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,62}", fullmatch=True)
buckets = st.sampled_from(["2019-04-19", "2019-04", "2019", "total"])
paths = st.text(min_size=1).map(lambda text: "/" + text)
dates = st.dates(min_value=dt.date(1970, 1, 2), max_value=dt.date(2200, 1, 1))


def test_the_keys_are_named_as_documented() -> None:
    names = keys.site_keys(0, "demo", "2019-04-19")
    assert names.date == "2019-04-19"
    assert names.shown == (
        "hc:{0}:site:demo:2019-04-19",
        "hc:{0}:site:demo:2019-04-18",
        "hc:{0}:site:demo:2019-04",
        "hc:{0}:site:demo:2019",
        "hc:{0}:site:demo:total",
    )
    assert keys.page_key(0, "demo", "/tin-tuc/1") == "hc:{0}:page:demo:/tin-tuc/1"
    assert keys.pages_key(0, "demo") == "hc:{0}:pages:demo"
    assert keys.watermark_key(0, "9f") == "hc:{0}:writer:9f"
    assert keys.ids_key(0, 2592000) == "hc:{0}:ids:2592000"


@given(lanes, sites, dates)
def test_a_hit_counts_for_all_lines_of_the_block_but_yesterday(
    lane: int, site: str, date: dt.date
) -> None:
    names = keys.site_keys(lane, site, str(date))
    assert set(names.shown) - set(names.counted) == {names.yesterday}
    assert len(set(names.shown)) == 5
    eve = keys.site_keys(lane, site, str(date - dt.timedelta(days=1)))
    assert names.yesterday == eve.counted[0]


@given(lanes, sites, buckets)
def test_the_key_of_a_bucket_reads_back(lane: int, site: str, bucket: str) -> None:
    key = keys.bucket_key(lane, site, bucket)
    assert keys.counter_of(key) == CounterName(site, False, bucket)
    assert keys.counter_of(key).key(lane) == key


@given(lanes, sites, paths)
def test_the_key_of_a_page_reads_back(lane: int, site: str, path: str) -> None:
    key = keys.page_key(lane, site, path)
    assert keys.counter_of(key) == CounterName(site, True, path)
    again = keys.page_keys_of(key, 5)
    assert (again.key, again.count_key, again.limit) == (key, keys.pages_key(lane, site), 5)
    assert keys.counter_of(key).key(lane) == key


@pytest.mark.parametrize(
    "key",
    [
        keys.SITES_KEY,
        keys.LANES_KEY,
        keys.pages_key(0, "demo"),
        keys.watermark_key(0, "9f"),
        keys.ids_key(0, 2592000),
        "hc:{0}:site:demo",
        "hc:{0}:site:demo:",
        "hc:{x}:site:demo:total",
        "xhc:{0}:site:demo:total",
        "",
    ],
)
def test_what_is_no_counter_does_not_read_as_one(key: str) -> None:
    with pytest.raises(ValueError, match="is not the key of a counter"):
        keys.counter_of(key)


@given(lanes, sites, paths, st.text())
def test_all_keys_of_a_lane_hash_to_one_slot(lane: int, site: str, path: str, writer: str) -> None:
    names = [
        keys.bucket_key(lane, site, "total"),
        keys.page_key(lane, site, path),
        keys.pages_key(lane, site),
        keys.merged_key(lane, site),
        keys.watermark_key(lane, writer),
        keys.ids_key(lane, 2592000),
    ]
    assert {hash_tag(name) for name in names} == {str(lane)}
    assert len(set(names)) == len(names)


def hash_tag(key: str) -> str:
    """Find what a cluster hashes of a key: what stands in the first braces."""
    match = re.search(r"\{([^}]+)\}", key)
    return match[1] if match else key


@given(sites, st.integers(min_value=1, max_value=256))
def test_a_site_has_one_of_the_lanes(site: str, n_lanes: int) -> None:
    assert 0 <= keys.lane_of(site, n_lanes) < n_lanes
    assert keys.lane_of(site, 1) == 0


def test_the_lane_of_a_site_never_changes() -> None:
    # Numbers are stored under it: another hash would lose them.
    assert [keys.lane_of(site, 64) for site in ("demo", "lhhkhkt.example.vn")] == [32, 42]


@given(lanes, sites, paths, st.integers(min_value=0))
def test_a_page_is_counted_with_the_number_of_pages_of_its_site(
    lane: int, site: str, path: str, limit: int
) -> None:
    page = keys.page_keys(lane, site, path, limit)
    assert page.key == keys.page_key(lane, site, path)
    assert (page.count_key, page.limit) == (keys.pages_key(lane, site), limit)
    assert page.stored == (page.key, page.count_key)
    assert keys.page_keys(lane, site, path, limit) is page


@given(lanes, sites, dates)
def test_the_keys_of_a_day_tell_their_site_and_their_date(
    lane: int, site: str, date: dt.date
) -> None:
    names = keys.site_keys(lane, site, str(date))
    assert (names.site, names.date) == (site, date.isoformat())


@given(lanes, sites, paths, st.integers(min_value=0))
def test_the_keys_of_a_page_tell_its_site_and_its_path(
    lane: int, site: str, path: str, limit: int
) -> None:
    page = keys.page_keys(lane, site, path, limit)
    assert (page.site, page.path) == (site, path)


def test_a_tombstone_is_no_counter() -> None:
    assert keys.removed_key(0, "demo") == "hc:{0}:removed:demo"
    with pytest.raises(ValueError, match="not the key of a counter"):
        keys.counter_of(keys.removed_key(0, "demo"))


def test_what_a_rehearsal_writes_is_no_counter_and_lies_beside_what_a_hit_writes() -> None:
    names = [keys.probe_key(0, "probe9f"), keys.sites_probe_key("probe9f")]
    assert names == ["hc:{0}:probe:probe9f", "hc:{meta}:probe:probe9f"]
    for name in names:
        assert name.startswith(keys.PATTERN.rstrip("*"))
        with pytest.raises(ValueError, match="not the key of a counter"):
            keys.counter_of(name)


@given(lanes, sites, dates)
def test_the_keys_of_robots_lie_beside_those_of_their_site(
    lane: int, site: str, date: dt.date
) -> None:
    people, robots = keys.site_keys(lane, site, str(date)), keys.robot_keys(lane, site, str(date))
    assert (robots.site, robots.date) == (site, people.date)
    assert (people.is_of_robots, robots.is_of_robots) == (False, True)
    for key, beside in zip(robots.counted, people.counted, strict=True):
        counter = keys.counter_of(key)
        assert counter.name == keys.ROBOTS + keys.counter_of(beside).name
        assert keys.bucket_key(lane, counter.site, counter.name) == key


def test_a_note_on_a_correction_is_no_counter() -> None:
    assert keys.corrections_key(0, "demo") == "hc:{0}:corrections:demo"
    assert keys.merged_key(0, "demo") == "hc:{0}:merged:demo"
    with pytest.raises(ValueError, match="not the key of a counter"):
        keys.counter_of(keys.corrections_key(0, "demo"))


def test_a_key_tells_its_lane() -> None:
    lanes = [keys.is_in_lane(keys.page_key(1, "demo", "/hc:{0}:"), lane) for lane in (0, 1, 11)]
    assert lanes == [False, True, False]
