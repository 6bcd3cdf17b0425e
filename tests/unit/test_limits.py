"""What an hour or a day of hits can add, by a clock that the test turns."""

import os
from collections.abc import Iterator
from random import Random

import pytest

from hitcounter.client_address import Client
from hitcounter.limits import N_ROWS, Limits, shared_memory
from tests.support.clocks import TurnedClock

HOUR_S = 3600
SOMEBODY = Client(b"\xc6\x33\x64\x07", is_visitor=True)
PROXY = Client(b"\x0a\0\0\1", is_visitor=False)


@pytest.fixture
def clock() -> TurnedClock:
    """Give the clock of the limits."""
    return TurnedClock()


@pytest.fixture
def memory() -> Iterator[int]:
    """Give the memory of a service."""
    with shared_memory() as fd:
        yield fd


@pytest.fixture
def limits(memory: int, clock: TurnedClock) -> Limits:
    """Give the limits of one worker."""
    return Limits(memory, clock)


def n_counted(limits: Limits, clock: TurnedClock, seconds: int, per_s: int, n_agents: int) -> int:
    """Send hits of one address evenly; return how many count."""
    n = 0
    for number in range(seconds * per_s):
        clock.now_s += 1 / per_s
        n += limits.take_hit("demo", SOMEBODY, f"agent {number % n_agents}")
    return n


@pytest.mark.parametrize(
    ("n_agents", "seconds", "per_s", "most"),
    [
        (1, 10, 100, 320),
        (1, HOUR_S, 10, 2_000 + 4_000 // 24),
        (1, 24 * HOUR_S, 1, 6_000),
        (500, 20, 200, 1_200),
        (500, HOUR_S, 20, 10_000 + 20_000 // 24),
        (500, 24 * HOUR_S, 1, 30_000),
    ],
)
def test_an_attacker_adds_what_the_document_says(
    limits: Limits, clock: TurnedClock, n_agents: int, seconds: int, per_s: int, most: int
) -> None:
    n = n_counted(limits, clock, seconds, per_s, n_agents)
    assert most - 2 <= n <= most + 1


def test_an_office_behind_one_address_is_never_limited(limits: Limits, clock: TurnedClock) -> None:
    draw = Random(22)
    # 300 people have 70 agents and languages between them, of which some are everybody's.
    people = draw.choices(range(70), [1 / (n + 1) for n in range(70)], k=300)
    for person in people:  # all within the same ten seconds
        clock.now_s += 10 / 300
        assert limits.take_hit("demo", SOMEBODY, f"agent {person}")
    for _ in range(40 * 300 - 300):
        clock.now_s += 8 * HOUR_S / (40 * 300)
        assert limits.take_hit("demo", SOMEBODY, f"agent {draw.choice(people)}")


def test_who_is_limited_takes_nothing_from_others(limits: Limits, clock: TurnedClock) -> None:
    for _ in range(5_000):
        limits.take_hit("demo", SOMEBODY, "loud")
    assert limits.take_hit("demo", SOMEBODY, "calm")
    assert limits.take_hit("other", SOMEBODY, "loud")
    assert limits.take_hit("demo", Client(b"\xc6\x33\x64\x08", is_visitor=True), "loud")
    assert not limits.take_hit("demo", SOMEBODY, "loud")


def test_an_ipv6_visitor_is_a_network(limits: Limits) -> None:
    network = bytes.fromhex("20010db800000001")
    for n in range(400):
        client = Client(network + n.to_bytes(8), is_visitor=True)
        assert limits.take_hit("demo", client, "agent") is (n < 300)


def test_a_flood_is_more_than_a_hundred_requests_a_second(
    limits: Limits, clock: TurnedClock
) -> None:
    assert sum(limits.take_request(SOMEBODY) for _ in range(5_000)) == 1_000
    clock.now_s += 1
    assert sum(limits.take_request(SOMEBODY) for _ in range(5_000)) == 100


@pytest.mark.parametrize(
    ("client", "burst", "per_hour"), [(SOMEBODY, 100, 30), (PROXY, 1_000, 200)]
)
def test_new_pages_of_a_site_are_bounded(
    limits: Limits, clock: TurnedClock, client: Client, burst: int, per_hour: int
) -> None:
    n = 0
    for _ in range(HOUR_S):
        clock.now_s += 1
        for _ in range(3):
            if limits.has_room_for_page("demo", client):
                limits.page_began("demo", client)
                n += 1
    assert burst + per_hour - 1 <= n <= burst + per_hour
    assert limits.has_room_for_page("other", client)


def test_pages_that_began_at_once_are_charged_all_the_same(
    limits: Limits, clock: TurnedClock
) -> None:
    for _ in range(130):
        limits.page_began("demo", SOMEBODY)
    clock.now_s += HOUR_S - 1
    assert not limits.has_room_for_page("demo", SOMEBODY)
    clock.now_s += 200
    assert limits.has_room_for_page("demo", SOMEBODY)


def test_an_address_brings_five_sites_an_hour(limits: Limits, clock: TurnedClock) -> None:
    n = 0
    for _ in range(HOUR_S):
        clock.now_s += 1
        n += limits.take_site(SOMEBODY)
    assert 9 <= n <= 10


def test_all_workers_share_one_memory_and_its_secret(memory: int, clock: TurnedClock) -> None:
    first, second = Limits(memory, clock), Limits(memory, clock)
    n = sum(limits.take_hit("demo", SOMEBODY, "x") for limits in [first, second] * 400)
    assert n == 300


def test_a_crowd_takes_no_more_room(limits: Limits, clock: TurnedClock) -> None:
    draw, n_limited = Random(22), 0
    for n in range(100_000):
        client = Client(draw.randbytes(4), is_visitor=True)
        n_limited += not limits.take_hit(f"site {n % 10}", client, "\ud800 agent")
    assert n_limited == 0
    assert len(limits._full_at_s) == 8 * N_ROWS


def test_a_clock_that_went_back_limits_nobody_for_longer(
    limits: Limits, clock: TurnedClock
) -> None:
    n_counted(limits, clock, 100, 10, 1)
    clock.now_s -= 50
    n = n_counted(limits, clock, 100, 10, 1)
    assert n >= 100


def test_a_sample_tells_how_full_the_rows_are(memory: int, clock: TurnedClock) -> None:
    limits = Limits(memory, clock)
    assert limits.fill == 0.0
    assert os.fstat(memory).st_blocks * 512 < 100_000  # of the 4 MB
    for n in range(20_000):
        limits.take_hit(f"site-{n}", SOMEBODY, "")
    assert 0.2 < limits.fill < 0.32  # as many by chance have a row of their own
    clock.now_s += HOUR_S
    assert limits.fill == 0.0
